//! Every refusal once, and what passes.

use serde_json::{Value, json};

use super::*;

/// A record of `berlin` that passes, with `changes` merged into it (RFC 7396).
fn record(changes: Value) -> ServiceRecord {
    let mut object = json!({
        "apiVersion": "linkspan.dev/v1alpha1",
        "kind": "ServiceRecord",
        "metadata": { "name": "berlin.shop.web", "labels": { "linkspan.dev/cluster": "berlin" } },
        "spec": {
            "clusterID": "berlin",
            "namespace": "shop",
            "name": "web",
            "type": "ClusterSetIP",
            "exportedAt": "2026-01-02T03:04:05Z",
            "ports": [
                { "name": "http", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c", "port": 80 },
                { "name": "dns", "protocol": "UDP", "port": 53 }
            ],
            "ipFamilies": ["IPv4"],
            "exportedLabels": { "team": "a" },
            "slices": [{
                "addressType": "IPv4",
                "ports": [
                    { "name": "http", "protocol": "TCP", "port": 8080 },
                    { "name": "dns", "protocol": "UDP", "port": 5353 }
                ],
                "endpoints": [
                    { "addresses": ["10.52.1.3"], "ready": false, "zone": "z1", "nodeName": "n1" },
                    { "addresses": ["10.52.1.2"], "hostname": "web-0", "ready": true }
                ]
            }]
        }
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn berlin() -> MemberNetworks {
    MemberNetworks {
        cluster: "berlin".into(),
        prefixes: vec!["10.52.0.0/16".parse().unwrap(), "fd52::/48".parse().unwrap()],
    }
}

/// Reason and message of the refusal of a record with `changes`.
fn refusal(changes: Value) -> String {
    let refusal = check(&record(changes), &berlin(), &Policy::default()).unwrap_err();
    format!("{}: {refusal}", refusal.reason())
}

/// The refusal of a record with one slice of that `family` and one endpoint with those `addresses`.
fn address_refusal(family: &str, addresses: Value) -> String {
    refusal(json!({ "spec": { "slices": [{ "addressType": family, "endpoints": [{ "addresses": addresses }] }] } }))
}

#[test]
fn a_good_record_becomes_a_value_with_its_endpoints_sorted() {
    let (checked, _) = check(&record(json!({})), &berlin(), &Policy::default()).unwrap();
    assert_eq!(checked.cluster.as_str(), "berlin");
    assert_eq!(checked.service, ServiceKey::new("shop", "web"));
    assert_eq!(checked.exported_at.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(checked.families, [Family::V4]);
    assert_eq!(checked.affinity, Affinity::None);
    assert_eq!(checked.internal_traffic_policy, TrafficPolicy::Cluster);
    let ports: Vec<_> = checked.ports.iter().map(|port| (port.name.as_str(), port.number)).collect();
    assert_eq!(ports, [("http", 80), ("dns", 53)]);
    let endpoints = &checked.slices[0].endpoints;
    assert_eq!(endpoints[0].addresses[..], ["10.52.1.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(endpoints[0].hostname.as_deref(), Some("web-0"));
    assert_eq!((endpoints[1].ready, endpoints[1].zone.as_deref()), (Some(false), Some("z1")));
}

#[test]
fn a_checked_record_written_and_checked_again_is_the_same() {
    let changes = json!({ "spec": {
        "ipFamilies": ["IPv6", "IPv4"], "sessionAffinity": "ClientIP", "sessionAffinityTimeoutSeconds": 10,
        "internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose", "exportedAnnotations": { "a": "b" }
    } });
    let (checked, _) = check(&record(changes), &berlin(), &Policy::default()).unwrap();
    let (again, _) = check(&checked.to_object("linkspan-system"), &berlin(), &Policy::default()).unwrap();
    assert_eq!(again, checked);
}

#[test]
fn a_record_speaks_for_its_own_cluster_only() {
    assert_eq!(
        refusal(json!({ "spec": { "clusterID": "paris" } })),
        "WrongCluster: the record speaks for cluster `paris`, but belongs to berlin"
    );
    assert_eq!(
        refusal(json!({ "metadata": { "labels": { "linkspan.dev/cluster": "paris" } } })),
        "WrongCluster: the record speaks for cluster `paris`, but belongs to berlin"
    );
    assert_eq!(
        refusal(json!({ "metadata": { "labels": null } })),
        "WrongCluster: the record speaks for cluster `nobody (it has no label)`, but belongs to berlin"
    );
    assert_eq!(
        refusal(json!({ "metadata": { "name": "paris.shop.web" } })),
        "WrongName: the record is named `paris.shop.web`, but must be named `berlin.shop.web`"
    );
}

#[test]
fn what_another_version_says_is_refused_and_no_error_of_the_whole_list() {
    let told = "cannot be read by this version of Linkspan; upgrade this cluster";
    assert_eq!(refusal(json!({ "spec": { "type": "Mesh" } })), format!("InvalidField: type {told}"));
    assert_eq!(address_refusal("IPv8", json!(["10.52.1.2"])), format!("InvalidField: addressType {told}"));
}

#[test]
fn row_17_reserved_namespaces_are_refused_and_can_be_chosen() {
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "linkspan-system"] {
        let name = format!("berlin.{namespace}.web");
        assert_eq!(
            refusal(json!({ "metadata": { "name": name }, "spec": { "namespace": namespace } })),
            format!("ReservedNamespace: namespace {namespace} is reserved: nothing is imported into it")
        );
    }
    let policy = Policy::reserving(["shop".to_owned()]);
    assert_eq!(check(&record(json!({})), &berlin(), &policy).unwrap_err().reason(), "ReservedNamespace");
    let reserved: Vec<_> = policy.reserved_namespaces.iter().map(String::as_str).collect();
    assert_eq!(reserved, ["linkspan-system", "shop"], "our own stays reserved");
}

#[test]
fn illegal_names_are_refused() {
    assert_eq!(
        refusal(json!({ "metadata": { "name": "berlin.Shop.web" }, "spec": { "namespace": "Shop" } })),
        "InvalidName: namespace `Shop` is not a legal name"
    );
    assert_eq!(
        refusal(json!({ "metadata": { "name": "berlin.shop.7up" }, "spec": { "name": "7up" } })),
        "InvalidName: service `7up` is not a legal name"
    );
    let endpoint = |field: &str, value: &str| {
        let endpoint = json!({ "addresses": ["10.52.0.1"], field: value });
        refusal(json!({ "spec": { "slices": [{ "addressType": "IPv4", "endpoints": [endpoint] }] } }))
    };
    assert_eq!(endpoint("hostname", "a.b"), "InvalidName: host name `a.b` is not a legal name");
    assert_eq!(endpoint("zone", "-"), "InvalidName: zone `-` is not a legal name");
    assert_eq!(endpoint("nodeName", "N"), "InvalidName: node `N` is not a legal name");
}

#[test]
fn illegal_ports_are_refused() {
    let ports = |ports: Value| refusal(json!({ "spec": { "ports": ports } }));
    let http = json!({ "name": "http", "protocol": "TCP", "port": 80 });
    assert_eq!(
        ports(json!([{ "name": "HTTP", "protocol": "TCP", "port": 80 }])),
        "InvalidPort: port `HTTP`: its name is not an RFC 1123 label"
    );
    assert_eq!(
        ports(json!([{ "name": "http", "protocol": "ICMP", "port": 80 }])),
        "InvalidPort: port `http`: its protocol is not TCP, UDP or SCTP"
    );
    assert_eq!(
        ports(json!([{ "name": "http", "protocol": "TCP", "port": 0 }])),
        "InvalidPort: port `http`: its number is 0"
    );
    assert_eq!(
        ports(json!([{ "name": "http", "protocol": "TCP", "port": 80, "appProtocol": "a b" }])),
        "InvalidPort: port `http`: its appProtocol is not a qualified name"
    );
    assert_eq!(
        ports(json!([http, { "name": "http", "protocol": "TCP", "port": 81 }])),
        "InvalidPort: port `http` (81/TCP): another port has the same name"
    );
    assert_eq!(
        ports(json!([http, { "name": "web", "protocol": "TCP", "port": 80 }])),
        "InvalidPort: port `web` (80/TCP): another port has the same number and protocol"
    );
    assert_eq!(
        ports(json!([http, { "name": "", "protocol": "UDP", "port": 80 }])),
        "InvalidPort: port ``: only a single port may have no name"
    );
    let slice = json!({ "addressType": "IPv4", "ports": [http, http] });
    assert_eq!(
        refusal(json!({ "spec": { "slices": [slice] } })),
        "InvalidPort: port `http` (80/TCP): another port has the same name"
    );
}

#[test]
fn other_illegal_fields_are_refused() {
    let spec = |spec: Value| refusal(json!({ "spec": spec }));
    assert_eq!(
        spec(json!({ "ipFamilies": [] })),
        "InvalidFamilies: ipFamilies must be IPv4, IPv6 or both, each once, but are [``]"
    );
    assert_eq!(
        spec(json!({ "ipFamilies": ["IPv4", "IPv4"] })),
        "InvalidFamilies: ipFamilies must be IPv4, IPv6 or both, each once, but are [`IPv4, IPv4`]"
    );
    assert_eq!(spec(json!({ "sessionAffinity": "Cookie" })), "InvalidField: sessionAffinity cannot be `Cookie`");
    assert_eq!(
        spec(json!({ "sessionAffinity": "ClientIP", "sessionAffinityTimeoutSeconds": 86_401 })),
        "InvalidField: sessionAffinityTimeoutSeconds cannot be `86401`"
    );
    assert_eq!(spec(json!({ "internalTrafficPolicy": "x" })), "InvalidField: internalTrafficPolicy cannot be `x`");
    assert_eq!(spec(json!({ "trafficDistribution": "x" })), "InvalidField: trafficDistribution cannot be `x`");
    assert_eq!(
        spec(json!({ "exportedLabels": { "a b": "c" } })),
        "InvalidLabels: exported label `a b` has no legal key"
    );
    assert_eq!(spec(json!({ "exportedLabels": { "a": "c d" } })), "InvalidLabels: exported label a has no legal value");
    assert_eq!(
        spec(json!({ "exportedAnnotations": { "a": "x".repeat(65_536) } })),
        "InvalidLabels: exported annotations have 65537 bytes, more than 65536"
    );
}

#[test]
fn loopback_link_local_multicast_and_foreign_addresses_are_refused() {
    let v4 = |address: &str| address_refusal("IPv4", json!([address]));
    assert_eq!(v4("127.0.0.1"), "ForbiddenAddress: endpoint address 127.0.0.1 is a loopback address");
    assert_eq!(v4("0.0.0.0"), "ForbiddenAddress: endpoint address 0.0.0.0 is unspecified");
    assert_eq!(v4("169.254.169.254"), "ForbiddenAddress: endpoint address 169.254.169.254 is a link-local address");
    assert_eq!(v4("224.0.0.1"), "ForbiddenAddress: endpoint address 224.0.0.1 is a multicast address");
    assert_eq!(v4("255.255.255.255"), "ForbiddenAddress: endpoint address 255.255.255.255 is a reserved address");
    assert_eq!(v4("10.42.0.1"), "ForeignAddress: endpoint address 10.42.0.1 is outside the Pod CIDRs of berlin");
    let v6 = |address: &str| address_refusal("IPv6", json!([address]));
    assert_eq!(v6("::"), "ForbiddenAddress: endpoint address :: is unspecified");
    assert_eq!(v6("::1"), "ForbiddenAddress: endpoint address ::1 is a loopback address");
    assert_eq!(v6("fe80::1"), "ForbiddenAddress: endpoint address fe80::1 is a link-local address");
    assert_eq!(v6("ff02::1"), "ForbiddenAddress: endpoint address ff02::1 is a multicast address");
    assert_eq!(
        v6("::ffff:10.52.0.1"),
        "ForbiddenAddress: endpoint address ::ffff:10.52.0.1 is an IPv4 address in IPv6 form"
    );
    assert!(v6("fd42::1").starts_with("ForeignAddress"));
}

#[test]
fn foreign_endpoints_among_others_are_left_out_and_counted() {
    let endpoints = [vec!["10.52.0.1"], vec!["10.42.0.1"], vec!["10.52.0.2", "8.8.8.8"]];
    let endpoints = endpoints.map(|addresses| json!({ "addresses": addresses }));
    let slice = json!({ "addressType": "IPv4", "endpoints": endpoints });
    let changes = json!({ "spec": { "slices": [slice] } });
    let (checked, foreign) = check(&record(changes), &berlin(), &Policy::default()).unwrap();
    let left: Vec<_> = checked.slices[0].endpoints.iter().map(|endpoint| endpoint.addresses[0].to_string()).collect();
    assert_eq!(left, ["10.52.0.1"], "one address of another's is enough");
    let told = foreign.unwrap().to_string();
    assert_eq!(told, "2 of its endpoints are left out: endpoint address 10.42.0.1 is outside the Pod CIDRs of berlin");
}

#[test]
fn addresses_must_be_of_their_slices_family_and_parse() {
    assert_eq!(
        address_refusal("IPv4", json!(["fd52::1"])),
        "InvalidAddress: endpoint address `fd52::1` is not an IPv4 address"
    );
    assert_eq!(
        address_refusal("IPv4", json!(["10.52.0.01"])),
        "InvalidAddress: endpoint address `10.52.0.01` is not an IPv4 address"
    );
    assert_eq!(address_refusal("IPv6", json!([])), "InvalidAddress: endpoint address `` is not an IPv6 address");
    assert_eq!(
        address_refusal("IPv4", json!(vec!["10.52.0.1"; 9])),
        "TooLarge: 9 addresses of an endpoint, more than 8"
    );
}

#[test]
fn limits_hold() {
    let many =
        |count: usize| json!({ "addressType": "IPv4", "endpoints": vec![json!({"addresses": ["10.52.0.1"]}); count] });
    assert_eq!(
        refusal(json!({ "spec": { "slices": vec![many(1000); 5].into_iter().chain([many(1)]).collect::<Vec<_>>() } })),
        "TooLarge: 5001 endpoints, more than 5000"
    );
    assert_eq!(refusal(json!({ "spec": { "slices": vec![many(0); 257] } })), "TooLarge: 257 slices, more than 256");
    let heavy = json!({ "addresses": ["10.52.0.1"], "nodeName": "n".repeat(253) });
    let heavy = json!({ "addressType": "IPv4", "endpoints": vec![heavy; 900] });
    // 11 for the label, and thrice 64 for the slice and 900 times 112 + 9 + 253.
    let record = json!({ "spec": { "ports": [], "slices": vec![heavy; 3] } });
    assert_eq!(refusal(record), "TooLarge: 1010003 bytes, more than 1000000");
    let ports: Vec<_> = (1..=257).map(|n| json!({ "name": format!("p{n}"), "protocol": "TCP", "port": n })).collect();
    assert_eq!(refusal(json!({ "spec": { "ports": ports } })), "TooLarge: 257 ports, more than 256");
}

#[test]
fn row_60_reserved_keys_are_left_out_of_what_passes() {
    let changes = json!({ "spec": {
        "exportedLabels": { "multicluster.kubernetes.io/service-name": "x", "linkspan.dev/cluster": "y" },
        "exportedAnnotations": { "multicluster.kubernetes.io/derived-service": "x", "note": "kept" }
    } });
    let (checked, _) = check(&record(changes), &berlin(), &Policy::default()).unwrap();
    assert_eq!(checked.exported_labels, [("team".to_owned(), "a".to_owned())].into());
    assert_eq!(checked.exported_annotations, [("note".to_owned(), "kept".to_owned())].into());
}

#[test]
fn a_members_networks_are_its_pod_cidrs_and_not_its_service_cidrs() {
    let member = serde_json::from_value(json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member", "metadata": { "name": "berlin" },
        "spec": {
            "clusterID": "berlin", "clusterUID": "u", "podCIDRs": ["10.52.0.1/16", "nonsense"],
            "serviceCIDRs": ["10.53.0.0/16", "10.42.0.0/16", "192.168.7.0/24"]
        }
    }));
    let networks = MemberNetworks::of(&member.unwrap());
    let prefixes: Vec<_> = networks.prefixes.iter().map(IpNet::to_string).collect();
    assert_eq!(prefixes, ["10.52.0.0/16"]);
    assert!(networks.contains(&"10.52.9.9".parse().unwrap()));
    // Its own services, and what is said to be: pods and a node of another cluster.
    for address in ["10.53.9.9", "10.42.0.7", "192.168.7.11", "10.54.0.1"] {
        assert!(!networks.contains(&address.parse().unwrap()), "{address}");
    }
}
