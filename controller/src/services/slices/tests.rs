//! Slices of one service from two clusters, as cluster `c1` sees them.

use super::super::labels;
use super::super::merge::{Export, merge};
use super::super::testing::{endpoint, ports, record, slice};
use super::*;

fn c1() -> ClusterId {
    ClusterId::new("c1").unwrap()
}

fn with(cluster: &str, age: i64, service_ports: &[&str], slices: Vec<Slice>) -> Record {
    Record { ports: ports(service_ports), slices, ..record(cluster, age) }
}

use super::super::value::Slice;

fn slices_of(records: &[&Record], observed: &[&ImportedSlice]) -> Vec<ImportedSlice> {
    let merged = merge(&records.iter().map(|record| Export::new(record, None)).collect::<Vec<_>>()).unwrap();
    let records: Vec<_> = records.iter().map(|record| (*record, Usable::Yes)).collect();
    slices(&merged, &merged.families, &c1(), &records, observed)
}

/// Ports of a slice, as text.
fn shown(slice: &ImportedSlice) -> String {
    let ports = slice.ports.iter().map(|port| format!("{} {}/{}", port.name, port.number, port.protocol));
    format!("{}: {}", slice.cluster, ports.collect::<Vec<_>>().join(", "))
}

#[test]
fn row_71_and_72_each_slice_is_of_one_cluster_and_says_so() {
    let one = with("c1", 0, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.1.0.1"])]);
    let two = with("c2", 1, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.2.0.1"])]);
    let slices = slices_of(&[&one, &two], &[]);
    let object = slices[1].to_object();
    let labels = object.metadata.labels.unwrap();
    assert_eq!(labels["multicluster.kubernetes.io/service-name"], "web");
    assert_eq!(labels["multicluster.kubernetes.io/source-cluster"], "c2");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "linkspan.dev");
    assert_eq!(object.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).collect::<Vec<_>>(), ["10.2.0.1"]);
    assert_eq!(slices[0].cluster, c1());
}

#[test]
fn row_73_a_slice_belongs_to_the_derived_service_or_to_none() {
    let mut one = with("c1", 0, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.1.0.1"])]);
    let labels = |record: &Record| slices_of(&[record], &[])[0].to_object().metadata.labels.unwrap();
    assert_eq!(labels(&one)["kubernetes.io/service-name"], derived_name(&one.service));
    one.kind = ImportType::Headless;
    assert_eq!(labels(&one).get("kubernetes.io/service-name"), None);
}

#[test]
fn row_74_fields_are_preserved_and_nodes_are_told_at_home_only() {
    let mut source = slice(&["http 8080/TCP"], &["10.1.0.1"]);
    source.ports[0].app_protocol = Some("h2c".into());
    source.endpoints[0] = Endpoint {
        hostname: Some("web-0".into()),
        ready: Some(false),
        terminating: Some(true),
        zone: Some("z1".into()),
        node: Some("n1".into()),
        ..source.endpoints[0].clone()
    };
    let home = slices_of(&[&with("c1", 0, &["http 80/TCP"], vec![source.clone()])], &[]);
    assert_eq!((&home[0].ports, &home[0].endpoints), (&source.ports, &source.endpoints));
    let away = slices_of(&[&with("c2", 0, &["http 80/TCP"], vec![source.clone()])], &[]);
    assert_eq!(away[0].endpoints, [Endpoint { node: None, ..source.endpoints[0].clone() }]);
}

#[test]
fn a_slice_written_and_read_again_says_the_same() {
    let mut one = with("c1", 0, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.1.0.1", "10.1.0.2"])]);
    one.slices[0].endpoints[1].zone = Some("z1".into());
    one.slices[0].endpoints[1].node = Some("n1".into());
    for distribution in [None, Some(Distribution::PreferClose), Some(Distribution::PreferSameNode)] {
        one.traffic_distribution = distribution;
        let slice = slices_of(&[&one], &[]).remove(0);
        assert_eq!(ImportedSlice::of(&slice.to_object()), Some(slice));
    }
}

#[test]
fn zone_hints_follow_the_traffic_distribution() {
    let mut one = with("c1", 0, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.1.0.1"])]);
    one.slices[0].endpoints[0].zone = Some("z1".into());
    one.slices[0].endpoints[0].node = Some("n1".into());
    let mut hints_with = |distribution| {
        one.traffic_distribution = distribution;
        serde_json::to_value(&slices_of(&[&one], &[])[0].to_object().endpoints[0].hints).unwrap()
    };
    assert_eq!(hints_with(None), serde_json::json!(null));
    assert_eq!(hints_with(Some(Distribution::PreferClose)), serde_json::json!({ "forZones": [{ "name": "z1" }] }));
    assert_eq!(
        hints_with(Some(Distribution::PreferSameNode)),
        serde_json::json!({ "forZones": [{ "name": "z1" }], "forNodes": [{ "name": "n1" }] })
    );
}

/// The addresses that kube-proxy uses on that node in that zone: pkg/proxy/topology.go of Kubernetes 1.34, as far as it
/// is about ready endpoints.
fn used(slices: &[ImportedSlice], node: &str, zone: &str) -> Vec<String> {
    let objects = slices.iter().flat_map(|slice| slice.to_object().endpoints);
    let ready: Vec<_> = objects.filter(|object| object.conditions.as_ref().unwrap().ready != Some(false)).collect();
    let nodes = |object: &SliceEndpoint| -> Vec<String> {
        let hints = object.hints.clone().unwrap_or_default().for_nodes.unwrap_or_default();
        hints.into_iter().map(|node| node.name).collect()
    };
    let zones = |object: &SliceEndpoint| -> Vec<String> {
        let hints = object.hints.clone().unwrap_or_default().for_zones.unwrap_or_default();
        hints.into_iter().map(|zone| zone.name).collect()
    };
    let counts = |named: &dyn Fn(&SliceEndpoint) -> Vec<String>, own: &str| {
        ready.iter().all(|object| !named(object).is_empty())
            && ready.iter().any(|object| named(object).contains(&own.to_owned()))
    };
    let (by_node, by_zone) = (counts(&nodes, node), counts(&zones, zone));
    let is_used = |object: &&SliceEndpoint| match (by_node, by_zone) {
        (true, _) => nodes(object).contains(&node.to_owned()),
        (false, true) => zones(object).contains(&zone.to_owned()),
        (false, false) => true,
    };
    ready.iter().filter(is_used).map(|object| object.addresses[0].clone()).collect()
}

/// Own endpoints in two zones and on two nodes, one of which is nowhere; and those of another cluster, of which one has
/// no zone.
fn two_clusters(distribution: Option<Distribution>) -> Vec<ImportedSlice> {
    let placed = |address: &str, zone: Option<&str>, node: Option<&str>| Endpoint {
        zone: zone.map(Into::into),
        node: node.map(Into::into),
        ..endpoint(address)
    };
    let own = vec![
        placed("10.1.0.1", Some("z1"), Some("n1")),
        placed("10.1.0.2", Some("z1"), Some("n2")),
        placed("10.1.0.3", None, None),
    ];
    let theirs = vec![placed("10.2.0.1", Some("z1"), Some("n1")), placed("10.2.0.2", None, Some("n1"))];
    let of = |cluster, endpoints| {
        let slices = vec![Slice { endpoints, ..slice(&["http 8080/TCP"], &[]) }];
        Record { traffic_distribution: distribution, ..with(cluster, 0, &["http 80/TCP"], slices) }
    };
    slices_of(&[&of("c1", own), &of("c2", theirs)], &[])
}

#[test]
fn kube_proxy_prefers_a_zone_and_a_node_though_some_endpoints_have_none() {
    let all = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.2.0.2"];
    assert_eq!(used(&two_clusters(None), "n1", "z1"), all);
    for distribution in [Distribution::PreferClose, Distribution::PreferSameZone] {
        let slices = two_clusters(Some(distribution));
        assert_eq!(used(&slices, "n1", "z1"), ["10.1.0.1", "10.1.0.2", "10.2.0.1"]);
        assert_eq!(used(&slices, "n1", "z9"), all, "nothing is near");
        assert_eq!(used(&slices, "n1", ""), all, "a node without a zone");
    }
    let slices = two_clusters(Some(Distribution::PreferSameNode));
    assert_eq!(used(&slices, "n1", "z1"), ["10.1.0.1"], "a node of the same name elsewhere is another one");
    assert_eq!(used(&slices, "n9", "z1"), ["10.1.0.1", "10.1.0.2", "10.2.0.1"]);
    assert_eq!(used(&slices, "n9", "z9"), all);
}

#[test]
fn an_endpoint_without_node_and_zone_names_one_that_no_cluster_has() {
    let hints = |cluster: &str| {
        let endpoint = endpoint("10.1.0.1");
        hints(&endpoint, &ClusterId::new(cluster).unwrap(), Hints::Node).unwrap()
    };
    let name = |cluster: &str| {
        let EndpointHints { for_zones, for_nodes } = hints(cluster);
        let (zone, node) = (for_zones.unwrap().remove(0).name, for_nodes.unwrap().remove(0).name);
        assert_eq!(zone, node);
        assert!(labels::is_label_value(&zone) && labels::is_subdomain(&node), "{zone}");
        zone
    };
    assert_eq!(name("c2"), "c2.invalid");
    assert_eq!(name(&"a".repeat(63)), format!("{}.invalid", "a".repeat(55)));
    assert_eq!(name(&format!("{}-{}", "a".repeat(54), "b".repeat(8))), format!("{}.invalid", "a".repeat(54)));
}

#[test]
fn slices_without_endpoints_say_the_same_whatever_the_hints() {
    let slice =
        slices_of(&[&with("c1", 0, &["http 80/TCP"], vec![slice(&["http 8080/TCP"], &["10.1.0.1"])])], &[]).remove(0);
    assert!(!slice.says_the_same(&ImportedSlice { hints: Hints::Zone, ..slice.clone() }));
    assert!(!slice.says_the_same(&ImportedSlice { hints: Hints::Foreign, ..slice.clone() }));
    let empty = ImportedSlice { endpoints: vec![], ..slice.clone() };
    assert!(!slice.says_the_same(&empty));
    assert!(empty.says_the_same(&ImportedSlice { hints: Hints::Zone, ..empty.clone() }));
}

#[test]
fn row_70_a_slice_has_the_ports_only_that_its_export_has() {
    let one =
        with("c1", 0, &["tcp 42/TCP", "udp 42/UDP"], vec![slice(&["tcp 1042/TCP", "udp 1042/UDP"], &["10.1.0.1"])]);
    // The name is taken by another number, so it is lost; the other port stays.
    let two =
        with("c2", 1, &["tcp 43/TCP", "udp 42/UDP"], vec![slice(&["tcp 1043/TCP", "udp 2042/UDP"], &["10.2.0.1"])]);
    let three = with("c3", 2, &["tcp 43/TCP"], vec![slice(&["tcp 1043/TCP"], &["10.3.0.1"])]);
    let shown: Vec<_> = slices_of(&[&one, &two, &three], &[]).iter().map(shown).collect();
    assert_eq!(shown, ["c1: tcp 1042/TCP, udp 1042/UDP", "c2: udp 2042/UDP"]);
}

#[test]
fn row_35_a_port_that_lost_its_name_is_served_under_the_winners() {
    let one = with("c1", 0, &["web 80/TCP"], vec![slice(&["web 8080/TCP"], &["10.1.0.1"])]);
    let two = with("c2", 1, &["http 80/TCP"], vec![slice(&["http 8081/TCP"], &["10.2.0.1"])]);
    let shown: Vec<_> = slices_of(&[&one, &two], &[]).iter().map(shown).collect();
    assert_eq!(shown, ["c1: web 8080/TCP", "c2: web 8081/TCP"]);
}

#[test]
fn row_40_each_cluster_keeps_its_own_numbers_on_endpoints() {
    let one = with("c1", 0, &["web 80/TCP"], vec![slice(&["web 42/TCP"], &["10.1.0.1"])]);
    let two = with("c2", 1, &["web 80/TCP"], vec![slice(&["web 8080/TCP"], &["10.2.0.1"])]);
    let shown: Vec<_> = slices_of(&[&one, &two], &[]).iter().map(shown).collect();
    assert_eq!(shown, ["c1: web 42/TCP", "c2: web 8080/TCP"]);
}

#[test]
fn row_80_only_the_families_of_the_import_are_imported() {
    let mut one = with(
        "c1",
        0,
        &["web 80/TCP"],
        vec![slice(&["web 42/TCP"], &["10.1.0.1"]), slice(&["web 42/TCP"], &["fd01::1"])],
    );
    assert_eq!(slices_of(&[&one], &[]).len(), 1);
    one.families = vec![Family::V6, Family::V4];
    let families: Vec<_> = slices_of(&[&one], &[]).iter().map(|slice| slice.family).collect();
    assert_eq!(families, [Family::V4, Family::V6]);
}

fn many(count: usize) -> Vec<Endpoint> {
    (0..count).map(|n| endpoint(&format!("10.1.{}.{}", n / 250, n % 250 + 1))).collect()
}

fn large(endpoints: Vec<Endpoint>) -> Record {
    with("c1", 0, &["web 80/TCP"], vec![Slice { endpoints, ..slice(&["web 42/TCP"], &[]) }])
}

#[test]
fn row_79_a_large_service_has_few_full_slices_and_no_endpoint_twice() {
    let slices = slices_of(&[&large(many(1000))], &[]);
    assert_eq!(slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(), [100; 10]);
    let all: BTreeSet<_> = slices.iter().flat_map(|slice| &slice.endpoints).collect();
    assert_eq!(all.len(), 1000);
    let names: BTreeSet<_> = slices.iter().map(|slice| &slice.name).collect();
    assert_eq!(names.len(), 10);
}

#[test]
fn row_79_a_change_of_one_endpoint_is_a_change_of_one_slice() {
    let before = slices_of(&[&large(many(1000))], &[]);
    let observed: Vec<_> = before.iter().collect();
    let changed = |endpoints: Vec<Endpoint>| {
        let after = slices_of(&[&large(endpoints)], &observed);
        let changed = after.iter().filter(|slice| !before.contains(slice)).count();
        (after.len(), changed)
    };
    let mut first_gone = many(1000);
    first_gone.remove(0);
    assert_eq!(changed(first_gone), (10, 1));
    let mut not_ready = many(1000);
    not_ready[500].ready = Some(false);
    assert_eq!(changed(not_ready), (10, 1));
    assert_eq!(changed(many(1001)), (11, 1));
    assert_eq!(changed(many(1000)), (10, 0));
}

#[test]
fn slices_that_have_become_empty_enough_are_put_together() {
    let before = slices_of(&[&large(many(150))], &[]);
    let after = slices_of(&[&large(many(150).split_off(60))], &before.iter().collect::<Vec<_>>());
    assert_eq!(after.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(), [90]);
}

#[test]
fn names_of_slices_do_not_depend_on_the_other_clusters() {
    let one = with("c1", 0, &["web 80/TCP"], vec![slice(&["web 42/TCP"], &["10.1.0.1"])]);
    let two = with("c2", -1, &["web 80/TCP"], vec![slice(&["web 42/TCP"], &["10.2.0.1"])]);
    assert_eq!(slices_of(&[&one], &[])[0].name, slices_of(&[&two, &one], &[])[1].name);
}
