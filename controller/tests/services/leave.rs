//! Leaving, on an API server of its own, because it is about everything: row 104.

use controller::api::{ServiceExport, ServiceRecord};
use controller::broker::ask_to_leave;
use controller::cluster::services::{Leftovers, ServicesConfig};
use controller::services::ClusterId;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, DeleteParams};
use serde_json::json;
use testbed::ApiServer;

use super::support::{SYSTEM, Shop, client, join, prepare, settle, start_loop, until};

#[tokio::test(flavor = "multi_thread")]
async fn row_104_who_leaves_with_live_exports_keeps_nothing_of_ours_and_may_join_again() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start().unwrap()).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    let (task, stop) = start_loop(&client, ServicesConfig::new(ClusterId::new("c1").unwrap()));
    let both = Shop::open_on(client.clone(), "both").await;
    both.open_for_sale().await;
    both.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    both.imported_from(&["c1", "c2"]).await;
    let headless = Shop::open_on(client.clone(), "headless").await;
    headless.remote("c2", "2020-01-01T00:00:00Z", json!({ "type": "Headless" })).await;
    headless.imported_from(&["c2"]).await;
    headless.endpoints_become(&["c2 10.2.0.1"]).await;
    both.publish("True", "").await;
    both.export_says("Ready=True/Exported").await;

    // The record that the mirror has brought is the mirror's to remove.
    ask_to_leave(&client, SYSTEM).await.unwrap();
    let records = Api::<ServiceRecord>::namespaced(client.clone(), SYSTEM);
    both.everything_is_gone().await;
    headless.everything_is_gone().await;
    let left = Leftovers::find(&client).await.unwrap();
    assert_eq!(left.to_string(), "2 ServiceRecords (linkspan-system/c2.both.web, linkspan-system/c2.headless.web)");
    for shop in [&both, &headless] {
        shop.withdraw("c2").await;
    }
    assert!(records.list(&Default::default()).await.unwrap().items.is_empty());
    assert!(Leftovers::find(&client).await.unwrap().is_empty());
    // What is not ours stays, and the export says where it stands.
    both.api::<Service>().get("web").await.unwrap();
    both.api::<ServiceExport>().get("web").await.unwrap();
    both.export_says("Ready=False/Pending").await;

    // Nothing is made while the cluster is outside, with or without its credential.
    Api::<Secret>::namespaced(client.clone(), SYSTEM)
        .delete("linkspan-broker", &DeleteParams::default())
        .await
        .unwrap();
    headless.service(json!({})).await;
    headless.export().await;
    headless.export_says("Ready=False/Pending").await;
    settle().await;
    assert!(Leftovers::find(&client).await.unwrap().is_empty());

    join(&client).await;
    both.imported_from(&["c1"]).await;
    until("the slices are back", async || (both.endpoints().await == ["c1 10.1.0.1"]).then_some(())).await;
    drop(stop);
    task.await.unwrap();
    drop(server);
}
