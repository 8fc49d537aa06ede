//! The services loop against a real API server. There is no kubelet and no controller behind it: Services and their
//! EndpointSlices are written by the tests, and so are the records of other clusters, `c2` and `c3`.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test that cannot go on has failed")]

mod api;
mod coredns;
mod expiry;
mod export;
mod failures;
mod gateway;
mod import;
mod lease;
mod leave;
mod merge;
mod owner;
mod relay;
mod restart;
mod rights;
mod silence;
mod slices;
mod support;
mod throttled;
