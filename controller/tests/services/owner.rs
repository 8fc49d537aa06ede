//! Removing Linkspan where nobody leaves first, as `kubectl delete -k` does, on an API server of its own, which collects
//! garbage.

use std::time::Duration;

use controller::cluster::owner;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use testbed::ApiServer;
use tokio::time::timeout;

use super::support::{PATIENCE, Shop, client, prepare, start_loop};

async fn sold_by_c2(client: &kube::Client, namespace: &str) -> Shop {
    let shop = Shop::open_on(client.clone(), namespace).await;
    shop.service(json!({})).await;
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    shop.imported_from(&["c2"]).await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_imports_goes_with_the_role_of_the_controller() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start_with_controllers().unwrap()).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    assert_eq!(owner::find(&client).await.unwrap(), None);
    let config = |owner| ServicesConfig { owner, ..ServicesConfig::new(ClusterId::new("c1").unwrap()) };
    let (task, stop) = start_loop(&client, config(None));
    let before = sold_by_c2(&client, "before").await;
    drop(stop);
    task.await.unwrap();

    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = json!({ "metadata": { "name": "linkspan-controller" } });
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    roles.create(&PostParams::default(), &role).await.unwrap();
    let owner = owner::find(&client).await.unwrap().unwrap();
    assert_eq!((owner.kind.as_str(), owner.block_owner_deletion), ("ClusterRole", None));
    owner::adopt(&client, &owner).await.unwrap();
    let (task, stop) = start_loop(&client, config(Some(owner.clone())));
    let after = sold_by_c2(&client, "after").await;
    drop(stop);
    task.await.unwrap();

    // It is the same one for now.
    let replaced = async || owner::replaced(&client, Some(&owner)).await;
    timeout(Duration::from_secs(1), replaced()).await.unwrap_err();
    roles.delete("linkspan-controller", &DeleteParams::default()).await.unwrap();
    for shop in [&before, &after] {
        shop.withdraw("c2").await;
        shop.everything_is_gone().await;
        shop.api::<Service>().get("web").await.unwrap();
    }
    roles.create(&PostParams::default(), &role).await.unwrap();
    timeout(PATIENCE, replaced()).await.unwrap();
}
