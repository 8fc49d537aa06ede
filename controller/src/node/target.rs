//! What the kernel shall hold: [`Desired`] in the kernel's own words, given the links and addresses that there are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::action::{LinkSettings, Obstacle};
use super::desired::{Desired, Node, Vxlan};
use super::mark;
use super::nft;
use super::state::{Address, Encap, Family, Link, LinkKind, Observed, Path, Route, Rule, Table};

/// What VXLAN-GPE costs each packet: the outer IP header, UDP (8 bytes) and VXLAN (8 bytes); no inner Ethernet header.
const OVERHEAD_V4: u32 = 20 + 8 + 8;
/// As [`OVERHEAD_V4`], over IPv6.
const OVERHEAD_V6: u32 = 40 + 8 + 8;

/// MTU of an Ethernet link in bytes, assumed when no link holds this node's address.
const ETHERNET_MTU: u32 = 1500;

/// The state to reach.
#[derive(Debug)]
pub(super) struct Target {
    pub vxlan: Option<VxlanTarget>,
    pub tunnel: Option<LinkSettings>,
    pub addresses: BTreeSet<Address>,
    pub routes: BTreeSet<Route>,
    pub rules: BTreeSet<Rule>,
    pub nft: Option<nft::Table>,
    pub obstacles: BTreeSet<Obstacle>,
}

#[derive(Debug)]
pub(super) struct VxlanTarget {
    pub settings: LinkSettings,
    pub port: u16,
}

impl Target {
    pub fn new(desired: &Desired, observed: &Observed) -> Self {
        let mut obstacles = BTreeSet::new();
        let remote: BTreeSet<IpNet> = desired.remote.values().flatten().map(IpNet::trunc).collect();
        let tunnel = tunnel(desired, observed, &mut obstacles);
        let vxlan = if remote.is_empty() { None } else { vxlan(desired, observed, tunnel.as_ref(), &mut obstacles) };
        let addresses: BTreeSet<_> = tunnel.iter().flat_map(|settings| tunnel_addresses(desired, settings)).collect();
        let lasting = lasting_addresses(observed, tunnel.as_ref()).chain(&addresses);
        let sources = sources(desired, lasting, &remote, &mut obstacles);
        if !remote.is_empty() {
            obstacles.extend(hidden_links(desired, observed, tunnel.as_ref()));
        }
        let mut target =
            Self { addresses, routes: BTreeSet::new(), rules: BTreeSet::new(), nft: None, tunnel, vxlan, obstacles };
        if remote.is_empty() {
            return target;
        }
        target.add_remote_routes(desired, &remote, &sources);
        target.refuse_own_virtual(desired);
        target.add_node_routes(desired);
        target.add_rules(desired, &remote);
        target.nft = Some(nft_table(desired, &target, remote, sources));
        target
    }

    /// The links that shall be there as ours.
    pub fn links(&self) -> impl Iterator<Item = &LinkSettings> {
        self.vxlan.iter().map(|vxlan| &vxlan.settings).chain(&self.tunnel)
    }

    fn add_remote_routes(&mut self, desired: &Desired, remote: &BTreeSet<IpNet>, sources: &[IpAddr]) {
        let way = self.way_out(desired);
        for to in remote {
            let source = sources.iter().copied().find(|source| Family::of(*source).holds(to));
            let path = way.as_ref().map(|way| match way {
                Way::Link(link) => Path::Link { link: link.clone(), source },
                Way::Node(link, encap) => Path::Encap { link: link.clone(), encap: *encap, source },
            });
            let table = Table::Remote;
            self.routes.extend(path.map(|path| Route { table, to: *to, metric: mark::METRIC_ROUTE, path }));
            self.routes.insert(Route { table, to: *to, metric: mark::METRIC_FALLBACK, path: Path::Unreachable });
        }
    }

    fn refuse_own_virtual(&mut self, desired: &Desired) {
        for to in desired.own_virtual.iter().map(IpNet::trunc) {
            let (table, metric) = (Table::Remote, mark::METRIC_FALLBACK);
            self.routes.insert(Route { table, to, metric, path: Path::Unreachable });
        }
    }

    fn add_node_routes(&mut self, desired: &Desired) {
        if self.tunnel.is_none() {
            return;
        }
        for node in desired.other_nodes() {
            let Some(Way::Node(link, encap)) = self.way_to(desired, node) else { continue };
            for to in node.pod_cidrs.iter().map(IpNet::trunc) {
                let path = Path::Encap { link: link.clone(), encap, source: None };
                self.routes.insert(Route { table: Table::Nodes, to, metric: mark::METRIC_ROUTE, path });
            }
        }
    }

    fn add_rules(&mut self, desired: &Desired, remote: &BTreeSet<IpNet>) {
        for family in Family::ALL {
            // Own virtual addresses are refused where others have none of that family, too.
            if remote.iter().chain(&desired.own_virtual).any(|net| family.holds(net)) {
                self.rules.insert(Rule { family, input_link: None, table: Table::Remote });
            }
            let node_routes = self.routes.iter().any(|route| route.table == Table::Nodes && family.holds(&route.to));
            if let Some(tunnel) = desired.tunnel.as_ref().filter(|_| node_routes) {
                self.rules.insert(Rule { family, input_link: Some(tunnel.link.clone()), table: Table::Nodes });
            }
        }
    }

    /// How this node's traffic for other Members leaves. `None`: not at all, for now.
    fn way_out(&mut self, desired: &Desired) -> Option<Way> {
        let active = desired.active_gateway.as_ref()?;
        if *active == desired.node {
            return self.tunnel.as_ref().map(|tunnel| Way::Link(tunnel.link.clone()));
        }
        let gateway = desired.other_nodes().find(|node| node.name == *active)?;
        self.way_to(desired, gateway)
    }

    fn way_to(&mut self, desired: &Desired, node: &Node) -> Option<Way> {
        let vxlan = self.vxlan.as_ref()?;
        let outer_source = desired.this_node()?.address;
        let outer_destination = node.address;
        if Family::of(outer_source) != Family::of(outer_destination) {
            self.obstacles.insert(Obstacle::MixedFamilies { node: node.name.clone() });
            return None;
        }
        let encap = Encap { id: desired.vxlan.id, outer_source, outer_destination };
        Some(Way::Node(vxlan.settings.link.clone(), encap))
    }
}

enum Way {
    Link(String),
    Node(String, Encap),
}

fn tunnel(desired: &Desired, observed: &Observed, obstacles: &mut BTreeSet<Obstacle>) -> Option<LinkSettings> {
    let tunnel = desired.tunnel.as_ref()?;
    match observed.link(&tunnel.link) {
        None => {
            obstacles.insert(Obstacle::NoTunnelLink(tunnel.link.clone()));
            None
        }
        // The device makes the link without our mark; the first pass adds it.
        Some(link) if matches!(link.kind, LinkKind::Layer3(_)) && (link.is_ours() || link.alias.is_none()) => {
            Some(LinkSettings { link: tunnel.link.clone(), mtu: tunnel.mtu })
        }
        Some(_) => {
            obstacles.insert(Obstacle::ForeignLink(tunnel.link.clone()));
            None
        }
    }
}

fn tunnel_addresses(desired: &Desired, settings: &LinkSettings) -> Vec<Address> {
    let addresses = desired.tunnel.iter().flat_map(|tunnel| tunnel.addresses.iter().copied());
    addresses.map(|address| Address { link: settings.link.clone(), address }).collect()
}

fn vxlan(
    desired: &Desired,
    observed: &Observed,
    tunnel: Option<&LinkSettings>,
    obstacles: &mut BTreeSet<Obstacle>,
) -> Option<VxlanTarget> {
    let this = desired.this_node()?;
    desired.other_nodes().next()?;
    let link = desired.vxlan.link.clone();
    let port = desired.vxlan.port;
    if observed.link(&link).is_some_and(|existing| !existing.is_ours() && !is_unmarked_vxlan(existing, desired)) {
        obstacles.insert(Obstacle::ForeignLink(link));
        return None;
    }
    let kind = LinkKind::ExternalVxlan { port };
    if let Some(other) =
        observed.links.iter().find(|other| other.kind == kind && other.name != link && !other.is_ours())
    {
        obstacles.insert(Obstacle::PortTaken { port, link: other.name.clone() });
        return None;
    }
    let most = desired.vxlan.most.unwrap_or(u32::MAX);
    let mtu = desired.vxlan.mtu.unwrap_or_else(|| vxlan_mtu(this.address, observed, tunnel).min(most));
    Some(VxlanTarget { settings: LinkSettings { link, mtu }, port })
}

/// Whether a link is exactly what a process leaves that died between making the VXLAN link and marking it.
pub(super) fn is_unmarked_vxlan(link: &Link, desired: &Desired) -> bool {
    let Vxlan { link: name, port, .. } = &desired.vxlan;
    link.alias.is_none() && link.name == *name && link.kind == LinkKind::ExternalVxlan { port: *port }
}

/// The largest packet in bytes that fits into the link of `address` with the encapsulation around it.
fn vxlan_mtu(address: IpAddr, observed: &Observed, tunnel: Option<&LinkSettings>) -> u32 {
    let holder = lasting_addresses(observed, tunnel).filter(|held| held.address.addr() == address);
    let mtus = holder.filter_map(|held| observed.link(&held.link)).map(|link| link.mtu);
    let overhead = if address.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    // IPv6 needs 1280 (RFC 8200, section 5); below that, the outer packets are fragmented.
    mtus.min().unwrap_or(ETHERNET_MTU).saturating_sub(overhead).max(1280)
}

/// Addresses that this pass will not take away: those on links that are not ours.
fn lasting_addresses<'a>(
    observed: &'a Observed,
    tunnel: Option<&'a LinkSettings>,
) -> impl Iterator<Item = &'a Address> {
    let to_be_ours = move |name: &str| tunnel.is_some_and(|tunnel| tunnel.link == name);
    let ours = move |name: &str| to_be_ours(name) || observed.link(name).is_some_and(Link::is_ours);
    observed.addresses.iter().filter(move |address| !ours(&address.link))
}

/// What is connected to this node and lies in a prefix of ours, whose rule comes before the main table. Each is told once.
fn hidden_links(desired: &Desired, observed: &Observed, tunnel: Option<&LinkSettings>) -> BTreeSet<Obstacle> {
    let of_members = desired.remote.iter().flat_map(|(cluster, nets)| nets.iter().map(move |net| (net, Some(cluster))));
    let prefixes: Vec<_> = of_members.chain(desired.own_virtual.iter().map(|net| (net, None))).collect();
    let is_up = |link: &str| observed.link(link).is_some_and(|link| link.up);
    let hides = |held: &Address| {
        let net = held.address.trunc();
        let overlaps = |(prefix, _): &&(&IpNet, _)| prefix.contains(&net) || net.contains(*prefix);
        let (prefix, cluster) = prefixes.iter().filter(overlaps).min()?;
        let whose = cluster.map_or("this cluster".to_owned(), |cluster| format!("cluster {cluster}"));
        Some(Obstacle::HidesLink { prefix: **prefix, whose, net, link: held.link.clone() })
    };
    lasting_addresses(observed, tunnel).filter(|held| is_up(&held.link)).filter_map(hides).collect()
}

/// This node's own source toward other Members, at most one of each family.
fn sources<'a>(
    desired: &Desired,
    lasting: impl Iterator<Item = &'a Address>,
    remote: &BTreeSet<IpNet>,
    obstacles: &mut BTreeSet<Obstacle>,
) -> Vec<IpAddr> {
    let held: BTreeSet<IpAddr> = lasting.map(|held| held.address.addr()).collect();
    let cidrs: Vec<_> = desired.this_node().into_iter().flat_map(|node| &node.pod_cidrs).collect();
    let mut sources = Vec::new();
    for family in Family::ALL.into_iter().filter(|family| remote.iter().any(|net| family.holds(net))) {
        let given = desired.sources.iter().filter(|source| held.contains(source));
        let found = held.iter().filter(|address| cidrs.iter().any(|cidr| cidr.contains(*address)));
        match given.chain(found).find(|source| Family::of(**source) == family) {
            Some(source) => sources.push(*source),
            None if cidrs.iter().any(|cidr| family.holds(cidr)) => {
                obstacles.insert(Obstacle::NoSource(family));
            }
            None => {}
        }
    }
    sources
}

fn nft_table(desired: &Desired, target: &Target, remote: BTreeSet<IpNet>, sources: Vec<IpAddr>) -> nft::Table {
    let own = target.addresses.iter().map(|address| IpNet::from(address.address.addr()));
    nft::Table::render(&nft::Content {
        tunnel: desired.tunnel.as_ref().map(|tunnel| tunnel.link.clone()),
        vxlan: target.vxlan.as_ref().map(|vxlan| (vxlan.settings.link.clone(), vxlan.port)),
        local: desired.local.iter().copied().chain(own).collect(),
        remote: remote.into_iter().collect(),
        nodes: desired.nodes.iter().map(|node| node.address).collect(),
        sources,
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::Layer3;
    use super::*;

    fn link(name: &str, kind: LinkKind, up: bool) -> Link {
        Link { name: name.into(), alias: None, kind, up, mtu: 1500, rp_filter: None, ipv6_addresses: None }
    }

    /// What is told of a node with these addresses on link `lan0`.
    fn hidden(up: bool, addresses: &[&str]) -> Vec<String> {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let node = Node { name: "w1".into(), address: "192.168.7.3".parse().unwrap(), pod_cidrs: Vec::new() };
        let desired = Desired {
            node: "w1".into(),
            nodes: vec![node],
            remote: [("berlin".to_owned(), nets(&["100.70.4.0/24", "100.70.3.0/24"]))].into(),
            own_virtual: nets(&["100.71.0.0/24"]),
            ..Desired::nothing()
        };
        let address = |address: IpNet| Address { link: "lan0".into(), address };
        let mut addresses: Vec<Address> = nets(addresses).into_iter().map(address).collect();
        // Those of our own links are nobody's hosts.
        addresses.push(Address { link: "linkspan-nodes".into(), address: "100.70.3.1/32".parse().unwrap() });
        let mut ours = link("linkspan-nodes", LinkKind::Layer3(Layer3::Other), true);
        ours.alias = Some(mark::LINK_ALIAS.to_owned());
        let observed =
            Observed { links: vec![link("lan0", LinkKind::Other, up), ours], addresses, ..Observed::default() };
        Target::new(&desired, &observed).obstacles.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_link_whose_hosts_a_route_of_ours_hides_is_told() {
        let told = hidden(true, &["100.70.0.9/16", "100.71.0.9/32", "192.168.7.3/24"]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("100.70.3.0/24 of cluster berlin hides 100.70.0.0/16 on link lan0"), "{told:?}");
        assert!(told[1].starts_with("100.71.0.0/24 of this cluster hides 100.71.0.9/32 on link lan0"), "{told:?}");
        assert_eq!(hidden(false, &["100.70.0.9/16"]), [""; 0], "it reaches nobody anyhow");
        assert_eq!(hidden(true, &["192.168.7.3/24"]), [""; 0]);
    }
}
