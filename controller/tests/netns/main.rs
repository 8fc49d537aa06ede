//! The node pass on the real kernel, in network namespaces. Needs root, iproute2, nftables, iptables and socat.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod lab;
mod lifecycle;
mod mtu;
mod site;
mod traffic;
