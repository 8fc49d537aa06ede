//! The topology as one value: every name and address of a lab, computed from its [`Spec`] and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tunnel::config::Translation;
use tunnel::packet::translate::Table;

use super::spec::{Family, Prefix, Proxy, Spec};

/// UDP port of the tunnels on every gateway.
pub const LISTEN_PORT: u16 = 51820;
/// Port of the service VIP of a site.
pub const SERVICE_PORT: u16 = 80;
/// Port of the HTTP server in every pod.
pub const HTTP_PORT: u16 = 8080;
/// TCP and UDP port of the server in every pod that tells a client which source address it sees.
pub const WHOAMI_PORT: u16 = 7000;

const SITE_NAMES: [&str; 16] = [
    "paris", "berlin", "oslo", "rome", "madrid", "vienna", "prague", "lisbon", "athens", "dublin", "warsaw", "riga",
    "bern", "sofia", "tallinn", "helsinki",
];

/// A whole lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Prefix of all names.
    pub prefix: Prefix,
    /// Namespace that routes between the sites' uplinks and stands for the Internet.
    pub world: String,
    /// Addresses of a host out in the world, one of each family.
    pub world_hosts: Vec<IpNet>,
    /// The sites; a site's index is its position.
    pub sites: Vec<Site>,
}

/// One cluster at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Cluster ID.
    pub name: String,
    /// Namespace of the site's router and LAN bridge.
    pub lan: String,
    /// Link of the router in the world namespace.
    pub world_link: String,
    /// Addresses of the world's end of the uplink.
    pub uplink_world: Vec<IpNet>,
    /// Addresses of the router's end of the uplink.
    pub uplink_router: Vec<IpNet>,
    /// Addresses of the router on the LAN, with the LAN's length.
    pub router: Vec<IpNet>,
    /// Cluster CIDRs of pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Cluster CIDRs of services.
    pub service_cidrs: Vec<IpNet>,
    /// Cluster IPs of the service `web-SITE`.
    pub vips: Vec<IpAddr>,
    /// Whether it has the same CIDRs as others.
    pub overlap: Overlap,
    /// By which prefixes those who need it know its pods and services; none without an overlap.
    pub translation: Vec<Translation>,
    /// Whose service rules the nodes carry: never [`Proxy::Mixed`].
    pub proxy: Proxy,
    /// Nodes; the first is the gateway.
    pub nodes: Vec<Node>,
}

/// Whether a site has the CIDRs of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// No other site has them.
    No,
    /// Others have, but it came first: the sites that overlap nobody have known it by its own addresses since before.
    First,
    /// Others have, and everybody knows it by virtual addresses.
    Yes,
}

/// One host of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Node name in Kubernetes' sense, unique in the lab.
    pub name: String,
    /// Name within the site, as in `lab exec SITE/NAME`.
    pub short: String,
    /// Network namespace.
    pub netns: String,
    /// Whether tunnels end here.
    pub gateway: bool,
    /// Addresses on the LAN, with the LAN's length.
    pub addresses: Vec<IpNet>,
    /// Pod CIDRs of this node.
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of the pod bridge: the pods' default gateway and name server.
    pub bridge: Vec<IpNet>,
    /// MAC address of the flannel VXLAN link.
    pub vtep_mac: String,
    /// Pods on this node.
    pub pods: Vec<Pod>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Name within the site, as in `lab exec SITE/NAME`.
    pub name: String,
    /// Network namespace.
    pub netns: String,
    /// Addresses, with the length of the node's pod CIDR.
    pub addresses: Vec<IpNet>,
}

/// A pod with where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its site.
    pub site: &'a Site,
    /// Its node.
    pub node: &'a Node,
    /// The pod.
    pub pod: &'a Pod,
}

impl Place<'_> {
    /// `SITE/POD`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.site.name, self.pod.name)
    }

    /// The addresses under which this pod is known to pods of `viewer`: where to reach it, and what its packets bear
    /// as source when they arrive there.
    pub fn addresses_seen_from(&self, viewer: &Site) -> Vec<IpAddr> {
        self.pod.addresses.iter().map(|net| self.site.seen_from(viewer, net.addr())).collect()
    }
}

impl Plan {
    /// Plans a lab. `spec` has passed [`Spec::check`].
    pub fn new(spec: &Spec) -> Self {
        let sites = (0..spec.sites).map(|index| Site::new(spec, index)).collect();
        let world = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1);
        Self {
            prefix: spec.prefix.clone(),
            world: format!("{}world", spec.prefix),
            world_hosts: by_family(spec.family, v4([203, 0, 113, 1], 32), IpNet::V6(Ipv6Net::new_assert(world, 128))),
            sites,
        }
    }

    /// Every node with its site.
    pub fn nodes(&self) -> impl Iterator<Item = (&Site, &Node)> {
        self.sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site, node)))
    }

    /// Every pod with its node and site.
    pub fn pods(&self) -> impl Iterator<Item = Place<'_>> {
        self.nodes().flat_map(|(site, node)| node.pods.iter().map(move |pod| Place { site, node, pod }))
    }

    /// Every namespace of the lab.
    pub fn namespaces(&self) -> Vec<&str> {
        let mut all = vec![self.world.as_str()];
        all.extend(self.sites.iter().map(|site| site.lan.as_str()));
        all.extend(self.nodes().map(|(_, node)| node.netns.as_str()));
        all.extend(self.pods().map(|place| place.pod.netns.as_str()));
        all
    }

    /// The namespace behind `SITE/POD` or `SITE/NODE`.
    pub fn find(&self, label: &str) -> Option<Target<'_>> {
        let pod = self.pods().find(|place| place.label() == label).map(Target::Pod);
        pod.or_else(|| {
            self.nodes()
                .find(|(site, node)| label == node.name || label == format!("{}/{}", site.name, node.short))
                .map(|(site, node)| Target::Node(site, node))
        })
    }
}

/// What a label names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A pod.
    Pod(Place<'a>),
    /// A node and its site.
    Node(&'a Site, &'a Node),
}

impl Target<'_> {
    /// Its network namespace.
    pub fn netns(&self) -> &str {
        match self {
            Self::Pod(place) => &place.pod.netns,
            Self::Node(_, node) => &node.netns,
        }
    }
}

impl Site {
    fn new(spec: &Spec, index: u8) -> Self {
        let family = spec.family;
        let name = SITE_NAMES[usize::from(index)].to_owned();
        let overlap = match index {
            _ if index >= spec.overlapping => Overlap::No,
            0 => Overlap::First,
            _ => Overlap::Yes,
        };
        let block = if overlap == Overlap::No { index } else { 0 };
        let base = 42 + 10 * block;
        let pod_cidrs = by_family(family, v4([10, base, 0, 0], 16), v6(0xfd42, block, 0, 0, 56));
        let service_cidrs = by_family(family, v4([10, base + 1, 0, 0], 16), v6(0xfd43, block, 0, 0, 112));
        // Out of 100.64.0.0/10 (RFC 6598), the pool of a clusterset.
        let virtual_pods = by_family(family, v4([100, 64 + 2 * index, 0, 0], 16), v6(0xfd64, index, 0, 0, 56));
        let virtual_services = by_family(family, v4([100, 65 + 2 * index, 0, 0], 16), v6(0xfd65, index, 0, 0, 112));
        let pairs = pod_cidrs.iter().chain(&service_cidrs).zip(virtual_pods.iter().chain(&virtual_services));
        let translation = pairs.map(|(native, other)| Translation { native: *native, r#virtual: *other });
        let nodes = (0..spec.nodes).map(|node| Node::new(spec, &name, [index, block], node)).collect();
        Self {
            lan: format!("{}{name}-lan", spec.prefix),
            world_link: name.clone(),
            uplink_world: by_family(family, v4([192, 0, 2, 2 * index], 31), world_link(index, 1)),
            uplink_router: by_family(family, v4([192, 0, 2, 2 * index + 1], 31), world_link(index, 2)),
            router: by_family(family, v4([198, 51, 100, 16 * index + 1], 28), lan_v6(index, 1)),
            vips: service_cidrs.iter().map(|net| host(net, 10)).collect(),
            translation: translation.filter(|_| overlap != Overlap::No).collect(),
            overlap,
            pod_cidrs,
            service_cidrs,
            proxy: match spec.proxy {
                Proxy::Mixed if index.is_multiple_of(2) => Proxy::Iptables,
                Proxy::Mixed => Proxy::Nftables,
                chosen => chosen,
            },
            nodes,
            name,
        }
    }

    /// Whether `viewer` knows this site by virtual addresses.
    pub fn is_virtual_to(&self, viewer: &Site) -> bool {
        match (self.overlap, viewer.overlap) {
            (Overlap::No, _) | (Overlap::First, Overlap::No) => false,
            _ => self.name != viewer.name,
        }
    }

    /// By which address pods of `viewer` know an address of this site.
    pub fn seen_from(&self, viewer: &Site, address: IpAddr) -> IpAddr {
        let pairs = self.translation.iter().filter(|_| self.is_virtual_to(viewer));
        let table = Table::build(pairs.map(|pair| (pair.native, pair.r#virtual)));
        table.map(address).unwrap_or(address)
    }

    /// By which cluster IPs pods of `viewer` know the service `web-SITE`.
    pub fn vips_seen_from(&self, viewer: &Site) -> Vec<IpAddr> {
        self.vips.iter().map(|vip| self.seen_from(viewer, *vip)).collect()
    }

    /// By which prefixes `viewer` knows this site's pods and services.
    pub fn prefixes_seen_from(&self, viewer: &Site) -> Vec<IpNet> {
        if self.is_virtual_to(viewer) {
            self.translation.iter().map(|pair| pair.r#virtual).collect()
        } else {
            self.pod_cidrs.iter().chain(&self.service_cidrs).copied().collect()
        }
    }

    /// The node that ends this site's tunnels.
    pub fn gateway(&self) -> &Node {
        &self.nodes[0]
    }

    /// Where other sites' gateways send datagrams to: IPv4 when there is any.
    pub fn endpoint(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.gateway().addresses[0].addr(), LISTEN_PORT)
    }

    /// Every pod of the site with its node.
    pub fn pods(&self) -> impl Iterator<Item = Place<'_>> {
        self.nodes.iter().flat_map(move |node| node.pods.iter().map(move |pod| Place { site: self, node, pod }))
    }

    /// Name of the site's `ClusterSetIP` service in the clusterset.
    pub fn web_name(&self) -> String {
        format!("web-{}.default.svc.clusterset.local", self.name)
    }
}

impl Node {
    /// `block` counts the CIDRs that the site has, which may be those of another.
    fn new(spec: &Spec, site: &str, [site_index, block]: [u8; 2], index: u8) -> Self {
        let short = if index == 0 { "gw".to_owned() } else { format!("w{index}") };
        let base = 42 + 10 * block;
        let pod_cidrs = by_family(spec.family, v4([10, base, index, 0], 24), v6(0xfd42, block, index, 0, 64));
        let pods = (0..spec.pods).map(|pod| {
            let name = format!("pod-{}", u32::from(index) * u32::from(spec.pods) + u32::from(pod) + 1);
            let addresses = pod_cidrs.iter().map(|net| with_host(net, 2 + u128::from(pod))).collect();
            Pod { netns: format!("{}{site}-{name}", spec.prefix), name, addresses }
        });
        Self {
            name: format!("{site}-{short}"),
            netns: format!("{}{site}-{short}", spec.prefix),
            short,
            gateway: index == 0,
            addresses: by_family(
                spec.family,
                v4([198, 51, 100, 16 * site_index + 2 + index], 28),
                lan_v6(site_index, 2 + u16::from(index)),
            ),
            bridge: pod_cidrs.iter().map(|net| with_host(net, 1)).collect(),
            vtep_mac: format!("02:42:00:00:{site_index:02x}:{index:02x}"),
            pods: pods.collect(),
            pod_cidrs,
        }
    }
}

fn by_family(family: Family, v4: IpNet, v6: IpNet) -> Vec<IpNet> {
    match family {
        Family::V4 => vec![v4],
        Family::V6 => vec![v6],
        Family::Dual => vec![v4, v6],
    }
}

fn v4(octets: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(octets), length))
}

/// `BLOCK:0:0:SITE NODE::HOST`: a /56 for each site, a /64 for each node of it (RFC 4193 addresses).
fn v6(block: u16, site: u8, node: u8, host: u16, length: u8) -> IpNet {
    let subnet = u16::from(site) << 8 | u16::from(node);
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(block, 0, 0, subnet, 0, 0, 0, host), length))
}

fn lan_v6(site: u8, host: u16) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, u16::from(site), 0, 0, 0, 0, host), 64))
}

fn world_link(site: u8, host: u16) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, u16::from(site), 0, 0, 0, host), 64))
}

fn host(net: &IpNet, number: u128) -> IpAddr {
    with_host(net, number).addr()
}

/// The address with this number in `net`, with the length of `net`.
fn with_host(net: &IpNet, number: u128) -> IpNet {
    match net {
        IpNet::V4(net) => {
            let low = u32::try_from(number).expect("plans number hosts from 0 to 255");
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(u32::from(net.network()) | low), net.prefix_len()))
        }
        IpNet::V6(net) => {
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(u128::from(net.network()) | number), net.prefix_len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_lab_is_two_sites_of_a_gateway_and_a_worker_with_two_pods_each() {
        let plan = Plan::new(&Spec::default());
        assert_eq!(
            plan.namespaces(),
            [
                "ls-world",
                "ls-paris-lan",
                "ls-berlin-lan",
                "ls-paris-gw",
                "ls-paris-w1",
                "ls-berlin-gw",
                "ls-berlin-w1",
                "ls-paris-pod-1",
                "ls-paris-pod-2",
                "ls-paris-pod-3",
                "ls-paris-pod-4",
                "ls-berlin-pod-1",
                "ls-berlin-pod-2",
                "ls-berlin-pod-3",
                "ls-berlin-pod-4",
            ]
        );
        let berlin = &plan.sites[1];
        assert_eq!(texts(&berlin.pod_cidrs), ["10.52.0.0/16"]);
        assert_eq!(texts(&berlin.service_cidrs), ["10.53.0.0/16"]);
        assert_eq!(texts(&berlin.vips), ["10.53.0.10"]);
        assert_eq!(texts(&berlin.router), ["198.51.100.17/28"]);
        assert_eq!(berlin.endpoint().to_string(), "198.51.100.18:51820");
        let worker = &berlin.nodes[1];
        assert_eq!(texts(&worker.addresses), ["198.51.100.19/28"]);
        assert_eq!(texts(&worker.bridge), ["10.52.1.1/24"]);
        assert_eq!(texts(&worker.pods[1].addresses), ["10.52.1.3/24"]);
    }

    #[test]
    fn dual_stack_gives_each_thing_both_families_v4_first() {
        let plan = Plan::new(&Spec { family: Family::Dual, ..Spec::default() });
        let worker = &plan.sites[1].nodes[1];
        assert_eq!(texts(&worker.addresses), ["198.51.100.19/28", "2001:db8:1::3/64"]);
        assert_eq!(texts(&worker.pod_cidrs), ["10.52.1.0/24", "fd42:0:0:101::/64"]);
        assert_eq!(texts(&worker.pods[0].addresses), ["10.52.1.2/24", "fd42:0:0:101::2/64"]);
        assert_eq!(texts(&plan.sites[1].vips), ["10.53.0.10", "fd43:0:0:100::a"]);
    }

    #[test]
    fn an_ipv6_lab_has_no_ipv4_address() {
        let plan = Plan::new(&Spec { family: Family::V6, ..Spec::default() });
        assert_eq!(plan.sites[0].endpoint().to_string(), "[2001:db8::2]:51820");
        assert!(plan.pods().all(|place| place.pod.addresses.iter().all(|net| net.addr().is_ipv6())));
    }

    #[test]
    fn the_largest_lab_has_no_name_or_address_twice() {
        let plan = Plan::new(&Spec { sites: 16, nodes: 13, pods: 50, family: Family::Dual, ..Spec::default() });
        let names: BTreeSet<_> = plan.namespaces().into_iter().collect();
        assert_eq!(names.len(), plan.namespaces().len());
        let pods: Vec<_> = plan.pods().flat_map(|place| place.pod.addresses.clone()).collect();
        assert_eq!(pods.len(), 16 * 13 * 50 * 2);
        assert_eq!(pods.iter().collect::<BTreeSet<_>>().len(), pods.len());
        let nodes: Vec<_> = plan.nodes().flat_map(|(_, node)| node.addresses.clone()).collect();
        assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len());
    }

    #[test]
    fn overlapping_sites_have_equal_addresses_and_are_told_apart_by_virtual_ones() {
        let plan = Plan::new(&Spec { sites: 3, overlapping: 2, family: Family::Dual, ..Spec::default() });
        let [paris, berlin, oslo] = plan.sites.as_slice() else { panic!("three sites") };
        assert_eq!((&paris.pod_cidrs, &paris.vips), (&berlin.pod_cidrs, &berlin.vips));
        assert_eq!(texts(&oslo.pod_cidrs), ["10.62.0.0/16", "fd42:0:0:200::/56"]);
        assert_ne!(paris.nodes[0].addresses, berlin.nodes[0].addresses, "the underlay is one for all");
        let pod = |site: &Site| site.pods().nth(2).expect("a pod on the worker").addresses_seen_from(berlin);
        assert_eq!(texts(&pod(berlin)), ["10.42.1.2", "fd42:0:0:1::2"]);
        assert_eq!(texts(&pod(paris)), ["100.64.1.2", "fd64:0:0:1::2"]);
        assert_eq!(texts(&pod(oslo)), ["10.62.1.2", "fd42:0:0:201::2"]);
        assert_eq!(texts(&berlin.vips_seen_from(paris)), ["100.67.0.10", "fd65:0:0:100::a"]);
        let prefixes = ["100.66.0.0/16", "fd64:0:0:100::/56", "100.67.0.0/16", "fd65:0:0:100::/112"];
        assert_eq!(texts(&berlin.prefixes_seen_from(oslo)), prefixes);
        // Who overlaps nobody goes on knowing the one that came first.
        assert_eq!(texts(&paris.vips_seen_from(oslo)), ["10.43.0.10", "fd43::a"]);
    }

    #[test]
    fn labels_find_pods_and_nodes() {
        let plan = Plan::new(&Spec::default());
        assert_eq!(plan.find("berlin/pod-3").expect("a pod").netns(), "ls-berlin-pod-3");
        assert_eq!(plan.find("paris/w1").expect("a node").netns(), "ls-paris-w1");
        assert_eq!(plan.find("paris-w1").expect("a node").netns(), "ls-paris-w1");
        assert_eq!(plan.find("oslo/pod-1"), None);
    }
}
