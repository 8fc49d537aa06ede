//! What a running process tells about itself: one [`Report`], as a table, JSON or YAML over a unix socket, and as
//! metrics and probes over HTTP.

mod addresses;
mod controller;
pub mod http;
pub mod metrics;
mod report;
pub mod socket;
mod table;
pub(crate) mod units;

pub use addresses::*;
pub use controller::*;
pub use report::*;
pub use table::{Detail, table};

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
