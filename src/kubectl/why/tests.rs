mod ends;
mod members;
mod others;
mod sight;

use controller::node::Way;
use serde_json::json;

use super::*;
use crate::kubectl::inspect::{Outcome, Probe};
use crate::kubectl::picture::samples::{alter, alter_peer, answer, healthy, objects};
use crate::kubectl::picture::{ClusterPicture, Part};

/// The story of two ends in a picture whose nodes have answered what it asks.
fn story(mut picture: Picture, from: &str, to: &str, break_it: impl FnOnce(&mut Picture)) -> Story {
    let (from, to) = (parse::end(from, &["paris", "berlin"]).unwrap(), parse::end(to, &["paris", "berlin"]).unwrap());
    answer(&mut picture, |picture| questions(picture, &from, &to, "default"));
    break_it(&mut picture);
    why(&picture, &from, &to, "default").unwrap()
}

fn web(break_it: impl FnOnce(&mut Picture)) -> Story {
    story(healthy(), "paris/default/client", "web.default.svc.clusterset.local", break_it)
}

/// Where it is broken: cluster, hop and reason.
fn broken(story: &Story) -> (&str, &str, &str) {
    let hop = story.broken().unwrap_or_else(|| panic!("nothing is broken: {story:#?}"));
    (&hop.cluster, &hop.what, &hop.reason)
}

#[test]
fn a_healthy_way_to_a_service_is_told_hop_by_hop() {
    let story = web(|_| {});
    let told: Vec<(&str, &str)> = story.hops.iter().map(|hop| (hop.cluster.as_str(), hop.what.as_str())).collect();
    assert_eq!(
        told,
        [
            ("paris", "pod default/client"),
            ("paris", "cluster DNS"),
            ("berlin", "export"),
            ("paris", "import"),
            ("paris", "name"),
            ("paris", "kube-proxy on node paris-2"),
            ("paris", "NetworkPolicies (Egress)"),
            ("paris", "route on node paris-2"),
            ("paris", "packet filter of node paris-2"),
            ("paris", "VXLAN from node paris-2 to the gateway"),
            ("paris", "packet filter of gateway paris-1"),
            ("paris", "tunnel to berlin"),
            ("berlin", "route on gateway berlin-1"),
            ("berlin", "packet filter of gateway berlin-1"),
            ("berlin", "NetworkPolicies (Ingress)"),
            ("berlin", "pod default/on-berlin-1"),
            ("paris", "connection from node paris-2 to 10.52.0.9:80"),
        ]
    );
    assert!(story.hops.iter().all(|hop| hop.state == State::Ok), "{story:#?}");
    assert_eq!((story.exit_code(), story.from.as_str()), (0, "pod default/client of paris"));
}

#[test]
fn all_ways_to_name_the_ends_lead_to_the_same_server() {
    for (from, to) in [
        ("client", "berlin/pod/on-berlin-2:80"),
        ("paris/pod/client", "berlin/on-berlin-2:80"),
        ("10.42.1.7", "10.52.1.9:80"),
        ("paris/default/client", "berlin/10.52.1.9:80"),
    ] {
        let story = story(healthy(), from, to, |_| {});
        assert_eq!(story.broken(), None, "{from} to {to}");
        let server = story.hops.iter().find(|hop| hop.what == "pod default/on-berlin-2");
        assert!(server.is_some(), "{from} to {to}: {story:#?}");
    }
    let to_node = story(healthy(), "node/paris-1", "node/berlin-2", |_| {});
    assert_eq!(
        to_node.hops.iter().find(|hop| hop.what == "server 10.52.1.1").unwrap().evidence,
        "node berlin-2 itself"
    );
    let by_name = story(healthy(), "client", "web", |_| {});
    assert_eq!(by_name.to, "web.default.svc.clusterset.local");
}

#[test]
fn ends_that_are_not_there_are_told() {
    let picture = healthy();
    let ask = |from: &str, to: &str| {
        let (from, to) = (parse::end(from, &["paris"]).unwrap(), parse::end(to, &["paris"]).unwrap());
        let end = why(&picture, &from, &to, "default").unwrap_err();
        assert!(!end.may_be, "{end}");
        end.text
    };
    assert_eq!(ask("pod/nobody", "web"), "there is no pod nobody in namespace default of paris, berlin");
    assert!(ask("client", "nothing").starts_with("there is no pod, deployment, service or node nothing"));
    let behind_nothing = "there is no pod behind service nothing in namespace default of paris, berlin";
    assert_eq!(ask("svc/nothing", "client"), behind_nothing);
}

fn paris(picture: &mut Picture) -> &mut ClusterPicture {
    &mut picture.clusters[0]
}

fn berlin(picture: &mut Picture) -> &mut ClusterPicture {
    &mut picture.clusters[1]
}

#[test]
fn a_service_that_nobody_exports_ends_at_the_import() {
    let to = "nothing.default.svc.clusterset.local";
    assert_eq!(broken(&story(healthy(), "client", to, |_| {})), ("paris", "import", "NotExported"));
    let forgotten = web(|picture| paris(picture).imports = objects(json!([])));
    assert_eq!(broken(&forgotten), ("paris", "import", "NotImported"));
}

#[test]
fn cluster_dns_that_does_not_forward_is_the_first_broken_hop() {
    let story = web(|picture| {
        let Part::Seen(configs) = &mut paris(picture).configs else { panic!() };
        configs.remove("kube-system/coredns-custom");
    });
    assert_eq!(broken(&story), ("paris", "cluster DNS", "CoreDnsNotWired"));
}

#[test]
fn an_export_without_ready_endpoints_is_the_first_broken_hop() {
    let story = web(|picture| {
        for cluster in &mut picture.clusters {
            let Part::Seen(slices) = &mut cluster.slices else { panic!() };
            let of_web = slices.iter_mut().filter(|slice| slice.metadata.namespace.as_deref() == Some("default"));
            of_web.for_each(|slice| slice.endpoints.clear());
        }
    });
    assert_eq!(broken(&story), ("berlin", "export", "ExportWithoutEndpoints"));
}

#[test]
fn kube_proxy_that_does_not_carry_the_address_is_told() {
    let story =
        web(|picture| alter(paris(picture), "paris-2", |node| node.inspection.services[0].programmed = Some(false)));
    assert_eq!(broken(&story), ("paris", "kube-proxy on node paris-2", "VipNotProgrammed"));
}

#[test]
fn a_route_that_is_missing_on_the_clients_node_is_told() {
    let story = web(|picture| {
        alter(paris(picture), "paris-2", |node| {
            for lookup in &mut node.inspection.lookups {
                lookup.way = Way { refused: Some("No route to host (os error 113)".to_owned()), ..Way::default() };
            }
        });
    });
    assert_eq!(broken(&story), ("paris", "route on node paris-2", "MissingRoute"));
}

#[test]
fn a_tunnel_that_is_down_is_told_with_the_reason() {
    let story = web(|picture| {
        for (near, far) in [(0, "berlin"), (1, "paris")] {
            alter_peer(&mut picture.clusters[near], far, |peer| {
                peer.state = "down".to_owned();
                peer.heard_seconds = None;
            });
        }
    });
    assert_eq!(broken(&story), ("paris", "tunnel to berlin", "UdpBlockedBothWays"));
}

#[test]
fn a_policy_before_the_server_knows_the_client_by_its_address_there() {
    let only = |cidr: &str| {
        let policies = json!([{
            "metadata": { "name": "some", "namespace": "default" },
            "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": [{ "ipBlock": { "cidr": cidr } }] }] },
        }]);
        web(|picture| berlin(picture).policies = objects(policies))
    };
    let story = only("10.52.0.0/16");
    assert_eq!(broken(&story), ("berlin", "NetworkPolicies (Ingress)", "PolicyDrops"));
    assert!(story.broken().unwrap().evidence.starts_with("default/some select pod default/on-berlin-1"), "{story:#?}");
    assert!(story.broken().unwrap().fix.contains("10.42.1.7/32"));
    assert_eq!(only("10.42.0.0/16").broken(), None);
}

/// Both clusters have 10.42.0.0/16, and know each other by virtual addresses.
#[test]
fn virtual_addresses_are_followed_to_the_pods_behind_them() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(members) = &mut cluster.members else { panic!() };
        for member in members {
            let (blocks, pods) = match member.spec.cluster_id.as_str() {
                "paris" => (json!([{ "pods": "10.42.1.0/24", "virtual": "100.64.1.0/24" }]), "10.42.0.0/16"),
                _ => (
                    json!([{ "pods": "10.52.0.0/24", "virtual": "100.65.0.0/24" }, { "pods": "10.52.1.0/24", "virtual": "100.65.1.0/24" }]),
                    "10.52.0.0/16",
                ),
            };
            member.spec.pod_cidrs = vec![pods.to_owned()];
            member.spec.virtual_cidrs = serde_json::from_value(blocks).unwrap();
            member.spec.virtual_only = true;
        }
    }
    let policies = json!([{
        "metadata": { "name": "natives", "namespace": "default" },
        "spec": { "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.42.0.0/16" } }] }] },
    }]);
    let story =
        story(picture, "client", "berlin/pod/on-berlin-2:80", |picture| berlin(picture).policies = objects(policies));
    assert!(story.hops.iter().any(|hop| hop.what == "connection from node paris-2 to 100.65.1.9:80"), "{story:#?}");
    assert_eq!(broken(&story).2, "PolicyDrops");
    assert!(story.broken().unwrap().evidence.contains("100.64.1.7"), "{story:#?}");
}

#[test]
fn a_server_that_listens_nowhere_is_told_at_the_end() {
    let story = web(|picture| {
        alter(paris(picture), "paris-2", |node| {
            for probe in &mut node.inspection.probes {
                if matches!(probe.of, Probe::Tcp { .. }) {
                    probe.outcome = Outcome::Refused;
                }
            }
        });
    });
    assert_eq!(broken(&story).2, "NobodyListens");
}

#[test]
fn a_node_that_did_not_tell_the_way_is_not_taken_for_one_that_knows_it() {
    let story = web(|picture| {
        alter(paris(picture), "paris-2", |node| {
            node.inspection.lookups.clear();
            node.unanswered = Some("pod linkspan-node-2 did not answer within 20 s".to_owned());
            node.inspection.unseen.push("the packet filter: nft is not there".to_owned());
        });
    });
    let unseen: Vec<(&str, &str)> = story
        .hops
        .iter()
        .filter(|hop| hop.state == State::Unknown)
        .map(|hop| (hop.what.as_str(), hop.evidence.as_str()))
        .collect();
    assert_eq!(
        unseen,
        [
            ("route on node paris-2", "pod linkspan-node-2 did not answer within 20 s"),
            ("packet filter of node paris-2", "the packet filter: nft is not there"),
        ]
    );
    assert_eq!(story.exit_code(), 3);
}

/// The node of the client tries to connect, and nothing comes back.
fn silent(picture: &mut Picture) {
    alter(paris(picture), "paris-2", |node| {
        for probe in node.inspection.probes.iter_mut().filter(|probe| matches!(probe.of, Probe::Tcp { .. })) {
            probe.outcome = Outcome::Silent;
        }
    });
}

#[test]
fn a_connection_that_nobody_answers_is_broken_where_no_policy_may_be_the_reason() {
    let story = web(silent);
    assert_eq!(broken(&story), ("paris", "connection from node paris-2 to 10.52.0.9:80", "NoAnswer"));
    assert_eq!(story.exit_code(), 1);
    let policies = json!([{
        "metadata": { "name": "some", "namespace": "default" },
        "spec": { "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.42.1.0/24" } }] }] },
    }]);
    let guarded = web(|picture| {
        silent(picture);
        berlin(picture).policies = objects(policies);
    });
    assert_eq!((guarded.broken(), guarded.exit_code()), (None, 3));
    let hop = guarded.hops.last().unwrap();
    assert_eq!((hop.state, hop.reason.as_str()), (State::Unknown, "NoAnswer"));
}

#[test]
fn without_the_other_cluster_the_way_is_followed_as_far_as_it_is_seen() {
    let mut picture = healthy();
    picture.clusters.truncate(1);
    let story = story(picture, "client", "web", |_| {});
    assert_eq!((story.broken(), story.exit_code()), (None, 3));
    assert_eq!(story.hops.iter().find(|hop| hop.state == State::Unknown).unwrap().cluster, "berlin");
}

#[test]
fn a_story_ends_with_what_is_broken_and_how_to_mend_it() {
    use crate::kubectl::output::{Format, Screen};
    let story =
        web(|picture| alter(paris(picture), "paris-2", |node| node.inspection.services[0].programmed = Some(false)));
    let text = show(&story, Format::Table, Screen::default());
    assert!(
        text.starts_with(
            "pod default/client of paris -> web.default.svc.clusterset.local\n✔ paris   pod default/client: 10.42.1.7"
        ),
        "{text}"
    );
    assert!(text.contains("\n✘ paris   kube-proxy on node paris-2: clusterset IP 10.43.0.77:80"), "{text}");
    assert!(text.contains("\nBroken at kube-proxy on node paris-2 of paris: "), "{text}");
    assert!(text.trim_end().lines().last().unwrap().starts_with("  fix: see that kube-proxy runs"), "{text}");
    let wide = show(&story, Format::Wide, Screen::default());
    let mut below = wide.lines().skip_while(|line| !line.contains("kube-proxy on node"));
    assert!(below.nth(1).unwrap().trim_start().starts_with("VipNotProgrammed: "), "{wide}");
    assert!(below.next().unwrap().starts_with("  fix: "), "{wide}");
}
