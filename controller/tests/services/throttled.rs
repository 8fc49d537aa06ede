//! An API server that has no time: it answers 429, and asks to be asked later.

use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use serde_json::json;
use testbed::ApiServer;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::support::{PATIENCE, SYSTEM, Shop, client, create, pod, prepare, start_loop, until};

/// Services that are exported until somebody has been turned away.
const MOST: usize = 200;

/// Who is no administrator of this API server has one request of each sort at a time; what comes meanwhile is turned
/// away. Administrators, as which tests ask, are never.
async fn throttling() -> ApiServer {
    let start = || {
        let throttle =
            ["--enable-priority-and-fairness=false", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1"];
        throttle.into_iter().fold(ApiServer::options(), |options, arg| options.arg(arg)).start().unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// A client that may do everything, in its turn.
async fn ordinary(server: &ApiServer, admin: &Client) -> Client {
    create::<ServiceAccount>(admin, SYSTEM, json!({ "metadata": { "name": "ordinary" } })).await;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "ordinary" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": SYSTEM, "name": "ordinary" }],
    }))
    .unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
    let client = pod(server, "ordinary", "a").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    until("its role counts", async || maps.list(&Default::default()).await.ok()).await;
    client
}

/// What others do without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    Reading,
    Writing,
}

/// Others who keep the one request of a sort for themselves, nearly always, until they are dropped.
fn crowd(client: &Client, busy: Busy) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for _ in 0..6 {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        crowd.spawn(async move {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "crowd" } })).unwrap();
            loop {
                let refused = match busy {
                    Busy::Reading => maps.list(&Default::default()).await.err(),
                    Busy::Writing => maps.create(&dry, &map).await.err(),
                };
                assert!(
                    refused.as_ref().is_none_or(|error| matches!(error, Error::Api(told) if told.code == 429)),
                    "{refused:?}"
                );
            }
        });
    }
    crowd
}

/// How often the API server has turned away who wanted to do one of `verbs` with this resource.
fn turned_away(server: &ApiServer, resource: &str, verbs: &[&str]) -> f64 {
    let metrics = server.kubectl(["get", "--raw", "/metrics"]).unwrap().stdout().unwrap();
    let counts = metrics.lines().filter(|line| {
        let has = |name: &str, value: &str| line.contains(&format!("{name}=\"{value}\""));
        line.starts_with("apiserver_request_total{code=\"429\"")
            && has("resource", resource)
            && verbs.iter().any(|verb| has("verb", verb))
    });
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Starts a loop whose lists are turned away at first, and waits until it has them.
async fn start_among_readers(server: &ApiServer, client: &Client) -> (JoinHandle<()>, oneshot::Sender<()>) {
    let readers = crowd(client, Busy::Reading);
    let own = ["members", "serviceimports", "servicerecords"];
    let is_turned_away = || own.iter().any(|resource| turned_away(server, resource, &["LIST"]) > 0.0);
    // Each kind is listed once, so all may be lucky.
    let (task, stop, mut status) = loop {
        let config = ServicesConfig::new(ClusterId::new("c1").unwrap());
        let status = config.status.subscribe();
        let (task, stop) = start_loop(client, config);
        let is_over = async || (is_turned_away() || status.borrow().listed).then_some(());
        until("kinds are listed, or that is turned away", is_over).await;
        if is_turned_away() {
            break (task, stop, status);
        }
        drop(stop);
        task.await.unwrap();
    };
    drop(readers);
    tokio::time::timeout(PATIENCE, status.wait_for(|told| told.listed)).await.unwrap().unwrap();
    (task, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_82_what_a_busy_api_server_turns_away_is_done_later_and_nothing_is_written_twice() {
    let server = throttling().await;
    let admin = client(server.kubeconfig()).await;
    prepare(&admin).await;
    let ordinary = ordinary(&server, &admin).await;
    let (task, stop) = start_among_readers(&server, &ordinary).await;

    let writers = crowd(&ordinary, Busy::Writing);
    let mut shops = Vec::new();
    for resource in ["servicerecords", "serviceimports", "endpointslices"] {
        while turned_away(&server, resource, &["APPLY"]) == 0.0 {
            assert!(shops.len() < MOST, "nobody is turned away from {resource}");
            let shop = Shop::open_on(admin.clone(), &format!("shop-{}", shops.len())).await;
            shop.open_for_sale().await;
            shops.push(shop);
        }
    }
    drop(writers);
    for shop in &shops {
        shop.imported_from(&["c1"]).await;
        shop.endpoints_become(&["c1 10.1.0.1"]).await;
        shop.export_says("Valid=True/Valid").await;
    }
    // All is said, and not again.
    join_all(shops.iter().map(Shop::quiet)).await;
    drop(stop);
    task.await.unwrap();
}
