//! Publishes what this gateway is and sees, as the GatewayNode of its node's name.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use controller::api::names::{FIELD_MANAGER, REPORTER_NODE, SYSTEM_NAMESPACE};
use controller::api::{
    GatewayNode, GatewayNodeSpec, GatewayNodeStatus, PeerState, PeerStatus, VirtualCidr, is_of_an_earlier_crd,
};
use controller::events::Teller;
use controller::members::condition::{Finding, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use tunnel::status::Status;

use super::Shared;
use super::down::DownSince;
use super::events::news;
use super::facts::{Facts, NodeFacts};
use super::plan::candidates;
use crate::run::Context;

/// How often numbers are written; states are written when they change.
const NUMBERS: Duration = Duration::from_secs(30);
/// Shortest time between two writes: paths to one place change state together.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a failed write waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps the GatewayNode of this node in step with its device, and without one where the node is no gateway.
///
/// # Errors
/// When there is no way to the API server at all; single requests that fail are tried again.
pub(super) async fn follow(context: Context, shared: Shared) -> anyhow::Result<()> {
    let client = shared.client().await?;
    let events = Teller::new(client.clone(), REPORTER_NODE, Some(context.options.node.clone()));
    let nodes: Api<GatewayNode> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let mut facts = shared.facts.subscribe();
    let mut paths = context.paths.subscribe();
    let mut written: Option<GatewayNode> = None;
    // Nobody but this node makes it, so that it stays gone.
    let mut gone = false;
    let mut down = DownSince::default();
    let mut told = String::new();
    loop {
        let me = &context.options.node;
        let candidate = |facts: &&Facts| candidates(facts).contains(me);
        let holder = facts.borrow_and_update().as_ref().filter(candidate).and_then(|facts| facts.active.clone());
        listen(&nodes, holder, written.as_ref(), &mut down).await;
        let wanted = wanted(&context, &facts.borrow_and_update(), written.as_ref(), &down);
        paths.mark_unchanged();
        let begun = Instant::now();
        let fresh = written.as_ref().and_then(age).is_some_and(|age| age < NUMBERS);
        let pause = if is_told(&wanted, written.as_ref().filter(|_| fresh), gone) {
            NUMBERS
        } else {
            gone = false;
            match tokio::time::timeout(PATIENCE, write(&nodes, me, &wanted)).await {
                Ok(Ok(now)) => {
                    gone = now.is_none();
                    let before = std::mem::replace(&mut written, now);
                    if let Some(now) = &written {
                        down.learn(now);
                        events.tell(&now.object_ref(&()), &news(before.as_ref(), now)).await;
                    }
                    told.clear();
                    NUMBERS
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "the API server does not answer".to_owned(),
                    };
                    if told != error {
                        tracing::warn!(%error, "this gateway cannot be published");
                    }
                    told = error;
                    RETRY
                }
            }
        };
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(begun.elapsed())) => {}
            changed = facts.changed() => changed.context("the facts are held as long as the process runs")?,
            changed = paths.changed() => changed.context("the paths are held as long as the process runs")?,
        }
    }
}

/// Hears what the gateway that carries the traffic tells, unless that is this one, which remembers it: after a takeover it may
/// be too late. Best effort, as what is told changes slowly.
async fn listen(nodes: &Api<GatewayNode>, holder: Option<String>, written: Option<&GatewayNode>, down: &mut DownSince) {
    let carries = written.and_then(|node| node.status.as_ref()).is_some_and(|status| status.active);
    if let Some(holder) = holder.filter(|_| !carries)
        && let Ok(Ok(Some(gateway))) = tokio::time::timeout(PATIENCE, nodes.get_opt(&holder)).await
    {
        down.learn(&gateway);
    }
}

/// What shall be in the API.
enum Wanted {
    /// This node is no gateway.
    Gone,
    /// Not known yet: what is there stays.
    Nothing,
    /// This.
    Node(Box<GatewayNode>),
}

/// Whether the API has what is wanted already: `written` a short while ago, or nothing since it is `gone`.
fn is_told(wanted: &Wanted, written: Option<&GatewayNode>, gone: bool) -> bool {
    match wanted {
        Wanted::Nothing => true,
        Wanted::Gone => gone,
        Wanted::Node(node) => written.is_some_and(|old| same(node, old)),
    }
}

fn wanted(context: &Context, facts: &Option<Facts>, before: Option<&GatewayNode>, down: &DownSince) -> Wanted {
    let me = &context.options.node;
    let Some(facts) = facts else { return Wanted::Nothing };
    let Some(node) = facts.nodes.get(me).filter(|_| candidates(facts).contains(me)) else { return Wanted::Gone };
    let report = context.board.report(Instant::now());
    let because = report.not_ready_because.join("; ");
    match context.board.device() {
        Some(device) => {
            let (status, active) = (device.status(), facts.active.as_ref() == Some(me));
            let seen = Seen { status: &status, active, because: &because, down };
            Wanted::Node(Box::new(gateway_node(me, node, &seen, before, Timestamp::now())))
        }
        None => match before {
            // It was a gateway, and its device is gone.
            Some(before) => Wanted::Node(Box::new(without_device(before, &because, Timestamp::now()))),
            None => Wanted::Nothing,
        },
    }
}

/// What a node with a device sees.
struct Seen<'a> {
    status: &'a Status,
    active: bool,
    /// What keeps it from being ready; empty when nothing does.
    because: &'a str,
    down: &'a DownSince,
}

/// The GatewayNode of a node with a device.
fn gateway_node(
    name: &str,
    node: &NodeFacts,
    seen: &Seen<'_>,
    before: Option<&GatewayNode>,
    now: Timestamp,
) -> GatewayNode {
    let &Seen { status: device, active, because, down } = seen;
    // A gateway that stands by next to the one that carries the traffic is named after its node, and is not told.
    let peers: Vec<PeerStatus> = device.peers.iter().filter(|peer| !peer.name.contains('/')).map(peer_status).collect();
    let peers = if active { down.complete(peers, now) } else { peers };
    let up = peers.iter().filter(|peer| peer.state == PeerState::Up).count();
    let mut object = GatewayNode::new(
        name,
        GatewayNodeSpec {
            public_key: device.public_key.to_string(),
            endpoints: node.called_at(device.listen_port).iter().map(ToString::to_string).collect(),
            lanes: device.lanes,
        },
    );
    object.metadata.namespace = Some(SYSTEM_NAMESPACE.to_owned());
    // So that it goes with the node.
    object.metadata.owner_references = (!node.uid.is_empty()).then(|| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.to_owned(),
            uid: node.uid.clone(),
            ..OwnerReference::default()
        }]
    });
    object.status = Some(GatewayNodeStatus {
        active,
        summary: if active { format!("{up}/{} up", peers.len()) } else { "standby".to_owned() },
        peers,
        virtual_cidrs: device.translation.iter().map(VirtualCidr::from).collect(),
        observed: Some(Time(now)),
        conditions: conditions(earlier(before), &[ready(because)], now),
    });
    object
}

/// What is left to say when the device is not open.
fn without_device(before: &GatewayNode, because: &str, now: Timestamp) -> GatewayNode {
    let mut object = before.clone();
    // One that was made anew meanwhile is meant as well.
    object.metadata.uid = None;
    object.status = Some(GatewayNodeStatus {
        observed: Some(Time(now)),
        conditions: conditions(earlier(Some(before)), &[ready(because)], now),
        ..GatewayNodeStatus::default()
    });
    object
}

fn earlier(before: Option<&GatewayNode>) -> &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
    before.and_then(|node| node.status.as_ref()).map_or(&[], |status| &status.conditions)
}

fn ready(because: &str) -> Finding {
    match because {
        "" => Finding::good("Ready", "Ready", "device open, last pass without failure"),
        because => Finding::bad("Ready", "NotReady", because),
    }
}

fn peer_status(peer: &tunnel::status::PeerStatus) -> PeerStatus {
    let handshake = peer.lanes.iter().filter_map(|lane| lane.handshake_age).min();
    let rtt = peer.lanes.iter().filter_map(|lane| lane.rtt).min();
    let loss = peer.lanes.iter().map(|lane| lane.loss).fold(0.0, f64::max);
    PeerStatus {
        cluster: peer.name.clone(),
        state: match peer.state {
            tunnel::status::PeerState::Up => PeerState::Up,
            tunnel::status::PeerState::Idle => PeerState::Idle,
            tunnel::status::PeerState::Connecting => PeerState::Connecting,
            tunnel::status::PeerState::Down => PeerState::Down,
        },
        reason: peer.reason.clone(),
        handshake_age_seconds: handshake.map(|age| age.as_secs()),
        down_since: None,
        rtt_microseconds: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        loss_permille: (loss * 1000.0).round().clamp(0.0, 1000.0) as u32,
        mtu: peer.mtu,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
    }
}

/// Whether two say the same but for numbers, which can wait.
fn same(a: &GatewayNode, b: &GatewayNode) -> bool {
    let told = |node: &GatewayNode| {
        let status = node.status.clone().unwrap_or_default();
        let peers: Vec<_> = status.peers.into_iter().map(|peer| (peer.cluster, peer.state, peer.down_since)).collect();
        let conditions: Vec<_> = status.conditions.into_iter().map(|c| (c.type_, c.status, c.message)).collect();
        (status.active, status.summary, peers, status.virtual_cidrs, conditions)
    };
    a.spec == b.spec && a.metadata.owner_references == b.metadata.owner_references && told(a) == told(b)
}

fn age(node: &GatewayNode) -> Option<Duration> {
    let observed = node.status.as_ref()?.observed.as_ref()?.0;
    Duration::try_from(Timestamp::now().duration_since(observed)).ok()
}

async fn write(nodes: &Api<GatewayNode>, name: &str, wanted: &Wanted) -> kube::Result<Option<GatewayNode>> {
    let Wanted::Node(node) = wanted else {
        return match nodes.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            deleted => deleted.map(|_| None),
        };
    };
    let how = PatchParams::apply(FIELD_MANAGER).force();
    let mut spec = (**node).clone();
    spec.status = None;
    let stored = nodes.patch(&node.name_any(), &how, &Patch::Apply(&spec)).await?;
    // Its own request: the status is a subresource.
    let mut status = serde_json::json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": node.name_any() },
        "status": node.status,
    });
    match nodes.patch_status(&node.name_any(), &how, &Patch::Apply(&status)).await {
        // Others go by the rest of it, so that it is told as an earlier version would.
        Err(error) if is_of_an_earlier_crd(&error) => {
            leave_out_what_is_new(&mut status);
            nodes.patch_status(&node.name_any(), &how, &Patch::Apply(&status)).await?
        }
        told => told?,
    };
    let mut now = (**node).clone();
    // Events are about one object, and not about another one of its name.
    now.metadata.uid = stored.metadata.uid;
    Ok(Some(now))
}

/// Takes the fields out of a status that its CRD did not have from its first version on.
fn leave_out_what_is_new(object: &mut serde_json::Value) {
    if let Some(status) = object["status"].as_object_mut() {
        status.remove("virtualCIDRs");
    }
}

#[cfg(test)]
mod tests {
    use tunnel::config::{PublicKey, Translation};
    use tunnel::status::{LaneStatus, PeerState as PathState, PeerStatus as PathStatus};

    use super::*;

    fn path(name: &str, state: PathState) -> PathStatus {
        let lane = |age, rtt: Option<u64>, loss| LaneStatus {
            handshake_age: Some(Duration::from_secs(age)),
            rtt: rtt.map(Duration::from_micros),
            loss,
            ..LaneStatus::default()
        };
        PathStatus {
            name: name.to_owned(),
            public_key: PublicKey([1; 32]),
            endpoint: None,
            allowed_ips: Vec::new(),
            state,
            reason: "because".to_owned(),
            tx_bytes: 1,
            rx_bytes: 2,
            mtu: 1420,
            lanes: vec![lane(70, Some(900), 0.25), lane(7, None, 0.0)],
        }
    }

    fn device(peers: Vec<PathStatus>) -> Status {
        Status {
            link: "linkspan0".to_owned(),
            public_key: PublicKey([7; 32]),
            listen_port: 51820,
            vanilla_port: None,
            mtu: 1420,
            lanes: 2,
            offloads: Vec::new(),
            peers,
            drops: Vec::new(),
            translation: Vec::new(),
            translated: tunnel::status::TranslatedCount::default(),
        }
    }

    fn published(
        peers: Vec<PathStatus>,
        active: bool,
        because: &str,
        before: Option<&GatewayNode>,
        at: i64,
    ) -> GatewayNode {
        published_by(&device(peers), active, because, before, at)
    }

    fn published_by(
        device: &Status,
        active: bool,
        because: &str,
        before: Option<&GatewayNode>,
        at: i64,
    ) -> GatewayNode {
        let node = NodeFacts {
            uid: "u1".to_owned(),
            internal: vec!["192.168.7.2".parse().expect("valid")],
            ..NodeFacts::default()
        };
        let now = Timestamp::from_second(at).expect("in range");
        let mut down = DownSince::default();
        before.into_iter().for_each(|before| down.learn(before));
        let seen = Seen { status: device, active, because, down: &down };
        gateway_node("a", &node, &seen, before, now)
    }

    #[test]
    fn a_gateway_tells_its_key_where_it_is_called_and_whom_it_reaches() {
        let peers =
            vec![path("berlin", PathState::Up), path("berlin/b2", PathState::Idle), path("rome", PathState::Down)];
        let node = published(peers, true, "", None, 100);
        assert_eq!(node.spec.endpoints, ["192.168.7.2:51820"]);
        assert_eq!(node.spec.public_key, PublicKey([7; 32]).to_string());
        assert_eq!(node.metadata.owner_references.as_ref().expect("there")[0].uid, "u1");
        let status = node.status.expect("there");
        assert_eq!((status.active, status.summary.as_str()), (true, "1/2 up"));
        let berlin = &status.peers[0];
        assert_eq!((berlin.cluster.as_str(), berlin.state), ("berlin", PeerState::Up));
        assert_eq!(
            (berlin.handshake_age_seconds, berlin.rtt_microseconds, berlin.loss_permille),
            (Some(7), Some(900), 250)
        );
        assert_eq!((status.peers[1].cluster.as_str(), status.peers[1].state), ("rome", PeerState::Down));
        assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].status.as_str()), ("Ready", "True"));
    }

    #[test]
    fn numbers_can_wait_and_states_cannot() {
        let up = || vec![path("berlin", PathState::Up)];
        let first = published(up(), true, "", None, 100);
        let mut slower = up();
        slower[0].rx_bytes = 99;
        assert!(same(&published(slower, true, "", Some(&first), 110), &first));
        assert!(!same(&published(vec![path("berlin", PathState::Down)], true, "", Some(&first), 110), &first));
        assert!(!same(&published(up(), false, "", Some(&first), 110), &first));
        assert!(!same(&published(up(), true, "the zone is lost", Some(&first), 110), &first));
        assert!(!same(&published(Vec::new(), true, "", Some(&first), 110), &first));
    }

    #[test]
    fn a_node_that_is_no_gateway_has_its_gatewaynode_removed_once() {
        let node = |active| published(Vec::new(), active, "", None, 100);
        let wanted = |active| Wanted::Node(Box::new(node(active)));
        // An earlier process may have left one.
        assert!(!is_told(&Wanted::Gone, None, false));
        assert!(!is_told(&Wanted::Gone, Some(&node(true)), false));
        assert!(is_told(&Wanted::Gone, None, true));
        assert!(!is_told(&wanted(true), None, true), "it is a gateway again");
        assert!(is_told(&wanted(true), Some(&node(true)), false));
        assert!(!is_told(&wanted(false), Some(&node(true)), false));
        assert!(is_told(&Wanted::Nothing, None, false));
    }

    #[test]
    fn what_the_tunnel_rewrites_is_told_at_once_and_once() {
        let net = |text: &str| text.parse().expect("a prefix");
        let rewriting = |prefix: &str, before: Option<&GatewayNode>, at: i64| {
            let translation = vec![Translation { native: net("10.42.0.0/24"), r#virtual: net(prefix) }];
            published_by(&Status { translation, ..device(Vec::new()) }, true, "", before, at)
        };
        let status = |node: &GatewayNode| serde_json::to_value(&node.status).expect("JSON");
        let first = rewriting("100.64.3.0/24", None, 100);
        let told = serde_json::json!([{ "pods": "10.42.0.0/24", "virtual": "100.64.3.0/24" }]);
        assert_eq!(status(&first)["virtualCIDRs"], told);
        assert!(same(&rewriting("100.64.3.0/24", Some(&first), 110), &first));
        assert!(!same(&rewriting("100.64.4.0/24", Some(&first), 110), &first));
        let native = published(Vec::new(), true, "", Some(&first), 110);
        assert!(!same(&native, &first));
        assert_eq!(status(&native).get("virtualCIDRs"), None);
    }

    #[test]
    fn since_when_a_cluster_is_down_is_told_by_the_gateway_that_carries_the_traffic() {
        let since = |node: &GatewayNode| {
            let peer = node.status.as_ref().and_then(|status| status.peers.first()).expect("a peer");
            peer.down_since.as_ref().map(|since| since.0.as_second())
        };
        let rome = |state| vec![path("rome", state)];
        let down = published(rome(PathState::Down), true, "", None, 100);
        assert_eq!(since(&down), Some(100));
        let restarted = published(rome(PathState::Connecting), true, "", Some(&down), 200);
        assert_eq!(since(&restarted), Some(100));
        assert_eq!(since(&published(rome(PathState::Up), true, "", Some(&restarted), 300)), None);
        assert_eq!(since(&published(rome(PathState::Down), false, "", Some(&down), 300)), None);
        assert!(published(Vec::new(), false, "", Some(&down), 300).status.expect("there").peers.is_empty());
    }

    #[test]
    fn a_gateway_that_loses_its_device_says_so_and_sees_nobody() {
        let first = published(vec![path("berlin", PathState::Up)], true, "", None, 100);
        let lost =
            without_device(&first, "the tunnel device is not open", Timestamp::from_second(200).expect("in range"));
        let status = lost.status.expect("there");
        assert_eq!((status.active, status.peers.len()), (false, 0));
        assert_eq!(status.conditions[0].message, "the tunnel device is not open");
        assert_eq!(status.conditions[0].last_transition_time.0.as_second(), 200);
        assert_eq!(lost.spec, first.spec);
    }

    #[test]
    fn what_an_earlier_crd_does_not_know_is_left_out() {
        let refused = |message: &str| {
            let status = kube::core::Status::failure(message, "InternalError").with_code(500);
            is_of_an_earlier_crd(&kube::Error::Api(Box::new(status)))
        };
        // In the words of kube-apiserver 1.34.
        assert!(refused("failed to create typed patch object: .status.virtualCIDRs: field not declared in schema"));
        assert!(!refused("etcdserver: request timed out"));
        let mut object =
            serde_json::json!({ "status": { "active": true, "virtualCIDRs": [{ "pods": "10.42.0.0/24" }] } });
        leave_out_what_is_new(&mut object);
        assert_eq!(object, serde_json::json!({ "status": { "active": true } }));
    }
}
