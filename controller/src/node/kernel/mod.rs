//! The kernel's side of a pass: rtnetlink for links, addresses, routes and rules, the program `nft` for the packet
//! filter.

mod apply;
mod count;
mod inquiry;
mod lookup;
mod message;
mod mtu;
mod nft;
mod observe;
mod request;
mod ruleset;
mod watch;

use std::future::Future;
use std::io;

use rtnetlink::Handle;

pub use apply::{ApplyError, Failure, Report, apply};
pub use count::{Counting, find_counters, remove_counters};
pub use lookup::{Arriving, Lookup, Way, lookup};
pub use mtu::link_mtus;
pub use nft::NftError;
pub use observe::{ObserveError, observe};
pub use request::KernelError;
pub use ruleset::ruleset;
pub use watch::{Interest, Watch};

/// A connection to the network namespace of the thread that opened it.
#[derive(Debug, Clone)]
pub struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// Opens a netlink socket. The caller spawns the returned future; without it, every request waits for ever.
    ///
    /// Must be called inside a tokio runtime with I/O enabled. Writing needs `CAP_NET_ADMIN`, opening does not.
    ///
    /// # Errors
    /// When the socket cannot be made or made strict (before Linux 4.20).
    pub fn open() -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        let socket = rtnetlink::proto::sys::AsyncSocket::socket_mut(connection.socket_mut());
        // Errors then come without a copy of the request, so that many fit into the socket's buffer.
        socket.set_cap_ack(true)?;
        Ok((Self { handle }, connection))
    }
}
