//! A cluster whose only gateway is gone: nobody takes its Lease, and nobody says that the others are out of reach.

use std::time::Duration;

use controller::api::GatewayNode;
use controller::cluster::lease::Holding;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use testbed::ApiServer;

use super::support::{Candidate, SYSTEM, Shop, client, create, prepare, start_loop};

const NEW: &str = "2090-01-01T00:00:00Z";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_to_other_clusters_while_no_gateway_renews_its_lease() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start().unwrap()).await.unwrap();
    let admin = client(server.kubeconfig()).await;
    prepare(&admin).await;
    let (task, stop) = start_loop(&admin, ServicesConfig::new(ClusterId::new("c1").unwrap()));
    let key = format!("{}A=", "A".repeat(42));
    create::<GatewayNode>(
        &admin,
        SYSTEM,
        json!({ "metadata": { "name": "n1" }, "spec": { "publicKey": key, "lanes": 1 } }),
    )
    .await;
    let gateways = Api::<GatewayNode>::namespaced(admin.clone(), SYSTEM);
    // It does not know c3 yet.
    let status =
        json!({ "active": true, "observed": "2026-01-01T00:00:00Z", "peers": [{ "cluster": "c2", "state": "Up" }] });
    gateways.patch_status("n1", &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
    let gateway = async || {
        let mut gateway = Candidate::lasting(&admin, SYSTEM, "linkspan-gateway", "n1", Duration::from_secs(2));
        gateway.sees(&Holding::Ours).await;
        gateway
    };
    let killed = gateway().await;
    let shared = Shop::open_on(admin.clone(), "shared").await;
    shared.open_for_sale().await;
    let remote = Shop::open_on(admin.clone(), "remote").await;
    remote.remote("c2", NEW, json!({})).await;
    for cluster in ["c2", "c3"] {
        shared.remote(cluster, NEW, json!({})).await;
    }
    let (all, ours) = (
        ["c1 10.1.0.1", "c2 10.2.0.1", "c3 10.3.0.1"],
        ["c1 10.1.0.1", "c2 10.2.0.1 not ready", "c3 10.3.0.1 not ready"],
    );
    shared.endpoints_become(&all).await;
    remote.endpoints_become(&["c2 10.2.0.1"]).await;

    // Without a word: what it holds is not given back.
    killed.task.abort();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(shared.endpoints().await, all, "a rolling update takes so long");
    shared.endpoints_become(&ours).await;
    assert_eq!(remote.endpoints().await, ["c2 10.2.0.1"], "nobody is served better by nothing");

    let back = gateway().await;
    shared.endpoints_become(&all).await;
    drop((back, stop));
    task.await.unwrap();
}
