//! The pure decision: from what the API server tells to the site that a node belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use controller::api::Member;
use controller::members::{Admitted, Claim, ClaimGateway, ClusterId, Verdict, View, judge};
use tunnel::config::{Addresses, Dscp, Offloads, PublicKey};
use tunnel::status::PeerState;

use super::facts::{Facts, NodeFacts};
use super::settings::Settings;
use crate::site::{Choice, Dns, Node, Peer, Site, Status, Tunnel};

/// Gateways that are chosen where people have labelled none: one that works, and one that stands by.
const CHOSEN: usize = 2;

/// Seconds between keepalives: opens the way through most NAT devices (WireGuard, `wg(8)`), and keeps sessions alive, so
/// that the state of a path is known before somebody needs it.
const KEEPALIVE: NonZeroU16 = NonZeroU16::new(25).expect("25 is not 0");

/// What a node with a device knows of the ways to other clusters' gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// How each path is.
    pub states: BTreeMap<PublicKey, PeerState>,
    /// Which gateways carry traffic now.
    pub carriers: BTreeSet<PublicKey>,
}

impl Paths {
    fn state(&self, gateway: &ClaimGateway) -> PeerState {
        self.states.get(&gateway.public_key).copied().unwrap_or(PeerState::Idle)
    }
}

/// A planned site, and what of the clusterset is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The site.
    pub site: Site,
    /// Members that are not used, each with the reason.
    pub refused: BTreeMap<String, String>,
}

impl Planned {
    /// Why no other Member is a peer, where there are some; one sentence.
    pub fn unusable(&self) -> Option<String> {
        if !self.site.peers.is_empty() {
            return None;
        }
        if let Some(reason) = self.refused.get(&self.site.cluster) {
            return Some(format!("this cluster reaches no other one, because its own Member is refused: {reason}"));
        }
        let (member, reason) = self.refused.first_key_value()?;
        let all = self.refused.len();
        Some(format!("none of the other Members can be used, {all} in all; the first one is {member}: {reason}"))
    }
}

/// Why there is no site yet; one sentence with a fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// This node is not in the API.
    #[error("there is no Node {0}: NODE_NAME must be the node's name in the Kubernetes API")]
    Node(String),
    /// This node has no address.
    #[error("node {0} has no InternalIP: see its kubelet")]
    Address(String),
    /// The controller has not said what this cluster is.
    #[error("the Member {0} of this cluster is not in the API yet: linkspan-controller writes it; see its log")]
    Member(String),
    /// This cluster's ID is none.
    #[error("LINKSPAN_CLUSTER_ID: {0}")]
    ClusterId(String),
    /// This cluster's own prefixes are not known.
    #[error("the Member {0} of this cluster names no prefixes of pods: its conditions say why")]
    Prefixes(String),
}

/// The nodes that may end tunnels: those that people have labelled; where there are none, the holder of the gateway
/// Lease as long as it is ready, and then the ready nodes with the lowest names, [`CHOSEN`] in all. Servers come last: who
/// takes over from a gateway needs the API server, which may be lost together with a server. Where no node is ready, which
/// says more about the control plane than about the nodes, the holder stays and all count as ready.
pub fn candidates(facts: &Facts) -> BTreeSet<String> {
    let labelled: BTreeSet<_> = names(facts, |node| node.labelled).collect();
    if !labelled.is_empty() {
        return labelled;
    }
    let none_ready = !facts.nodes.values().any(|node| node.ready);
    let mut working: Vec<_> = names(facts, |node| node.ready || none_ready).collect();
    let is_server = |name: &str| facts.nodes.get(name).is_some_and(|node| node.server);
    // Among equals, the order of names stays.
    working.sort_by_key(|name| (facts.active.as_ref() != Some(name), is_server(name)));
    working.into_iter().take(CHOSEN).collect()
}

fn names(facts: &Facts, which: impl Fn(&NodeFacts) -> bool) -> impl Iterator<Item = String> {
    facts.nodes.iter().filter(move |(_, node)| node.address().is_some() && which(node)).map(|(name, _)| name.clone())
}

/// Plans the site of `node`. `paths` are those to other clusters' gateways, where this node has a device.
///
/// # Errors
/// [`Missing`], while something that every plan needs is not there.
pub fn plan(facts: &Facts, settings: &Settings, node: &str, paths: &Paths) -> Result<Planned, Missing> {
    let cluster: ClusterId = settings.cluster.parse().map_err(|error| Missing::ClusterId(format!("{error}")))?;
    let own = facts.nodes.get(node).ok_or_else(|| Missing::Node(node.to_owned()))?;
    let address = own.address().ok_or_else(|| Missing::Address(node.to_owned()))?;
    let members: Vec<Member> = facts.members.values().cloned().collect();
    let underlay = |node: &NodeFacts| node.internal.iter().copied().chain(node.reached_at).collect::<Vec<_>>();
    let underlay: Vec<IpAddr> = facts.nodes.values().flat_map(underlay).collect();
    let verdicts = judge(&cluster, &members, &underlay);
    let claim = match verdicts.get(&settings.cluster) {
        None => return Err(Missing::Member(settings.cluster.clone())),
        Some(Verdict::Accepted(admitted)) => admitted.claim.clone(),
        // The others have refused it as well; its own prefixes still hold for its own nodes.
        Some(Verdict::Refused(_)) => own_claim(&members, &cluster)?,
    };
    if claim.pod_cidrs.is_empty() {
        return Err(Missing::Prefixes(settings.cluster.clone()));
    }
    let mut refused = BTreeMap::new();
    for (name, verdict) in &verdicts {
        if let Verdict::Refused(refusal) = verdict {
            refused.insert(name.clone(), refusal.message.clone());
        }
    }
    let alone = refused.contains_key(&settings.cluster);
    let mut peers = Vec::new();
    let others = verdicts.values().filter_map(Verdict::accepted);
    for other in others.filter(|other| other.claim.cluster != cluster && !alone) {
        let known = if View::of(&claim, &other.claim).is_virtual() { Addresses::Virtual } else { Addresses::Native };
        match plan_peers(other, known, address, paths) {
            Some(found) => peers.extend(found),
            None => {
                refused.insert(other.claim.cluster.to_string(), "it has no gateway yet".to_owned());
            }
        }
    }
    Ok(Planned { site: site(facts, settings, claim, peers), refused })
}

/// What this cluster says of itself, although it is refused.
fn own_claim(members: &[Member], cluster: &ClusterId) -> Result<Claim, Missing> {
    let own = members.iter().find(|member| member.metadata.name.as_deref() == Some(cluster.as_str()));
    own.and_then(|own| Claim::check(own).ok()).ok_or_else(|| Missing::Prefixes(cluster.to_string()))
}

fn site(facts: &Facts, settings: &Settings, claim: Claim, peers: Vec<Peer>) -> Site {
    let gateways = candidates(facts);
    let nodes = facts.nodes.iter().filter_map(|(name, node)| {
        let gateway = gateways.contains(name);
        Some(Node { name: name.clone(), address: node.address()?, gateway, pod_cidrs: node.pod_cidrs.clone() })
    });
    Site {
        cluster: settings.cluster.clone(),
        private_key_file: None,
        pod_cidrs: claim.pod_cidrs,
        service_cidrs: claim.service_cidrs,
        translation: claim.blocks,
        nodes: nodes.collect(),
        // One that is no candidate any more has stopped, or is about to.
        active_gateway: facts.active.clone().filter(|name| gateways.contains(name)),
        tunnel: Tunnel {
            link: settings.link.clone(),
            listen_port: settings.port,
            vanilla_port: settings.port.wrapping_add(1),
            lanes: settings.lanes.map_or(Choice::Auto, Choice::Fixed),
            mtu: settings.mtu.map_or(Choice::Auto, Choice::Fixed),
            dscp: Dscp::default(),
            offloads: Offloads::default(),
        },
        dns: Dns { listen: Vec::new(), zone: "clusterset.local".to_owned(), ttl: 5 },
        status: Status { socket: settings.socket.clone(), listen: settings.listen },
        exports: Vec::new(),
        peers,
        of_members: true,
    }
}

/// The peers that one Member is: the gateway that carries its traffic, under the Member's name, and those that stand by,
/// which may call and have no prefixes. `None` when it has no gateway.
///
/// A gateway that stands by knows no peers, so it neither calls nor answers: who is up carries the traffic. Where the
/// control plane cannot say who has taken over, the path does. While none is up, or two are for a moment, the gateway that
/// the Member calls active is believed, but not over one that carries the traffic and is only being called again.
///
/// Who carries the traffic is called, and so is the active gateway. When that one does not answer and nobody else is up, all
/// are: whoever has taken over may not be able to call us.
fn plan_peers(
    Admitted { claim: member, routes, .. }: &Admitted,
    knows_us_by: Addresses,
    own_address: IpAddr,
    paths: &Paths,
) -> Option<Vec<Peer>> {
    let gateways = &member.gateways;
    let is_up = |gateway: &&ClaimGateway| paths.state(gateway) == PeerState::Up;
    let carried = |gateway: &&ClaimGateway| paths.carriers.contains(&gateway.public_key);
    let told = member.active_gateway().or(gateways.first())?;
    let up = Some(told).filter(is_up).or_else(|| gateways.iter().filter(is_up).min_by_key(|it| !carried(it)));
    let recalled = || gateways.iter().filter(carried).find(|it| paths.state(it) == PeerState::Connecting);
    let chosen = up.or_else(recalled).unwrap_or(told);
    let lost = up.is_none() && paths.state(told) == PeerState::Down;
    let peer = |gateway: &ClaimGateway| {
        let carries = gateway.public_key == chosen.public_key;
        let called = carries || lost || gateway.public_key == told.public_key;
        let same_family = gateway.endpoints.iter().find(|at| at.is_ipv4() == own_address.is_ipv4());
        Peer {
            cluster: if carries { member.cluster.to_string() } else { format!("{}/{}", member.cluster, gateway.node) },
            public_key: gateway.public_key,
            endpoint: same_family.or(gateway.endpoints.first()).copied().filter(|_| called),
            allowed_ips: if carries { routes.clone() } else { Vec::new() },
            lanes: Some(gateway.lanes),
            preshared_key_file: None,
            persistent_keepalive: carries.then_some(KEEPALIVE),
            knows_us_by,
            exports: Vec::new(),
        }
    };
    Some(member.gateways.iter().map(peer).collect())
}

#[cfg(test)]
mod tests;
