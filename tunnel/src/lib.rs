//! Linkspan's data plane: WireGuard lanes over offloaded TUN and UDP.
//!
//! Bytes in, bytes out. `boringtun::noise::Tunn` is the WireGuard protocol, unmodified; the device, its I/O, batching,
//! offloads and lanes are ours. A *lane* is one OS thread that owns one TUN queue, one UDP socket and one `Tunn` per
//! peer, and shares nothing with the other lanes on the packet path.

mod answered;
pub mod config;
mod device;
pub mod drops;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod io;
mod kernel;
mod ladder;
mod lane;
pub mod packet;
pub mod path;
mod probe;
mod report;
pub mod routes;
mod segments;
mod shared;
pub mod status;

pub use config::{Addresses, Config, Peer, PeerKind, Translation};
pub use device::Device;
pub use error::Error;
pub use io::text::release_text;
