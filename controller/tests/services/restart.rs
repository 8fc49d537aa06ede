//! Crashes and restarts, each on an API server of its own: rows 5, 27, 62 and 82.

use controller::api::ServiceExport;
use controller::cluster::services::ServicesConfig;
use controller::services::{ClusterId, Family};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use testbed::ApiServer;

use super::support::{Shop, client, prepare, settle, start_loop, until};

fn config() -> ServicesConfig {
    ServicesConfig { families: vec![Family::V4], ..ServicesConfig::new(ClusterId::new("c1").unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_5_27_62_and_82_a_restart_keeps_addresses_and_newer_kinds_and_leaves_no_orphans() {
    let mut server =
        tokio::task::spawn_blocking(|| ApiServer::options().service_cidrs("10.43.0.0/16").start().unwrap())
            .await
            .unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    // Somebody has installed newer kinds than ours.
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let imports = "serviceimports.multicluster.x-k8s.io";
    let newer = json!({ "metadata": { "labels": { "multicluster.x-k8s.io/release-version": "v9.9.9" } } });
    let newer = crds.patch(imports, &PatchParams::default(), &Patch::Merge(newer)).await.unwrap();
    let (task, stop) = start_loop(&client, config());
    let kept = Shop::open_on(client.clone(), "kept").await;
    kept.open_for_sale().await;
    let gone = Shop::open_on(client.clone(), "gone").await;
    gone.open_for_sale().await;
    let six = Shop::open_on(client.clone(), "six").await;
    six.remote("c2", "2020-01-01T00:00:00Z", json!({ "ipFamilies": ["IPv6"], "slices": [] })).await;
    let before = kept.imported_from(&["c1"]).await;
    gone.imported_from(&["c1"]).await;
    kept.endpoints_become(&["c1 10.1.0.1"]).await;
    let import = until("an import that says why it is of no use", async || {
        let import = six.import().await?;
        let condition = import.status.as_ref()?.conditions.first()?;
        (condition.reason == "IPFamilyNotSupported").then_some(import)
    })
    .await;
    assert_eq!(import.spec.ips, Vec::<String>::new());
    settle().await;

    // The loop goes, and an export goes while nobody looks.
    drop(stop);
    task.await.unwrap();
    let versions = kept.versions().await;
    gone.delete::<ServiceExport>().await;
    settle().await;
    assert!(gone.import().await.is_some());
    let (task, stop) = start_loop(&client, config());
    gone.everything_is_gone().await;
    settle().await;
    assert_eq!(kept.versions().await, versions, "a restart writes nothing");

    // The API server goes and comes back.
    let server = tokio::task::spawn_blocking(move || {
        server.stop().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    gone.export().await;
    gone.imported_from(&["c1"]).await;
    assert_eq!(kept.imported_from(&["c1"]).await.spec.ips, before.spec.ips);
    drop(stop);
    task.await.unwrap();
    let after = crds.get(imports).await.unwrap();
    assert_eq!((after.metadata.labels, after.spec), (newer.metadata.labels, newer.spec));
    drop(server);
}
