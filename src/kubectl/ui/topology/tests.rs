use serde_json::json;

use super::super::data::Export;
use super::*;
use crate::kubectl::diagnose::diagnose;
use crate::kubectl::picture::samples::{alter_peer, healthy, objects};
use crate::kubectl::picture::{Part, Unseen};

fn shown(picture: &Picture) -> Topology {
    topology(picture, &diagnose(picture), &Rates::default().after(picture))
}

fn states(topology: &Topology) -> Vec<(&str, Sight, State)> {
    topology.clusters.iter().map(|cluster| (cluster.name.as_str(), cluster.sight, cluster.state)).collect()
}

fn reasons<'a>(topology: &'a Topology, found: &[usize]) -> Vec<(&'a str, &'a str)> {
    let of = |at: &usize| (topology.findings[*at].cluster.as_str(), topology.findings[*at].reason.as_str());
    found.iter().map(of).collect()
}

/// Only paris was asked.
fn alone() -> Picture {
    let mut picture = healthy();
    picture.clusters.truncate(1);
    picture
}

#[test]
fn nodes_that_were_not_asked_yet_are_no_matter_and_those_that_tell_nothing_are_one() {
    let mut picture = healthy();
    picture.clusters[0].inspections.remove("paris-2");
    assert_eq!(shown(&picture).findings, []);
    let unseen = Unseen { what: "node paris-2".to_owned(), why: "no answer within 20 s".to_owned() };
    picture.clusters[0].inspections.insert("paris-2".to_owned(), Part::Unseen(unseen));
    let shown = shown(&picture);
    let told: Vec<_> = shown.findings.iter().map(|found| (found.object.as_str(), found.evidence.as_str())).collect();
    assert_eq!(told, [("node paris-2", "no answer within 20 s")]);
}

#[test]
fn two_healthy_clusters_are_shown_with_their_tunnel_and_export() {
    let shown = shown(&healthy());
    assert_eq!(states(&shown), [("berlin", Sight::Asked, State::Ok), ("paris", Sight::Asked, State::Ok)]);
    assert_eq!(shown.findings, []);
    let paris = &shown.clusters[1];
    assert_eq!((paris.context.as_deref(), paris.kubernetes.as_str()), (Some("paris"), "v1.34.4"));
    assert_eq!((paris.version.as_str(), paris.nodes, paris.exports, paris.imports), ("0.1.0", Some(2), 0, Some(1)));
    let gateway = Gateway {
        node: "paris-1".to_owned(),
        active: true,
        state: State::Ok,
        endpoints: vec!["192.168.7.11:51820".to_owned()],
        lanes: 2,
    };
    assert_eq!(paris.gateways, [gateway]);
    let [link] = shown.links.as_slice() else { panic!("{:?}", shown.links) };
    assert_eq!(
        (link.a.as_str(), link.b.as_str(), link.state, link.word.as_str()),
        ("berlin", "paris", State::Ok, "up")
    );
    let ends: Vec<_> = link.ends.iter().map(|end| (end.cluster.as_str(), end.rtt_milliseconds, end.mtu)).collect();
    assert_eq!(ends, [("paris", Some(0.5), 1420), ("berlin", Some(0.5), 1420)]);
    let export = Export {
        cluster: "berlin".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        kind: "ClusterSetIP".to_owned(),
        state: State::Ok,
        note: String::new(),
        importers: vec!["paris".to_owned()],
        findings: Vec::new(),
    };
    assert_eq!(shown.exports, [export]);
}

#[test]
fn a_tunnel_that_is_down_is_bad_by_itself_and_its_clusters_are_not() {
    let mut picture = healthy();
    for (at, far) in [(0, "berlin"), (1, "paris")] {
        alter_peer(&mut picture.clusters[at], far, |peer| {
            (peer.state, peer.heard_seconds) = ("down".to_owned(), Some(95.0));
        });
    }
    let shown = shown(&picture);
    let link = &shown.links[0];
    assert_eq!((link.state, link.word.as_str()), (State::Failed, "down"));
    assert_eq!(reasons(&shown, &link.findings), [("berlin", "UdpBlockedBothWays"), ("paris", "UdpBlockedBothWays")]);
    assert_eq!(states(&shown), [("berlin", Sight::Asked, State::Ok), ("paris", Sight::Asked, State::Ok)]);
}

#[test]
fn a_dead_gateway_is_told_with_its_cluster_and_its_tunnels() {
    let mut picture = healthy();
    let Part::Seen(leases) = &mut picture.clusters[1].leases else { panic!("seen") };
    leases[0].spec.as_mut().unwrap().holder_identity = None;
    let shown = shown(&picture);
    let berlin = &shown.clusters[0];
    assert_eq!(berlin.state, State::Failed);
    assert!(reasons(&shown, &berlin.findings).contains(&("berlin", "NoActiveGateway")), "{:?}", shown.findings);
    assert!(berlin.note.contains("no node carries the traffic"), "{}", berlin.note);
    let link = &shown.links[0];
    assert_eq!((link.state, link.word.as_str()), (State::Failed, "down"), "although paris has not noticed yet");
    assert!(reasons(&shown, &link.findings).contains(&("berlin", "NoActiveGateway")), "{:?}", link.findings);
}

#[test]
fn a_cluster_that_tells_nothing_is_shown_as_such_and_once() {
    let mut picture = healthy();
    let why = "connection refused".to_owned();
    picture.clusters[1] = ClusterPicture {
        context: "berlin-admin".to_owned(),
        id: Part::Seen(Some("berlin".to_owned())),
        server: Part::Unseen(Unseen { what: "the API server".to_owned(), why }),
        ..ClusterPicture::default()
    };
    let shown = shown(&picture);
    assert_eq!(states(&shown)[0], ("berlin", Sight::Unreachable, State::Unknown));
    let berlin = &shown.clusters[0];
    assert_eq!(reasons(&shown, &berlin.findings), [("berlin", "Unreachable")]);
    assert_eq!(shown.findings[berlin.findings[0]].evidence, "connection refused");
    // What the others know of it stays.
    assert_eq!(berlin.gateways[0].node, "berlin-1");
    assert_eq!((shown.links[0].state, shown.links[0].ends.len()), (State::Ok, 1));
}

#[test]
fn a_cluster_without_context_is_known_from_others() {
    let mut picture = alone();
    picture.clusters[0].records = objects(json!([{
        "metadata": { "name": "berlin.shop.db", "namespace": "linkspan-system" },
        "spec": { "clusterID": "berlin", "namespace": "shop", "name": "db", "type": "Headless", "exportedAt": "2026-11-01T00:00:00Z" },
    }]));
    let shown = shown(&picture);
    assert_eq!(states(&shown), [("berlin", Sight::HeardOf, State::Unknown), ("paris", Sight::Asked, State::Ok)]);
    assert_eq!((shown.clusters[0].note.as_str(), shown.clusters[0].exports), ("no context of it was named", 1));
    let exports: Vec<_> =
        shown.exports.iter().map(|one| (one.cluster.as_str(), one.name.as_str(), one.kind.as_str())).collect();
    assert_eq!(exports, [("berlin", "db", "Headless")]);
    assert_eq!((shown.links[0].state, shown.links[0].ends.len()), (State::Ok, 1));
}

#[test]
fn what_paris_says_of_a_silent_member_is_about_that_member() {
    let mut picture = alone();
    let Part::Seen(members) = &mut picture.clusters[0].members else { panic!("seen") };
    let conditions = &mut members[1].status.as_mut().unwrap().conditions;
    let alive = conditions.iter_mut().find(|condition| condition.type_ == "Alive").unwrap();
    alive.status = "False".to_owned();
    let shown = shown(&picture);
    assert_eq!(states(&shown), [("berlin", Sight::HeardOf, State::Warning), ("paris", Sight::Asked, State::Ok)]);
    assert_eq!(reasons(&shown, &shown.clusters[0].findings), [("paris", "MemberSilent")]);
}

#[test]
fn an_export_that_is_wrong_says_so_and_makes_its_cluster_bad() {
    let mut picture = healthy();
    let Part::Seen(exports) = &mut picture.clusters[1].exports else { panic!("seen") };
    let valid = &mut exports[0].status.as_mut().unwrap().conditions[0];
    (valid.status, valid.reason) = ("False".to_owned(), "NoService".to_owned());
    let shown = shown(&picture);
    let export = &shown.exports[0];
    assert_eq!((export.state, export.note.as_str()), (State::Failed, "NoService"));
    assert_eq!(reasons(&shown, &export.findings), [("berlin", "ExportInvalid")]);
    assert_eq!(shown.clusters[0].state, State::Failed);
}

#[test]
fn what_conditions_advise_is_shown_as_its_reader_calls_it() {
    let mut picture = healthy();
    let Part::Seen(exports) = &mut picture.clusters[1].exports else { panic!("seen") };
    let valid = &mut exports[0].status.as_mut().unwrap().conditions[0];
    (valid.status, valid.message) = ("False".to_owned(), "see `linkspan join`".to_owned());
    let shown = spoken(shown(&picture), &Speech::through_kubectl(["join".to_owned()].into_iter()));
    assert_eq!(shown.exports[0].note, "see `kubectl linkspan join`");
    let evidence = &shown.findings[shown.exports[0].findings[0]].evidence;
    assert!(evidence.contains("see `kubectl linkspan join`"), "{evidence}");
}
