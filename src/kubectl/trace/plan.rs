//! Which places a flow passes, and what nodes are asked to count.

use std::collections::BTreeMap;

use controller::node::counters::{Flow, Hook, Link, Only, Pair, Protocol};

use super::{Spot, Way};
use crate::kubectl::picture::facts::on_host_network;
use crate::kubectl::picture::{ClusterPicture, Picture};
use crate::kubectl::why::{Client, Target};

/// What is counted where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For each address that is called, the places in order.
    pub routes: Vec<Route>,
    /// What each node counts, by cluster ID and name; the pairs are in the order of `routes`.
    pub flows: BTreeMap<(String, String), Flow>,
}

/// The way to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The address, as the client's cluster calls it.
    pub target: Target,
    /// The places, there and then back.
    pub spots: Vec<Spot>,
}

/// Plans it. `echo` counts echo requests with this identifier and their answers, and nothing else.
///
/// # Errors
/// The client has no address, or none of the family that it calls, or an address that is called is in no cluster, or on no
/// node of one.
pub fn plan(picture: &Picture, from: &Client<'_>, targets: &[Target], echo: Option<u16>) -> Result<Plan, String> {
    let near = from.cluster;
    let (Some(_), Some(client_node)) = (from.address(), &from.node) else {
        return Err(format!("{} has no address or is on no node yet", from.label));
    };
    let mut plan = Plan::default();
    for target in targets {
        let Some(client) = from.address_to(target.address) else {
            return Err(format!("{} has no address of the family of {}", from.label, target.address));
        };
        let unknown = || match near.id.unseen().or(near.members.unseen()) {
            Some(unseen) => format!("whose {} is could not be seen: {}", target.address, unseen.why),
            None => format!("{} is in no cluster that {} knows", target.address, near.name()),
        };
        let place = near.place(target.address).ok_or_else(unknown)?;
        let far = picture.by_id(&place.cluster);
        let is_local = near.id() == Some(place.cluster.as_str());
        let ends = Ends {
            near: Side { cluster: near, node: client_node, is_node: from.is_on_node() },
            far: far.filter(|_| !is_local),
            server: far.and_then(|far| Some((far.node_of_address(place.native)?, is_on_node(far, place.native)))),
        };
        let spots =
            if is_local { ends.within_cluster() } else { ends.there().into_iter().chain(ends.back()).collect() };
        if spots.is_empty() {
            return Err(format!("{} is on no node that was seen: there is no place to count at", target.address));
        }
        for (cluster, node) in nodes(&spots) {
            let is_far = !is_local && far.is_some_and(|far| far.name() == cluster);
            let called = near.id().and_then(|id| far?.calls(id, client)).unwrap_or(client);
            let pair = match is_far {
                true => Pair { client: called, server: place.native },
                false => Pair { client, server: target.address },
            };
            plan.flows.entry((cluster, node)).or_default().pairs.push(pair);
        }
        plan.routes.push(Route { target: target.clone(), spots });
    }
    let only = echo.map(|identifier| Only::Echo { identifier }).or_else(|| targets.first().and_then(only_port));
    plan.flows.values_mut().for_each(|flow| flow.only = only);
    Ok(plan)
}

impl Plan {
    /// Which of a node's pairs is that of the route `at`.
    pub fn pair(&self, at: usize, cluster: &str, node: &str) -> usize {
        let passes = |route: &&Route| route.spots.iter().any(|spot| spot.cluster == cluster && spot.node == node);
        self.routes.iter().take(at).filter(passes).count()
    }
}

fn only_port(target: &Target) -> Option<Only> {
    let protocol = match target.protocol.as_str() {
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    target.port.map(|port| Only::Port { protocol, port })
}

/// All nodes that are passed, each once.
fn nodes(spots: &[Spot]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = spots.iter().map(|spot| (spot.cluster.clone(), spot.node.clone())).collect();
    found.sort();
    found.dedup();
    found
}

/// Whether an address is the node's own: packets to it end on the node, and do not go out again.
fn is_on_node(cluster: &ClusterPicture, address: std::net::IpAddr) -> bool {
    cluster.pod_by_address(address).is_none_or(on_host_network)
}

struct Side<'a> {
    cluster: &'a ClusterPicture,
    node: &'a str,
    is_node: bool,
}

struct Ends<'a> {
    near: Side<'a>,
    far: Option<&'a ClusterPicture>,
    /// The server's node, and whether it is the node itself.
    server: Option<(String, bool)>,
}

impl Ends<'_> {
    fn there(&self) -> Vec<Spot> {
        let near = Steps { way: Way::There, cluster: self.near.cluster };
        let mut spots = Vec::new();
        let node = self.near.node;
        spots.extend((!self.near.is_node).then(|| near.spot(node, Link::Other, Hook::In)));
        spots.extend(near.toward_tunnel(node));
        let Some(far) = self.far.map(|cluster| Steps { way: Way::There, cluster }) else { return spots };
        spots.extend(far.out_of_tunnel(self.server.as_ref().map(|(node, is_node)| (node.as_str(), *is_node))));
        spots
    }

    fn back(&self) -> Vec<Spot> {
        let mut spots = Vec::new();
        if let (Some(cluster), Some((node, is_node))) = (self.far, &self.server) {
            let far = Steps { way: Way::Back, cluster };
            spots.extend((!is_node).then(|| far.spot(node, Link::Other, Hook::In)));
            spots.extend(far.toward_tunnel(node));
        }
        let near = Steps { way: Way::Back, cluster: self.near.cluster };
        spots.extend(near.out_of_tunnel(Some((self.near.node, self.near.is_node))));
        spots
    }

    /// Both ends are in one cluster: nothing of Linkspan's is between them.
    fn within_cluster(&self) -> Vec<Spot> {
        let client = (self.near.node, self.near.is_node);
        let Some((node, is_node)) = &self.server else { return Vec::new() };
        let server = (node.as_str(), *is_node);
        let mut spots = Vec::new();
        for (way, from, to) in [(Way::There, client, server), (Way::Back, server, client)] {
            let steps = Steps { way, cluster: self.near.cluster };
            spots.extend((!from.1).then(|| steps.spot(from.0, Link::Other, Hook::In)));
            if from.0 != to.0 {
                spots.push(steps.spot(from.0, Link::Other, Hook::Out));
                spots.push(steps.spot(to.0, Link::Other, Hook::In));
            }
            spots.extend((!to.1).then(|| steps.spot(to.0, Link::Other, Hook::Out)));
        }
        spots
    }
}

/// One direction inside one cluster.
struct Steps<'a> {
    way: Way,
    cluster: &'a ClusterPicture,
}

impl Steps<'_> {
    fn spot(&self, node: &str, link: Link, hook: Hook) -> Spot {
        let (cluster, node) = (self.cluster.name().to_owned(), node.to_owned());
        Spot { way: self.way, cluster, node, link, hook }
    }

    /// From a node into the tunnel, over the gateway where it is another one.
    fn toward_tunnel(&self, node: &str) -> Vec<Spot> {
        let Some(gateway) = self.cluster.active_gateway() else { return Vec::new() };
        let mut spots = Vec::new();
        if gateway != node {
            spots.push(self.spot(node, Link::Vxlan, Hook::Out));
            spots.push(self.spot(&gateway, Link::Vxlan, Hook::In));
        }
        spots.push(self.spot(&gateway, Link::Tunnel, Hook::Out));
        spots
    }

    /// Out of the tunnel to an end, which may be a node itself.
    fn out_of_tunnel(&self, end: Option<(&str, bool)>) -> Vec<Spot> {
        let Some(gateway) = self.cluster.active_gateway() else { return Vec::new() };
        let mut spots = vec![self.spot(&gateway, Link::Tunnel, Hook::In)];
        let Some((node, is_node)) = end else { return spots };
        if gateway != node {
            let link = self.link_to_pods_of(node);
            spots.push(self.spot(&gateway, link, Hook::Out));
            spots.push(self.spot(node, link, Hook::In));
        }
        spots.extend((!is_node).then(|| self.spot(node, Link::Other, Hook::Out)));
        spots
    }

    /// The gateway's way to the pods of a node: over VXLAN where their prefixes are known, else as the network plugin has it.
    fn link_to_pods_of(&self, node: &str) -> Link {
        let spec = self.cluster.node(node).and_then(|node| node.spec.as_ref());
        let is_known = spec.is_some_and(|spec| spec.pod_cidr.is_some() || spec.pod_cidrs.is_some());
        if is_known { Link::Vxlan } else { Link::Other }
    }
}
