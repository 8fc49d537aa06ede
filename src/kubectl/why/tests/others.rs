//! What is wrong with other ways is not told of this one.

use controller::node::filter::{Effect, Hit, Packet};
use serde_json::json;

use super::members::newcomer;
use super::{alter, berlin, broken, healthy, objects, paris, web};
use crate::kubectl::diagnose::State;
use crate::kubectl::inspect::{Outcome, PacketSeen, Probe, ProbeSeen};
use crate::kubectl::picture::samples::alter_peer;
use crate::kubectl::picture::{ClusterPicture, Part, Picture};
use crate::kubectl::why::Story;

fn hit(effect: Effect, certain: bool) -> Hit {
    let (place, hook) = ("ip filter FORWARD".to_owned(), "forward".to_owned());
    Hit { effect, place, hook, rule: "tcp dport 80 drop".to_owned(), certain, ours: false }
}

/// A rule takes what a node was asked about a packet to this address.
fn strike(cluster: &mut ClusterPicture, node: &str, to: &str, hit: &Hit) {
    alter(cluster, node, |node| {
        let packets = node.inspection.packets.iter_mut();
        let mut struck: Vec<&mut PacketSeen> = packets.filter(|packet| packet.of.to.to_string() == to).collect();
        assert!(!struck.is_empty(), "the node was asked about a packet to {to}");
        struck.iter_mut().for_each(|packet| packet.hits.push(hit.clone()));
    });
}

fn evidence<'a>(story: &'a Story, what: &str) -> &'a str {
    &story.hops.iter().find(|hop| hop.what == what).unwrap_or_else(|| panic!("no {what}: {story:#?}")).evidence
}

#[test]
fn a_rule_on_any_node_of_the_way_that_takes_this_very_connection_is_told() {
    let drop = hit(Effect::Drop, true);
    let on_node = web(|picture| strike(paris(picture), "paris-2", "10.52.0.9", &drop));
    assert_eq!(broken(&on_node), ("paris", "packet filter of node paris-2", "FirewallRule"));
    let on_gateway = web(|picture| strike(paris(picture), "paris-1", "10.52.0.9", &drop));
    assert_eq!(broken(&on_gateway), ("paris", "packet filter of gateway paris-1", "FirewallRule"));
    let masquerade = hit(Effect::Masquerade, true);
    let on_arrival = web(|picture| strike(berlin(picture), "berlin-1", "10.52.0.9", &masquerade));
    assert_eq!(broken(&on_arrival), ("berlin", "packet filter of gateway berlin-1", "Masqueraded"));
    let at_the_server = web(|picture| strike(berlin(picture), "berlin-2", "10.52.1.9", &drop));
    assert_eq!(broken(&at_the_server), ("berlin", "packet filter of node berlin-2", "FirewallRule"));
}

#[test]
fn a_cluster_that_nobody_can_call_is_told_and_not_where_its_packets_go_instead() {
    let masquerade = hit(Effect::Masquerade, true);
    let told = web(|picture| {
        strike(paris(picture), "paris-2", "10.52.0.9", &masquerade);
        alter_peer(paris(picture), "berlin", |peer| peer.state = "down".to_owned());
        let Part::Seen(members) = &mut paris(picture).members else { panic!("no Members") };
        members[1].spec.gateways.clear();
    });
    assert_eq!(broken(&told), ("paris", "tunnel to berlin", "NoGateway"));
}

#[test]
fn a_vxlan_that_nobody_saw_work_is_not_called_good() {
    let state = |story: &Story| {
        let hop = story.hops.iter().find(|hop| hop.what == "VXLAN from node paris-2 to the gateway");
        hop.unwrap_or_else(|| panic!("no such hop: {story:#?}")).state
    };
    assert_eq!(state(&web(|_| {})), State::Ok);
    let nothing_tried = web(|picture| alter(paris(picture), "paris-2", |node| node.inspection.probes.clear()));
    assert_eq!((state(&nothing_tried), nothing_tried.exit_code()), (State::Unknown, 3));
    let silent = |picture: &mut Picture| {
        alter(paris(picture), "paris-2", |node| {
            node.inspection.probes.iter_mut().for_each(|probe| probe.outcome = Outcome::Silent);
        });
    };
    assert_eq!(broken(&web(silent)).2, "VxlanBlocked");
    let gateway_unasked = web(|picture| {
        silent(picture);
        drop(paris(picture).inspections.remove("paris-1"));
    });
    assert_eq!(state(&gateway_unasked), State::Unknown);
}

#[test]
fn nodes_are_asked_about_packets_as_they_pass() {
    web(|picture| {
        let asked = |cluster: usize, node: &str| -> Packet {
            let packets = &picture.clusters[cluster].inspection(node).unwrap().packets;
            packets.iter().find(|packet| packet.of.to.to_string() == "10.52.1.9").unwrap().of.clone()
        };
        let links = |cluster: usize, node: &str| {
            let Packet { input, output, .. } = asked(cluster, node);
            [input, output].map(Option::unwrap_or_default)
        };
        let first = asked(0, "paris-2");
        assert_eq!((first.from.to_string().as_str(), first.protocol.as_str()), ("10.42.1.7", "tcp"));
        assert_eq!(first.port, Some(80));
        assert_eq!(links(0, "paris-2"), ["cni0", "linkspan-nodes"]);
        assert_eq!(links(0, "paris-1"), ["linkspan-nodes", "linkspan0"]);
        assert_eq!(links(1, "berlin-1"), ["linkspan0", ""], "the way onward is known once it has told it");
        assert_eq!(links(1, "berlin-2"), ["linkspan-nodes", "cni0"]);
    });
}

#[test]
fn a_rule_that_perhaps_takes_it_is_named_and_breaks_nothing() {
    let perhaps = hit(Effect::Drop, false);
    let story = web(|picture| strike(paris(picture), "paris-2", "10.52.0.9", &perhaps));
    assert_eq!(story.broken(), None);
    assert_eq!(
        evidence(&story, "packet filter of node paris-2"),
        "no rule of others surely touches it; chain ip filter FORWARD perhaps drops it: tcp dport 80 drop"
    );
}

/// A listing does not tell whether an earlier rule accepts what belongs to a connection.
#[test]
fn a_rule_that_drops_answers_is_a_note() {
    let drop = hit(Effect::Drop, true);
    let story = web(|picture| strike(paris(picture), "paris-2", "10.42.1.7", &drop));
    let hop = story.hops.iter().find(|hop| hop.what == "packet filter of node paris-2").unwrap();
    assert_eq!((hop.state, hop.reason.as_str()), (State::Warning, "FirewallRule"));
    assert!(hop.evidence.contains("from 10.52.0.9 to 10.42.1.7"), "{hop:?}");
    assert_eq!((story.broken(), story.exit_code()), (None, 0));
}

#[test]
fn a_gateway_that_told_nothing_is_not_taken_for_one_that_is_well() {
    let story = web(|picture| {
        berlin(picture).inspections.remove("berlin-1");
    });
    let hop = story.hops.iter().find(|hop| hop.what == "node berlin-1").unwrap();
    assert_eq!((hop.state, hop.evidence.as_str()), (State::Unknown, "the node was not asked"));
    assert_eq!((story.broken(), story.exit_code()), (None, 3));
}

#[test]
fn rules_and_holes_on_the_way_to_a_third_cluster_are_not_blamed() {
    let mut picture = healthy();
    newcomer(&mut picture, "rome", json!({ "podCIDRs": ["10.62.0.0/16"] }));
    let far: std::net::IpAddr = "10.62.0.1".parse().unwrap();
    let story = super::story(picture, "paris/default/client", "web.default.svc.clusterset.local", |picture| {
        alter(paris(picture), "paris-2", |node| {
            let of = Packet { to: far, ..node.inspection.packets.last().unwrap().of.clone() };
            node.inspection.packets.push(PacketSeen { of, hits: vec![hit(Effect::Masquerade, true)] });
            let probe = |size, outcome| ProbeSeen { of: Probe::Ping { to: far, size }, outcome, detail: String::new() };
            node.inspection.probes.extend([probe(0, Outcome::Answered), probe(1420, Outcome::Silent)]);
        });
    });
    assert_eq!(story.broken(), None);
    let hole = web(|picture| {
        let far: std::net::IpAddr = "10.52.0.1".parse().unwrap();
        alter(paris(picture), "paris-2", |node| {
            node.inspection.probes.retain(|probe| !matches!(probe.of, Probe::Ping { .. }));
            let probe = |size, outcome| ProbeSeen { of: Probe::Ping { to: far, size }, outcome, detail: String::new() };
            node.inspection.probes.extend([probe(0, Outcome::Answered), probe(1420, Outcome::Silent)]);
        });
    });
    assert_eq!(broken(&hole), ("paris", "MTU from node paris-2", "MtuBlackHole"));
}

/// GitOps exports it in each cluster, and only berlin has the Service.
#[test]
fn an_export_without_its_service_is_a_note_where_another_cluster_has_it() {
    let story = web(|picture| {
        paris(picture).exports = objects(json!([{
            "metadata": { "name": "web", "namespace": "default" },
            "status": { "conditions": [{
                "type": "Valid", "status": "False", "reason": "NoService", "message": "there is no Service web",
                "lastTransitionTime": "2026-11-01T00:00:00Z",
            }] },
        }]));
    });
    let hop = story.hops.iter().find(|hop| hop.what == "export" && hop.cluster == "paris").unwrap();
    assert_eq!((hop.state, hop.reason.as_str()), (State::Warning, "ExportInvalid"));
    assert_eq!((story.broken(), story.exit_code()), (None, 0));
}
