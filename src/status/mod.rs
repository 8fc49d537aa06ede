//! What a running process tells about itself: one [`Report`], as a table, JSON or YAML over a unix socket, and as
//! metrics and probes over HTTP.

pub mod http;
pub mod metrics;
mod report;
pub mod socket;
mod table;

pub use report::*;
pub use table::{Detail, table};

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
