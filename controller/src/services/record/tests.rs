//! Exports, as people and the API server make them, and the records that come of them.

use serde_json::{Value, json};

use super::super::testing::{endpoint, ports, slice};
use super::super::validate::check as check_record;
use super::*;
use crate::api::names::SYSTEM_NAMESPACE;

/// An export of `shop/web` from cluster `c1`, whose addresses are 10.1.0.0/16 and fd01::/48.
struct Case {
    export: LocalExport,
    service: Option<LocalService>,
    slices: Vec<Slice>,
    networks: Option<MemberNetworks>,
    key: ServiceKey,
}

impl Case {
    /// With a Service whose spec is the usual one with these `changes`.
    fn new(changes: Value) -> Self {
        let mut spec = json!({
            "type": "ClusterIP", "clusterIP": "10.43.0.5", "ipFamilies": ["IPv4"], "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }]
        });
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let service: Service = serde_json::from_value(json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap();
        let prefixes = ["10.1.0.0/16", "fd01::/48"].map(|text| text.parse().unwrap()).into();
        Self {
            export: LocalExport {
                created: Timestamp::UNIX_EPOCH,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            },
            service: Some(LocalService::of(&service)),
            slices: vec![slice(&["http 8080/TCP"], &["10.1.0.1", "10.1.0.2"])],
            networks: Some(MemberNetworks { cluster: "c1".into(), prefixes }),
            key: ServiceKey::new("shop", "web"),
        }
    }

    fn outcome(&self) -> Outcome {
        let (cluster, policy) = (ClusterId::new("c1").unwrap(), Policy::default());
        let site = Site { cluster: &cluster, networks: self.networks.as_ref(), policy: &policy };
        let slices: Vec<_> = self.slices.iter().collect();
        let outcome = record(site, &self.key, &self.export, self.service.as_ref(), &slices);
        let reversed: Vec<_> = self.slices.iter().rev().collect();
        assert_eq!(record(site, &self.key, &self.export, self.service.as_ref(), &reversed), outcome);
        if let (Some(record), Some(networks)) = (&outcome.record, &self.networks) {
            let object = record.to_object(SYSTEM_NAMESPACE);
            assert_eq!(check_record(&object, networks, &policy), Ok((record.clone(), None)), "others would refuse it");
        }
        outcome
    }

    fn record(&self) -> Record {
        self.outcome().record.unwrap()
    }

    /// Reason and message of `Valid=False`.
    fn refusal(&self) -> String {
        let Outcome { record, valid, .. } = self.outcome();
        assert_eq!((record, valid.status), (None, Truth::False));
        format!("{}: {}", valid.reason, valid.message)
    }
}

fn addresses(slice: &Slice) -> Vec<String> {
    slice.endpoints.iter().map(|endpoint| endpoint.addresses[0].to_string()).collect()
}

#[test]
fn row_7_an_exportable_service_is_valid() {
    let Outcome { record, valid, .. } = Case::new(json!({})).outcome();
    let record = record.unwrap();
    assert_eq!((valid.status, valid.reason.as_str(), valid.message.as_str()), (Truth::True, "Valid", ""));
    assert_eq!((record.kind, record.families), (ImportType::ClusterSetIP, vec![Family::V4]));
    assert_eq!(record.ports, ports(&["http 80/TCP"]));
    assert_eq!(record.slices, [slice(&["http 8080/TCP"], &["10.1.0.1", "10.1.0.2"])]);
}

#[test]
fn row_8_without_service_there_is_nothing_to_export() {
    let case = Case { service: None, ..Case::new(json!({})) };
    assert_eq!(case.refusal(), "NoService: Service shop/web does not exist");
}

#[test]
fn row_10_external_names_are_not_exported() {
    let case = Case::new(json!({ "type": "ExternalName", "externalName": "example.com" }));
    assert_eq!(case.refusal(), "InvalidServiceType: a Service of type ExternalName has no endpoints");
}

#[test]
fn row_11_node_ports_and_load_balancers_are_exported_as_clusterset_ips() {
    for kind in ["NodePort", "LoadBalancer"] {
        assert_eq!(Case::new(json!({ "type": kind })).record().kind, ImportType::ClusterSetIP);
    }
}

#[test]
fn row_17_nothing_is_exported_from_reserved_namespaces() {
    let case = Case { key: ServiceKey::new("kube-system", "web"), ..Case::new(json!({})) };
    assert_eq!(case.refusal(), "ReservedNamespace: nothing is exported from namespace kube-system");
}

#[test]
fn a_derived_service_is_not_exported_again() {
    let labels = json!({ "app.kubernetes.io/managed-by": "linkspan.dev" });
    let service = json!({ "metadata": { "labels": labels }, "spec": { "clusterIP": "10.43.0.5" } });
    let service = LocalService::of(&serde_json::from_value(service).unwrap());
    let case = Case { service: Some(service), ..Case::new(json!({})) };
    assert_eq!(case.refusal(), "InvalidServiceType: the Service carries a clusterset IP itself");
}

#[test]
fn row_29_slices_made_by_hand_count_like_others() {
    let manual = json!({
        "addressType": "IPv4", "metadata": { "name": "mine" }, "ports": [{ "name": "http", "port": 9000 }],
        "endpoints": [{ "addresses": ["10.1.9.9"] }]
    });
    let manual = local_slice(&serde_json::from_value(manual).unwrap()).unwrap();
    let case = Case { slices: vec![manual], ..Case::new(json!({})) };
    let record = case.record();
    assert_eq!(record.slices[0].ports, ports(&["http 9000/TCP"]));
    assert_eq!(
        (addresses(&record.slices[0]), record.slices[0].endpoints[0].ready),
        (vec!["10.1.9.9".to_owned()], None)
    );
}

#[test]
fn headless_services_keep_endpoints_without_ports() {
    let mut case = Case::new(json!({ "clusterIP": "None", "ports": [] }));
    case.slices = vec![slice(&[], &["10.1.0.1"])];
    let record = case.record();
    assert_eq!((record.kind, addresses(&record.slices[0])), (ImportType::Headless, vec!["10.1.0.1".to_owned()]));
}

#[test]
fn affinity_and_policies_come_from_the_service() {
    let record = Case::new(json!({
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        "internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose"
    }))
    .record();
    assert_eq!(record.affinity, Affinity::ClientIp { seconds: 10 });
    assert_eq!(record.internal_traffic_policy, TrafficPolicy::Local);
    assert_eq!(record.traffic_distribution, Some(Distribution::PreferClose));
    assert_eq!(
        Case::new(json!({ "sessionAffinity": "ClientIP" })).record().affinity,
        Affinity::ClientIp { seconds: 10_800 }
    );
}

#[test]
fn row_57_and_60_only_what_is_exported_is_told_and_no_reserved_key() {
    let mut case = Case::new(json!({}));
    let pair = |key: &str| (key.to_owned(), "x".to_owned());
    case.export.labels = [pair("team"), pair("multicluster.kubernetes.io/service-name")].into();
    case.export.annotations = [pair("note"), pair("multicluster.kubernetes.io/derived-service")].into();
    let Outcome { record, valid, .. } = case.outcome();
    let record = record.unwrap();
    assert_eq!(record.exported_labels, [pair("team")].into());
    assert_eq!(record.exported_annotations, [pair("note")].into());
    assert_eq!(
        valid.message,
        "label multicluster.kubernetes.io/service-name is reserved and not exported; annotation \
         multicluster.kubernetes.io/derived-service is reserved and not exported"
    );
}

#[test]
fn illegal_labels_are_left_out_and_told() {
    let mut case = Case::new(json!({}));
    case.export.labels = [("a b".to_owned(), "x".to_owned())].into();
    let Outcome { record, valid, .. } = case.outcome();
    assert_eq!(record.unwrap().exported_labels, BTreeMap::new());
    assert_eq!(valid.message, "no label is exported: exported label `a b` has no legal key");
}

#[test]
fn more_labels_or_annotations_than_a_record_has_room_for_are_left_out_and_told() {
    let mut case = Case::new(json!({}));
    case.export.labels = (0..65).map(|n| (format!("l{n}"), String::new())).collect();
    case.export.annotations = (0..65).map(|n| (format!("a{n}"), String::new())).collect();
    let Outcome { record, valid, .. } = case.outcome();
    let record = record.unwrap();
    assert_eq!((record.exported_labels.len(), record.exported_annotations.len()), (0, 0));
    assert_eq!(
        valid.message,
        "no label is exported: 65 exported labels, more than 64; no annotation is exported: 65 exported annotations, more \
         than 64"
    );
}

#[test]
fn endpoints_that_nobody_else_could_reach_are_left_out_and_told() {
    let mut case = Case::new(json!({}));
    case.slices.push(slice(&["http 8080/TCP"], &["192.168.0.7", "127.0.0.1"]));
    let Outcome { record, valid, .. } = case.outcome();
    assert_eq!(addresses(&record.unwrap().slices[0]), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(valid.message, "2 of 4 endpoints are not exported: 127.0.0.1 is a loopback address of c1");
    case.networks = None;
    assert_eq!(addresses(&case.record().slices[0]), ["10.1.0.1", "10.1.0.2", "192.168.0.7"]);
}

#[test]
fn a_service_of_host_network_pods_is_exported_without_endpoints_and_says_so() {
    let mut case = Case::new(json!({}));
    case.slices = vec![slice(&["http 8080/TCP"], &["192.168.0.7", "192.168.0.8"])];
    let Outcome { record, valid, left_out } = case.outcome();
    assert_eq!(record.unwrap().slices, []);
    let expected = "2 of 2 endpoints are not exported: 192.168.0.7 is not in a Pod CIDR of c1, as that of a \
                    pod with hostNetwork: other clusters do not reach addresses of nodes";
    assert_eq!((valid.message.as_str(), left_out.as_str()), (expected, expected));
}

#[test]
fn row_74_and_78_endpoints_of_several_slices_with_the_same_ports_are_in_one() {
    let mut case = Case::new(json!({}));
    case.slices = vec![
        slice(&["http 8080/TCP"], &["10.1.0.3"]),
        slice(&["http 8080/TCP"], &["10.1.0.1"]),
        slice(&["http 8081/TCP"], &["10.1.0.2"]),
    ];
    case.slices[0].endpoints[0].hostname = Some("web-0".into());
    case.slices[0].endpoints[0].zone = Some("z1".into());
    case.slices[0].endpoints[0].terminating = Some(true);
    let record = case.record();
    assert_eq!(
        record.slices.iter().map(addresses).collect::<Vec<_>>(),
        [vec!["10.1.0.1", "10.1.0.3"], vec!["10.1.0.2"]]
    );
    assert_eq!(record.slices[0].endpoints[1], case.slices[0].endpoints[0]);
}

#[test]
fn row_80_families_have_slices_of_their_own_and_those_that_the_service_lacks_are_left_out() {
    let v6 = slice(&["http 8080/TCP"], &["fd01::1"]);
    let mut case = Case::new(json!({ "ipFamilies": ["IPv6", "IPv4"] }));
    case.slices.push(v6.clone());
    let families: Vec<_> = case.record().slices.iter().map(|slice| slice.family).collect();
    assert_eq!(families, [Family::V4, Family::V6]);
    case.service = Case::new(json!({})).service;
    assert_eq!(case.record().slices.len(), 1);
}

#[test]
fn ports_that_the_service_lacks_are_left_out() {
    let mut case = Case::new(json!({}));
    case.slices =
        vec![slice(&["http 8080/TCP", "metrics 9090/TCP"], &["10.1.0.1"]), slice(&["x 1/TCP"], &["10.1.0.2"])];
    assert_eq!(case.record().slices, [slice(&["http 8080/TCP"], &["10.1.0.1"])]);
}

#[test]
fn an_endpoint_in_two_slices_at_once_counts_once() {
    let mut case = Case::new(json!({}));
    case.slices.push(slice(&["http 8080/TCP"], &["10.1.0.1"]));
    case.slices[0].endpoints[0].ready = Some(false);
    let record = case.record();
    assert_eq!(addresses(&record.slices[0]), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(record.slices[0].endpoints[0].ready, Some(true));
}

#[test]
fn row_77_readiness_is_told_and_publish_not_ready_addresses_makes_all_ready() {
    let mut case = Case::new(json!({}));
    case.slices[0].endpoints[0].ready = Some(false);
    assert_eq!(case.record().slices[0].endpoints[0].ready, Some(false));
    case.service = Case::new(json!({ "publishNotReadyAddresses": true })).service;
    assert_eq!(case.record().slices[0].endpoints[0].ready, Some(true));
}

#[test]
fn row_79_a_record_holds_as_many_endpoints_as_others_take() {
    let mut case = Case::new(json!({}));
    let many = (0..5_003_u16).map(|n| endpoint(&format!("10.1.{}.{}", n / 250, n % 250 + 1)));
    case.slices = vec![Slice { endpoints: many.collect(), ..slice(&["http 8080/TCP"], &[]) }];
    let Outcome { record, valid, .. } = case.outcome();
    let sizes: Vec<_> = record.unwrap().slices.iter().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [1000; 5]);
    let why = "a record has 5000 at most, and 1000000 bytes";
    assert_eq!(valid.message, format!("3 endpoints are too many and not exported: {why}"));
}

#[test]
fn a_record_holds_as_many_bytes_as_the_broker_takes() {
    let mut case = Case::new(json!({}));
    let many = (0..2_000_u16).map(|n| Endpoint {
        hostname: Some("h".repeat(63).into()),
        zone: Some("z".repeat(63).into()),
        node: Some(["n".repeat(63), "n".repeat(63), "n".repeat(63), "n".repeat(61)].join(".").into()),
        ..endpoint(&format!("10.1.2{}.2{:02}", n / 50, n % 50))
    });
    case.slices = vec![Slice { endpoints: many.collect(), ..slice(&["http 8080/TCP"], &[]) }];
    case.export.annotations = [("note".to_owned(), "x".repeat(50_000))].into();
    let Outcome { record, valid, left_out } = case.outcome();
    let sizes: Vec<_> = record.unwrap().slices.iter().map(|slice| slice.endpoints.len()).collect();
    // 260 for the port and 50 010 for the annotation leave 949 730. A slice takes 324 of it, each of the first 500 endpoints
    // 502 and each of the others 503.
    assert_eq!(sizes, [1000, 887]);
    let why = "113 endpoints are too many and not exported: a record has 5000 at most, and 1000000 bytes";
    assert_eq!((valid.message.as_str(), left_out.as_str()), (why, why));
}

#[test]
fn slices_of_names_are_not_read() {
    let slice = json!({ "addressType": "FQDN", "metadata": {}, "endpoints": [{ "addresses": ["a.example"] }] });
    assert_eq!(local_slice(&serde_json::from_value(slice).unwrap()), None);
}
