//! What nodes are asked to follow one way: those at both ends and the gateways, and no others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use controller::node::{Arriving, Lookup};

use super::ends::{Client, Goal, client, goal};
use super::flow::Target;
use super::name::{targets, vip};
use super::packets;
use super::parse::End;
use crate::kubectl::diagnose::{dns, questions as usual};
use crate::kubectl::inspect::{Probe, Questions};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// By cluster, in the order of the picture, and node.
type Asked = Vec<BTreeMap<String, Questions>>;

/// What is asked. Ends that are not found ask nothing. Asked again when nodes have answered, it asks more precisely.
pub fn questions(picture: &Picture, from: &End, to: &End, namespace: &str) -> Asked {
    let mut asked: Asked = picture.clusters.iter().map(|_| BTreeMap::new()).collect();
    let Ok(from) = client(picture, from, namespace) else { return asked };
    let Ok(goal) = goal(picture, &from, to, namespace) else { return asked };
    let all = usual(picture);
    let mut involve = |cluster: &ClusterPicture, node: Option<String>| {
        let at = picture.clusters.iter().position(|one| std::ptr::eq(one, cluster));
        let (Some(at), Some(node)) = (at, node) else { return };
        let usual = all.get(at).and_then(|nodes| nodes.get(&node)).cloned().unwrap_or_default();
        asked[at].entry(node).or_insert(usual);
    };
    involve(from.cluster, from.node.clone());
    involve(from.cluster, from.cluster.active_gateway());
    let targets = goal_targets(&from, &goal, to.port);
    for target in &targets {
        let far =
            from.cluster.place(target.address).and_then(|place| Some((picture.by_id(&place.cluster)?, place.native)));
        let Some((far, native)) = far else { continue };
        involve(far, far.active_gateway());
        involve(far, far.node_of_address(native));
    }
    let way = Way { picture, from: &from, goal: &goal, port: to.port, targets };
    for (cluster, nodes) in picture.clusters.iter().zip(&mut asked) {
        for (node, questions) in nodes.iter_mut() {
            way.refine(cluster, node, questions);
        }
    }
    asked
}

/// The addresses that a client calls when it calls this, as its own cluster knows them.
pub fn goal_targets(from: &Client<'_>, goal: &Goal<'_>, port: Option<u16>) -> Vec<Target> {
    match goal {
        Goal::Address { address, .. } => {
            vec![Target { address: *address, port, protocol: "TCP".to_owned(), probe: true }]
        }
        Goal::Service(service) => targets(from, service, port),
    }
}

/// One way, with the addresses to which it leads.
struct Way<'a> {
    picture: &'a Picture,
    from: &'a Client<'a>,
    goal: &'a Goal<'a>,
    port: Option<u16>,
    targets: Vec<Target>,
}

impl Way<'_> {
    /// Makes of the usual questions to a node those about this way.
    fn refine(&self, cluster: &ClusterPicture, node: &str, asked: &mut Questions) {
        let is_near = std::ptr::eq(cluster, self.from.cluster);
        let is_client = is_near && self.from.node.as_deref() == Some(node);
        // Packets and clusterset IPs of others have no part in the way.
        asked.packets.retain(|packet| packet.protocol == "udp");
        asked.services.clear();
        for target in &self.targets {
            let Some(place) = self.from.cluster.place(target.address) else { continue };
            let is_local = Some(place.cluster.as_str()) == self.from.cluster.id();
            if is_near && !is_local {
                asked
                    .packets
                    .extend(packets::leaving(self.from, target, node).into_iter().flat_map(packets::both_ways));
            }
            if is_client {
                asked.lookups.push(Lookup { to: target.address, arriving: None });
                let tcp = target.port.filter(|_| target.protocol == "TCP" && target.probe);
                asked.probes.extend(tcp.map(|port| Probe::Tcp { to: SocketAddr::new(target.address, port) }));
            }
            let is_far = self.picture.by_id(&place.cluster).is_some_and(|far| std::ptr::eq(far, cluster)) && !is_near;
            if is_far {
                asked.lookups.extend(far_lookups(self.from, cluster, node, place.native));
                let arriving = packets::arriving(self.from, cluster, place.native, target, node);
                asked.packets.extend(arriving.into_iter().flat_map(packets::both_ways));
            }
        }
        if let Goal::Service(service) = self.goal
            && is_client
        {
            let import = service.among(cluster.imports.all());
            asked.services.extend(import.and_then(|import| vip(import, self.port)));
            let server = cluster.dns_server().filter(|_| service.by_name);
            asked.names.extend(server.map(|server| dns::question(cluster, server, service.dns_name())));
        }
        asked.lookups.dedup();
        asked.names.dedup();
    }
}

/// On the other side: the way inward from the tunnel, and the way of answers.
fn far_lookups(from: &Client<'_>, far: &ClusterPicture, node: &str, native: IpAddr) -> Vec<Lookup> {
    let client = from.address_to(native).zip(from.cluster.id()).and_then(|(address, id)| far.calls(id, address));
    let Some(client) = client else { return Vec::new() };
    let mut lookups = vec![Lookup { to: client, arriving: None }];
    let link = far.tunnel().map(|tunnel| tunnel.link.clone());
    if let (true, Some(link)) = (far.active_gateway().as_deref() == Some(node), link) {
        lookups.push(Lookup { to: native, arriving: Some(Arriving { from: client, link }) });
    }
    lookups
}
