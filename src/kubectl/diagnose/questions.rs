//! What nodes are asked for a diagnosis: where their traffic to other clusters goes, what rules do to it, who answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use controller::node::Lookup;
use controller::node::filter::{Packet, Passage};
use ipnet::IpNet;
use kube::ResourceExt as _;

use super::dns::addresses;
use super::firewall::VXLAN_PORT;
use crate::kubectl::inspect::{NameQuestion, Probe, Questions};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// Clusterset IPs that a node is asked about.
const SERVICES: usize = 64;
/// Names that a node is asked to resolve.
const NAMES: usize = 2;
/// Nodes of one other cluster that a gateway is asked to reach.
const FAR_NODES: usize = 16;

/// What each node of each cluster is asked, by context and node.
pub fn questions(picture: &Picture) -> Vec<BTreeMap<String, Questions>> {
    let of_cluster = |cluster: &ClusterPicture| {
        let nodes = cluster.node_names().into_iter();
        nodes.map(|node| (node.clone(), of_node(picture, cluster, &node))).collect()
    };
    picture.clusters.iter().map(of_cluster).collect()
}

fn of_node(picture: &Picture, cluster: &ClusterPicture, node: &str) -> Questions {
    let mut asked = Questions { services: services(cluster), names: names(cluster), ..Questions::default() };
    let is_gateway = cluster.active_gateway().as_deref() == Some(node);
    for far in cluster.others() {
        let targets = targets(picture, cluster, &far);
        let Some(first) = targets.first().copied() else { continue };
        asked.lookups.push(Lookup { to: first, arriving: None });
        asked.packets.extend(inner(cluster, node, first));
        if picture.by_id(&far).is_none() {
            continue;
        }
        let size = cluster.peer(&far).map_or(0, |peer| peer.mtu);
        asked.probes.extend([Probe::Ping { to: first, size: 0 }, Probe::Ping { to: first, size }]);
        if is_gateway {
            asked.probes.extend(targets.iter().skip(1).take(FAR_NODES).map(|to| Probe::Ping { to: *to, size: 0 }));
            asked.packets.extend(outer(picture, cluster, &far));
        }
    }
    asked.packets.extend(vxlan(cluster, node));
    asked.probes.sort();
    asked.probes.dedup();
    asked
}

/// Addresses of nodes of another cluster among its pods, as `cluster` calls them: that of the active gateway first.
pub(crate) fn targets(picture: &Picture, cluster: &ClusterPicture, far: &str) -> Vec<IpAddr> {
    let Some(there) = picture.by_id(far) else {
        // Nobody can be asked there: any address will do to see the way.
        let claim = cluster.claim(far);
        let first = claim.and_then(|claim| claim.pod_cidrs.first().and_then(|net| net.hosts().next()));
        return first.and_then(|native| cluster.calls(far, native)).into_iter().collect();
    };
    let active = there.active_gateway();
    let mut nodes = there.node_names();
    nodes.sort_by_key(|node| Some(node) != active.as_ref());
    nodes.iter().filter_map(|node| cluster.calls(far, there.address_among_pods(node)?)).collect()
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
    let v6 = server.is_ipv6();
    let of_import = |import: &controller::api::ServiceImport| NameQuestion {
        server,
        name: format!("{}.{}.svc.clusterset.local", import.name_any(), import.namespace().unwrap_or_default()),
        v6,
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
        let addresses = self.node(node)?.status.as_ref()?.addresses.as_ref()?;
        addresses.iter().filter(|at| at.type_ == "InternalIP").find_map(|at| at.address.parse().ok())
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
    fn pod_link(&self, node: &str) -> Option<String> {
        self.held_among_pods(node).map(|(_, link)| link)
    }

    /// The link by which a node's traffic to other clusters leaves.
    fn way_out(&self, node: &str) -> Option<String> {
        if self.active_gateway().as_deref() == Some(node) {
            return self.tunnel().map(|tunnel| tunnel.link.clone());
        }
        let links = &self.inspection(node)?.links;
        links.iter().map(|link| &link.name).find(|name| name.contains("nodes")).cloned()
    }
}
