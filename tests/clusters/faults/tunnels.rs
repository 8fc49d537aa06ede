//! Faults between gateways.

use anyhow::{Result, ensure};

use super::ask::{broken, found, lost, noted, says};
use super::make::{node, on, open_world, rule, world};
use crate::joined::{CLUSTERS, Joined, SYSTEM, eventually};

pub(super) fn block_one_way(_: &Joined) -> Result<()> {
    world("ip saddr 192.168.7.0/24 ip daddr 192.168.8.0/24 meta l4proto udp")
}

/// The endpoints of a cluster leave the clusterset IP while its path is down, so that a pod is asked for.
const FAR: &str = "berlin/default/pod/on-berlin-2:80";

pub(super) fn udp_one_way(joined: &Joined) -> Result<()> {
    for (near, far) in [("paris", "berlin"), ("berlin", "paris")] {
        let finding = found(joined, near, &format!("cluster/{far}"), "UdpBlockedOneWay")?;
        says(&finding, "cause", "UDP from paris does not arrive at berlin")?;
    }
    broken(joined, FAR, "paris", "UdpBlockedOneWay")
}

pub(super) fn block_both_ways(_: &Joined) -> Result<()> {
    world("meta l4proto udp")
}

pub(super) fn udp_both_ways(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster/berlin", "UdpBlockedBothWays")?;
    broken(joined, FAR, "paris", "UdpBlockedBothWays")?;
    let between = "out into the tunnel on paris-1 of paris and in from the tunnel on berlin-1 of berlin";
    lost(joined, "InTunnel", &[between.to_owned()])
}

pub(super) fn drop_on_gateway(joined: &Joined) -> Result<()> {
    rule(node(joined, "berlin-1")?, "input", "filter", 0, "udp dport 51820 drop")
}

pub(super) fn rule_on_a_gateway(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/berlin", "FirewallRule")?;
    says(&finding, "evidence", "on node berlin-1, chain inet fault input drops udp")?;
    broken(joined, FAR, "paris", "FirewallRule")
}

pub(super) fn swallow_large(_: &Joined) -> Result<()> {
    world("meta l4proto udp meta length > 1350")
}

pub(super) fn mtu_black_hole(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster/berlin", "MtuBlackHole")?;
    noted(joined, "paris", "MtuBlackHole")
}

/// A path that was narrow is tried again after ten minutes only (RFC 8899, section 5.1.1), or by a new process.
pub(super) fn widen(joined: &Joined) -> Result<()> {
    open_world(joined)?;
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        cluster.kubectl(["rollout", "restart", "daemonset/linkspan-node", "-n", SYSTEM])?.done()?;
        cluster.kubectl(["rollout", "status", "daemonset/linkspan-node", "-n", SYSTEM, "--timeout=300s"])?.done()?;
    }
    Ok(())
}

/// The only gateway of berlin gets no pod any more.
pub(super) fn lose_gateway(joined: &Joined) -> Result<()> {
    choose_nodes(joined, r#""berlin-2""#)
}

fn choose_nodes(joined: &Joined, host: &str) -> Result<()> {
    let selector = format!(r#"{{"nodeSelector":{{"kubernetes.io/hostname":{host}}}}}"#);
    let patch = format!(r#"{{"spec":{{"template":{{"spec":{selector}}}}}}}"#);
    joined.cluster("berlin")?.kubectl(["patch", "daemonset", "linkspan-node", "-n", SYSTEM, "-p", &patch])?.done()
}

pub(super) fn gateway_dead(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "node/berlin-1", "GatewayPodDead")?;
    found(joined, "paris", "cluster/berlin", "PeerGatewayDown")?;
    broken(joined, FAR, "paris", "PeerGatewayDown")
}

pub(super) fn restore_gateway(joined: &Joined) -> Result<()> {
    choose_nodes(joined, "null")?;
    let args = ["rollout", "status", "daemonset/linkspan-node", "-n", SYSTEM, "--timeout=300s"];
    joined.cluster("berlin")?.kubectl(args)?.done()
}

/// berlin's gateway gets another key while nobody tells paris.
pub(super) fn change_key(joined: &Joined) -> Result<()> {
    scale_controller(joined, 0)?;
    let berlin = joined.cluster("berlin")?;
    let left = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller", "-o", "name"];
    eventually(|| {
        let left = berlin.kubectl(left)?.stdout()?;
        ensure!(left.is_empty(), "controllers still run: {left}");
        Ok(())
    })?;
    on(berlin.node("berlin-1")?, &["rm", "/var/lib/linkspan/private.key"])?;
    let pods = ["-n", SYSTEM, "-l", "app.kubernetes.io/component=node", "--field-selector", "spec.nodeName=berlin-1"];
    berlin.kubectl(["delete", "pod"].into_iter().chain(pods))?.done()
}

fn scale_controller(joined: &Joined, replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let args = ["scale", "deployment/linkspan-controller", "-n", SYSTEM, &replicas];
    joined.cluster("berlin")?.kubectl(args)?.done()
}

pub(super) fn wrong_key(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/berlin", "WrongKey")?;
    says(&finding, "evidence", "paris uses key")?;
    broken(joined, FAR, "paris", "WrongKey")
}

pub(super) fn tell_key(joined: &Joined) -> Result<()> {
    scale_controller(joined, 2)
}
