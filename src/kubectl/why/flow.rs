//! From the client's node to the server: policies, routes, rules, the tunnel and the way back.

use std::net::{IpAddr, SocketAddr};

use kube::ResourceExt as _;

use super::ends::Client;
use super::packets::{self, Connection};
use super::policies::{Policies, egress, policies, policy_hop};
use super::{Hop, members};
use crate::kubectl::diagnose::policy::{Direction, Other};
use crate::kubectl::diagnose::{Fault, State, cni, connections, firewall, mtu};
use crate::kubectl::inspect::{Inspection, Outcome, Probe, ProbeSeen};
use crate::kubectl::picture::facts::{is_ready, node_of, phase};
use crate::kubectl::picture::{ClusterPicture, Picture, Place};

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
    let address = from.address().map_or_else(|| "without an address".to_owned(), |address| address.to_string());
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
        hops.extend(far.map(|far| far_side(from, far, place.native, target)).into_iter().flatten());
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

/// From the client's node into the tunnel.
fn near_side(picture: &Picture, from: &Client<'_>, target: &Target, far: &str) -> Vec<Hop> {
    let near = from.cluster;
    let what = format!("tunnel to {far}");
    let trouble = connections::trouble(picture, near, far);
    // Nodes plan no way to it, so that where packets go instead tells nothing.
    if let Some(trouble) = trouble.as_ref().filter(|_| near.is_without_gateway(far)) {
        return vec![Hop::bad(near.name(), what, trouble.fault.clone())];
    }
    let mut hops = Vec::new();
    let gateway = near.active_gateway();
    let way = OnNode { cluster: near, other: far, connection: Connection::near(from, target) };
    if let Some(node) = &from.node {
        hops.extend(way.hops(node, Some(target.address)));
        let further = gateway.as_ref().filter(|gateway| *gateway != node);
        hops.extend(further.map(|gateway| way.filter(gateway)));
    }
    let gateway = gateway.unwrap_or_else(|| "none".to_owned());
    match trouble {
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

/// A connection, as the nodes of one of its clusters see it.
struct OnNode<'a> {
    cluster: &'a ClusterPicture,
    /// ID of the cluster at the other end.
    other: &'a str,
    /// Nothing where an end has no address.
    connection: Option<Connection>,
}

impl OnNode<'_> {
    /// What one node does with it; `to` is where its packets go from there.
    fn hops(&self, node: &str, to: Option<IpAddr>) -> Vec<Hop> {
        let (cluster, here) = (self.cluster, self.cluster.name());
        let Some(seen) = cluster.inspection(node) else { return vec![self.unseen(node)] };
        let mut hops = vec![route(cluster, node, seen, to), self.filter(node)];
        if cluster.active_gateway().as_deref() != Some(node) {
            hops.push(vxlan(cluster, node));
        }
        let hole = mtu::black_hole(seen.probes.iter().filter(|probe| self.goes_there(probe)));
        hops.extend(hole.map(|fault| Hop::bad(here, format!("MTU from node {node}"), fault)));
        hops
    }

    /// What the packet filter of a node does to it.
    fn filter(&self, node: &str) -> Hop {
        match self.cluster.inspection(node) {
            Some(seen) => packets::hop(self.cluster, node, seen, self.connection.as_ref()),
            None => self.unseen(node),
        }
    }

    /// A node that told nothing.
    fn unseen(&self, node: &str) -> Hop {
        let why = match self.cluster.inspections.get(node).and_then(|part| part.unseen()) {
            Some(unseen) => unseen.why.clone(),
            None => "the node was not asked".to_owned(),
        };
        Hop::unseen(self.cluster.name(), format!("node {node}"), why)
    }

    /// Whether a probe went to the cluster at the other end.
    fn goes_there(&self, probe: &ProbeSeen) -> bool {
        self.cluster.place(probe.of.address()).is_some_and(|place| place.cluster == self.other)
    }
}

/// Whether packets pass between a node and its gateway; unseen where nothing tells of it.
fn vxlan(cluster: &ClusterPicture, node: &str) -> Hop {
    let (here, what) = (cluster.name(), format!("VXLAN from node {node} to the gateway"));
    match firewall::vxlan_fault(cluster, node) {
        Some(fault) => Hop::bad(here, what, fault),
        None if firewall::vxlan_works(cluster, node) => Hop::good(here, what, "packets pass between them"),
        None => {
            Hop::unseen(here, what, "no packets of this node were seen to pass, and nothing tells that they cannot")
        }
    }
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
fn far_side(from: &Client<'_>, far: &ClusterPicture, native: IpAddr, target: &Target) -> Vec<Hop> {
    let mut hops = Vec::new();
    let gateway = far.active_gateway();
    let node = far.node_of_address(native);
    let other = from.cluster.id().unwrap_or_default();
    let way = OnNode { cluster: far, other, connection: Connection::far(from, far, native, target) };
    match gateway.as_ref().map(|gateway| (gateway, far.inspection(gateway))) {
        Some((gateway, Some(seen))) => {
            hops.push(inward(far, gateway, seen, native, node.as_deref()));
            hops.push(way.filter(gateway));
        }
        Some((gateway, None)) => hops.push(way.unseen(gateway)),
        // What is the matter with a cluster without a gateway is told with its tunnel.
        None => {}
    }
    // Answers take the way back from the server's node.
    if let Some(node) = node.filter(|node| Some(node) != gateway.as_ref()) {
        let client = way.connection.as_ref().map(|connection| connection.client);
        hops.extend(way.hops(&node, client));
    }
    hops
}

/// Whether a gateway knows the way of what comes out of its tunnel.
fn inward(far: &ClusterPicture, gateway: &str, seen: &Inspection, native: IpAddr, node: Option<&str>) -> Hop {
    let refused = packets::inward(seen, native).and_then(|way| way.refused.clone());
    let fault = refused.map(|refused| {
        let evidence = format!("packets that come out of the tunnel for {native} have no way: {refused}");
        let fix = format!("see `linkspan inspect --to {native}` on {gateway}, and the routes of the CNI there");
        Fault::failed("MissingRoute", evidence, format!("gateway {gateway} does not know the way to {native}"), fix)
    });
    let good = node.map_or_else(|| "onwards".to_owned(), |node| format!("to node {node}"));
    Hop::judged(far.name(), format!("route on gateway {gateway}"), fault, good)
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
    let client = from.address_to(native).and_then(|address| match (from.cluster.id(), far.id()) {
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
