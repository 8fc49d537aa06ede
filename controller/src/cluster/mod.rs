//! The shells around the pure parts: watches in, writes to the API server out.

pub mod lease;
pub mod services;
