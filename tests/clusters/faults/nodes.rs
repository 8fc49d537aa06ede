//! Faults of single nodes.

use anyhow::Result;

use super::WEB;
use super::ask::{broken, found, lost, says};
use super::make::{node, on, rule, service};
use crate::joined::Joined;

pub(super) fn add_masquerade(joined: &Joined) -> Result<()> {
    rule(node(joined, "paris-2")?, "postrouting", "nat", 50, "ip daddr 10.52.0.0/16 masquerade")
}

pub(super) fn masqueraded(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "Masqueraded")?;
    says(&finding, "evidence", "chain inet fault postrouting masquerades packets")?;
    broken(joined, WEB, "paris", "Masqueraded")?;
    // As a worker, or as the gateway that it may be.
    lost(
        joined,
        "OnNode",
        &["out to a node", "out into the tunnel"]
            .map(|out| format!("in from the network plugin on paris-2 of paris and {out} on paris-2 of paris")),
    )
}

/// The process on the node hangs, so that what somebody has deleted stays deleted.
pub(super) fn lose_routes(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["pkill", "-STOP", "-f", "linkspan node"])?;
    on(worker, &["ip", "route", "flush", "table", "10810"])
}

pub(super) fn missing_route(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "MissingRoute")?;
    says(&finding, "cause", "node paris-2 has no route of Linkspan's to berlin")?;
    broken(joined, WEB, "paris", "MissingRoute")
}

pub(super) fn restore_routes(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-CONT", "-f", "linkspan node"])
}

pub(super) fn divert(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["ip", "route", "add", "unreachable", "default", "table", "999"])?;
    on(worker, &["ip", "rule", "add", "to", "10.52.0.0/16", "lookup", "999", "priority", "100"])
}

pub(super) fn diverted(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "MissingRoute")?;
    says(&finding, "cause", "of another program")?;
    broken(joined, WEB, "paris", "MissingRoute")
}

pub(super) fn undivert(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["ip", "rule", "del", "to", "10.52.0.0/16", "lookup", "999", "priority", "100"])?;
    on(worker, &["ip", "route", "flush", "table", "999"])
}

pub(super) fn drop_vxlan(joined: &Joined) -> Result<()> {
    rule(node(joined, "paris-2")?, "input", "filter", 0, "udp dport 4790 drop")
}

pub(super) fn vxlan_blocked(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "VxlanBlocked")?;
    says(&finding, "cause", "UDP port 4790 (VXLAN) between paris-2 and the gateway paris-1 is blocked")?;
    says(&finding, "evidence", "chain inet fault input drops udp")?;
    broken(joined, WEB, "paris", "VxlanBlocked")?;
    lost(
        joined,
        "BetweenNodes",
        &["out to a node on paris-1 of paris and in from a node on paris-2 of paris".to_owned()],
    )
}

pub(super) fn hang_kube_proxy(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-STOP", "-x", "kube-proxy"])?;
    service(joined, "berlin", "later", "app: web", 80)?;
    joined.linkspan("berlin", &["export", "later", "-n", "default"])?.done()
}

pub(super) fn vip_not_programmed(joined: &Joined) -> Result<()> {
    found(joined, "paris", "node/paris-2", "VipNotProgrammed")?;
    broken(joined, "later.default.svc.clusterset.local", "paris", "VipNotProgrammed")
}

pub(super) fn resume_kube_proxy(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-CONT", "-x", "kube-proxy"])
}
