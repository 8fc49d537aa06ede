//! Merging, as far as the API shows it: rows 33 to 54. Each rule is a test of its own beside the code.

use controller::api::ServiceExport;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::support::{Shop, http, until};

const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2090-01-01T00:00:00Z";

fn ports(import: &controller::api::ServiceImport) -> Vec<String> {
    let show = |port: &controller::api::ImportPort| format!("{} {}", port.name, port.port);
    import.spec.ports.iter().map(show).collect()
}

#[tokio::test]
async fn row_33_and_70_ports_are_united_and_slices_have_those_of_their_export() {
    let shop = Shop::open("row-33").await;
    shop.open_for_sale().await;
    shop.remote(
        "c2",
        NEW,
        json!({
            "ports": [
                { "name": "http", "protocol": "TCP", "port": 81 },
                { "name": "metrics", "protocol": "TCP", "port": 9090 }
            ],
            "slices": [{
                "addressType": "IPv4",
                "ports": [
                    { "name": "http", "protocol": "TCP", "port": 8081 },
                    { "name": "metrics", "protocol": "TCP", "port": 9090 }
                ],
                "endpoints": [{ "addresses": ["10.2.0.1"] }]
            }]
        }),
    )
    .await;
    let import = shop.imported_from(&["c1", "c2"]).await;
    assert_eq!(ports(&import), ["http 80", "metrics 9090"]);
    assert_eq!(
        shop.export_says("Conflict=True/PortConflict").await,
        "Conflicting ports. Using \"http 80/TCP, metrics 9090/TCP\", where \"c1\" has the oldest service export. \
         1/2 clusters disagree."
    );
    shop.endpoints_become(&["c1 10.1.0.1", "c2 10.2.0.1"]).await;
    let slices = shop.slices().await;
    let ports: Vec<_> =
        slices.iter().flat_map(|slice| slice.ports.iter().flatten()).map(|port| port.name.clone().unwrap()).collect();
    assert_eq!(ports, ["http", "metrics"]);
}

#[tokio::test]
async fn row_34_53_and_54_the_oldest_export_wins() {
    let shop = Shop::open("row-34").await;
    let with = |port: u16| json!({ "ports": [{ "name": "http", "protocol": "TCP", "port": port }] });
    shop.open_for_sale().await;
    shop.remote("c2", NEW, with(81)).await;
    assert_eq!(ports(&shop.imported_from(&["c1", "c2"]).await), ["http 80"]);
    shop.remote("c3", OLD, with(82)).await;
    let import = shop.imported_from(&["c1", "c2", "c3"]).await;
    assert_eq!(ports(&import), ["http 82"]);
    // The derived Service follows, with its address.
    until("the derived Service has the port", async || {
        let spec = shop.derived().await?.spec?;
        (spec.ports?.iter().map(|port| port.port).collect::<Vec<_>>() == [82]
            && spec.cluster_ips?[..1] == import.spec.ips[..])
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_42_43_44_and_45_affinity_and_policies_reach_the_import_and_the_derived_service() {
    let shop = Shop::open("row-42").await;
    shop.service(json!({
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        "internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose"
    }))
    .await;
    shop.export().await;
    shop.remote("c2", NEW, json!({ "sessionAffinity": "ClientIP", "sessionAffinityTimeoutSeconds": 20 })).await;
    let import = shop.imported_from(&["c1", "c2"]).await.spec;
    assert_eq!(import.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(import.session_affinity_config.unwrap().client_ip.unwrap().timeout_seconds, Some(10));
    assert_eq!(import.internal_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(import.traffic_distribution.as_deref(), Some("PreferClose"));
    let derived = shop.derived().await.unwrap().spec.unwrap();
    assert_eq!(derived.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(derived.session_affinity_config.unwrap().client_ip.unwrap().timeout_seconds, Some(10));
    assert_eq!(derived.internal_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(derived.traffic_distribution.as_deref(), Some("PreferClose"));
    assert_eq!(derived.selector.unwrap_or_default().len(), 0);
    let reasons =
        "Conflict=True/SessionAffinityConfigConflict,InternalTrafficPolicyConflict,TrafficDistributionConflict";
    shop.export_says(reasons).await;
    // What is no longer wanted goes from the derived Service too.
    shop.remote("c2", OLD, json!({})).await;
    until("the older export decides", async || {
        let derived = shop.derived().await?.spec?;
        let gone = derived.session_affinity.as_deref() == Some("None")
            && derived.session_affinity_config.is_none()
            && derived.traffic_distribution.is_none()
            && derived.internal_traffic_policy.as_deref() == Some("Cluster");
        gone.then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_46_families_that_do_not_meet_are_a_conflict() {
    let shop = Shop::open("row-46").await;
    shop.open_for_sale().await;
    shop.remote("c2", NEW, json!({ "ipFamilies": ["IPv6"], "slices": [] })).await;
    assert_eq!(shop.imported_from(&["c1", "c2"]).await.spec.ip_families, ["IPv4"]);
    shop.export_says("Conflict=True/IPFamilyConflict").await;
}

#[tokio::test]
async fn row_47_50_conflicts_are_told_together_and_clear() {
    let shop = Shop::open("row-47").await;
    shop.open_for_sale().await;
    let other = json!({
        "sessionAffinity": "ClientIP", "ports": [{ "name": "http", "protocol": "TCP", "port": 81 }],
        "exportedLabels": { "a": "b" }
    });
    shop.remote("c2", NEW, other).await;
    let message = shop.export_says("Conflict=True/PortConflict,SessionAffinityConflict,LabelsConflict").await;
    assert!(
        message.contains("ports") && message.contains("session affinity") && message.contains("labels"),
        "{message}"
    );
    shop.remote("c2", NEW, json!({})).await;
    shop.withdraw("c2").await;
    shop.remote("c2", NEW, json!({})).await;
    shop.export_says("Conflict=False/NoConflicts").await;
}

#[tokio::test]
async fn row_49_a_conflict_is_told_on_all_exports_whoever_disagrees() {
    let shop = Shop::open("row-49").await;
    let other = || json!({ "ports": [{ "name": "http", "protocol": "TCP", "port": 81 }] });
    let told = async |disagree: usize| {
        let message = shop.export_says("Conflict=True/PortConflict").await;
        assert!(message.ends_with(&format!("{disagree}/3 clusters disagree.")), "{message}");
    };
    shop.open_for_sale().await;
    shop.export_says("Conflict=False/NoConflicts").await;
    // This cluster is the oldest, and only the youngest disagrees with it.
    shop.remote("c2", NEW, json!({})).await;
    shop.remote("c3", NEW, other()).await;
    shop.imported_from(&["c1", "c2", "c3"]).await;
    told(1).await;
    // It agrees with the oldest.
    shop.remote("c2", OLD, json!({})).await;
    until("the oldest is another one", async || {
        let message = shop.export_says("Conflict=True/PortConflict").await;
        message.contains("where \"c2\" has the oldest").then_some(())
    })
    .await;
    told(1).await;
    // It disagrees itself.
    shop.remote("c2", OLD, other()).await;
    until("the port of the oldest counts", async || (ports(&shop.import().await?) == ["http 81"]).then_some(())).await;
    told(1).await;
}

#[tokio::test]
async fn row_51_a_younger_conflicting_export_leaves_the_derived_service_alone() {
    let shop = Shop::open("row-51").await;
    shop.open_for_sale().await;
    shop.imported_from(&["c1"]).await;
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    let before = shop.derived().await.unwrap();
    let slice = shop.slices().await.remove(0);
    let other = json!({ "sessionAffinity": "ClientIP", "ports": [{ "name": "http", "protocol": "TCP", "port": 81 }] });
    shop.remote("c2", NEW, other).await;
    shop.imported_from(&["c1", "c2"]).await;
    shop.export_says("Conflict=True/PortConflict,SessionAffinityConflict").await;
    assert_eq!(shop.derived().await.unwrap().metadata.resource_version, before.metadata.resource_version);
    let slices = shop.slices().await;
    assert_eq!(slices.len(), 1, "the port of c2 goes nowhere");
    assert_eq!(slices[0].metadata.resource_version, slice.metadata.resource_version);
}

#[tokio::test]
async fn row_52_without_the_oldest_the_rest_decides() {
    let shop = Shop::open("row-52").await;
    shop.open_for_sale().await;
    let ports_of = json!([{ "name": "http", "protocol": "TCP", "port": 81 }]);
    let slices = json!([{ "addressType": "IPv4", "ports": http(8081), "endpoints": [{ "addresses": ["10.2.0.1"] }] }]);
    shop.remote("c2", NEW, json!({ "ports": ports_of, "slices": slices })).await;
    let before = shop.imported_from(&["c1", "c2"]).await;
    shop.delete::<ServiceExport>().await;
    let after = shop.imported_from(&["c2"]).await;
    assert_eq!(ports(&after), ["http 81"]);
    assert_eq!(after.spec.ips, before.spec.ips);
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    assert!(shop.api::<Service>().get_opt("web").await.unwrap().is_some());
}

#[tokio::test]
async fn row_62_a_refused_export_has_no_vote_and_alone_it_keeps_the_address() {
    let shop = Shop::open("row-62-refused").await;
    let other = json!({ "ports": [{ "name": "http", "protocol": "TCP", "port": 81 }] });
    shop.open_for_sale().await;
    shop.remote("c2", OLD, other).await;
    let before = shop.imported_from(&["c1", "c2"]).await;
    shop.export_says("Conflict=True/PortConflict").await;
    shop.refuse("c2").await;
    assert_eq!(ports(&shop.imported_from(&["c1"]).await), ["http 80"]);
    shop.export_says("Conflict=False/NoConflicts").await;
    shop.delete::<ServiceExport>().await;
    let after = shop.imported_from(&["c2"]).await;
    assert_eq!((after.metadata.uid, after.spec.ips), (before.metadata.uid, before.spec.ips));
    shop.endpoints_become(&[]).await;
    shop.withdraw("c2").await;
    shop.everything_is_gone().await;
}
