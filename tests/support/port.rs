//! Ports that are given to a program by their number.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A TCP port of the loopback that nobody is given by chance. Who asks for it by its number may listen there: both
/// sockets have SO_REUSEADDR, and this one does not listen.
pub struct Port {
    pub number: u16,
    _held: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let number = held.local_addr().unwrap().as_socket().unwrap().port();
        Self { number, _held: held }
    }
}
