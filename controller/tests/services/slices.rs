//! Imported EndpointSlices: rows 71 to 81.

use controller::api::{GatewayNode, ServiceExport};
use controller::services::derived::derived_name;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::support::{Shop, create, http, settle, until};

const NEW: &str = "2090-01-01T00:00:00Z";

#[tokio::test]
async fn row_71_73_74_75_and_76_slices_are_labelled_and_complete_and_go_by_name() {
    let shop = Shop::open("row-71").await;
    shop.service(json!({})).await;
    let native = json!([{
        "addresses": ["10.1.0.1"], "hostname": "web-0", "zone": "z1", "nodeName": "n1",
        "conditions": { "ready": false, "serving": true, "terminating": true },
        "targetRef": { "kind": "Pod", "name": "web-0", "namespace": "row-71" }
    }]);
    let port = json!([{ "name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http" }]);
    shop.slice("web-1", port.clone(), native).await;
    shop.export().await;
    shop.endpoints_become(&["c1 10.1.0.1 not ready"]).await;
    let slice = shop.slices().await.remove(0);
    let labels = slice.metadata.labels.unwrap();
    assert_eq!(labels["multicluster.kubernetes.io/service-name"], "web");
    assert_eq!(labels["multicluster.kubernetes.io/source-cluster"], "c1");
    assert_eq!(labels["kubernetes.io/service-name"], derived_name(&shop.key()));
    assert_eq!(serde_json::to_value(&slice.ports).unwrap(), port);
    assert_eq!(
        serde_json::to_value(&slice.endpoints).unwrap(),
        json!([{
            "addresses": ["10.1.0.1"], "hostname": "web-0", "zone": "z1", "nodeName": "n1",
            "conditions": { "ready": false, "serving": true, "terminating": true }
        }])
    );
    let of_users = ListParams::default().labels("kubernetes.io/service-name=web");
    let api = shop.api::<EndpointSlice>();
    let names = |list: kube::core::ObjectList<EndpointSlice>| {
        list.items.into_iter().map(|slice| slice.metadata.name.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(api.list(&of_users).await.unwrap()), ["web-1"]);
    shop.delete::<ServiceExport>().await;
    shop.everything_is_gone().await;
    assert_eq!(names(api.list(&ListParams::default()).await.unwrap()), ["web-1"]);
}

/// What kube-proxy goes by: connections themselves are not made here.
#[tokio::test]
async fn row_67_and_68_kube_proxy_is_told_of_affinity_and_of_endpoints_on_its_own_nodes_only() {
    let shop = Shop::open("row-67").await;
    shop.service(json!({
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        "internalTrafficPolicy": "Local"
    }))
    .await;
    shop.slice("web-1", http(8080), json!([{ "addresses": ["10.1.0.1"], "nodeName": "n1" }])).await;
    shop.export().await;
    // A node of the same name in another cluster is another one.
    let endpoints = json!([{ "addresses": ["10.2.0.1"], "nodeName": "n1" }]);
    let slices = json!([{ "addressType": "IPv4", "ports": http(8080), "endpoints": endpoints }]);
    shop.remote("c2", NEW, json!({ "slices": slices })).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c2 10.2.0.1"]).await;
    let derived = shop.derived().await.unwrap().spec.unwrap();
    assert_eq!(derived.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(derived.session_affinity_config.unwrap().client_ip.unwrap().timeout_seconds, Some(10));
    assert_eq!(derived.internal_traffic_policy.as_deref(), Some("Local"));
    let endpoints = shop.slices().await.into_iter().flat_map(|slice| slice.endpoints);
    let mut nodes: Vec<_> = endpoints.map(|endpoint| (endpoint.addresses[0].clone(), endpoint.node_name)).collect();
    nodes.sort();
    assert_eq!(nodes, [("10.1.0.1".to_owned(), Some("n1".to_owned())), ("10.2.0.1".to_owned(), None)]);
}

/// kube-proxy minds hints only where every endpoint has one; what it makes of these is tested beside the code.
#[tokio::test]
async fn row_45_and_74_with_a_traffic_distribution_every_endpoint_has_hints_wherever_it_is() {
    let shop = Shop::open("row-45").await;
    shop.service(json!({ "trafficDistribution": "PreferSameNode" })).await;
    let own = json!([{ "addresses": ["10.1.0.1"], "zone": "z1", "nodeName": "n1" }, { "addresses": ["10.1.0.2"] }]);
    shop.slice("web-1", http(8080), own).await;
    shop.export().await;
    let theirs = json!([{ "addresses": ["10.2.0.1"], "zone": "z1", "nodeName": "n1" }, { "addresses": ["10.2.0.2"] }]);
    let slices = json!([{ "addressType": "IPv4", "ports": http(8080), "endpoints": theirs }]);
    shop.remote("c2", NEW, json!({ "slices": slices })).await;
    // Before both are seen, endpoints may stand without hints.
    shop.imported_from(&["c1", "c2"]).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c1 10.1.0.2", "c2 10.2.0.1", "c2 10.2.0.2"]).await;
    let endpoints = shop.slices().await.into_iter().flat_map(|slice| slice.endpoints);
    let mut hints: Vec<_> = endpoints
        .map(|endpoint| {
            let hints = endpoint.hints.unwrap();
            let zone = hints.for_zones.unwrap().remove(0).name;
            format!("{} {zone} {}", endpoint.addresses[0], hints.for_nodes.unwrap().remove(0).name)
        })
        .collect();
    hints.sort();
    assert_eq!(
        hints,
        [
            "10.1.0.1 z1 n1",
            "10.1.0.2 c1.invalid c1.invalid",
            "10.2.0.1 z1 c2.invalid",
            "10.2.0.2 c2.invalid c2.invalid"
        ]
    );
    // All is said, and not again.
    shop.quiet().await;
}

#[tokio::test]
async fn row_72_and_78_endpoints_of_one_cluster_are_together_and_apart_from_others() {
    let shop = Shop::open("row-72").await;
    shop.service(json!({ "clusterIP": "None" })).await;
    shop.slice("web-1", http(8080), json!([{ "addresses": ["10.1.0.1"], "hostname": "web-0" }])).await;
    shop.slice("web-2", http(8080), json!([{ "addresses": ["10.1.0.2"], "hostname": "web-1" }])).await;
    shop.export().await;
    shop.remote("c2", NEW, json!({ "type": "Headless" })).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c1 10.1.0.2", "c2 10.2.0.1"]).await;
    assert_eq!(shop.slices().await.len(), 2);
}

#[tokio::test]
async fn row_77_readiness_follows_at_once() {
    let shop = Shop::open("row-77").await;
    shop.open_for_sale().await;
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    let began = std::time::Instant::now();
    let patch = Patch::Merge(json!({ "endpoints": [{ "addresses": ["10.1.0.1"], "conditions": { "ready": false } }] }));
    shop.api::<EndpointSlice>().patch("web-1", &PatchParams::default(), &patch).await.unwrap();
    shop.endpoints_become(&["c1 10.1.0.1 not ready"]).await;
    println!("readiness followed after {:?}", began.elapsed());
    // The goal is a second; tests run beside each other.
    assert!(began.elapsed().as_secs_f32() < 60.0, "{:?}", began.elapsed());
}

#[tokio::test]
async fn row_79_a_thousand_endpoints_are_in_ten_slices() {
    let shop = Shop::open("row-79").await;
    shop.service(json!({})).await;
    for part in 0..10 {
        let endpoints: Vec<_> = (1..=100).map(|n| json!({ "addresses": [format!("10.1.{part}.{n}")] })).collect();
        shop.slice(&format!("web-{part}"), http(8080), json!(endpoints)).await;
    }
    shop.export().await;
    until("all endpoints are imported", async || {
        let mut endpoints = shop.endpoints().await;
        endpoints.dedup();
        (endpoints.len() == 1000 && shop.slices().await.len() == 10).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_80_each_family_has_its_slices() {
    let shop = Shop::open("row-80").await;
    shop.service(json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"] })).await;
    shop.slice("web-4", http(8080), json!([{ "addresses": ["10.1.0.1"] }])).await;
    shop.slice("web-6", http(8080), json!([{ "addresses": ["fd01::1"] }])).await;
    shop.export().await;
    shop.endpoints_become(&["c1 10.1.0.1", "c1 fd01::1"]).await;
    let mut types: Vec<_> = shop.slices().await.into_iter().map(|slice| slice.address_type).collect();
    types.sort();
    assert_eq!(types, ["IPv4", "IPv6"]);
    assert_eq!(shop.imported_from(&["c1"]).await.spec.ips.len(), 2);
}

#[tokio::test]
async fn row_81_endpoints_of_a_cluster_that_is_down_are_not_ready_then_gone_until_it_is_back() {
    let shop = Shop::open("row-81").await;
    shop.open_for_sale().await;
    shop.remote("c4", NEW, json!({})).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c4 10.4.0.1"]).await;
    let key = format!("{}A=", "A".repeat(42));
    let gateway = json!({ "metadata": { "name": "n1" }, "spec": { "publicKey": key, "lanes": 1 } });
    create::<GatewayNode>(&shop.client, "linkspan-system", gateway).await;
    let gateways = Api::<GatewayNode>::namespaced(shop.client.clone(), "linkspan-system");
    let say = async |state: &str, since: Option<&str>| {
        let peer = json!({ "cluster": "c4", "state": state, "downSince": since });
        let status = json!({ "status": { "active": true, "observed": "2026-01-01T00:05:00Z", "peers": [peer] } });
        gateways.patch_status("n1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    };
    say("Down", Some("2026-01-01T00:01:40Z")).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c4 10.4.0.1 not ready"]).await;
    assert_eq!(shop.imported_from(&["c1", "c4"]).await.spec.ports.len(), 1);
    say("Down", Some("2026-01-01T00:00:00Z")).await;
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    assert_eq!(shop.slices().await.len(), 1, "the slice is gone, not empty");
    shop.imported_from(&["c1", "c4"]).await;
    // Another gateway has taken over, and has no answer yet.
    say("Connecting", Some("2026-01-01T00:00:00Z")).await;
    settle().await;
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    say("Up", None).await;
    shop.endpoints_become(&["c1 10.1.0.1", "c4 10.4.0.1"]).await;
}
