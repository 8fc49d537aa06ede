//! NetworkPolicies.

use super::super::policy::{Direction, Other, Ruling, ruling};
use super::*;

/// What one policy says of a connection of pod default/web (10.52.0.9), whose port `http` is 8080.
fn ruled(spec: serde_json::Value, direction: Direction, address: &str, port: u16, protocol: &str) -> Ruling {
    let mut web = pod("default", "web", "n", "10.52.0.9", json!({ "app": "web" }));
    web["spec"]["containers"][0]["ports"] = json!([{ "name": "http", "containerPort": 8080 }]);
    let cluster = ClusterPicture {
        pods: objects(json!([web, pod("shop", "cart", "n", "10.52.0.30", json!({ "app": "cart" }))])),
        namespaces: objects(json!([{ "metadata": { "name": "shop", "labels": { "team": "a" } } }])),
        policies: objects(json!([{ "metadata": { "name": "p", "namespace": "default" }, "spec": spec }])),
        ..ClusterPicture::default()
    };
    let pod = cluster.pod("default", "web").unwrap();
    ruling(&cluster, pod, direction, &Other { address: ip(address), port: Some(port), protocol })
}

fn ingress(rule: serde_json::Value, address: &str, port: u16) -> bool {
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule] });
    match ruled(spec, Direction::Ingress, address, port, "TCP") {
        Ruling::Allowed(policy) => {
            assert_eq!(policy, "default/p");
            true
        }
        Ruling::Dropped(policies) => {
            assert_eq!(policies, ["default/p"]);
            false
        }
        Ruling::Free => panic!("the policy selects all pods"),
    }
}

#[test]
fn blocks_mean_addresses_less_those_that_are_excepted() {
    let block = json!({ "from": [{ "ipBlock": { "cidr": "10.42.0.0/16", "except": ["10.42.9.0/24"] } }] });
    assert!(ingress(block.clone(), "10.42.1.7", 80));
    assert!(!ingress(block.clone(), "10.42.9.7", 80));
    assert!(!ingress(block, "100.64.0.7", 80), "a virtual address is not the native one");
}

#[test]
fn selectors_mean_pods_of_this_cluster_only() {
    let anybody = json!({ "from": [{ "namespaceSelector": {}, "podSelector": {} }] });
    assert!(!ingress(anybody.clone(), "10.42.1.7", 80), "a pod of another cluster");
    assert!(ingress(anybody, "10.52.0.30", 80));
    assert!(!ingress(json!({ "from": [{ "podSelector": {} }] }), "10.52.0.30", 80), "of another namespace");
    let team = |name: &str| json!({ "from": [{ "namespaceSelector": { "matchLabels": { "team": name } } }] });
    assert!(ingress(team("a"), "10.52.0.30", 80));
    assert!(!ingress(team("b"), "10.52.0.30", 80));
}

#[test]
fn ports_have_numbers_ranges_names_and_protocols() {
    let to = |port: serde_json::Value| json!({ "ports": [port] });
    assert!(ingress(json!({}), "10.42.1.7", 80), "an empty rule lets everything in");
    assert!(ingress(to(json!({ "port": 80 })), "10.42.1.7", 80));
    assert!(!ingress(to(json!({ "port": 81 })), "10.42.1.7", 80));
    assert!(ingress(to(json!({ "port": 8000, "endPort": 8100 })), "10.42.1.7", 8080));
    assert!(!ingress(to(json!({ "port": 80, "protocol": "UDP" })), "10.42.1.7", 80));
    assert!(ingress(to(json!({ "port": "http" })), "10.42.1.7", 8080));
    assert!(!ingress(to(json!({ "port": "http" })), "10.42.1.7", 80));
}

#[test]
fn a_policy_is_about_the_directions_that_it_names_or_has_rules_for() {
    let free = |spec, direction| ruled(spec, direction, "10.42.1.7", 80, "TCP") == Ruling::Free;
    assert!(free(json!({ "podSelector": {} }), Direction::Egress));
    assert!(!free(json!({ "podSelector": {} }), Direction::Ingress));
    assert!(!free(json!({ "podSelector": {}, "egress": [{}] }), Direction::Egress));
    assert!(free(json!({ "podSelector": {}, "policyTypes": ["Egress"] }), Direction::Ingress));
    assert!(free(json!({ "podSelector": { "matchLabels": { "app": "db" } } }), Direction::Ingress));
}

#[test]
fn expressions_select_by_what_is_there_and_what_is_not() {
    let of = |key: &str, operator: &str, values: &[&str]| {
        let spec =
            json!({ "podSelector": { "matchExpressions": [{ "key": key, "operator": operator, "values": values }] } });
        ruled(spec, Direction::Ingress, "10.42.1.7", 80, "TCP") != Ruling::Free
    };
    assert!(of("app", "In", &["web", "x"]) && !of("app", "In", &["x"]));
    assert!(of("app", "NotIn", &["x"]) && !of("app", "NotIn", &["web"]));
    assert!(of("app", "Exists", &[]) && !of("tier", "Exists", &[]));
    assert!(of("tier", "DoesNotExist", &[]) && !of("app", "DoesNotExist", &[]));
}
