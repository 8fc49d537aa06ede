//! What nodes are asked for a diagnosis: where their traffic to other clusters goes, what rules do to it, who answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use controller::node::filter::{Packet, Passage};
use controller::node::{Lookup, reached_at};
use ipnet::IpNet;
use kube::ResourceExt as _;

use super::dns::{addresses, question};
use super::firewall::VXLAN_PORT;
use crate::kubectl::inspect::{NameQuestion, Probe, Questions};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// Clusterset IPs that a node is asked about: all of a big clusterset, in one listing of its rules.
const SERVICES: usize = 20_000;
/// Names that a node is asked to resolve.
const NAMES: usize = 2;
/// Nodes of one other cluster that a gateway is asked to reach.
const FAR_NODES: usize = 16;
/// Echo requests that a node is asked to send: 256 run at a time, and those that stay unanswered take 2.4 s each, so that all
/// are over long before nobody waits for the node any more.
const PROBES: usize = 1024;

/// What each node of each cluster is asked, by context and node.
pub fn questions(picture: &Picture) -> Vec<BTreeMap<String, Questions>> {
    let natives: BTreeMap<&str, Vec<IpAddr>> =
        picture.clusters.iter().filter_map(|cluster| Some((cluster.id()?, natives(cluster)))).collect();
    let of_cluster = |cluster: &ClusterPicture| {
        // What happens to packets for a cluster that nobody can call tells nothing.
        let others = cluster.others().into_iter().filter(|far| !cluster.is_without_gateway(far));
        let others = others.map(|far| {
            let targets = targets(cluster, &far, natives.get(far.as_str()).map(Vec::as_slice));
            (far, targets)
        });
        let others: Vec<(String, Vec<IpAddr>)> = others.collect();
        let nodes = cluster.node_names().into_iter();
        nodes.map(|node| (node.clone(), of_node(picture, cluster, &node, &others))).collect()
    };
    picture.clusters.iter().map(of_cluster).collect()
}

/// What one node is asked. `others` are the clusters that its own one uses, with addresses of their nodes.
fn of_node(picture: &Picture, cluster: &ClusterPicture, node: &str, others: &[(String, Vec<IpAddr>)]) -> Questions {
    let mut asked = Questions { services: services(cluster), names: names(cluster), ..Questions::default() };
    let is_gateway = cluster.active_gateway().as_deref() == Some(node);
    let mut further = Vec::new();
    for (far, targets) in others {
        let Some(first) = targets.first().copied() else { continue };
        asked.lookups.push(Lookup { to: first, arriving: None });
        asked.packets.extend(inner(cluster, node, first));
        if picture.by_id(far).is_none() {
            continue;
        }
        let size = cluster.peer(far).map_or(0, |peer| peer.mtu);
        asked.probes.extend([Probe::Ping { to: first, size: 0 }, Probe::Ping { to: first, size }]);
        if is_gateway {
            let others = targets.iter().skip(1).take(FAR_NODES).map(|to| Probe::Ping { to: *to, size: 0 });
            further.extend(others.enumerate());
            asked.packets.extend(outer(picture, cluster, far));
        }
    }
    asked.packets.extend(vxlan(cluster, node));
    asked.probes = bearable(asked.probes, further);
    asked
}

/// As many probes as a node can send in time. Further ones bear the number of their node in its cluster: some nodes of every
/// cluster are asked for rather than all nodes of some.
fn bearable(mut probes: Vec<Probe>, mut further: Vec<(usize, Probe)>) -> Vec<Probe> {
    further.sort_by_key(|(at, _)| *at);
    probes.extend(further.into_iter().map(|(_, probe)| probe));
    probes.truncate(PROBES);
    probes.sort();
    probes.dedup();
    probes
}

/// Addresses of nodes of a cluster among its pods, that of the active gateway first.
fn natives(cluster: &ClusterPicture) -> Vec<IpAddr> {
    let active = cluster.active_gateway();
    let mut nodes = cluster.node_names();
    nodes.sort_by_key(|node| Some(node) != active.as_ref());
    nodes.iter().filter_map(|node| cluster.address_among_pods(node)).collect()
}

/// The same of another cluster, as `cluster` calls them.
fn targets(cluster: &ClusterPicture, far: &str, natives: Option<&[IpAddr]>) -> Vec<IpAddr> {
    if let Some(natives) = natives {
        return natives.iter().filter_map(|native| cluster.calls(far, *native)).collect();
    }
    // Nobody can be asked there: any address will do to see the way.
    let claim = cluster.claim(far);
    let first = claim.and_then(|claim| claim.pod_cidrs.first().and_then(|net| net.hosts().next()));
    first.and_then(|native| cluster.calls(far, native)).into_iter().collect()
}

fn services(cluster: &ClusterPicture) -> Vec<SocketAddr> {
    let of_import = |import: &controller::api::ServiceImport| {
        let port = import.spec.ports.first().and_then(|port| u16::try_from(port.port).ok()).unwrap_or_default();
        let ips: Vec<IpAddr> = import.spec.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        ips.into_iter().map(move |ip| SocketAddr::new(ip, port))
    };
    cluster.imports.all().iter().flat_map(of_import).take(SERVICES).collect()
}

fn names(cluster: &ClusterPicture) -> Vec<NameQuestion> {
    let Some(server) = cluster.dns_server() else { return Vec::new() };
    let of_import = |import: &controller::api::ServiceImport| {
        let name = format!("{}.{}.svc.clusterset.local", import.name_any(), import.namespace().unwrap_or_default());
        question(cluster, server, name)
    };
    cluster.imports.all().iter().take(NAMES).map(of_import).collect()
}

/// A connection of a pod to another cluster, and one the other way.
fn inner(cluster: &ClusterPicture, node: &str, far: IpAddr) -> Vec<Packet> {
    let Some(pod) = cluster.pod_prefix(node, far.is_ipv4()).and_then(|net| net.hosts().nth(1)) else {
        return Vec::new();
    };
    let bridge = cluster.pod_link(node);
    let outside = cluster.way_out(node);
    let packet = |from, to, input: &Option<String>, output: &Option<String>| Packet {
        from,
        to,
        protocol: "tcp".to_owned(),
        port: None,
        source_port: None,
        input: input.clone(),
        output: output.clone(),
        passage: Passage::Through,
    };
    vec![packet(pod, far, &bridge, &outside), packet(far, pod, &outside, &bridge)]
}

/// The tunnel's own datagrams.
fn outer(picture: &Picture, cluster: &ClusterPicture, far: &str) -> Vec<Packet> {
    let here = cluster.tunnel().map(|tunnel| tunnel.listen_port);
    let own = cluster.active_gateway().and_then(|node| cluster.node_address(&node));
    let (Some(port), Some(own)) = (here, own) else { return Vec::new() };
    let endpoint = cluster.peer(far).and_then(|peer| peer.endpoint.as_ref()?.parse::<SocketAddr>().ok());
    let address = || {
        let there = picture.by_id(far)?;
        there.node_address(&there.active_gateway()?)
    };
    let Some(there) = endpoint.or_else(|| Some(SocketAddr::new(address()?, port))) else { return Vec::new() };
    if there.is_ipv4() != own.is_ipv4() {
        return Vec::new();
    }
    udp((own, port), (there.ip(), there.port()))
}

/// Datagrams between this node and the gateway, or between the gateway and all others.
fn vxlan(cluster: &ClusterPicture, node: &str) -> Vec<Packet> {
    let Some(gateway) = cluster.active_gateway() else { return Vec::new() };
    let others: Vec<String> = match gateway == node {
        true => cluster.node_names().into_iter().filter(|other| other != node).take(FAR_NODES).collect(),
        false => vec![gateway],
    };
    let Some(own) = cluster.node_address(node) else { return Vec::new() };
    let addresses = others.iter().filter_map(|other| cluster.node_address(other));
    let of_family = addresses.filter(|other| other.is_ipv4() == own.is_ipv4());
    of_family.flat_map(|other| udp((own, VXLAN_PORT), (other, VXLAN_PORT))).collect()
}

/// A datagram out, and one in.
fn udp(own: (IpAddr, u16), other: (IpAddr, u16)) -> Vec<Packet> {
    let packet = |from: (IpAddr, u16), to: (IpAddr, u16), passage| Packet {
        from: from.0,
        to: to.0,
        protocol: "udp".to_owned(),
        port: Some(to.1),
        source_port: Some(from.1),
        input: None,
        output: None,
        passage,
    };
    vec![packet(own, other, Passage::Out), packet(other, own, Passage::In)]
}

impl ClusterPicture {
    /// Cluster DNS, as pods ask it.
    pub(crate) fn dns_server(&self) -> Option<SocketAddr> {
        let service = ["kube-dns", "coredns"].into_iter().find_map(|name| self.service("kube-system", name))?;
        addresses(service).first().map(|ip| SocketAddr::new(*ip, 53))
    }

    /// Where the other nodes reach a node.
    pub fn node_address(&self, node: &str) -> Option<IpAddr> {
        reached_at(self.node(node)?)
    }

    /// The prefix of a node's pods, of one family.
    pub(crate) fn pod_prefix(&self, node: &str, v4: bool) -> Option<IpNet> {
        let spec = self.node(node)?.spec.as_ref()?;
        let cidrs = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        cidrs.filter_map(|text| text.parse::<IpNet>().ok()).find(|net| net.addr().is_ipv4() == v4)
    }

    /// The node's own address among its pods (that of its bridge), with its link.
    fn held_among_pods(&self, node: &str) -> Option<(IpAddr, String)> {
        let held = self.inspection(node)?.addresses.iter().filter_map(|text| {
            let (net, link) = text.split_once(" dev ")?;
            Some((net.parse::<IpNet>().ok()?.addr(), link.to_owned()))
        });
        let prefixes = [true, false].map(|v4| self.pod_prefix(node, v4));
        let inside = |address: &IpAddr| prefixes.iter().flatten().any(|net| net.contains(address));
        let mut found: Vec<(IpAddr, String)> = held.filter(|(address, _)| inside(address)).collect();
        // The bridge rather than flannel's own link, whose address is the network's.
        found.sort_by_key(|(address, link)| (link.starts_with("flannel"), *address));
        found.into_iter().next()
    }

    /// An address of a node among those of its pods, by which other clusters reach the node itself.
    pub(crate) fn address_among_pods(&self, node: &str) -> Option<IpAddr> {
        let guessed = || self.pod_prefix(node, true).or_else(|| self.pod_prefix(node, false))?.hosts().next();
        self.held_among_pods(node).map(|(address, _)| address).or_else(guessed)
    }

    /// The link of a node to its pods.
    pub(crate) fn pod_link(&self, node: &str) -> Option<String> {
        self.held_among_pods(node).map(|(_, link)| link)
    }

    /// The link by which a node's traffic to other clusters leaves.
    pub(crate) fn way_out(&self, node: &str) -> Option<String> {
        if self.active_gateway().as_deref() == Some(node) {
            return self.tunnel().map(|tunnel| tunnel.link.clone());
        }
        self.nodes_link(node)
    }

    /// A node's link to the other nodes of its cluster.
    pub(crate) fn nodes_link(&self, node: &str) -> Option<String> {
        let links = &self.inspection(node)?.links;
        links.iter().map(|link| &link.name).find(|name| name.contains("nodes")).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_among_many_clusters_is_asked_for_some_nodes_of_each() {
        let ping = |cluster: u8, node: u8| Probe::Ping { to: IpAddr::from([10, cluster, node, 1]), size: 0 };
        let first: Vec<Probe> = (0..200).map(|cluster| ping(cluster, 0)).collect();
        let further =
            (0..200).flat_map(|cluster| (0..16).map(move |node| (usize::from(node), ping(cluster, 1 + node))));
        let asked = bearable(first, further.collect());
        assert_eq!(asked.len(), 1024);
        let of = |cluster| asked.iter().filter(|probe| (0..17).any(|node| **probe == ping(cluster, node))).count();
        // The first node and four more of each, and 24 that are over.
        assert_eq!([0, 23, 24, 199].map(of), [6, 6, 5, 5]);
    }
}
