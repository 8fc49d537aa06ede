//! Packet filters: rules on nodes that drop clusterset traffic, UDP between the nodes of a cluster, and policies before
//! exported services. UDP between gateways is judged with their tunnels, in [`super::connections`].

use std::net::IpAddr;

use controller::node::filter::{Hit, Packet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::policy::{Direction, Other, Ruling, ruling};
use super::{Check, Fault, Finding, cni};
use crate::kubectl::inspect::{Inspection, Outcome, PacketSeen, Probe};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// UDP port of the VXLAN link between nodes (`controller::node::Vxlan`).
pub(crate) const VXLAN_PORT: u16 = 4790;

pub(super) fn check(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in cluster.node_names() {
        let object = format!("node/{node}");
        let rule = inner_rule(cluster, &node);
        findings.extend(rule.map(|fault| Finding::bad(Check::Firewall, cluster, &object, fault)));
        match vxlan_fault(cluster, &node) {
            Some(fault) => findings.push(Finding::bad(Check::Firewall, cluster, &object, fault)),
            None if vxlan_works(cluster, &node) => {
                findings.push(Finding::good(
                    Check::Firewall,
                    cluster,
                    &object,
                    "packets reach the gateway and come back",
                ));
            }
            None => {}
        }
    }
    findings.extend(policies(picture, cluster));
    findings
}

/// What was asked of datagrams to or from a port.
fn datagrams(seen: &Inspection, port: u16) -> impl Iterator<Item = &PacketSeen> {
    seen.packets.iter().filter(move |PacketSeen { of, .. }| {
        of.protocol == "udp" && (of.port == Some(port) || of.source_port == Some(port))
    })
}

fn told(node: &str, (packet, hit): (&Packet, &Hit)) -> String {
    let port = packet.port.map_or_else(String::new, |port| format!(" port {port}"));
    let what = format!("{} from {} to {}{port}", packet.protocol, packet.from, packet.to);
    format!("on node {node}, chain {} {} {what}: {}", hit.place, hit.effect, hit.rule)
}

/// A rule on one of two gateways that drops the tunnel's own datagrams.
pub(super) fn tunnel_rule(near: &ClusterPicture, far: &ClusterPicture) -> Option<Fault> {
    [near, far].into_iter().find_map(|cluster| {
        let (node, port) = (cluster.active_gateway()?, cluster.tunnel()?.listen_port);
        let hit = cni::drop_rule(datagrams(cluster.inspection(&node)?, port))?;
        let cause = format!("a firewall rule on the gateway of {} drops the tunnel's UDP", cluster.name());
        let fix = format!("accept UDP port {port} on {node} before that rule");
        Some(Fault::failed("FirewallRule", told(&node, hit), cause, fix))
    })
}

/// A rule on a node that drops packets of pods to or from another cluster.
fn inner_rule(cluster: &ClusterPicture, node: &str) -> Option<Fault> {
    let packets = cluster.inspection(node)?.packets.iter().filter(|packet| packet.of.protocol != "udp");
    dropped(node, packets)
}

/// A rule on a node that drops one of these packets, which are of pods.
pub(crate) fn dropped<'a>(node: &str, packets: impl IntoIterator<Item = &'a PacketSeen>) -> Option<Fault> {
    let hit = cni::drop_rule(packets)?;
    let cause = "a firewall rule on this node drops traffic between clusters".to_owned();
    let fix =
        "accept forwarded traffic between the pods of this cluster and the prefixes of the others before that rule"
            .to_owned();
    Some(Fault::failed("FirewallRule", told(node, hit), cause, fix))
}

/// Addresses that the gateway reaches in another cluster, with whether a node reaches them, too.
fn compared<'a>(cluster: &'a ClusterPicture, node: &str) -> Option<impl Iterator<Item = (IpAddr, Outcome)> + 'a> {
    let gateway = cluster.active_gateway().filter(|gateway| gateway != node)?;
    let (of_gateway, of_node) = (cluster.inspection(&gateway)?, cluster.inspection(node)?);
    let pings = of_gateway.probes.iter().filter_map(|probe| match probe.of {
        Probe::Ping { to, size: 0 } if probe.outcome == Outcome::Answered => Some(to),
        _ => None,
    });
    Some(pings.filter_map(|to| {
        let probe = of_node.probes.iter().find(|probe| probe.of == Probe::Ping { to, size: 0 })?;
        Some((to, probe.outcome))
    }))
}

/// Whether packets were seen to pass between a node and the gateway, another one: what is in another cluster has answered it.
pub(crate) fn vxlan_works(cluster: &ClusterPicture, node: &str) -> bool {
    if cluster.active_gateway().is_none_or(|gateway| gateway == node) {
        return false;
    }
    let is_far = |to: IpAddr| cluster.place(to).is_some_and(|place| Some(place.cluster.as_str()) != cluster.id());
    let mut probes = cluster.inspection(node).into_iter().flat_map(|seen| &seen.probes);
    probes.any(|probe| probe.outcome.is_reached() && is_far(probe.of.address()))
}

/// A worker that does not reach what its gateway reaches, although its route is right: the VXLAN between them is blocked.
pub(crate) fn vxlan_fault(cluster: &ClusterPicture, node: &str) -> Option<Fault> {
    let gateway = cluster.active_gateway()?;
    let compared: Vec<(IpAddr, Outcome)> = compared(cluster, node)?.collect();
    if compared.iter().any(|(_, outcome)| outcome.is_reached()) {
        return None;
    }
    let rule = [node, gateway.as_str()]
        .into_iter()
        .find_map(|node| cni::drop_rule(datagrams(cluster.inspection(node)?, VXLAN_PORT)).map(|hit| told(node, hit)));
    let silent = |(to, outcome): &&(IpAddr, Outcome)| {
        *outcome == Outcome::Silent && !is_lost_before(cluster, node, *to, rule.is_some())
    };
    let (to, _) = compared.iter().find(silent)?;
    let rule = rule.map_or_else(String::new, |rule| format!("; {rule}"));
    let evidence = format!("{to} answers the gateway {gateway} and not node {node}{rule}");
    let cause = format!("UDP port {VXLAN_PORT} (VXLAN) between {node} and the gateway {gateway} is blocked");
    let fix = format!("let UDP port {VXLAN_PORT} through between all nodes of the cluster");
    Some(Fault::failed("VxlanBlocked", evidence, cause, fix))
}

/// Whether a node's packets to the cluster of an address go astray before any VXLAN, or get no answer since their source is
/// rewritten. The latter explains nothing where a rule is seen that blocks the VXLAN.
fn is_lost_before(cluster: &ClusterPicture, node: &str, to: IpAddr, is_blocked: bool) -> bool {
    let far = |address| cluster.place(address).map(|place| place.cluster);
    let (Some(seen), Some(there)) = (cluster.inspection(node), far(to)) else { return false };
    let is_there = |address| far(address).as_ref() == Some(&there);
    let mut out = seen.lookups.iter().filter(|lookup| lookup.of.arriving.is_none() && is_there(lookup.of.to));
    let astray = out.any(|lookup| cni::lookup_fault(cluster, node, seen, lookup).is_some());
    astray || !is_blocked && cni::masquerade(seen.packets.iter().filter(|packet| is_there(packet.of.to))).is_some()
}

/// Exported services whose pods no pod of another cluster may reach.
fn policies(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let exports = cluster.exports.all();
    if exports.is_empty() || cluster.policies.all().is_empty() {
        return Vec::new();
    }
    let client = |far: String| Some((example(picture, cluster, &far)?, far));
    let clients: Vec<(IpAddr, String)> = cluster.others().into_iter().filter_map(client).collect();
    let mut findings = Vec::new();
    for export in exports {
        let (namespace, name) = (export.namespace().unwrap_or_default(), export.name_any());
        let Some(pod) = backends(cluster, &namespace, &name).first().copied() else { continue };
        let faults = clients.iter().filter_map(|(client, far)| policy_fault(cluster, pod, *client, far));
        let object = format!("serviceexport/{namespace}/{name}");
        findings.extend(faults.map(|fault| Finding::bad(Check::Firewall, cluster, &object, fault)));
    }
    findings
}

/// The pods that stand behind a service, by its selector.
pub(crate) fn backends<'a>(cluster: &'a ClusterPicture, namespace: &str, name: &str) -> Vec<&'a Pod> {
    let spec = cluster.service(namespace, name).and_then(|service| service.spec.as_ref());
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let Some(selector) = selector else { return Vec::new() };
    let backs = |pod: &&Pod| {
        pod.metadata.namespace.as_deref() == Some(namespace)
            && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    };
    cluster.pods.all().iter().filter(backs).collect()
}

fn policy_fault(cluster: &ClusterPicture, pod: &Pod, client: IpAddr, far: &str) -> Option<Fault> {
    let other = Other { address: client, port: None, protocol: "TCP" };
    let Ruling::Dropped(policies) = ruling(cluster, pod, Direction::Ingress, &other) else { return None };
    let evidence = format!("pods of {far}, such as {client}, are let in by none of {}", policies.join(", "));
    let cause = format!("NetworkPolicies drop what {far} sends to pod {}", pod.name_any());
    let fix =
        format!("if clients of {far} are meant to reach it, add an ingress rule with an ipBlock of its pods' prefixes");
    Some(Fault::warning("PolicyDrops", evidence, cause, fix))
}

/// An address that a pod of another cluster may have, as this cluster sees it.
fn example(picture: &Picture, cluster: &ClusterPicture, far: &str) -> Option<IpAddr> {
    let real = picture.by_id(far).into_iter().flat_map(|there| {
        let nodes = there.nodes.all().iter().flat_map(|node| node.spec.iter().flat_map(|spec| spec.pod_cidr.clone()));
        nodes.filter_map(|cidr| cidr.parse::<ipnet::IpNet>().ok()).filter_map(|net| net.hosts().nth(1))
    });
    let claimed = cluster.claim(far).into_iter().flat_map(|claim| claim.pod_cidrs).filter_map(|net| net.hosts().nth(1));
    real.chain(claimed).find_map(|native| cluster.calls(far, native))
}
