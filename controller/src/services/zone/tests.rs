//! Imports and slices as the API server has them, and the answers that come of them.

use dns::{Answer, Name, RecordType, Records, Zone, ZoneConfig};
use serde_json::{Value, json};

use super::*;

fn import(name: &str, kind: &str, ips: &[&str], ports: Value) -> ServiceImport {
    serde_json::from_value(json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": { "namespace": "shop", "name": name },
        "spec": { "type": kind, "ips": ips, "ports": ports }
    }))
    .unwrap()
}

fn slice(service: &str, cluster: &str, family: &str, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": { "namespace": "shop", "name": format!("{service}-{cluster}-{family}"), "labels": {
            "multicluster.kubernetes.io/service-name": service,
            "multicluster.kubernetes.io/source-cluster": cluster,
            "endpointslice.kubernetes.io/managed-by": "linkspan.dev"
        } },
        "ports": [{ "name": "tcp", "protocol": "TCP", "port": 4200 }, { "name": "udp", "protocol": "UDP", "port": 4200 }],
        "endpoints": endpoints
    }))
    .unwrap()
}

fn endpoint(address: &str, hostname: Option<&str>, ready: Option<bool>) -> Value {
    json!({ "addresses": [address], "hostname": hostname, "conditions": { "ready": ready } })
}

struct Case {
    imports: Vec<ServiceImport>,
    slices: Vec<EndpointSlice>,
    reachability: BTreeMap<String, Reachability>,
}

impl Case {
    fn new(imports: Vec<ServiceImport>, slices: Vec<EndpointSlice>) -> Self {
        Self { imports, slices, reachability: BTreeMap::new() }
    }

    fn zone(&self) -> Zone {
        let namespaces = BTreeSet::from(["shop".to_owned()]);
        Zone::build(&ZoneConfig::default(), &zone(&self.imports, &self.slices, &namespaces, &self.reachability))
    }

    /// What is at `name` in the zone, as text.
    fn ask(&self, name: &str, rtype: RecordType) -> String {
        let name: Name = format!("{name}.clusterset.local").parse().unwrap();
        match self.zone().lookup(&name, rtype) {
            Answer::Records(Records::A(v4)) => v4.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Answer::Records(Records::Aaaa(v6)) => v6.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Answer::Records(Records::Srv(srv)) => {
                srv.iter().map(|srv| format!("{} {}", srv.port, srv.target)).collect::<Vec<_>>().join(", ")
            }
            Answer::Records(other) => format!("{other:?}"),
            Answer::NoData => "NODATA".to_owned(),
            Answer::NxDomain => "NXDOMAIN".to_owned(),
            Answer::Refused => "REFUSED".to_owned(),
        }
    }
}

fn two_ports() -> Value {
    json!([{ "name": "tcp", "protocol": "TCP", "port": 42 }, { "name": "udp", "protocol": "UDP", "port": 42 }])
}

fn headless() -> Case {
    Case::new(
        vec![import("db", "Headless", &[], two_ports())],
        vec![
            slice(
                "db",
                "c1",
                "IPv4",
                json!([endpoint("10.1.0.1", Some("db-0"), None), endpoint("10.1.0.2", None, Some(true))]),
            ),
            slice(
                "db",
                "c2",
                "IPv4",
                json!([endpoint("10.2.0.1", Some("db-0"), None), endpoint("10.2.0.2", None, Some(false))]),
            ),
        ],
    )
}

#[test]
fn row_83_a_clusterset_ip_is_answered_and_the_other_family_has_no_data() {
    let case = Case::new(vec![import("web", "ClusterSetIP", &["10.43.0.9"], two_ports())], vec![]);
    assert_eq!(case.ask("web.shop.svc", RecordType::A), "10.43.0.9");
    assert_eq!(case.ask("web.shop.svc", RecordType::Aaaa), "NODATA");
}

#[test]
fn row_84_and_85_named_ports_have_srv_records_and_the_bare_name_each_number_once() {
    let case = Case::new(vec![import("web", "ClusterSetIP", &["10.43.0.9"], two_ports())], vec![]);
    assert_eq!(case.ask("_tcp._tcp.web.shop.svc", RecordType::Srv), "42 web.shop.svc.clusterset.local.");
    assert_eq!(case.ask("_udp._udp.web.shop.svc", RecordType::Srv), "42 web.shop.svc.clusterset.local.");
    assert_eq!(case.ask("web.shop.svc", RecordType::Srv), "42 web.shop.svc.clusterset.local.");
}

#[test]
fn row_86_a_port_without_name_has_no_srv_record() {
    let case = Case::new(vec![import("web", "ClusterSetIP", &["10.43.0.9"], json!([{ "port": 80 }]))], vec![]);
    assert_eq!(case.ask("_tcp.web.shop.svc", RecordType::Srv), "NXDOMAIN");
    assert_eq!(case.ask("web.shop.svc", RecordType::A), "10.43.0.9");
}

#[test]
fn row_87_a_cluster_has_no_name_of_its_own() {
    let clusterset = Case::new(vec![import("web", "ClusterSetIP", &["10.43.0.9"], two_ports())], vec![]);
    for rtype in [RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Txt, RecordType::Any] {
        assert_eq!(clusterset.ask("c1.web.shop.svc", rtype), "NXDOMAIN");
        assert_eq!(headless().ask("c1.db.shop.svc", rtype), "NXDOMAIN");
    }
}

#[test]
fn row_88_a_headless_name_has_all_ready_endpoints_of_all_clusters() {
    assert_eq!(headless().ask("db.shop.svc", RecordType::A), "10.1.0.1 10.1.0.2 10.2.0.1");
}

#[test]
fn row_89_without_ready_endpoint_there_is_no_headless_name() {
    let mut case = headless();
    case.slices = vec![slice("db", "c1", "IPv4", json!([endpoint("10.1.0.1", None, Some(false))]))];
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "NXDOMAIN");
    case.slices = Vec::new();
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "NXDOMAIN");
}

#[test]
fn row_90_a_host_name_is_answered_for_its_own_cluster() {
    let case = headless();
    assert_eq!(case.ask("db-0.c1.db.shop.svc", RecordType::A), "10.1.0.1");
    assert_eq!(case.ask("db-0.c2.db.shop.svc", RecordType::A), "10.2.0.1");
    assert_eq!(case.ask("db-0.c3.db.shop.svc", RecordType::A), "NXDOMAIN");
}

#[test]
fn row_91_an_endpoint_without_host_name_is_named_by_its_address() {
    assert_eq!(headless().ask("10-1-0-2.c1.db.shop.svc", RecordType::A), "10.1.0.2");
}

#[test]
fn row_92_a_headless_service_has_an_srv_record_for_each_endpoint_and_port() {
    assert_eq!(
        headless().ask("_tcp._tcp.db.shop.svc", RecordType::Srv),
        "42 10-1-0-2.c1.db.shop.svc.clusterset.local., 42 db-0.c1.db.shop.svc.clusterset.local., \
         42 db-0.c2.db.shop.svc.clusterset.local."
    );
}

#[test]
fn row_92_and_70_an_endpoint_is_named_for_the_ports_of_its_slice_only() {
    let ports = json!([{ "name": "pg", "port": 5432 }, { "name": "metrics", "port": 9187 }, { "port": 1 }]);
    let mut case = headless();
    case.imports = vec![import("db", "Headless", &[], ports)];
    // Targets listen at other numbers than the Service has; one that lost its conflict is of another protocol.
    case.slices[0].ports = serde_json::from_value(json!([{ "name": "pg", "protocol": "TCP", "port": 15432 },
        { "name": "metrics", "protocol": "UDP", "port": 9187 }]))
    .unwrap();
    case.slices[1].ports = serde_json::from_value(json!([{ "name": "pg", "protocol": "TCP", "port": 5432 },
        { "name": "metrics", "protocol": "TCP", "port": 19187 }]))
    .unwrap();
    let at = |port: u16, host: &str| format!("{port} {host}.db.shop.svc.clusterset.local.");
    let pg = [at(5432, "10-1-0-2.c1"), at(5432, "db-0.c1"), at(5432, "db-0.c2")].join(", ");
    assert_eq!(case.ask("_pg._tcp.db.shop.svc", RecordType::Srv), pg);
    assert_eq!(case.ask("_metrics._tcp.db.shop.svc", RecordType::Srv), at(9187, "db-0.c2"));
    assert_eq!(case.ask("_metrics._udp.db.shop.svc", RecordType::Srv), "NXDOMAIN");
    assert_eq!(case.ask("db.shop.svc", RecordType::Srv), format!("{pg}, {}", at(9187, "db-0.c2")));
    // Of a port that only an unreachable cluster has there is no location.
    case.reachability.insert("c2".into(), Reachability::Unreachable);
    assert_eq!(case.ask("_metrics._tcp.db.shop.svc", RecordType::Srv), "NXDOMAIN");
}

#[test]
fn row_70_pods_of_one_cluster_that_differ_in_their_ports_are_told_apart() {
    let mut case = headless();
    let mut other = slice("db", "c1", "IPv4", json!([endpoint("10.1.0.9", Some("db-9"), None)]));
    other.ports = serde_json::from_value(json!([{ "name": "udp", "protocol": "UDP", "port": 42 }])).unwrap();
    case.slices = vec![slice("db", "c1", "IPv4", json!([endpoint("10.1.0.1", Some("db-0"), None)])), other];
    assert_eq!(case.ask("_tcp._tcp.db.shop.svc", RecordType::Srv), "42 db-0.c1.db.shop.svc.clusterset.local.");
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "10.1.0.1 10.1.0.9");
}

#[test]
fn row_80_both_families_of_an_endpoint_are_answered() {
    let mut case = headless();
    case.slices.push(slice("db", "c1", "IPv6", json!([endpoint("fd01::1", Some("db-0"), None)])));
    assert_eq!(case.ask("db-0.c1.db.shop.svc", RecordType::Aaaa), "fd01::1");
    assert_eq!(case.ask("db.shop.svc", RecordType::Aaaa), "fd01::1");
}

#[test]
fn endpoints_of_unreachable_clusters_are_not_answered_while_others_are_left() {
    let mut case = headless();
    case.reachability.insert("c2".into(), Reachability::Unreachable);
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "10.1.0.1 10.1.0.2");
    case.reachability.insert("c1".into(), Reachability::Unreachable);
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "10.1.0.1 10.1.0.2 10.2.0.1");
}

#[test]
fn row_95_and_19_imports_in_absent_namespaces_and_slices_of_others_have_no_names() {
    let mut case = headless();
    case.imports[0].metadata.namespace = Some("gone".into());
    assert_eq!(case.ask("db.gone.svc", RecordType::A), "NXDOMAIN");
    let mut case = headless();
    let labels = case.slices[0].metadata.labels.as_mut().unwrap();
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "somebody.else".into());
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "10.2.0.1");
}

#[test]
fn endpoints_of_a_clusterset_ip_have_no_names() {
    let mut case = headless();
    case.imports = vec![import("db", "ClusterSetIP", &["10.43.0.9"], two_ports())];
    let labels = case.slices[0].metadata.labels.as_mut().unwrap();
    labels.insert("kubernetes.io/service-name".into(), "derived-x".into());
    assert_eq!(case.ask("db-0.c1.db.shop.svc", RecordType::A), "NXDOMAIN");
    assert_eq!(case.ask("db.shop.svc", RecordType::A), "10.43.0.9");
}
