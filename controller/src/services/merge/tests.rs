//! The rows of the checklist, one test each.

use super::super::testing::{ports, record};
use super::*;

fn merged(records: &[Record]) -> Merged {
    merge(&records.iter().map(|record| Export::new(record, None)).collect::<Vec<_>>()).unwrap()
}

fn with_ports(cluster: &str, age: i64, texts: &[&str]) -> Record {
    Record { ports: ports(texts), ..record(cluster, age) }
}

fn shown_ports(merged: &Merged) -> Vec<String> {
    merged.ports.iter().map(show_port).collect()
}

fn reasons(merged: &Merged) -> Vec<String> {
    merged.conflicts.iter().map(|conflict| conflict.reason.to_string()).collect()
}

#[test]
fn nothing_comes_of_no_record() {
    assert_eq!(merge(&[]), None);
}

#[test]
fn row_13_a_lone_export_has_no_conflicts() {
    let merged = merged(&[with_ports("c1", 0, &["tcp 42/TCP"])]);
    assert_eq!(merged.conflicts, []);
}

#[test]
fn row_25_the_exporting_clusters_are_told_once_and_sorted() {
    let merged = merged(&[record("c3", 1), record("c1", 2), record("c2", 3)]);
    let clusters: Vec<_> = merged.clusters.iter().map(ClusterId::as_str).collect();
    assert_eq!(clusters, ["c1", "c2", "c3"]);
}

#[test]
fn row_31_ports_are_copied_exactly() {
    let mut one = with_ports("c1", 0, &["tcp 42/TCP", "udp 42/UDP"]);
    one.ports[0].app_protocol = Some("kubernetes.io/h2c".into());
    let merged = merged(&[one.clone()]);
    assert_eq!(merged.ports, one.ports);
    assert_eq!(merged.ports[1].app_protocol, None);
}

#[test]
fn row_32_a_single_port_may_have_no_name() {
    let merged = merged(&[with_ports("c1", 0, &["80/TCP"]), with_ports("c2", 1, &["80/TCP"])]);
    assert_eq!(shown_ports(&merged), ["80/TCP"]);
    assert_eq!(merged.conflicts, []);
}

#[test]
fn row_33_ports_are_united_and_the_conflict_is_told() {
    let merged = merged(&[
        with_ports("c1", 0, &["tcp 42/TCP", "udp 42/UDP"]),
        with_ports("c2", 1, &["tcp 42/TCP", "stcp 142/SCTP"]),
    ]);
    assert_eq!(shown_ports(&merged), ["tcp 42/TCP", "udp 42/UDP", "stcp 142/SCTP"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_34_a_name_keeps_the_number_of_the_oldest() {
    let merged = merged(&[with_ports("c1", 0, &["tcp 42/TCP"]), with_ports("c2", 1, &["tcp 43/TCP"])]);
    assert_eq!(shown_ports(&merged), ["tcp 42/TCP"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_35_a_number_keeps_the_name_of_the_oldest() {
    let merged = merged(&[with_ports("c1", 0, &["web 80/TCP"]), with_ports("c2", 1, &["http 80/TCP"])]);
    assert_eq!(shown_ports(&merged), ["web 80/TCP"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_36_the_same_number_of_another_protocol_is_another_port() {
    let merged = merged(&[with_ports("c1", 0, &["dns 53/UDP"]), with_ports("c2", 1, &["dns-tcp 53/TCP"])]);
    assert_eq!(shown_ports(&merged), ["dns 53/UDP", "dns-tcp 53/TCP"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_37_the_empty_name_is_a_name_like_others() {
    let merged = merged(&[with_ports("c1", 0, &["80/TCP"]), with_ports("c2", 1, &["81/TCP"])]);
    assert_eq!(shown_ports(&merged), ["80/TCP"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_38_another_app_protocol_is_a_port_conflict() {
    let mut one = with_ports("c1", 0, &["web 80/TCP"]);
    one.ports[0].app_protocol = Some("http".into());
    let merged = merged(&[one, with_ports("c2", 1, &["web 80/TCP"])]);
    assert_eq!(shown_ports(&merged), ["web 80/TCP http"]);
    assert_eq!(reasons(&merged), ["PortConflict"]);
}

#[test]
fn row_39_the_order_of_ports_is_no_conflict() {
    let merged = merged(&[with_ports("c1", 0, &["a 1/TCP", "b 2/TCP"]), with_ports("c2", 1, &["b 2/TCP", "a 1/TCP"])]);
    assert_eq!(shown_ports(&merged), ["a 1/TCP", "b 2/TCP"]);
    assert_eq!(merged.conflicts, []);
}

#[test]
fn row_40_numbers_on_endpoints_are_no_conflict() {
    let with_target = |cluster, age, target: &str| Record {
        slices: vec![super::super::testing::slice(&[target], &["10.0.0.1"])],
        ..with_ports(cluster, age, &["web 80/TCP"])
    };
    let merged = merged(&[with_target("c1", 0, "web 42/TCP"), with_target("c2", 1, "web 8080/TCP")]);
    assert_eq!(merged.conflicts, []);
}

#[test]
fn row_41_headlessness_is_the_oldests() {
    let headless = |cluster, age| Record { kind: ImportType::Headless, ..record(cluster, age) };
    let first = merged(&[record("c1", 0), headless("c2", 1)]);
    assert_eq!((first.kind, reasons(&first)), (ImportType::ClusterSetIP, vec!["TypeConflict".to_owned()]));
    let second = merged(&[headless("c1", 0), record("c2", 1)]);
    assert_eq!((second.kind, reasons(&second)), (ImportType::Headless, vec!["TypeConflict".to_owned()]));
    assert_eq!(
        second.conflicts[0].message,
        "Conflicting type. Using \"Headless\" from oldest service export in \"c1\". 1/2 clusters disagree."
    );
}

#[test]
fn row_42_session_affinity_is_the_oldests() {
    let sticky = Record { affinity: Affinity::ClientIp { seconds: 10 }, ..record("c1", 0) };
    let first = merged(&[sticky.clone(), record("c2", 1)]);
    assert_eq!(first.affinity, Affinity::ClientIp { seconds: 10 });
    assert_eq!(reasons(&first), ["SessionAffinityConflict"]);
    let second = merged(&[sticky, record("c2", -1)]);
    assert_eq!(second.affinity, Affinity::None);
    assert_eq!(reasons(&second), ["SessionAffinityConflict"]);
}

#[test]
fn row_43_the_affinity_timeout_is_the_oldests() {
    let sticky = |cluster, age, seconds| Record { affinity: Affinity::ClientIp { seconds }, ..record(cluster, age) };
    let merged = merged(&[sticky("c1", 0, 10), sticky("c2", 1, 20)]);
    assert_eq!(merged.affinity, Affinity::ClientIp { seconds: 10 });
    assert_eq!(reasons(&merged), ["SessionAffinityConfigConflict"]);
}

#[test]
fn row_44_the_internal_traffic_policy_is_the_oldests() {
    let local = Record { internal_traffic_policy: TrafficPolicy::Local, ..record("c2", 1) };
    let merged = merged(&[record("c1", 0), local]);
    assert_eq!(merged.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(reasons(&merged), ["InternalTrafficPolicyConflict"]);
}

#[test]
fn row_45_the_traffic_distribution_is_the_oldests() {
    let close = Record { traffic_distribution: Some(Distribution::PreferClose), ..record("c1", 0) };
    let merged = merged(&[close, record("c2", 1)]);
    assert_eq!(merged.traffic_distribution, Some(Distribution::PreferClose));
    assert_eq!(reasons(&merged), ["TrafficDistributionConflict"]);
}

#[test]
fn row_46_families_are_those_that_reach_all_backends() {
    let families = |cluster, age, families: &[Family]| Record { families: families.to_vec(), ..record(cluster, age) };
    let (v4, v6) = (Family::V4, Family::V6);
    let apart = merged(&[families("c1", 0, &[v4]), families("c2", 1, &[v6])]);
    assert_eq!(apart.families, [v4]);
    assert_eq!(reasons(&apart), ["IPFamilyConflict"]);
    assert_eq!(
        apart.conflicts[0].message,
        "Conflicting IP families. Using \"IPv4\" from oldest service export in \"c1\". 1/2 clusters disagree."
    );
    let narrowed = merged(&[families("c1", 0, &[v6, v4]), families("c2", 1, &[v4])]);
    assert_eq!((narrowed.families, narrowed.conflicts), (vec![v4], vec![]));
    let ordered = merged(&[families("c1", 0, &[v6, v4]), families("c2", 1, &[v4, v6])]);
    assert_eq!((ordered.families, ordered.conflicts), (vec![v6, v4], vec![]));
    let three = merged(&[families("c1", 0, &[v6, v4]), families("c2", 1, &[v6]), families("c3", 2, &[v4])]);
    assert_eq!((three.families.clone(), reasons(&three)), (vec![v6], vec!["IPFamilyConflict".to_owned()]));
}

#[test]
fn row_47_several_conflicts_are_all_told() {
    let other = Record { affinity: Affinity::ClientIp { seconds: 1 }, ..with_ports("c2", 1, &["b 2/TCP"]) };
    let merged = merged(&[with_ports("c1", 0, &["a 1/TCP"]), other]);
    assert_eq!(reasons(&merged), ["PortConflict", "SessionAffinityConflict"]);
}

#[test]
fn row_48_a_message_has_field_winner_and_how_many_disagree() {
    let mut records: Vec<_> = (1..=5).map(|n| with_ports(&format!("c{n}"), n, &["tcp 42/TCP"])).collect();
    records[3].ports = ports(&["tcp 43/TCP"]);
    records[4].ports = ports(&["tcp 42/TCP", "udp 42/UDP"]);
    assert_eq!(
        merged(&records).conflicts[0].message,
        "Conflicting ports. Using \"tcp 42/TCP, udp 42/UDP\", where \"c1\" has the oldest service export. \
         2/5 clusters disagree."
    );
}

#[test]
fn row_51_a_younger_export_changes_nothing_that_was_there() {
    let before = merged(&[with_ports("c1", 0, &["tcp 42/TCP", "udp 42/UDP"])]);
    let younger = Record {
        kind: ImportType::Headless,
        affinity: Affinity::ClientIp { seconds: 3 },
        ..with_ports("c2", 1, &["tcp 43/TCP", "new 42/UDP", "more 44/TCP"])
    };
    let after = merged(&[with_ports("c1", 0, &["tcp 42/TCP", "udp 42/UDP"]), younger]);
    assert_eq!(after.ports[..2], before.ports[..]);
    assert_eq!((after.kind, after.affinity, &after.families), (before.kind, before.affinity, &before.families));
}

#[test]
fn row_52_without_the_oldest_everything_is_computed_anew() {
    let younger = with_ports("c2", 1, &["tcp 43/TCP"]);
    let merged = merged(std::slice::from_ref(&younger));
    assert_eq!((shown_ports(&merged), merged.conflicts), (vec!["tcp 43/TCP".to_owned()], vec![]));
}

#[test]
fn row_53_the_time_of_the_export_decides_not_the_cluster() {
    let merged = merged(&[with_ports("c1", 5, &["tcp 42/TCP"]), with_ports("c2", 4, &["tcp 43/TCP"])]);
    assert_eq!(shown_ports(&merged), ["tcp 43/TCP"]);
}

#[test]
fn row_54_equal_times_are_decided_by_cluster_id() {
    let merged = merged(&[with_ports("c2", 0, &["tcp 43/TCP"]), with_ports("c1", 0, &["tcp 42/TCP"])]);
    assert_eq!(shown_ports(&merged), ["tcp 42/TCP"]);
}

#[test]
fn row_58_different_labels_are_not_united() {
    let labelled = |cluster, age, key: &str| Record {
        exported_labels: [(key.to_owned(), "x".to_owned())].into(),
        exported_annotations: [(key.to_owned(), "y".to_owned())].into(),
        ..record(cluster, age)
    };
    let merged = merged(&[labelled("c1", 0, "a"), labelled("c2", 1, "b")]);
    assert_eq!(merged.labels, [("a".to_owned(), "x".to_owned())].into());
    assert_eq!(merged.annotations, [("a".to_owned(), "y".to_owned())].into());
    assert_eq!(reasons(&merged), ["LabelsConflict", "AnnotationsConflict"]);
    assert_eq!(
        merged.conflicts[0].message,
        "Conflicting exported labels. Using those of the oldest service export in \"c1\". 1/2 clusters disagree."
    );
}

#[test]
fn long_lists_of_ports_are_shortened_in_messages() {
    let many: Vec<_> = (1..=20).map(|n| format!("p{n} {n}/TCP")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let merged = merged(&[with_ports("c1", 0, &many), record("c2", 1)]);
    assert!(merged.conflicts[0].message.contains("p8 8/TCP, 12 more\""), "{}", merged.conflicts[0].message);
}

#[test]
fn row_53_an_export_is_never_older_than_its_member() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let honest = with_ports("c2", 100, &["http 80/TCP"]);
    let antedated = with_ports("c1", 0, &["http 81/TCP"]);
    let ports = |joined| shown_ports(&merge(&[Export::new(&antedated, joined), Export::new(&honest, at(50))]).unwrap());
    assert_eq!(ports(at(99)), ["http 81/TCP"]);
    assert_eq!(ports(at(100)), ["http 81/TCP"], "of equal age, c1 comes first");
    assert_eq!(ports(at(101)), ["http 80/TCP"]);
    // Who joined long ago is believed.
    assert_eq!(Export::new(&honest, at(50)).since, at(100).unwrap());
}
