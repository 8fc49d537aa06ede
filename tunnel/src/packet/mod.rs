//! The packet path's pure half: everything that happens to inner IP packets between the TUN queue and the cipher.
//!
//! Bytes in, bytes and verdicts out: no I/O, no allocation per packet, no clock, no lock, no log. All parsers take any
//! bytes and answer with an error or a verdict, never with a panic.
//!
//! - Towards the tunnel: [`vnet::VnetHeader::parse`], [`ip::View::parse`] for the route, [`mss::clamp`],
//!   [`ecn::encapsulate`] for the outer header, then [`split::Segments`], whose segments are sealed one by one. What is
//!   too big for the path, or had to be cut smaller, is answered by [`icmp::too_big`].
//! - From the tunnel: decrypt into [`assemble::Assembler::room`], and there check the source, [`ecn::decapsulate`] and
//!   [`mss::clamp`]; then [`assemble::Assembler::push`], and [`assemble::Assembler::flush`], which gives the frames to write.
//!   [`coalesce::Coalescer`] is the state machine below.
//!
//! Where clusters' addresses overlap, [`translate::translate`] goes before [`split::Segments::new`] (once for a whole
//! super-packet: the segments are built from its header), and to the frames that are written.

pub mod assemble;
pub mod checksum;
pub mod coalesce;
pub mod ecn;
#[doc(hidden)]
pub mod fuzz;
mod headers;
pub mod icmp;
pub mod ip;
pub mod mss;
pub mod split;
pub mod translate;
pub mod vnet;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod samples;
