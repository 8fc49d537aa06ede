//! Answers that any API server may give: 410 Gone to who asks for what is too long ago, 429 Too Many Requests to who asks too
//! much at once.

use controller::api::ServiceExport;
use controller::cluster::client::connect;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use futures::StreamExt as _;
use futures::future::join_all;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, Error};
use testbed::ApiServer;

use super::relay::Relay;
use super::support::{Shop, client, config, prepare, settle, start_loop, until};

/// Of the user `loop`, one request at a time is answered, and the others are refused: where there is no seat, a level has one
/// for who comes while it is idle.
const THROTTLE: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: { name: throttled }
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 0
    lendablePercent: 0
    borrowingLimitPercent: 0
    limitResponse: { type: Reject }
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: { name: throttled }
spec:
  matchingPrecedence: 2
  priorityLevelConfiguration: { name: throttled }
  rules:
    - subjects: [{ kind: User, user: { name: loop } }]
      resourceRules: [{ verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"] }]
      nonResourceRules: [{ verbs: ["*"], nonResourceURLs: ["*"] }]
"#;

/// The user `loop` may do everything. Those of system:masters are never refused.
const ALLOW: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: loop }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: loop }]
"#;

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
    }
    settle().await;
    let versions = kept.versions().await;

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
    settle().await;
    assert_eq!(kept.versions().await, versions, "who looks anew writes nothing");
    drop(stop);
    task.await.unwrap();
}

/// How many requests of the user `loop` have been refused.
fn refused(server: &ApiServer) -> f64 {
    let metrics = server.kubectl(["get", "--raw", "/metrics"]).unwrap().stdout().unwrap();
    let of_level = |line: &&str| {
        line.starts_with("apiserver_flowcontrol_rejected_requests_total")
            && line.contains("priority_level=\"throttled\"")
    };
    metrics.lines().filter(of_level).filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_by_429_too_many_requests_is_done_later() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start().unwrap()).await.unwrap();
    let admin = client(server.kubeconfig()).await;
    prepare(&admin).await;
    server.apply(ALLOW).unwrap();
    let own = client(&server.kubeconfig_of("loop", None).unwrap()).await;
    let (task, stop) = start_loop(&own, of_c1());
    let kept = Shop::open_on(admin.clone(), "kept").await;
    let gone = Shop::open_on(admin.clone(), "gone").await;
    for shop in [&kept, &gone] {
        shop.open_for_sale().await;
        shop.imported_from(&["c1"]).await;
        shop.endpoints_become(&["c1 10.1.0.1"]).await;
    }
    settle().await;
    let versions = kept.versions().await;
    server.apply(THROTTLE).unwrap();
    until("requests are refused", async || {
        let answers = join_all((0..16).map(|_| own.apiserver_version())).await;
        let is_refused = |answer: &kube::Result<_>| matches!(answer, Err(Error::Api(status)) if status.code == 429);
        answers.iter().any(is_refused).then_some(())
    })
    .await;

    // The lists of one that starts, and what it writes about many services.
    drop(stop);
    task.await.unwrap();
    let before = refused(&server);
    let (task, stop) = start_loop(&own, of_c1());
    gone.delete::<ServiceExport>().await;
    let fresh = join_all((0..8).map(|number| {
        let admin = admin.clone();
        async move {
            let shop = Shop::open_on(admin, &format!("fresh-{number}")).await;
            shop.open_for_sale().await;
            shop
        }
    }))
    .await;
    gone.everything_is_gone().await;
    for shop in &fresh {
        shop.imported_from(&["c1"]).await;
        shop.endpoints_become(&["c1 10.1.0.1"]).await;
    }
    assert!(refused(&server) > before, "nothing was refused");
    settle().await;
    assert_eq!(kept.versions().await, versions, "what needed no write got none");
    drop(stop);
    task.await.unwrap();
}
