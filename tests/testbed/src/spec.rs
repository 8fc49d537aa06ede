//! The shape of a cluster, and the names and addresses that follow from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A link's name has at most 15 characters (`IFNAMSIZ`), and nodes and bridges are named after their cluster.
const MAX_NAME: usize = 10;
/// Nodes of one cluster; one is about 250 MiB.
const MAX_NODES: usize = 9;
/// The first node's address within the node network; .1 is the router's.
const FIRST_NODE: u32 = 11;

/// How kube-proxy programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// K3s's default.
    Iptables,
    /// Upstream's newer one.
    Nftables,
}

impl ProxyMode {
    /// As kube-proxy spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

/// How CoreDNS is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corefile {
    /// As on K3s: it imports what is in ConfigMap `coredns-custom`.
    #[default]
    K3s,
    /// As with kubeadm: what is not in it is not there.
    Whole,
}

/// What a cluster looks like. Names and node addresses do not depend on the CIDRs, so that two clusters may share those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Of the cluster; nodes are named after it.
    pub name: String,
    /// How many nodes it has. The control plane runs on the first.
    pub nodes: usize,
    /// Underlay of the nodes: a site's own network, routed to those of the others.
    pub node_network: Ipv4Net,
    /// Pods; each node gets a /24 of it.
    pub pod_cidr: Ipv4Net,
    /// Services; its first address is the API server's, its tenth CoreDNS's.
    pub service_cidr: Ipv4Net,
    /// Mode of kube-proxy.
    pub proxy: ProxyMode,
    /// IPv6 beside IPv4; stock K3s has none.
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
    /// Configuration of CoreDNS.
    #[serde(default)]
    pub corefile: Corefile,
}

/// The IPv6 half of a dual-stack cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// Underlay of the nodes.
    pub node_network: Ipv6Net,
    /// Pods; each node gets a /64 of it.
    pub pod_cidr: Ipv6Net,
    /// Services.
    pub service_cidr: Ipv6Net,
}

impl Spec {
    /// Two nodes in 192.168.`site`.0/24, with pods and services as K3s has them: 10.42.0.0/16 and 10.43.0.0/16.
    pub fn new(name: &str, site: u8) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 2,
            node_network: net(Ipv4Addr::new(192, 168, site, 0), 24),
            pod_cidr: net(Ipv4Addr::new(10, 42, 0, 0), 16),
            service_cidr: net(Ipv4Addr::new(10, 43, 0, 0), 16),
            proxy: ProxyMode::Iptables,
            ipv6: None,
            corefile: Corefile::K3s,
        }
    }

    /// The same cluster with IPv6 beside IPv4: prefixes that bear the numbers of those of IPv4, as K3s's documentation
    /// has them.
    #[must_use]
    pub fn dual(self) -> Self {
        let prefix = |second: u16, third: u16, length| {
            Ipv6Net::new(Ipv6Addr::new(0xfd00, second, third, 0, 0, 0, 0, 0), length).expect("at most 128")
        };
        let second = |net: Ipv4Net| u16::from(net.network().octets()[1]);
        let ipv6 = Ipv6 {
            node_network: prefix(192, u16::from(self.node_network.network().octets()[2]), 64),
            pod_cidr: prefix(second(self.pod_cidr), 0, 56),
            service_cidr: prefix(second(self.service_cidr), 0, 112),
        };
        Self { ipv6: Some(ipv6), ..self }
    }

    /// `paris`: nodes in 192.168.7.0/24, pods 10.42.0.0/16, services 10.43.0.0/16, kube-proxy with iptables.
    pub fn paris() -> Self {
        Self::new("paris", 7)
    }

    /// `berlin`: nodes in 192.168.8.0/24, pods 10.52.0.0/16, services 10.53.0.0/16, kube-proxy with nftables.
    pub fn berlin() -> Self {
        Self {
            pod_cidr: net(Ipv4Addr::new(10, 52, 0, 0), 16),
            service_cidr: net(Ipv4Addr::new(10, 53, 0, 0), 16),
            proxy: ProxyMode::Nftables,
            ..Self::new("berlin", 8)
        }
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// The name or the number of nodes is out of range, or a network is too small.
    pub fn check(&self) -> Result<()> {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(letters) || self.name == "world"
        {
            bail!("a cluster's name has 1 to {MAX_NAME} of a-z and 0-9 and is not `world`: `{}` is none", self.name);
        }
        if !(1..=MAX_NODES).contains(&self.nodes) {
            bail!("cluster {} has 1 to {MAX_NODES} nodes, not {}", self.name, self.nodes);
        }
        if self.node_network.prefix_len() > 24 || self.pod_cidr.prefix_len() > 20 || self.service_cidr.prefix_len() > 24
        {
            bail!(
                "cluster {} needs a node network of /24, a pod CIDR of /20 and a service CIDR of /24 or more",
                self.name
            );
        }
        Ok(())
    }

    /// The names of its nodes.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("{}-{number}", self.name)).collect()
    }

    /// The address of the node at `index`, counted from 0.
    pub fn node_address(&self, index: usize) -> Ipv4Addr {
        let index = u32::try_from(index).expect("the number of nodes is checked");
        nth(self.node_network, FIRST_NODE + index)
    }

    /// The addresses of a node in both families, as kubelet takes them.
    pub fn node_addresses(&self, index: usize) -> String {
        let v4 = self.node_address(index);
        self.node_address6(index).map_or_else(|| v4.to_string(), |v6| format!("{v4},{v6}"))
    }

    /// The IPv6 address of the node at `index`, where there is IPv6.
    pub fn node_address6(&self, index: usize) -> Option<Ipv6Addr> {
        let index = u32::try_from(index).expect("the number of nodes is checked");
        self.ipv6.map(|ipv6| nth6(ipv6.node_network, FIRST_NODE + index))
    }

    /// The IPv6 address of the router in the node network.
    pub fn router6(&self) -> Option<Ipv6Addr> {
        self.ipv6.map(|ipv6| nth6(ipv6.node_network, 1))
    }

    /// The prefixes of all pods, as Kubernetes takes them.
    pub fn pod_cidrs(&self) -> String {
        self.ipv6.map_or_else(|| self.pod_cidr.to_string(), |ipv6| format!("{},{}", self.pod_cidr, ipv6.pod_cidr))
    }

    /// The prefixes of all services, as Kubernetes takes them.
    pub fn service_cidrs(&self) -> String {
        let v4 = self.service_cidr;
        self.ipv6.map_or_else(|| v4.to_string(), |ipv6| format!("{v4},{}", ipv6.service_cidr))
    }

    /// The address of the router in the node network.
    pub fn router(&self) -> Ipv4Addr {
        nth(self.node_network, 1)
    }

    /// The service address of the API server.
    pub fn api_service(&self) -> Ipv4Addr {
        nth(self.service_cidr, 1)
    }

    /// The service address of CoreDNS.
    pub fn dns_service(&self) -> Ipv4Addr {
        nth(self.service_cidr, 10)
    }
}

fn net(address: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new(address, prefix).expect("a prefix length of at most 32")
}

fn nth(net: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + number)
}

fn nth6(net: Ipv6Net, number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()) + u128::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_k3s() {
        let berlin = Spec::berlin();
        berlin.check().unwrap();
        assert_eq!(berlin.node_names(), ["berlin-1", "berlin-2"]);
        assert_eq!(berlin.node_address(1).to_string(), "192.168.8.12");
        assert_eq!(berlin.api_service().to_string(), "10.53.0.1");
        assert_eq!(berlin.dns_service().to_string(), "10.53.0.10");
    }

    #[test]
    fn a_dual_stack_cluster_has_both_families_everywhere() {
        let berlin = Spec::berlin().dual();
        assert_eq!(berlin.pod_cidrs(), "10.52.0.0/16,fd00:34::/56");
        assert_eq!(berlin.service_cidrs(), "10.53.0.0/16,fd00:35::/112");
        assert_eq!(berlin.node_addresses(0), "192.168.8.11,fd00:c0:8::b");
        assert_eq!(Spec::berlin().node_addresses(0), "192.168.8.11");
    }

    #[test]
    fn shapes_out_of_range_are_refused() {
        for (name, nodes) in [("", 2), ("a-b", 2), ("verylongname", 2), ("world", 2), ("paris", 0), ("paris", 10)] {
            assert!(Spec { nodes, ..Spec::new(name, 7) }.check().is_err(), "{name} {nodes}");
        }
    }
}
