//! Ports that programs are given by their number.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A TCP port of the loopback that nobody gets by chance, for as long as this value lives. A program that is given its
/// number may listen there, and do so again: both sockets have SO_REUSEADDR, and this one never listens.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    _held: Socket,
}

impl Port {
    /// Takes a free one.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve() -> io::Result<Self> {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        held.set_reuse_address(true)?;
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let bound = held.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no port"))?;
        Ok(Self { number: bound.port(), _held: held })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_refuses_connections_until_somebody_listens_who_may_come_again() {
        let port = Port::reserve().unwrap();
        let here = ("127.0.0.1", port.number);
        for _ in 0..2 {
            assert!(TcpStream::connect(here).is_err());
            let listener = TcpListener::bind(here).unwrap();
            let (_near, _far) = (TcpStream::connect(here).unwrap(), listener.accept().unwrap());
        }
    }
}
