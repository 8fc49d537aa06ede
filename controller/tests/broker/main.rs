//! The broker against a real kube-apiserver: joining, mirroring, outages, and attacks with a Member's credential.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod attacks;
mod exchange;
mod joining;
mod leaving;
mod mirror;
mod outage;
mod overlap;
mod refused;
mod support;
mod upgrade;
mod warm;
