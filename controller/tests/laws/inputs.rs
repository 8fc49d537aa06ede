//! What the laws are tried on: clusters of up to five nodes, and worlds as crashes, earlier configurations and other
//! programs may have left them. Names and prefixes come from small pools, so that they meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use controller::node::nft::{Content, Table as NftTable};
use controller::node::state::{
    Address, AddressGeneration, Encap, Family, Layer3, Link, LinkKind, Observed, Path, Route, Rule, Table,
};
use controller::node::{Desired, Node, TunnelLink, Vxlan, mark};
use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::world::World;

const NODES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];
const TUNNELS: [&str; 2] = ["linkspan0", "wan0"];
const VXLANS: [&str; 2] = ["linkspan-nodes", "vx0"];
const PORTS: [u16; 2] = [4790, 4791];
const REMOTE: [&str; 6] = ["10.52.0.0/16", "10.53.0.0/16", "10.53.1.7/32", "10.62.0.0/16", "fd52::/56", "fd62::/56"];
/// The cluster's own; the last one another Member claims too, which a sound control plane does not let happen.
const VIRTUAL: [&str; 3] = ["100.64.0.0/24", "fd92::/64", "10.62.0.0/16"];
const CLUSTERS: [&str; 3] = ["berlin", "rome", "oslo"];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node(number: usize) -> impl Strategy<Value = Node> {
    let addresses = select(vec![format!("192.168.7.{}", number + 2), format!("fd07::{}", number + 2)]);
    let pods = vec![format!("10.42.{number}.0/24"), format!("fd42:0:0:{number}::/64")];
    (addresses, subsequence(pods, 0..=2)).prop_map(move |(address, pods)| Node {
        name: NODES[number].into(),
        address: ip(&address),
        pod_cidrs: pods.iter().map(|pod| net(pod)).collect(),
    })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    (1..=NODES.len()).prop_flat_map(|count| (0..count).map(node).collect::<Vec<_>>())
}

fn tunnel() -> impl Strategy<Value = TunnelLink> {
    let addresses = subsequence(vec![net("10.42.9.1/32"), net("fd42::9/128")], 0..=2);
    (select(&TUNNELS[..]), select(vec![1280, 1420]), addresses).prop_map(|(link, mtu, addresses)| TunnelLink {
        link: link.into(),
        mtu,
        addresses,
    })
}

fn vxlan() -> impl Strategy<Value = Vxlan> {
    let (mtu, most) = (select(vec![None, Some(1400)]), select(vec![None, Some(1420)]));
    (select(&VXLANS[..]), select(vec![7, 8]), select(&PORTS[..]), mtu, most)
        .prop_map(|(link, id, port, mtu, most)| Vxlan { link: link.into(), id, port, mtu, most })
}

fn remote() -> impl Strategy<Value = BTreeMap<String, Vec<IpNet>>> {
    let prefixes = subsequence(REMOTE.to_vec(), 0..=REMOTE.len());
    let prefixes = prefixes.prop_map(|prefixes| prefixes.into_iter().map(net).collect());
    btree_map(select(&CLUSTERS[..]).prop_map(String::from), prefixes, 0..=3)
}

/// This node is `n0`; the first two nodes may be gateways.
pub fn any_desired() -> impl Strategy<Value = Desired> {
    let sources = subsequence(vec![ip("10.42.0.1"), ip("192.168.7.2"), ip("fd42::1")], 0..=3);
    let own_virtual = subsequence(VIRTUAL.map(net).to_vec(), 0..=VIRTUAL.len());
    (nodes(), option::of(tunnel()), option::of(0..2_usize), remote(), vxlan(), (sources, own_virtual)).prop_map(
        |(nodes, tunnel, active, remote, vxlan, (sources, own_virtual))| {
            let gateways: Vec<_> = nodes.iter().take(2).map(|node| node.name.clone()).collect();
            let local = ["10.42.0.0/16", "10.43.0.0/16", "fd42::/56"].map(net).into();
            let active_gateway = active.and_then(|active| gateways.get(active).cloned());
            let node = NODES[0].into();
            let stale_tunnels = Vec::new();
            Desired {
                node,
                nodes,
                gateways,
                active_gateway,
                tunnel,
                local,
                remote,
                own_virtual,
                vxlan,
                sources,
                stale_tunnels,
            }
        },
    )
}

fn alias() -> impl Strategy<Value = Option<String>> {
    select(vec![None, Some(mark::LINK_ALIAS.to_owned()), Some("uplink".to_owned())])
}

fn link() -> impl Strategy<Value = Link> {
    let names: Vec<_> = TUNNELS.into_iter().chain(["eth0", "cni0", "old0"]).collect();
    let kind = select(vec![LinkKind::Layer3(Layer3::Tun), LinkKind::Layer3(Layer3::Other), LinkKind::Other]);
    let loose = option::of(select(vec![0, 1, 2]));
    let generation = option::of(select(vec![AddressGeneration::None, AddressGeneration::Automatic]));
    (select(names), alias(), kind, any::<bool>(), select(vec![1280, 1500]), loose, generation).prop_map(
        |(name, alias, kind, up, mtu, rp_filter, ipv6_addresses)| Link {
            name: name.into(),
            alias,
            kind,
            up,
            mtu,
            rp_filter,
            ipv6_addresses,
        },
    )
}

/// Of our making only: another program's on one of our ports is an obstacle that only the kernel sees.
fn vxlan_link() -> impl Strategy<Value = Link> {
    let alias = select(vec![None, Some(mark::LINK_ALIAS.to_owned())]);
    (select(&VXLANS[..]), alias, select(&PORTS[..]), any::<bool>()).prop_map(|(name, alias, port, up)| Link {
        name: name.into(),
        alias,
        kind: LinkKind::ExternalVxlan { port },
        up,
        mtu: 1400,
        rp_filter: Some(0),
        ipv6_addresses: Some(AddressGeneration::Automatic),
    })
}

fn address() -> impl Strategy<Value = (String, IpNet)> {
    let links: Vec<_> = TUNNELS.into_iter().chain(["eth0", "cni0"]).map(String::from).collect();
    let addresses = ["10.42.0.1/24", "192.168.7.2/24", "fd42::1/64", "10.42.9.1/32", "fe80::1/64"].map(net);
    (select(links), select(addresses.to_vec()))
}

fn route() -> impl Strategy<Value = Route> {
    let to = select(REMOTE.into_iter().chain(["10.99.0.0/16"]).collect::<Vec<_>>());
    let source = option::of(Just(ip("10.42.0.1")));
    let encap = Encap { id: 7, outer_source: ip("192.168.7.2"), outer_destination: ip("192.168.7.3") };
    let path = (0..4, select(TUNNELS.into_iter().chain(VXLANS).collect::<Vec<_>>()), source).prop_map(
        move |(kind, link, source)| {
            let link = link.to_owned();
            match kind {
                0 => Path::Unreachable,
                1 => Path::Link { link, source },
                2 => Path::Encap { link, encap, source },
                _ => Path::Foreign,
            }
        },
    );
    let metric = select(vec![mark::METRIC_ROUTE, mark::METRIC_FALLBACK, 1024]);
    (select(vec![Table::Remote, Table::Nodes]), to, metric, path).prop_map(|(table, to, metric, path)| Route {
        table,
        to: net(to),
        metric,
        path,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let input = option::of(select(&TUNNELS[..]).prop_map(String::from));
    (select(&Family::ALL[..]), input, select(vec![Table::Remote, Table::Nodes]))
        .prop_map(|(family, input_link, table)| Rule { family, input_link, table })
}

/// Whatever may be there: of ours, half of ours, and of others.
pub fn any_world() -> impl Strategy<Value = World> {
    let nft = option::of(Just(NftTable::render(&Content { remote: vec![net("10.99.0.0/16")], ..Content::default() })));
    let links = (vec(link(), 0..5), option::of(vxlan_link()));
    (links, vec(address(), 0..6), vec(route(), 0..12), btree_set(rule(), 0..4), nft).prop_map(
        |((links, vxlan), addresses, routes, rules, nft)| {
            let mut world = World { rules, nft, ..World::default() };
            world.links = links.into_iter().chain(vxlan).map(|link| (link.name.clone(), link)).collect();
            let exists = |link: &str| world.links.contains_key(link);
            world.addresses = addresses
                .into_iter()
                .filter(|(link, _)| exists(link))
                .map(|(link, address)| Address { link, address })
                .collect();
            // The kernel has no route over a link that is missing or down.
            let stands = |route: &Route| route.path.link().is_none_or(|link| world.is_up(link));
            world.routes = routes.into_iter().filter(stands).map(|route| (route.key(), route)).collect();
            world
        },
    )
}

/// The same inputs in another order.
pub fn shuffled(desired: &Desired, observed: &Observed, seed: u64) -> (Desired, Observed) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut desired, mut observed) = (desired.clone(), observed.clone());
    desired.nodes.shuffle(&mut rng);
    desired.local.shuffle(&mut rng);
    desired.own_virtual.shuffle(&mut rng);
    desired.nodes.iter_mut().for_each(|node| node.pod_cidrs.shuffle(&mut rng));
    desired.remote.values_mut().for_each(|prefixes| prefixes.shuffle(&mut rng));
    desired.tunnel.iter_mut().for_each(|tunnel| tunnel.addresses.shuffle(&mut rng));
    observed.links.shuffle(&mut rng);
    observed.addresses.shuffle(&mut rng);
    observed.routes.shuffle(&mut rng);
    observed.rules.shuffle(&mut rng);
    (desired, observed)
}
