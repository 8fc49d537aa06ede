//! What any API server may answer to who asks for what is too long ago: 410 Gone.

use controller::api::ServiceExport;
use controller::cluster::client::connect;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use futures::StreamExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, Error};
use testbed::ApiServer;

use super::relay::Relay;
use super::support::{Shop, client, config, prepare, start_loop, until};

fn of_c1() -> ServicesConfig {
    ServicesConfig::new(ClusterId::new("c1").unwrap())
}

/// What a watch from `version` on is told first, if that is a failure.
async fn failure(client: &Client, version: &str) -> Option<u16> {
    let exports: Api<ServiceExport> = Api::all(client.clone());
    let first = match exports.watch(&WatchParams::default().timeout(1), version).await {
        Ok(events) => Box::pin(events).next().await?,
        Err(error) => Err(error),
    };
    match first {
        Ok(WatchEvent::Error(status)) => Some(status.code),
        Err(Error::Api(status)) => Some(status.code),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_is_noticed_after_410_gone_too() {
    // Without its cache, an API server knows of the past what etcd has kept.
    let options = ApiServer::options().arg("--watch-cache=false").arg("--etcd-compaction-interval=1s");
    let server = tokio::task::spawn_blocking(|| options.start().unwrap()).await.unwrap();
    let admin = client(server.kubeconfig()).await;
    prepare(&admin).await;
    let mut config = config(server.kubeconfig()).await;
    let relay = Relay::before(&mut config).await;
    let (task, stop) = start_loop(&connect(config).unwrap(), of_c1());
    let kept = Shop::open_on(admin.clone(), "kept").await;
    let gone = Shop::open_on(admin.clone(), "gone").await;
    for shop in [&kept, &gone] {
        shop.open_for_sale().await;
        shop.imported_from(&["c1"]).await;
        shop.endpoints_become(&["c1 10.1.0.1"]).await;
        shop.export_says("Valid=True/Valid").await;
    }
    let versions = kept.quiet().await;

    relay.cut();
    let exports = gone.api::<ServiceExport>().list(&ListParams::default()).await.unwrap();
    let version = exports.metadata.resource_version.unwrap();
    gone.delete::<ServiceExport>().await;
    let fresh = Shop::open_on(admin.clone(), "fresh").await;
    fresh.open_for_sale().await;
    until("what was seen before is too old", async || (failure(&admin, &version).await == Some(410)).then_some(()))
        .await;
    assert!(gone.import().await.is_some(), "nobody has looked yet");
    relay.mend();
    gone.everything_is_gone().await;
    fresh.imported_from(&["c1"]).await;
    fresh.endpoints_become(&["c1 10.1.0.1"]).await;
    assert_eq!(kept.quiet().await, versions, "who looks anew writes nothing");
    drop(stop);
    task.await.unwrap();
}
