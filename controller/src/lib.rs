//! Linkspan's decisions: observe, plan and apply the state of a node.
//!
//! A pass reads what is there ([`node::observe`]), decides without side effects ([`node::plan`]) and writes
//! ([`node::apply`]). Nothing is remembered between passes: everything that Linkspan creates carries a mark
//! ([`node::mark`]), so a pass adopts or removes what an earlier process left, and never touches what is not ours.

pub mod api;
pub mod broker;
pub mod cluster;
pub mod coredns;
pub mod events;
pub mod members;
pub mod names;
pub mod node;
pub mod services;

/// Target of the spans in `tracing` that are for people who look at traces: passes, and what they write. They are of level
/// debug, so that log lines do not bear them.
pub const SPANS: &str = "linkspan::span";
