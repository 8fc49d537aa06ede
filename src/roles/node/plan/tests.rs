//! What nodes make of Members, Nodes and the Lease.

use super::*;
use crate::site::{Machine, Secrets};

/// Three public keys.
const PARIS_A: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const BERLIN_A: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const BERLIN_B: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
/// And one more.
const ROME_A: &str = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// The private half of [`PARIS_A`], as `wg` printed it.
const PARIS_A_PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

fn settings() -> Settings {
    Settings { cluster: "paris".to_owned(), ..Settings::default() }
}

fn key(text: &str) -> PublicKey {
    text.parse().expect("a key")
}

fn member(name: &str, joined: &str, pods: &str, services: &str, gateways: serde_json::Value) -> (String, Member) {
    let json = serde_json::json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
        "metadata": { "name": name, "annotations": { "linkspan.dev/joined-at": joined } },
        "spec": {
            "clusterID": name, "clusterUID": "u", "podCIDRs": [pods], "serviceCIDRs": [services], "gateways": gateways,
        },
    });
    (name.to_owned(), serde_json::from_value(json).expect("a member"))
}

fn node(address: &str, pods: &str, ready: bool, labelled: bool) -> NodeFacts {
    NodeFacts {
        internal: vec![address.parse().expect("valid")],
        pod_cidrs: vec![pods.parse().expect("valid")],
        ready,
        labelled,
        ..NodeFacts::default()
    }
}

/// Paris of three nodes, `a` active, and Berlin with an active gateway and one that stands by.
fn facts() -> Facts {
    let berlin = serde_json::json!([
        { "node": "b1", "publicKey": BERLIN_A, "endpoints": ["[2001:db8::7]:51820", "198.51.100.7:51820"], "lanes": 2, "active": true },
        { "node": "b2", "publicKey": BERLIN_B, "endpoints": ["198.51.100.8:51820"], "lanes": 4 },
    ]);
    let paris = serde_json::json!([{ "node": "a", "publicKey": PARIS_A, "lanes": 2, "active": true }]);
    Facts {
        members: BTreeMap::from([
            member("paris", "2026-01-01T00:00:00Z", "10.42.0.0/16", "10.43.0.0/16", paris),
            member("berlin", "2026-01-02T00:00:00Z", "10.52.0.0/16", "10.53.0.0/16", berlin),
        ]),
        nodes: BTreeMap::from([
            ("a".to_owned(), node("192.168.7.2", "10.42.0.0/24", true, false)),
            ("b".to_owned(), node("192.168.7.3", "10.42.1.0/24", true, false)),
            ("c".to_owned(), node("192.168.7.4", "10.42.2.0/24", true, false)),
        ]),
        active: Some("a".to_owned()),
    }
}

fn planned(facts: &Facts, node: &str) -> Planned {
    plan(facts, &settings(), node, &Paths::default()).expect("planned")
}

/// What a gateway has of its peers: name, endpoint, and the number of prefixes.
type Shown = Vec<(String, Option<String>, usize)>;

fn shown(facts: &Facts, paths: &[(&str, PeerState)]) -> Shown {
    shown_while(facts, &[], paths)
}

/// As [`shown`], while these gateways carry the traffic.
fn shown_while(facts: &Facts, carriers: &[&str], states: &[(&str, PeerState)]) -> Shown {
    let paths = Paths {
        states: states.iter().map(|(text, state)| (key(text), *state)).collect(),
        carriers: carriers.iter().map(|text| key(text)).collect(),
    };
    let planned = plan(facts, &settings(), "a", &paths).expect("planned");
    let peers = planned.site.peers.into_iter();
    peers.map(|peer| (peer.cluster, peer.endpoint.map(|at| at.to_string()), peer.allowed_ips.len())).collect()
}

/// Berlin's gateways: who carries, and whether each is called.
fn berlin([first, second]: [(&str, bool); 2]) -> Shown {
    let peer = |(name, called): (&str, bool), at: &str| {
        let prefixes = if name == "berlin" { 2 } else { 0 };
        (name.to_owned(), called.then(|| at.to_owned()), prefixes)
    };
    vec![peer(first, "198.51.100.7:51820"), peer(second, "198.51.100.8:51820")]
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_site_has_the_clusters_nodes_prefixes_and_peers() {
    let Planned { site, refused } = planned(&facts(), "c");
    assert_eq!(refused, BTreeMap::new());
    assert_eq!((site.cluster.as_str(), site.active_gateway.as_deref()), ("paris", Some("a")));
    assert_eq!(site.pod_cidrs, ["10.42.0.0/16".parse().expect("valid")]);
    assert_eq!(site.service_cidrs, ["10.43.0.0/16".parse().expect("valid")]);
    let nodes: Vec<_> = site.nodes.iter().map(|node| (node.name.as_str(), node.gateway)).collect();
    assert_eq!(nodes, [("a", true), ("b", true), ("c", false)]);
    let peer = &site.peers[0];
    assert_eq!(peer.allowed_ips, ["10.52.0.0/16".parse().expect("valid"), "10.53.0.0/16".parse().expect("valid")]);
    assert_eq!((peer.public_key, peer.lanes.map(|lanes| lanes.get())), (key(BERLIN_A), Some(2)));
    assert_eq!(peer.persistent_keepalive.map(NonZeroU16::get), Some(25));
}

#[test]
fn a_peer_is_called_at_its_best_address_of_our_own_family() {
    assert_eq!(
        shown(&facts(), &[]),
        [("berlin".to_owned(), Some("198.51.100.7:51820".to_owned()), 2), ("berlin/b2".to_owned(), None, 0)]
    );
    let mut facts = facts();
    for node in facts.nodes.values_mut() {
        node.internal = vec![format!("fd07::{}", node.internal[0]).parse().expect("valid")];
    }
    assert_eq!(shown(&facts, &[])[0].1.as_deref(), Some("[2001:db8::7]:51820"));
}

#[test]
fn only_the_active_gateway_calls_and_the_others_send_through_it() {
    let machine = Machine { cores: 2, underlay_mtu: 1500 };
    let site = planned(&facts(), "a").site;
    let with_key = Secrets { private_key: Some(PARIS_A_PRIVATE.parse().expect("valid")), preshared: BTreeMap::new() };
    let plan_of = |name: &str, secrets: &Secrets| crate::site::plan(&site, secrets, name, machine).expect("planned");
    let (active, standby, worker) =
        (plan_of("a", &with_key), plan_of("b", &with_key), plan_of("c", &Secrets::default()));
    let device = active.tunnel.expect("a device");
    assert_eq!((device.peers.len(), device.families_together), (2, true));
    assert_eq!(standby.tunnel.expect("a device").peers, []);
    assert_eq!(worker.tunnel, None);
    for desired in [&active.desired, &standby.desired, &worker.desired] {
        assert_eq!(desired.active_gateway.as_deref(), Some("a"));
        assert_eq!(desired.check(), Ok(()));
        assert_eq!(desired.remote["berlin"].len(), 2);
    }
}

#[test]
fn without_labels_the_first_two_ready_nodes_are_gateways_and_the_active_one_stays() {
    let mut facts = facts();
    assert_eq!(candidates(&facts), set(&["a", "b"]));
    facts.active = None;
    assert_eq!(candidates(&facts), set(&["a", "b"]));
    facts.active = Some("c".to_owned());
    assert_eq!(candidates(&facts), set(&["a", "c"]));
    facts.nodes.get_mut("c").expect("there").ready = false;
    assert_eq!(candidates(&facts), set(&["a", "b"]));
    facts.active = Some("gone".to_owned());
    assert_eq!(candidates(&facts), set(&["a", "b"]));
}

#[test]
fn servers_are_gateways_where_other_nodes_do_not_do() {
    let mut facts = facts();
    facts.active = None;
    facts.nodes.get_mut("a").expect("there").server = true;
    assert_eq!(candidates(&facts), set(&["b", "c"]));
    facts.active = Some("a".to_owned());
    assert_eq!(candidates(&facts), set(&["a", "b"]), "who carries the traffic goes on");
    facts.active = None;
    facts.nodes.get_mut("b").expect("there").server = true;
    assert_eq!(candidates(&facts), set(&["a", "c"]));
}

#[test]
fn labelled_nodes_alone_are_gateways_ready_or_not() {
    let mut facts = facts();
    facts.nodes.get_mut("c").expect("there").labelled = true;
    facts.nodes.get_mut("c").expect("there").ready = false;
    assert_eq!(candidates(&facts), set(&["c"]));
    assert_eq!(planned(&facts, "a").site.active_gateway, None, "the holder is no candidate any more");
}

#[test]
fn a_gateway_that_calls_while_the_active_one_is_silent_has_taken_over() {
    let facts = facts();
    let first = || shown(&facts, &[]);
    assert_eq!(shown(&facts, &[(BERLIN_A, PeerState::Up), (BERLIN_B, PeerState::Up)]), first(), "what it says counts");
    // Whatever is known of the silent one: once it no longer carries the traffic it is idle, and must not win back for it.
    for silent in [PeerState::Down, PeerState::Connecting, PeerState::Idle] {
        assert_eq!(
            shown(&facts, &[(BERLIN_A, silent), (BERLIN_B, PeerState::Up)]),
            berlin([("berlin/b1", true), ("berlin", true)])
        );
    }
}

#[test]
fn a_gateway_that_carries_the_traffic_is_not_left_while_it_is_called_again() {
    use PeerState::{Connecting, Down, Idle, Up};
    let facts = facts();
    let (first, second) =
        (berlin([("berlin", true), ("berlin/b2", false)]), berlin([("berlin/b1", true), ("berlin", true)]));
    let now = |carrier, a, b| shown_while(&facts, &[carrier], &[(BERLIN_A, a), (BERLIN_B, b)]);
    for silent in [Down, Connecting, Idle] {
        assert_eq!(now(BERLIN_B, silent, Connecting), second, "{silent:?}");
    }
    assert_eq!(now(BERLIN_B, Up, Connecting), first, "the active one is back");
    assert_eq!(now(BERLIN_B, Idle, Down), first, "it is gone, and what the Member says counts again");
    assert_eq!(now(BERLIN_A, Connecting, Idle), first);
}

#[test]
fn of_two_gateways_that_are_up_the_one_that_carries_the_traffic_goes_on() {
    let mut facts = facts();
    let gateways = &mut facts.members.get_mut("berlin").expect("there").spec.gateways;
    let mut dead = gateways[0].clone();
    gateways[0].active = false;
    (dead.node, dead.public_key) = ("b0".to_owned(), ROME_A.to_owned());
    gateways.insert(0, dead);
    let up = [(BERLIN_A, PeerState::Up), (BERLIN_B, PeerState::Up)];
    let carrier = |shown: Shown| shown.iter().position(|(name, ..)| name == "berlin");
    assert_eq!(carrier(shown_while(&facts, &[BERLIN_B], &up)), Some(2));
    assert_eq!(carrier(shown_while(&facts, &[], &up)), Some(1));
}

#[test]
fn all_gateways_of_a_member_are_called_while_the_active_one_is_down_and_none_is_up() {
    use PeerState::{Connecting, Down, Idle, Up};
    let facts = facts();
    let carrier = |b| shown_while(&facts, &[BERLIN_A], &[(BERLIN_A, Down), (BERLIN_B, b)]);
    for b in [Idle, Connecting, Down] {
        assert_eq!(carrier(b), berlin([("berlin", true), ("berlin/b2", true)]), "{b:?}");
    }
    assert_eq!(carrier(Up), berlin([("berlin/b1", true), ("berlin", true)]));
    // A gateway that stands by does not answer: it is not called without need.
    for a in [Idle, Connecting, Up] {
        let shown = shown_while(&facts, &[BERLIN_A], &[(BERLIN_A, a), (BERLIN_B, Idle)]);
        assert_eq!(shown, berlin([("berlin", true), ("berlin/b2", false)]), "{a:?}");
    }
}

#[test]
fn a_member_that_is_refused_harms_nobody_else() {
    let mut facts = facts();
    let rome = serde_json::json!([]);
    facts.members.extend([
        member("oslo", "2026-01-03T00:00:00Z", "10.42.7.0/24", "10.63.0.0/16", rome.clone()),
        member("rome", "2026-01-04T00:00:00Z", "192.168.0.0/16", "10.64.0.0/16", rome.clone()),
        member("bern", "2026-01-05T00:00:00Z", "10.65.0.0/16", "10.66.0.0/16", rome),
    ]);
    let Planned { site, refused } = planned(&facts, "a");
    assert_eq!(site.peers.len(), 2);
    assert_eq!(refused.keys().map(String::as_str).collect::<Vec<_>>(), ["bern", "oslo", "rome"]);
    assert!(refused["oslo"].contains("10.42.0.0/16"), "{refused:?}");
    assert!(refused["rome"].contains("192.168.7."), "{refused:?}");
}

#[test]
fn a_cluster_that_is_itself_refused_has_no_peers_and_keeps_its_nodes() {
    let mut facts = facts();
    let (name, paris) = member("paris", "2026-01-09T00:00:00Z", "10.52.3.0/24", "10.43.0.0/16", serde_json::json!([]));
    facts.members.insert(name, paris);
    let Planned { site, refused } = planned(&facts, "a");
    assert_eq!((site.peers.len(), site.nodes.len()), (0, 3));
    assert!(refused.contains_key("paris"), "{refused:?}");
    let why = Planned { site, refused }.unusable().expect("it has no peers");
    assert!(why.starts_with("this cluster reaches no other one, because its own Member is refused: "), "{why}");
}

/// Paris and berlin, which came later, with equal prefixes, and oslo, which shares nothing with either. All know the same
/// of each other.
fn mix() -> BTreeMap<String, Member> {
    let of = |name: &str, joined: &str, site: u8, key: &str| {
        let gateways = serde_json::json!([{ "node": "a", "publicKey": key, "lanes": 2, "active": true }]);
        member(name, joined, &format!("10.{site}.0.0/16"), &format!("10.{}.0.0/16", site + 1), gateways)
    };
    let mut members = BTreeMap::from([
        of("paris", "2026-01-01T00:00:00Z", 42, PARIS_A),
        of("berlin", "2026-01-02T00:00:00Z", 42, BERLIN_A),
        of("oslo", "2026-01-03T00:00:00Z", 62, ROME_A),
    ]);
    for (name, r#virtual, only) in [("paris", "100.64.0.0/24", false), ("berlin", "100.66.0.0/24", true)] {
        let spec = &mut members.get_mut(name).expect("there").spec;
        let block = serde_json::json!([{ "pods": "10.42.0.0/24", "virtual": r#virtual }]);
        spec.virtual_cidrs = serde_json::from_value(block).expect("blocks");
        spec.virtual_only = only;
    }
    members
}

/// What the gateway of a cluster in the [`mix`] has: its peers, each with its prefixes and how it knows this cluster, and
/// what is rewritten.
fn ways(cluster: &str) -> (Vec<String>, Vec<String>) {
    let facts = Facts { members: mix(), ..facts() };
    let settings = Settings { cluster: cluster.to_owned(), ..Settings::default() };
    let Planned { site, refused } = plan(&facts, &settings, "a", &Paths::default()).expect("planned");
    assert_eq!(refused, BTreeMap::new());
    let peer = |peer: &Peer| {
        let prefixes: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        let known = match peer.knows_us_by {
            Addresses::Native => "native",
            Addresses::Virtual => "virtual",
        };
        format!("{} has {} and knows us as {known}", peer.cluster, prefixes.join(" "))
    };
    let pair = |pair: &tunnel::config::Translation| format!("{} is {}", pair.native, pair.r#virtual);
    (site.peers.iter().map(peer).collect(), site.translation.iter().map(pair).collect())
}

#[test]
fn in_a_mix_each_cluster_uses_and_is_known_by_the_addresses_that_are_unique_there() {
    let (peers, rewritten) = ways("paris");
    let expected = [
        "berlin has 100.66.0.0/24 and knows us as virtual",
        "oslo has 10.62.0.0/16 10.63.0.0/16 and knows us as native",
    ];
    assert_eq!(peers, expected);
    assert_eq!(rewritten, ["10.42.0.0/24 is 100.64.0.0/24"]);
    let (peers, rewritten) = ways("berlin");
    let expected = [
        "oslo has 10.62.0.0/16 10.63.0.0/16 and knows us as virtual",
        "paris has 100.64.0.0/24 and knows us as virtual",
    ];
    assert_eq!(peers, expected);
    assert_eq!(rewritten, ["10.42.0.0/24 is 100.66.0.0/24"]);
    let (peers, rewritten) = ways("oslo");
    let expected = [
        "berlin has 100.66.0.0/24 and knows us as native",
        "paris has 10.42.0.0/16 10.43.0.0/16 and knows us as native",
    ];
    assert_eq!(peers, expected);
    assert_eq!(rewritten, [""; 0]);
}

#[test]
fn what_is_missing_is_said_with_a_fix() {
    let settings = settings();
    let told = |facts: &Facts, node: &str| {
        plan(facts, &settings, node, &Paths::default()).expect_err("nothing to plan").to_string()
    };
    assert_eq!(told(&facts(), "d"), "there is no Node d: NODE_NAME must be the node's name in the Kubernetes API");
    let mut none = facts();
    none.members.remove("paris");
    assert!(told(&none, "a").contains("linkspan-controller writes it"));
    let mut bare = facts();
    bare.members.get_mut("paris").expect("there").spec.pod_cidrs.clear();
    assert!(told(&bare, "a").contains("names no prefixes of pods"));
    let mut silent = facts();
    silent.nodes.get_mut("a").expect("there").internal.clear();
    assert_eq!(told(&silent, "a"), "node a has no InternalIP: see its kubelet");
    assert_eq!(candidates(&silent), set(&["b", "c"]), "a node without an address ends no tunnels");
}

#[test]
fn facts_come_back_from_disk_as_they_were() {
    let text = serde_json::to_string(&facts()).expect("JSON");
    assert_eq!(serde_json::from_str::<Facts>(&text).expect("facts"), facts());
    assert_eq!(serde_json::from_str::<Facts>("{}").expect("facts"), Facts::default());
}
