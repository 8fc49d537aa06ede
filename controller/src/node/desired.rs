//! What a node shall be, as one value.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Longest name of a link in bytes (`IFNAMSIZ` of `linux/if.h`, less the terminating zero).
pub const MAX_LINK_NAME: usize = 15;

/// The part of a node's networking that Linkspan decides. Free of files and of Kubernetes.
///
/// Order matters nowhere but in [`gateways`](Self::gateways) and [`sources`](Self::sources).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Name of this node; one of [`nodes`](Self::nodes).
    pub node: String,
    /// All nodes of this cluster, this one too.
    pub nodes: Vec<Node>,
    /// Names of the nodes that end tunnels, most preferred first.
    pub gateways: Vec<String>,
    /// The gateway that carries this node's traffic to other Members. `None` while there is none: the traffic is
    /// then refused as unreachable.
    pub active_gateway: Option<String>,
    /// The tunnel link, on a node that ends tunnels.
    pub tunnel: Option<TunnelLink>,
    /// Pod and service CIDRs of this cluster.
    pub local: Vec<IpNet>,
    /// Prefixes of each other Member, by cluster ID.
    pub remote: BTreeMap<String, Vec<IpNet>>,
    /// Prefixes by which other Members know this cluster's pods. Nobody has these addresses here: what is sent to them is
    /// refused as unreachable, and does not leave by the default route.
    #[serde(default)]
    pub own_virtual: Vec<IpNet>,
    /// The link between the nodes of this cluster.
    pub vxlan: Vxlan,
    /// Addresses that this node uses toward other Members, most preferred first. Those that the node does not have are
    /// passed over; when none is left, the node's lowest address inside its own pod CIDRs serves.
    pub sources: Vec<IpAddr>,
    /// Names of TUN links to remove although they may lack our mark: the link of a process that died before its first
    /// pass. Used for removal only.
    pub stale_tunnels: Vec<String>,
}

/// A node of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unique in the cluster.
    pub name: String,
    /// Where the other nodes reach it; for the node itself, what it sends from. Its `InternalIP` unless told otherwise.
    pub address: IpAddr,
    /// Its pods. Empty when unknown: the main table of the gateway then decides the way to them.
    pub pod_cidrs: Vec<IpNet>,
}

/// The link of the tunnel device. The device makes it; the node pass configures it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelLink {
    /// Name, 1 to [`MAX_LINK_NAME`] bytes.
    pub link: String,
    /// MTU in bytes, 1280 to 65 455.
    pub mtu: u32,
    /// Addresses of the link itself; usually none.
    pub addresses: Vec<IpNet>,
}

/// The VXLAN link over which nodes and gateways of one cluster exchange clusterset traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// Name, 1 to [`MAX_LINK_NAME`] bytes.
    pub link: String,
    /// VXLAN network identifier, below 2^24.
    pub id: u32,
    /// UDP port, equal on all nodes of the cluster.
    pub port: u16,
    /// MTU in bytes. `None`: that of the link which holds this node's address, less the encapsulation, and at most `most`.
    pub mtu: Option<u32>,
    /// Largest packet in bytes that the tunnel of the gateway takes. What is larger, pods are told here: the kernel puts
    /// fragments of bridged pods together (br_netfilter), and cuts them anew by this link's MTU, so that an IPv6 sender that
    /// the gateway tells of a smaller one would be told so for ever.
    pub most: Option<u32>,
}

impl Default for Vxlan {
    fn default() -> Self {
        // 4790 is VXLAN-GPE's port (IANA); it does not collide with flannel's 8472 or with the 4789 of plain VXLAN.
        Self { link: "linkspan-nodes".into(), id: 10_810, port: 4790, mtu: None, most: None }
    }
}

impl Desired {
    /// A node without Linkspan. Planning it removes every object that carries our mark, and a VXLAN link of the default name
    /// and port that has not got it yet.
    pub fn nothing() -> Self {
        Self {
            node: String::new(),
            nodes: Vec::new(),
            gateways: Vec::new(),
            active_gateway: None,
            tunnel: None,
            local: Vec::new(),
            remote: BTreeMap::new(),
            own_virtual: Vec::new(),
            vxlan: Vxlan::default(),
            sources: Vec::new(),
            stale_tunnels: Vec::new(),
        }
    }

    /// This node, when it is listed.
    pub fn this_node(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == self.node)
    }

    /// The nodes besides this one.
    pub fn other_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.name != self.node)
    }

    /// The first of [`gateways`](Self::gateways) for which `alive` holds.
    pub fn preferred_gateway(&self, alive: impl Fn(&str) -> bool) -> Option<&str> {
        self.gateways.iter().map(String::as_str).find(|name| alive(name))
    }

    /// Refuses what would cut nodes off or what the kernel cannot hold.
    ///
    /// # Errors
    /// The first fault found, with the object at fault.
    pub fn check(&self) -> Result<(), DesiredError> {
        if self.nodes.is_empty() && self.remote.is_empty() && self.tunnel.is_none() {
            return Ok(());
        }
        self.check_nodes()?;
        self.check_links()?;
        for prefix in &self.own_virtual {
            if let Some(node) = self.nodes.iter().find(|node| prefix.contains(&node.address)) {
                let (node, address) = (node.name.clone(), node.address);
                return Err(DesiredError::NodeInVirtual { prefix: *prefix, node, address });
            }
        }
        for (cluster, prefix) in
            self.remote.iter().flat_map(|(cluster, prefixes)| prefixes.iter().map(move |p| (cluster, p)))
        {
            if let Some(node) = self.nodes.iter().find(|node| prefix.contains(&node.address)) {
                let (cluster, prefix) = (cluster.clone(), *prefix);
                return Err(DesiredError::NodeInRemote {
                    cluster,
                    prefix,
                    node: node.name.clone(),
                    address: node.address,
                });
            }
            if let Some(local) = self.local.iter().find(|local| overlap(local, prefix)) {
                return Err(DesiredError::Overlap { cluster: cluster.clone(), prefix: *prefix, local: *local });
            }
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), DesiredError> {
        if self.this_node().is_none() {
            return Err(DesiredError::UnknownNode { role: "this node", name: self.node.clone() });
        }
        for name in self.gateways.iter().chain(&self.active_gateway) {
            if !self.nodes.iter().any(|node| &node.name == name) {
                return Err(DesiredError::UnknownNode { role: "gateway", name: name.clone() });
            }
        }
        match &self.active_gateway {
            Some(name) if !self.gateways.contains(name) => Err(DesiredError::NotGateway(name.clone())),
            _ => Ok(()),
        }
    }

    fn check_links(&self) -> Result<(), DesiredError> {
        let tunnel = self.tunnel.as_ref();
        for name in tunnel.map(|tunnel| &tunnel.link).into_iter().chain([&self.vxlan.link]) {
            if name.is_empty() || name.len() > MAX_LINK_NAME || name.contains(['/', ' ', '\0']) {
                return Err(DesiredError::LinkName(name.clone()));
            }
        }
        if tunnel.is_some_and(|tunnel| tunnel.link == self.vxlan.link) {
            return Err(DesiredError::SameLink(self.vxlan.link.clone()));
        }
        if self.vxlan.id >= 1 << 24 || self.vxlan.port == 0 {
            return Err(DesiredError::Vxlan { id: self.vxlan.id, port: self.vxlan.port });
        }
        let mtus = tunnel.map(|tunnel| (&tunnel.link, tunnel.mtu)).into_iter();
        let of_vxlan = self.vxlan.mtu.into_iter().chain(self.vxlan.most);
        for (link, mtu) in mtus.chain(of_vxlan.map(|mtu| (&self.vxlan.link, mtu))) {
            if !(1280..=65_455).contains(&mtu) {
                return Err(DesiredError::Mtu { link: link.clone(), mtu });
            }
        }
        Ok(())
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// A [`Desired`] that must not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesiredError {
    /// A name that no node bears.
    #[error("{role} {name:?} is not among the nodes of this cluster: add it there, or correct the name")]
    UnknownNode {
        /// What the name was given for.
        role: &'static str,
        /// The name.
        name: String,
    },
    /// The active gateway is not a gateway.
    #[error("active gateway {0:?} is not among the gateways of this cluster")]
    NotGateway(String),
    /// Not a name that the kernel takes.
    #[error("link name {0:?} is not 1 to 15 bytes without slash and space")]
    LinkName(String),
    /// One name for two links.
    #[error("link name {0:?} is given to both the tunnel and the VXLAN link: rename one")]
    SameLink(String),
    /// Identifier or port out of range.
    #[error("VXLAN id {id} must be below 16777216 and UDP port {port} must not be 0")]
    Vxlan {
        /// The identifier.
        id: u32,
        /// The port.
        port: u16,
    },
    /// MTU out of range.
    #[error("MTU {mtu} of link {link:?} is not between 1280 and 65455")]
    Mtu {
        /// The link.
        link: String,
        /// The MTU.
        mtu: u32,
    },
    /// A node would be routed into the tunnel that it is to carry.
    #[error(
        "prefix {prefix} of cluster {cluster:?} holds the address {address} of this cluster's node {node:?}: the tunnel would carry itself"
    )]
    NodeInRemote {
        /// The other Member.
        cluster: String,
        /// Its prefix.
        prefix: IpNet,
        /// Our node.
        node: String,
        /// Its address.
        address: IpAddr,
    },
    /// A node would be refused as unreachable.
    #[error(
        "virtual prefix {prefix} of this cluster holds the address {address} of its node {node:?}: choose a prefix that nobody has"
    )]
    NodeInVirtual {
        /// The prefix.
        prefix: IpNet,
        /// The node.
        node: String,
        /// Its address.
        address: IpAddr,
    },
    /// Both clusters use the same addresses.
    #[error("prefix {prefix} of cluster {cluster:?} overlaps {local} of this cluster")]
    Overlap {
        /// The other Member.
        cluster: String,
        /// Its prefix.
        prefix: IpNet,
        /// Ours.
        local: IpNet,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> Desired {
        let node = |name: &str, address: &str| Node {
            name: name.into(),
            address: address.parse().unwrap(),
            pod_cidrs: Vec::new(),
        };
        Desired {
            node: "w1".into(),
            nodes: vec![node("gw", "192.168.7.2"), node("w1", "192.168.7.3")],
            gateways: vec!["gw".into()],
            active_gateway: Some("gw".into()),
            local: vec!["10.42.0.0/16".parse().unwrap()],
            remote: BTreeMap::from([("berlin".into(), vec!["10.52.0.0/16".parse().unwrap()])]),
            ..Desired::nothing()
        }
    }

    fn message(change: impl FnOnce(&mut Desired)) -> String {
        let mut desired = desired();
        change(&mut desired);
        desired.check().unwrap_err().to_string()
    }

    fn berlin(prefix: &str) -> BTreeMap<String, Vec<IpNet>> {
        BTreeMap::from([("berlin".into(), vec![prefix.parse().unwrap()])])
    }

    #[test]
    fn a_sound_one_and_nothing_at_all_pass() {
        assert_eq!(desired().check(), Ok(()));
        assert_eq!(Desired::nothing().check(), Ok(()));
    }

    #[test]
    fn faults_are_told_with_the_object() {
        assert!(message(|d| d.node = "w2".into()).starts_with("this node \"w2\" is not among the nodes"));
        assert!(message(|d| d.gateways.push("w9".into())).starts_with("gateway \"w9\" is not among the nodes"));
        assert!(
            message(|d| d.active_gateway = Some("w1".into()))
                .starts_with("active gateway \"w1\" is not among the gateways")
        );
        assert!(message(|d| d.vxlan.link = "a-name-of-16-chr".into()).starts_with("link name \"a-name-of-16-chr\""));
        assert!(message(|d| d.vxlan.id = 1 << 24).starts_with("VXLAN id 16777216 must be below 16777216"));
        assert!(message(|d| d.vxlan.mtu = Some(1000)).starts_with("MTU 1000 of link \"linkspan-nodes\""));
        assert!(
            message(|d| d.remote = berlin("192.168.0.0/16"))
                .contains("holds the address 192.168.7.2 of this cluster's node \"gw\"")
        );
        assert!(
            message(|d| d.remote = berlin("10.42.3.0/24"))
                .contains("10.42.3.0/24 of cluster \"berlin\" overlaps 10.42.0.0/16")
        );
    }

    #[test]
    fn a_virtual_prefix_around_a_node_is_told() {
        let found = message(|d| d.own_virtual = vec!["192.168.7.0/24".parse().unwrap()]);
        assert!(
            found.starts_with("virtual prefix 192.168.7.0/24 of this cluster holds the address 192.168.7.2"),
            "{found}"
        );
    }

    #[test]
    fn the_first_living_gateway_is_preferred() {
        let desired = Desired { gateways: vec!["a".into(), "b".into(), "c".into()], ..desired() };
        assert_eq!(desired.preferred_gateway(|name| name != "a"), Some("b"));
        assert_eq!(desired.preferred_gateway(|_| false), None);
    }
}
