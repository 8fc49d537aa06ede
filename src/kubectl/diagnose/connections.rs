//! Tunnels between gateways: which one is not up, and why, from what both ends have counted.

use controller::api::PeerState;

use super::{Check, Fault, Finding, State, firewall, nodes};
use crate::kubectl::picture::{ClusterPicture, Picture};
use crate::status::{PeerReport, TunnelReport};

/// A gateway that gets no answer calls every 5 s (`tunnel`, `lane::peer`); who calls is heard of more recently than this.
const HEARD: f64 = 16.0;

/// Why a tunnel is not up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The check that it belongs to.
    pub check: Check,
    /// The matter.
    pub fault: Fault,
}

impl Trouble {
    fn of(check: Check, fault: Fault) -> Option<Self> {
        Some(Self { check, fault })
    }
}

pub(super) fn check(picture: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let of = |far: &String| {
        let object = format!("cluster/{far}");
        match trouble(picture, cluster, far) {
            // Its own gateway is told with the nodes, once.
            Some(Trouble { check: Check::Nodes, .. }) => None,
            Some(Trouble { check, fault }) => Some(Finding::bad(check, cluster, object, fault)),
            None => Some(Finding::good(Check::Connections, cluster, object, up(cluster, far))),
        }
    };
    let mut findings: Vec<Finding> = cluster.others().iter().filter_map(of).collect();
    let standing_by = |peer: &&PeerReport| peer.name.contains('/');
    let strangers = cluster.tunnel().map_or(0, |tunnel| drops(tunnel, "unknown-peer"));
    if strangers > 0 && findings.iter().all(|finding| finding.state == State::Ok) {
        let peers = cluster.tunnel().map_or(0, |tunnel| tunnel.peers.iter().filter(|peer| !standing_by(peer)).count());
        let evidence =
            format!("{strangers} handshakes of keys that no Member has, since the device was opened; {peers} peers");
        findings.push(Finding::good(Check::Connections, cluster, "strangers", evidence));
    }
    findings
}

fn up(cluster: &ClusterPicture, far: &str) -> String {
    let Some(peer) = cluster.peer(far) else { return "up".to_owned() };
    let rtt = peer.rtt_ms.map_or_else(String::new, |rtt| format!(", {rtt:.2} ms"));
    format!("up{rtt}, {:.0} % loss, MTU {}", peer.loss * 100.0, peer.mtu)
}

/// Why the tunnel from `near` to `far` does not carry traffic; nothing when it does.
pub fn trouble(picture: &Picture, near: &ClusterPicture, far: &str) -> Option<Trouble> {
    // Who carries the tunnel knows best. What a GatewayNode says may be the last word of one that is dead.
    if near.peer(far).is_some_and(|peer| peer.state == "up") {
        return None;
    }
    if let Some(fault) = nodes::gateway_fault(near) {
        return Trouble::of(Check::Nodes, fault);
    }
    let state = state(near, far);
    if state == Some(PeerState::Up) {
        return None;
    }
    let there = picture.by_id(far);
    if near.is_without_gateway(far) {
        let evidence = format!("Member {far} names no gateway");
        let fix = format!(
            "see that linkspan-node runs on a node of {far} that may be a gateway: `kubectl get gatewaynodes -A` there"
        );
        let fault = Fault::failed("NoGateway", evidence, "there is nobody who could be called", fix);
        return Trouble::of(Check::Connections, fault);
    }
    if let Some(fault) = there.and_then(nodes::gateway_fault) {
        let fault = Fault { reason: "PeerGatewayDown", cause: format!("in {far}: {}", fault.cause), ..fault };
        return Trouble::of(Check::Connections, fault);
    }
    if let Some(fault) = there.and_then(|there| wrong_key(near, there).or_else(|| wrong_key(there, near))) {
        return Trouble::of(Check::Connections, fault);
    }
    if let Some(fault) = there.and_then(|there| firewall::tunnel_rule(near, there)) {
        return Trouble::of(Check::Firewall, fault);
    }
    let Some(here) = near.peer(far) else { return Some(unseen(near, far, state)) };
    match there.and_then(|there| there.peer(near.id()?)) {
        Some(back) => both_ends(near, far, here, back),
        None => one_end(near, far, here),
    }
}

fn state(near: &ClusterPicture, far: &str) -> Option<PeerState> {
    if let Some(peer) = near.peer(far) {
        return Some(match peer.state.as_str() {
            "up" => PeerState::Up,
            "down" => PeerState::Down,
            "connecting" => PeerState::Connecting,
            _ => PeerState::Idle,
        });
    }
    let status = near.gateway(&near.active_gateway()?)?.status.as_ref()?;
    status.peers.iter().find(|peer| peer.cluster == far).map(|peer| peer.state)
}

/// The node could not be asked: the GatewayNode tells the state alone.
fn unseen(near: &ClusterPicture, far: &str, state: Option<PeerState>) -> Trouble {
    let gateway = near.active_gateway().and_then(|node| near.gateway(&node)?.status.clone());
    let told = gateway.and_then(|status| status.peers.into_iter().find(|peer| peer.cluster == far));
    let reason = told.map(|peer| peer.reason).filter(|reason| !reason.is_empty());
    let evidence = reason.unwrap_or_else(|| format!("the gateway says nothing of {far}"));
    let (how, cause) = match state {
        Some(PeerState::Down | PeerState::Connecting) => (State::Failed, "the peer does not answer"),
        Some(PeerState::Idle) => (State::Warning, "nobody has tried yet"),
        _ => (State::Unknown, "the gateway could not be asked"),
    };
    let fix =
        "run this again with the permission to get and create pods/exec in linkspan-system, which tells why".to_owned();
    let fault = Fault { state: how, reason: "PeerDown", evidence, cause: cause.to_owned(), fix };
    Trouble { check: Check::Connections, fault }
}

fn is_heard(peer: &PeerReport) -> bool {
    peer.heard_seconds.is_some_and(|seconds| seconds < HEARD)
}

fn heard(peer: &PeerReport) -> String {
    let newest = match peer.heard_seconds {
        Some(seconds) => format!("last heard of {seconds:.0} s ago"),
        None => "never heard of".to_owned(),
    };
    format!("{newest}, {} handshakes sent, {} of its own arrived", peer.calls_sent, peer.calls_heard)
}

fn ends(near: &ClusterPicture, far: &str, here: &PeerReport, back: &PeerReport) -> String {
    let id = near.name();
    format!("{id} about {far}: {}; {far} about {id}: {}", heard(here), heard(back))
}

fn both_ends(near: &ClusterPicture, far: &str, here: &PeerReport, back: &PeerReport) -> Option<Trouble> {
    let evidence = ends(near, far, here, back);
    let (id, to) = (near.name(), |peer: &PeerReport| peer.endpoint.clone().unwrap_or_else(|| "nowhere".to_owned()));
    let blocked = |reason, from: &str, at: String| {
        let cause = format!("UDP from {from} does not arrive at {at}: a firewall or NAT on the way drops it");
        let fix = format!("let UDP to {at} through, in the firewalls of both sites and of the cloud between");
        Trouble::of(Check::Firewall, Fault::failed(reason, evidence.clone(), cause, fix))
    };
    match (is_heard(here), is_heard(back)) {
        (true, false) => blocked("UdpBlockedOneWay", id, format!("{far} ({})", to(here))),
        (false, true) => blocked("UdpBlockedOneWay", far, format!("{id} ({})", to(back))),
        (false, false) => {
            let cause =
                format!("UDP between {id} and {far} arrives in neither direction ({} and {})", to(here), to(back));
            let fix = "let the gateways' UDP port through in both directions, and see that the endpoints are right"
                .to_owned();
            Trouble::of(Check::Firewall, Fault::failed("UdpBlockedBothWays", evidence, cause, fix))
        }
        (true, true) => {
            let cause = "both ends hear each other, and the tunnel is not up yet".to_owned();
            let fix = "run this again in a few seconds; see the logs of both gateways if it stays".to_owned();
            Trouble::of(
                Check::Connections,
                Fault::warning("Connecting", format!("{}; {evidence}", here.reason), cause, fix),
            )
        }
    }
}

/// Only this end could be asked.
fn one_end(near: &ClusterPicture, far: &str, here: &PeerReport) -> Option<Trouble> {
    let evidence = format!("{}; {}", here.reason, heard(here));
    if here.endpoint.is_none() {
        let cause = format!("{far} has no endpoint that can be called, and has not called itself");
        let fix = format!(
            "see that the gateway of {far} runs and reaches this one, or give it an endpoint with the annotation linkspan.dev/endpoints"
        );
        return Trouble::of(Check::Connections, Fault::failed("NoEndpoint", evidence, cause, fix));
    }
    if is_heard(here) && here.state != "idle" {
        let cause = format!("UDP from {} does not arrive in {far}, whose own calls arrive here", near.name());
        let fix = format!("let UDP to {} through in the firewalls", here.endpoint.as_deref().unwrap_or_default());
        return Trouble::of(Check::Firewall, Fault::failed("UdpBlockedOneWay", evidence, cause, fix));
    }
    if here.state == "idle" {
        return Trouble::of(
            Check::Connections,
            Fault::warning("Idle", evidence, "nobody has tried yet", "run this again"),
        );
    }
    let cause =
        format!("nothing comes back from {far}: UDP is blocked, its gateway is down, or has another address or key");
    let fix = format!("name the context of {far}, too: both ends together tell which");
    Trouble::of(Check::Connections, Fault::failed("PeerDown", evidence, cause, fix))
}

/// Whether `near` has another key for the gateway of `far` than that has.
fn wrong_key(near: &ClusterPicture, far: &ClusterPicture) -> Option<Fault> {
    let (id, node) = (far.id()?, far.active_gateway()?);
    let real = match far.tunnel() {
        Some(tunnel) => tunnel.public_key.clone(),
        None => far.gateway(&node)?.spec.public_key.clone(),
    };
    let in_member = || {
        let gateways = &near.member(id)?.spec.gateways;
        gateways.iter().find(|gateway| gateway.node == node).map(|gateway| gateway.public_key.clone())
    };
    let believed = near.peer(id).map(|peer| peer.public_key.clone()).or_else(in_member)?;
    if believed == real {
        return None;
    }
    let strangers = far.tunnel().map_or(0, |tunnel| drops(tunnel, "unauthentic"));
    let evidence = format!(
        "{} uses key {believed} for {id}, and the key of its active gateway {node} is {real}; {id} has dropped {strangers} \
         messages as not authentic",
        near.name()
    );
    let cause = format!("{} has an old or wrong key for the gateway of {id}, so that handshakes fail", near.name());
    let fix = format!(
        "the key comes through the broker: see `kubectl linkspan diagnose broker` for both clusters, and the log of \
         linkspan-controller in {id}"
    );
    Some(Fault::failed("WrongKey", evidence, cause, fix))
}

fn drops(tunnel: &TunnelReport, reason: &str) -> u64 {
    tunnel.drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.count).sum()
}
