//! What the API server does not take.

use controller::api::ServiceExport;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use controller::services::derived::derived_name;
use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Error;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testbed::ApiServer;

use super::support::{Shop, client, condition, create, http, prepare, start_loop, until};

const OLD: &str = "2020-01-01T00:00:00Z";

impl Shop {
    /// From now on, no Service can be made.
    async fn allow_no_service(&self) {
        let none = json!({ "count/services": "0" });
        let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": none } });
        create::<ResourceQuota>(&self.client, &self.namespace, quota).await;
        // Without its controller, nobody else says what counts.
        let status = Patch::Merge(json!({ "status": { "hard": none, "used": none } }));
        self.api::<ResourceQuota>().patch_status("none", &PatchParams::default(), &status).await.unwrap();
        let probe: Service =
            serde_json::from_value(json!({ "metadata": { "name": "probe" }, "spec": { "ports": [{ "port": 1 }] } }))
                .unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        until("the quota counts", async || {
            let refused = self.api::<Service>().create(&dry, &probe).await;
            matches!(refused, Err(Error::Api(status)) if status.code == 403).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn row_26_a_derived_service_that_cannot_be_made_is_told_and_keeps_nothing_else_waiting() {
    let shop = Shop::open("quota").await;
    shop.service(json!({})).await;
    shop.slice("web-1", http(8080), json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": true } }])).await;
    shop.allow_no_service().await;
    shop.remote("c2", OLD, json!({})).await;
    shop.export().await;
    let failed = until("the failure is told", async || {
        let conditions = shop.import().await?.status?.conditions;
        let ready = condition(&conditions, "Ready")?.clone();
        ready.message.contains("exceeded quota: none").then_some(ready)
    })
    .await;
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("False", "Pending"));
    assert!(failed.message.starts_with("failed to apply Service quota/derived-"), "{}", failed.message);
    // What other clusters see of this one goes on meanwhile.
    let ready = async || shop.record().await?.spec.slices.first()?.endpoints.first()?.ready;
    for wanted in [false, true] {
        let endpoints = json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": wanted } }]);
        let patch = Patch::Merge(json!({ "endpoints": endpoints }));
        shop.api::<EndpointSlice>().patch("web-1", &PatchParams::default(), &patch).await.unwrap();
        until("readiness is told", async || (ready().await == Some(wanted)).then_some(())).await;
    }
    shop.delete::<ServiceExport>().await;
    until("the record is withdrawn", async || shop.record().await.is_none().then_some(())).await;
    shop.api::<ResourceQuota>().delete("none", &DeleteParams::default()).await.unwrap();
    let import = shop.imported_from(&["c2"]).await;
    assert_eq!(
        condition(&import.status.unwrap().conditions, "Ready").unwrap().message,
        "",
        "nothing is wrong any more"
    );
}

#[tokio::test]
async fn row_62_an_address_of_one_family_comes_back_whatever_the_clusters_first_family_is() {
    let shop = Shop::open("row-62-six").await;
    let slices = json!([{ "addressType": "IPv6", "ports": http(8080), "endpoints": [{ "addresses": ["fd02::1"] }] }]);
    shop.remote("c2", OLD, json!({ "ipFamilies": ["IPv6"], "slices": slices })).await;
    let before = shop.imported_from(&["c2"]).await.spec;
    assert!(before.ips.len() == 1 && before.ips[0].starts_with("fd43:"), "{:?}", before.ips);
    let derived = shop.derived().await.unwrap();
    shop.api::<Service>().delete(&derived_name(&shop.key()), &DeleteParams::default()).await.unwrap();
    let again = until("the derived Service is back", async || {
        shop.derived().await.filter(|again| again.metadata.uid != derived.metadata.uid)
    })
    .await;
    let ips = again.spec.unwrap().cluster_ips.unwrap();
    assert!(ips.len() == 2 && ips.contains(&before.ips[0]), "{ips:?} are not those of {:?}", before.ips);
    assert_eq!(shop.imported_from(&["c2"]).await.spec, before);
}

#[tokio::test]
async fn more_annotations_than_a_record_has_room_for_keep_no_service_from_being_exported() {
    let shop = Shop::open("annotations").await;
    shop.service(json!({})).await;
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("a{n}"), json!("x"))).collect();
    shop.export_with(json!({ "exportedAnnotations": many, "exportedLabels": { "team": "a" } })).await;
    let message = shop.export_says("Valid=True/Valid").await;
    assert_eq!(message, "no annotation is exported: 65 exported annotations, more than 64");
    let record = until("the record is there", async || shop.record().await).await.spec;
    assert_eq!((record.exported_annotations.len(), record.exported_labels.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_45_an_export_for_newer_api_servers_has_its_address_on_an_older_one() {
    let start = || ApiServer::options().arg("--emulated-version=1.33").start().unwrap();
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    let (task, stop) = start_loop(&client, ServicesConfig::new(ClusterId::new("c1").unwrap()));
    let shop = Shop::open_on(client, "older").await;
    shop.remote("c2", OLD, json!({ "trafficDistribution": "PreferSameNode" })).await;
    let import = shop.imported_from(&["c2"]).await.spec;
    assert_eq!(import.ips.len(), 1);
    assert_eq!(import.traffic_distribution.as_deref(), Some("PreferSameNode"), "as it was merged");
    let derived = shop.derived().await.unwrap().spec.unwrap();
    assert_eq!(derived.traffic_distribution.as_deref(), Some("PreferClose"));
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    drop(stop);
    task.await.unwrap();
}
