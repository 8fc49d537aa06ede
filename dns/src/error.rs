//! What can go wrong around a server. Bad queries are never an error here: they are answered with a code.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a server could not start or had to end.
#[derive(Debug, Error)]
pub enum Error {
    /// No address was given.
    #[error("the DNS server has no address to listen on: give at least one")]
    NoListenAddress,
    /// An address could not be bound.
    #[error(
        "failed to listen on {address} ({transport}): {source}; is another DNS server there, is the address this node's own, \
         and may this process bind the port?"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket that served ended for good.
    #[error("the DNS server on {address} ({transport}) ended: {cause}")]
    Ended {
        /// The address that was served.
        address: String,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// What the socket or the task said.
        cause: String,
    },
}
