//! Exports: rows 6 to 17.

use controller::api::{ImportType, ServiceExport};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::support::{Shop, condition, settle, until};

#[tokio::test]
async fn row_6_steady_state_writes_nothing_and_conditions_are_well_formed() {
    let shop = Shop::open("row-6").await;
    shop.open_for_sale().await;
    shop.remote("c2", "2090-01-01T00:00:00Z", json!({})).await;
    let import = shop.imported_from(&["c1", "c2"]).await;
    let ready = condition(&import.status.as_ref().unwrap().conditions, "Ready").unwrap().clone();
    assert_eq!(ready.observed_generation, import.metadata.generation);
    shop.endpoints_become(&["c1 10.1.0.1", "c2 10.2.0.1"]).await;
    shop.export_says("Valid=True/Valid").await;
    let before = shop.quiet().await;
    assert_eq!(before.len(), 6, "{before:?}");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(shop.versions().await, before);
}

#[tokio::test]
async fn row_7_and_13_an_exportable_service_is_valid_without_conflicts() {
    let shop = Shop::open("row-7").await;
    shop.open_for_sale().await;
    shop.export_says("Valid=True/Valid").await;
    shop.export_says("Conflict=False/NoConflicts").await;
    shop.imported_from(&["c1"]).await;
}

#[tokio::test]
async fn row_8_an_export_may_come_before_its_service() {
    let shop = Shop::open("row-8").await;
    shop.export().await;
    shop.export_says("Valid=False/NoService").await;
    shop.export_says("Ready=False/Pending").await;
    assert_eq!(shop.import().await, None);
    shop.service(json!({})).await;
    shop.export_says("Valid=True/Valid").await;
    shop.imported_from(&["c1"]).await;
}

#[tokio::test]
async fn row_9_a_deleted_service_leaves_the_import() {
    let shop = Shop::open("row-9").await;
    shop.open_for_sale().await;
    shop.remote("c2", "2090-01-01T00:00:00Z", json!({})).await;
    shop.imported_from(&["c1", "c2"]).await;
    shop.delete::<Service>().await;
    shop.export_says("Valid=False/NoService").await;
    shop.imported_from(&["c2"]).await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    shop.withdraw("c2").await;
    shop.everything_is_gone().await;
}

#[tokio::test]
async fn row_10_an_external_name_is_not_exported_and_recovers() {
    let shop = Shop::open("row-10").await;
    shop.service(json!({ "type": "ExternalName", "externalName": "example.com", "ports": [] })).await;
    shop.export().await;
    shop.export_says("Valid=False/InvalidServiceType").await;
    assert_eq!(shop.import().await, None);
    let ports = json!([{ "name": "http", "port": 80 }]);
    shop.patch_service(json!({ "type": "ClusterIP", "externalName": null, "ports": ports })).await;
    shop.imported_from(&["c1"]).await;
    shop.patch_service(
        json!({ "type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null }),
    )
    .await;
    shop.export_says("Valid=False/InvalidServiceType").await;
    shop.everything_is_gone().await;
}

#[tokio::test]
async fn row_11_node_ports_and_load_balancers_are_clusterset_ips_and_stay_as_they_are() {
    for kind in ["NodePort", "LoadBalancer"] {
        let shop = Shop::open(&format!("row-11-{}", kind.to_ascii_lowercase())).await;
        let before = shop.service(json!({ "type": kind })).await;
        shop.export().await;
        assert_eq!(shop.imported_from(&["c1"]).await.spec.kind, ImportType::ClusterSetIP);
        let after = shop.api::<Service>().get("web").await.unwrap();
        assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    }
}

#[tokio::test]
async fn row_12_an_export_is_ready_when_the_broker_has_it() {
    let shop = Shop::open("row-12").await;
    shop.open_for_sale().await;
    // Before all of it is seen, something else is missing.
    shop.export_says("Valid=True/Valid").await;
    assert_eq!(shop.export_says("Ready=False/Pending").await, "the broker does not have it yet");
    shop.publish("False", "the broker does not answer").await;
    assert_eq!(shop.export_says("Ready=False/Failed").await, "the broker does not answer");
    shop.publish("True", "").await;
    shop.export_says("Ready=True/Exported").await;
}

#[tokio::test]
async fn row_14_a_service_that_is_not_exported_does_not_contribute() {
    let shop = Shop::open("row-14").await;
    shop.service(json!({})).await;
    shop.slice("web-1", super::support::http(8080), json!([{ "addresses": ["10.1.0.1"] }])).await;
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    shop.imported_from(&["c2"]).await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    settle().await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    assert_eq!(shop.record().await, None);
}

#[tokio::test]
async fn row_15_and_22_nothing_is_left_of_a_service_that_is_no_longer_exported() {
    let shop = Shop::open("row-15").await;
    shop.open_for_sale().await;
    shop.imported_from(&["c1"]).await;
    let began = std::time::Instant::now();
    shop.delete::<ServiceExport>().await;
    shop.everything_is_gone().await;
    // The goal is two seconds; tests run beside each other.
    assert!(began.elapsed().as_secs_f32() < 60.0, "{:?}", began.elapsed());
    assert!(shop.api::<Service>().get_opt("web").await.unwrap().is_some());
}

#[tokio::test]
async fn row_16_conditions_of_others_on_an_export_stay() {
    let shop = Shop::open("row-16").await;
    shop.export().await;
    shop.export_says("Valid=False/NoService").await;
    let foreign = json!({
        "type": "example.com/X", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    });
    let export = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": { "name": "web" },
        "status": { "conditions": [foreign] }
    });
    let params = PatchParams::apply("somebody-else");
    shop.api::<ServiceExport>().patch_status("web", &params, &Patch::Apply(export)).await.unwrap();
    shop.service(json!({})).await;
    shop.export_says("Valid=True/Valid").await;
    let conditions = shop.api::<ServiceExport>().get("web").await.unwrap().status.unwrap().conditions;
    assert_eq!(condition(&conditions, "example.com/X").unwrap().reason, "X");
}

#[tokio::test]
async fn row_17_records_of_reserved_namespaces_are_not_imported() {
    let shop = Shop::open("row-17").await;
    let system = Shop { client: shop.client.clone(), namespace: "kube-system".into() };
    system.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    shop.imported_from(&["c2"]).await;
    assert_eq!(system.import().await, None);
}

#[tokio::test]
async fn records_with_addresses_of_others_are_not_imported() {
    let shop = Shop::open("foreign").await;
    let slice = |address: &str| {
        json!({ "slices": [{
            "addressType": "IPv4", "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }],
            "endpoints": [{ "addresses": [address] }]
        }] })
    };
    shop.remote("c2", "2020-01-01T00:00:00Z", slice("10.3.0.1")).await;
    shop.remote("c3", "2020-01-01T00:00:00Z", slice("10.3.0.1")).await;
    shop.imported_from(&["c3"]).await;
    let mut mixed = slice("10.2.0.1");
    mixed["slices"][0]["endpoints"].as_array_mut().unwrap().push(json!({ "addresses": ["10.3.0.7"] }));
    shop.remote("c2", "2020-01-01T00:00:00Z", mixed).await;
    shop.imported_from(&["c2", "c3"]).await;
    shop.endpoints_become(&["c2 10.2.0.1", "c3 10.3.0.1"]).await;
    shop.remote("c3", "2020-01-01T00:00:00Z", slice("127.0.0.1")).await;
    shop.imported_from(&["c2"]).await;
    until("the endpoints of c3 are gone", async || (shop.endpoints().await == ["c2 10.2.0.1"]).then_some(())).await;
}

#[tokio::test]
async fn events_tell_what_became_of_an_export_once() {
    let shop = Shop::open("events").await;
    // The API server tells of the derived Service meanwhile.
    let of_export =
        |event: &Event| event.regarding.as_ref().is_some_and(|it| it.kind.as_deref() == Some("ServiceExport"));
    let told = async || {
        let events = shop.api::<Event>().list(&Default::default()).await.unwrap().items.into_iter().filter(of_export);
        let mut told: Vec<_> =
            events.map(|event| format!("{} {}", event.type_.unwrap(), event.reason.unwrap())).collect();
        told.sort();
        told
    };
    shop.export().await;
    shop.export_says("Valid=False/NoService").await;
    until("the missing Service is told", async || (told().await == ["Warning NotValid"]).then_some(())).await;
    shop.service(json!({})).await;
    until("it is mended", async || (told().await == ["Normal Valid", "Warning NotValid"]).then_some(())).await;
    shop.imported_from(&["c1"]).await;
    shop.publish("True", "").await;
    let all = ["Normal Exported", "Normal Valid", "Warning NotValid"];
    until("it is exported", async || (told().await == all).then_some(())).await;
    settle().await;
    assert_eq!(told().await, all);
}
