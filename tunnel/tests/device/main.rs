//! A device against a WireGuard peer in the test: what it lets through, what it drops and why, what it survives.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod lanes;
mod sessions;
