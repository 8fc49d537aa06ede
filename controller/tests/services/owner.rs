//! Removing Linkspan where nobody leaves first, as `kubectl delete -k` does, on an API server of its own, which collects
//! garbage.

use controller::cluster::owner;
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use testbed::ApiServer;
use tokio::time::timeout;

use super::support::{PATIENCE, Shop, client, prepare, settle, start_loop};

async fn sold_by_c2(client: &kube::Client, namespace: &str) -> Shop {
    let shop = Shop::open_on(client.clone(), namespace).await;
    shop.service(json!({})).await;
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({})).await;
    shop.imported_from(&["c2"]).await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_imports_goes_with_the_rights_of_the_controller() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start_with_controllers().unwrap()).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    assert_eq!(owner::find(&client).await.unwrap(), []);
    let config = |owners| ServicesConfig { owners, ..ServicesConfig::new(ClusterId::new("c1").unwrap()) };
    let (task, stop) = start_loop(&client, config(Vec::new()));
    let before = sold_by_c2(&client, "before").await;
    drop(stop);
    task.await.unwrap();

    let (roles, bindings) = (Api::<ClusterRole>::all(client.clone()), Api::<ClusterRoleBinding>::all(client.clone()));
    let name = json!({ "name": "linkspan-controller" });
    let to = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "linkspan-controller" });
    let role: ClusterRole = serde_json::from_value(json!({ "metadata": name })).unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({ "metadata": name, "roleRef": to })).unwrap();
    roles.create(&PostParams::default(), &role).await.unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let owners = owner::find(&client).await.unwrap();
    let kinds: Vec<_> = owners.iter().map(|owner| owner.kind.as_str()).collect();
    assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding"]);
    owner::adopt(&client, &owners).await.unwrap();
    let (task, stop) = start_loop(&client, config(owners.clone()));
    let after = sold_by_c2(&client, "after").await;
    drop(stop);
    task.await.unwrap();

    // One that is lost is made again: nothing goes, and what there is belongs to the new one as well.
    bindings.delete("linkspan-controller", &DeleteParams::default()).await.unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    timeout(PATIENCE, owner::replaced(&client, &owners)).await.unwrap();
    let owners = owner::find(&client).await.unwrap();
    owner::adopt(&client, &owners).await.unwrap();
    settle().await;
    for shop in [&before, &after] {
        let derived = shop.derived().await.unwrap().metadata;
        assert_eq!(derived.owner_references.as_ref(), Some(&owners));
    }
    roles.delete("linkspan-controller", &DeleteParams::default()).await.unwrap();
    bindings.delete("linkspan-controller", &DeleteParams::default()).await.unwrap();
    for shop in [&before, &after] {
        shop.withdraw("c2").await;
        shop.everything_is_gone().await;
        shop.api::<Service>().get("web").await.unwrap();
    }
}
