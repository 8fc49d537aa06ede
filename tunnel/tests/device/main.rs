//! A device against a WireGuard peer in the test: what it lets through, what it drops and why, what it survives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod lanes;
mod offloads;
mod overload;
mod sessions;
mod translation;
