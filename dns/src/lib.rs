//! Linkspan's names: the authoritative `clusterset.local` server.
//!
//! Values in, answers out. [`Zone::build`] turns a list of [`Service`]s into an immutable [`Zone`]; [`Zone::lookup`]
//! answers from it without a lock and without a DNS library's types. [`Server`] puts that on the wire over UDP and TCP
//! with hickory.
//!
//! The rules are those of the Kubernetes multi-cluster DNS specification, schema 1.0.0 (KEP-1645), and of RFC 1035,
//! 2308, 2782, 6891 and 8482.

mod error;
#[doc(hidden)]
pub mod fuzz;
mod handler;
mod name;
mod server;
mod service;
mod stats;
mod zone;

pub use error::Error;
pub use name::{Name, NameError};
pub use server::{Server, ServerConfig};
pub use service::{Endpoint, Port, Protocol, Service, ServiceKind};
pub use stats::{Stats, StatsSnapshot};
pub use zone::{Answer, RecordType, Records, Skipped, Soa, Srv, Zone, ZoneConfig};
