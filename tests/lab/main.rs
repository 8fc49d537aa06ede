//! The lab itself, and what the program does in it, on the real kernel. Needs root, and fails without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod command;
#[path = "../documented/mod.rs"]
mod documentation;
mod overlap;
mod paths;
#[path = "../support/pings.rs"]
mod pings;
mod promise;
#[path = "../support/mod.rs"]
mod support;
mod topology;
