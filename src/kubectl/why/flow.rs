//! From the client's node to the server: policies, routes, rules, the tunnel and the way back.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::ends::Client;
use super::{Hop, members};
use crate::kubectl::diagnose::policy::{Direction, Other, Ruling, ruling};
use crate::kubectl::diagnose::{Fault, State, cni, connections, firewall, mtu};
use crate::kubectl::inspect::{Inspection, Outcome, Probe, is_of_filter};
use crate::kubectl::picture::facts::{is_ready, node_of, phase};
use crate::kubectl::picture::{ClusterPicture, Picture, Place, Unseen};

/// One address that is called, as the client's cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// The port, where one is meant.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Whether it may be tried.
    pub probe: bool,
}

/// The client itself.
pub(super) fn source(from: &Client<'_>) -> Hop {
    let here = from.cluster.name();
    let what = from.label.clone();
    if let Some(pod) = from.pod.filter(|pod| phase(pod) != "Running") {
        let evidence = format!("it is {}", phase(pod));
        let fault = Fault::failed(
            "NotRunning",
            evidence,
            "the client does not run",
            format!("see `kubectl describe pod {}`", pod.name_any()),
        );
        return Hop::bad(here, what, fault);
    }
    let address = from.address.map_or_else(|| "without an address".to_owned(), |address| address.to_string());
    let node = from.node.as_ref().map_or_else(|| "no node".to_owned(), |node| format!("node {node}"));
    Hop::good(here, what, format!("{address} on {node}"))
}

/// Follows a connection to one address; `there` is the cluster in which it is, where that is known.
pub(super) fn follow(
    picture: &Picture,
    from: &Client<'_>,
    target: &Target,
    there: Option<&ClusterPicture>,
) -> Vec<Hop> {
    let near = from.cluster;
    let mut hops: Vec<Hop> = egress(from, target).into_iter().collect();
    let place = match locate(picture, near, target.address, there) {
        Ok(place) => place,
        Err(hop) => {
            hops.push(*hop);
            return hops;
        }
    };
    let is_local = place.cluster == near.name();
    let far = if is_local { Some(near) } else { picture.by_id(&place.cluster) };
    if !is_local {
        // What a cluster that does not use this one gets from it, it drops.
        hops.extend(far.zip(near.id()).and_then(|(far, id)| members::refused(picture, far, id)));
        hops.extend(near_side(picture, from, target, &place.cluster));
        hops.extend(far.map(|far| far_gateway(from, far, place.native)).into_iter().flatten());
    }
    match far {
        Some(far) => hops.extend(server(from, far, place.native, target)),
        None => hops.push(Hop::unseen(&place.cluster, "server", "that cluster was not named with --context")),
    }
    let policies = policies(from, far.map(|far| (far, place.native)), target);
    hops.extend(tried(from, target, policies));
    hops
}

/// Where an address is, as the client's cluster sees it.
fn locate(
    picture: &Picture,
    near: &ClusterPicture,
    address: IpAddr,
    there: Option<&ClusterPicture>,
) -> Result<Place, Box<Hop>> {
    let here = near.name();
    // A pod of a cluster that is not used is not called, whatever else has its address.
    let other = there.filter(|there| !std::ptr::eq(*there, near));
    if let Some(hop) = other.and_then(|there| members::unused(picture, near, there)) {
        return Err(Box::new(hop));
    }
    if let Some(place) = near.place(address) {
        return Ok(place);
    }
    if other.is_none() && near.pod_by_address(address).is_some() {
        return Ok(Place { cluster: here.to_owned(), native: address });
    }
    if let Some(unseen) = near.id.unseen().or(near.members.unseen()) {
        let why = format!("whose {address} is could not be seen: {}", unseen.why);
        return Err(Box::new(Hop::unseen(here, "address", why)));
    }
    if let Some(hop) = members::claims(near, address).and_then(|id| members::refused(picture, near, &id)) {
        return Err(Box::new(hop));
    }
    let evidence = format!("{address} is in no prefix of any Member that {here} uses");
    let cause = "the address belongs to no cluster that this one knows";
    let fix = "see `kubectl linkspan show members`, and whether the address is the one that this cluster knows it by";
    Err(Box::new(Hop::bad(here, "address", Fault::failed("UnknownAddress", evidence, cause, fix))))
}

/// Names of the clusters to which an address leads, or should.
pub(super) fn fars(
    picture: &Picture,
    from: &Client<'_>,
    address: IpAddr,
    there: Option<&ClusterPicture>,
) -> Vec<String> {
    let near = from.cluster;
    if let Some(there) = there {
        return vec![there.name().to_owned()];
    }
    if let Some(place) = near.place(address) {
        return vec![place.cluster];
    }
    let has = |cluster: &&ClusterPicture| cluster.node_of_address(address).is_some();
    picture.clusters.iter().filter(has).map(|cluster| cluster.name().to_owned()).collect()
}

/// Whether NetworkPolicies have a say in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policies {
    /// None selects either end.
    Free,
    /// One does, or nobody could look.
    Perhaps,
}

fn policies(from: &Client<'_>, server: Option<(&ClusterPicture, IpAddr)>, target: &Target) -> Policies {
    let other = |address| Other { address, port: target.port, protocol: &target.protocol };
    let is_free = |cluster: &ClusterPicture, pod: &Pod, direction| {
        // Of a free pod no address is asked.
        let is_seen = cluster.policies.unseen_in(&pod.namespace().unwrap_or_default()).is_none();
        is_seen && ruling(cluster, pod, direction, &other(target.address)) == Ruling::Free
    };
    let out = from.pod.is_none_or(|pod| is_free(from.cluster, pod, Direction::Egress));
    let inward = server.is_some_and(|(far, native)| match far.pod_by_address(native) {
        Some(pod) => is_free(far, pod, Direction::Ingress),
        None => far.pods.seen().is_some(),
    });
    if out && inward { Policies::Free } else { Policies::Perhaps }
}

fn egress(from: &Client<'_>, target: &Target) -> Option<Hop> {
    let pod = from.pod?;
    let other = Other { address: target.address, port: target.port, protocol: &target.protocol };
    policy_hop(from.cluster, pod, Direction::Egress, &other)
}

fn policy_hop(cluster: &ClusterPicture, pod: &Pod, direction: Direction, other: &Other<'_>) -> Option<Hop> {
    let (here, what) = (cluster.name(), format!("NetworkPolicies ({direction:?})"));
    let namespace = pod.namespace().unwrap_or_default();
    if let Some(unseen) = cluster.policies.unseen_in(&namespace) {
        return Some(Hop::unseen(here, what, unseen.why.clone()));
    }
    let ruling = ruling(cluster, pod, direction, other);
    if let (Ruling::Dropped(_), Some(unseen)) = (&ruling, hidden(cluster, other.address)) {
        return Some(Hop::unseen(here, what, unseen.why.clone()));
    }
    let (address, pod) = (other.address, format!("{namespace}/{}", pod.name_any()));
    Some(match ruling {
        Ruling::Free => Hop::good(here, what, format!("none selects {pod}")),
        Ruling::Allowed(policy) => Hop::good(here, what, format!("{policy} lets it through")),
        Ruling::Dropped(policies) => {
            let port = other.port.map_or_else(String::new, |port| format!(" {} port {port}", other.protocol));
            let (way, rule) = match direction {
                Direction::Ingress => ("from", "ingress"),
                Direction::Egress => ("to", "egress"),
            };
            let evidence =
                format!("{} select pod {pod}, and none lets{port} {way} {address} through", policies.join(", "));
            let fix = format!(
                "add an {rule} rule with ipBlock {{ cidr: {address}/{} }}, or the prefix of its pods, to one of them",
                bits(address)
            );
            let cause = "a NetworkPolicy drops it: it knows addresses of other clusters by ipBlock only".to_owned();
            Hop::bad(here, what, Fault::failed("PolicyDrops", evidence, cause, fix))
        }
    })
}

/// What policies may mean a pod of their own cluster by, where nobody could look at it.
fn hidden(cluster: &ClusterPicture, address: IpAddr) -> Option<&Unseen> {
    let place = cluster.place(address);
    let is_elsewhere = place.is_some_and(|place| place.cluster != cluster.name());
    cluster.pods.unseen().or(cluster.namespaces.unseen()).filter(|_| !is_elsewhere)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// From the client's node into the tunnel.
fn near_side(picture: &Picture, from: &Client<'_>, target: &Target, far: &str) -> Vec<Hop> {
    let near = from.cluster;
    let mut hops = Vec::new();
    if let Some(node) = &from.node {
        hops.extend(node_hops(near, node, Some(target.address)));
    }
    let what = format!("tunnel to {far}");
    let gateway = near.active_gateway().unwrap_or_else(|| "none".to_owned());
    match connections::trouble(picture, near, far) {
        Some(trouble) => hops.push(Hop::bad(near.name(), what, trouble.fault)),
        None => {
            let peer = near.peer(far);
            let rtt = peer.and_then(|peer| peer.rtt_ms).map_or_else(String::new, |rtt| format!(", {rtt:.2} ms"));
            hops.push(Hop::good(near.name(), what, format!("up from gateway {gateway}{rtt}")));
            let narrow = peer.and_then(|peer| mtu::narrow(near, peer));
            hops.extend(narrow.map(|fault| Hop::bad(near.name(), "MTU of the tunnel", fault)));
        }
    }
    hops
}

/// What one node does with clusterset traffic.
fn node_hops(cluster: &ClusterPicture, node: &str, to: Option<IpAddr>) -> Vec<Hop> {
    let here = cluster.name();
    let Some(seen) = cluster.inspection(node) else {
        let why = match cluster.inspections.get(node).and_then(|part| part.unseen()) {
            Some(unseen) => unseen.why.clone(),
            None => "the node was not asked".to_owned(),
        };
        return vec![Hop::unseen(here, format!("node {node}"), why)];
    };
    let mut hops = vec![route(cluster, node, seen, to)];
    let rule = cni::masquerade(seen).or_else(|| firewall::inner_rule(cluster, node));
    let what = format!("packet filter of node {node}");
    hops.push(match seen.unseen.iter().find(|text| is_of_filter(text)) {
        Some(why) => Hop::unseen(here, what, why.clone()),
        None => Hop::judged(here, what, rule, "no rule of others touches it"),
    });
    if cluster.active_gateway().as_deref() != Some(node) {
        let good = "packets pass between them";
        hops.push(Hop::judged(
            here,
            format!("VXLAN from node {node} to the gateway"),
            firewall::vxlan_fault(cluster, node),
            good,
        ));
    }
    let hole = mtu::black_hole(seen);
    hops.extend(hole.map(|fault| Hop::bad(here, format!("MTU from node {node}"), fault)));
    hops
}

/// The way of packets to an address; unseen where the node was asked for it and did not answer.
fn route(cluster: &ClusterPicture, node: &str, seen: &Inspection, to: Option<IpAddr>) -> Hop {
    let what = format!("route on node {node}");
    let fault = match to {
        Some(to) => {
            let mut lookups = seen.lookups.iter().filter(|found| found.of.to == to).peekable();
            if lookups.peek().is_none() {
                let unanswered = cluster.asked(node).and_then(|asked| asked.unanswered.clone());
                let why = unanswered.or_else(|| seen.unseen.first().cloned());
                return Hop::unseen(cluster.name(), what, why.unwrap_or_else(|| format!("no way to {to} was told")));
            }
            lookups.find_map(|found| cni::lookup_fault(cluster, node, seen, found))
        }
        None => cni::way_fault(cluster, node),
    };
    Hop::judged(cluster.name(), what, fault, way(cluster, node))
}

fn way(cluster: &ClusterPicture, node: &str) -> String {
    match cluster.active_gateway() {
        Some(gateway) if gateway == node => "into the tunnel: it is the gateway".to_owned(),
        Some(gateway) => format!("to the gateway {gateway}"),
        None => "there is no gateway".to_owned(),
    }
}

/// What the other cluster does with packets and answers.
fn far_gateway(from: &Client<'_>, far: &ClusterPicture, native: IpAddr) -> Vec<Hop> {
    let mut hops = Vec::new();
    let gateway = far.active_gateway();
    let node = far.node_of_address(native);
    if let Some(gateway) = &gateway
        && let Some(seen) = far.inspection(gateway)
    {
        let inward = seen.lookups.iter().find(|found| found.of.to == native && found.of.arriving.is_some());
        let fault = inward.and_then(|found| found.way.refused.clone()).map(|refused| {
            let evidence = format!("packets that come out of the tunnel for {native} have no way: {refused}");
            let fix = format!("see `linkspan inspect --to {native}` on {gateway}, and the routes of the CNI there");
            Fault::failed("MissingRoute", evidence, format!("gateway {gateway} does not know the way to {native}"), fix)
        });
        let good = node.as_ref().map_or_else(|| "onwards".to_owned(), |node| format!("to node {node}"));
        hops.push(Hop::judged(far.name(), format!("route on gateway {gateway}"), fault, good));
        let rule = cni::masquerade(seen).or_else(|| firewall::inner_rule(far, gateway));
        hops.extend(rule.map(|fault| Hop::bad(far.name(), format!("packet filter of gateway {gateway}"), fault)));
    }
    // Answers take the way back from the server's node.
    if let Some(node) = node.filter(|node| Some(node) != gateway.as_ref()) {
        let client = from.address.zip(from.cluster.id()).and_then(|(address, id)| far.calls(id, address));
        hops.extend(node_hops(far, &node, client));
    }
    hops
}

/// The server, and what may keep packets from it.
fn server(from: &Client<'_>, far: &ClusterPicture, native: IpAddr, target: &Target) -> Vec<Hop> {
    let there = far.name();
    let Some(pod) = far.pod_by_address(native) else {
        let node = far.node_of_address(native);
        let what = format!("server {native}");
        return vec![match (node, far.pods.unseen()) {
            (_, Some(unseen)) => Hop::unseen(there, what, unseen.why.clone()),
            (Some(node), None) if far.address_among_pods(&node) == Some(native) => {
                Hop::good(there, what, format!("node {node} itself"))
            }
            _ => {
                let cause = "the pod is gone, or never was";
                let fix = "see whether EndpointSlices are up to date";
                Hop::bad(there, what, Fault::failed("NoSuchPod", format!("no pod has {native}"), cause, fix))
            }
        }];
    };
    let mut hops = Vec::new();
    let client = from.address.and_then(|address| match (from.cluster.id(), far.id()) {
        (Some(near), Some(id)) if near != id => far.calls(near, address),
        _ => Some(address),
    });
    if let Some(address) = client {
        let other = Other { address, port: target.port, protocol: &target.protocol };
        hops.extend(policy_hop(far, pod, Direction::Ingress, &other));
    }
    let what = format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let node = node_of(pod).unwrap_or("no node");
    if is_ready(pod) {
        hops.push(Hop::good(there, what, format!("ready, {native} on node {node}")));
    } else {
        let evidence = format!("it is {} and not ready", phase(pod));
        let fix = format!("see `kubectl describe pod {} -n {}`", pod.name_any(), pod.namespace().unwrap_or_default());
        hops.push(Hop::bad(there, what, Fault::failed("NotReady", evidence, "the server does not work", fix)));
    }
    hops
}

/// What happened when the client's node tried to connect.
fn tried(from: &Client<'_>, target: &Target, policies: Policies) -> Option<Hop> {
    let to = SocketAddr::new(target.address, target.port?);
    let node = from.node.as_ref()?;
    let seen = from.cluster.inspection(node)?;
    let probe = seen.probes.iter().find(|probe| probe.of == Probe::Tcp { to })?;
    let (here, what) = (from.cluster.name(), format!("connection from node {node} to {to}"));
    let (reason, cause, fix) = match probe.outcome {
        Outcome::Answered => return Some(Hop::good(here, what, probe.detail.clone())),
        Outcome::Refused => (
            "NobodyListens",
            "the server is reached, and nothing listens on this port",
            "see what the server listens on: not on 127.0.0.1 alone, and on this port",
        ),
        Outcome::Unable => return Some(Hop::unseen(here, what, probe.detail.clone())),
        _ => (
            "NoAnswer",
            "packets or answers are lost, and no hop above shows where",
            "look at what is between the hops above: `kubectl linkspan trace`, or tcpdump on both gateways",
        ),
    };
    let fault = Fault::failed(reason, probe.detail.clone(), cause, fix);
    // A policy may let pods in and nodes not: then what the node gets says nothing of the pod.
    let is_node = from.is_on_node();
    let fault = match (probe.outcome, policies) {
        (Outcome::Silent, Policies::Perhaps) if !is_node => Fault {
            state: State::Unknown,
            evidence: format!("{}; NetworkPolicies may stop the node and let the pod through", probe.detail),
            cause: "the node, which is not the pod, gets no answer".to_owned(),
            fix: "try it from the pod itself".to_owned(),
            ..fault
        },
        _ => fault,
    };
    Some(Hop::bad(here, what, fault))
}
