//! The shells around the pure parts: watches in, writes to the API server out.

pub mod client;
pub mod lease;
pub mod owner;
pub mod pulse;
pub mod services;
pub mod watching;
