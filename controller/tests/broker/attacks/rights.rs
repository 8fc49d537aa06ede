//! More than a Member's rights.

use controller::api::ServiceRecord;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testbed::ApiServer;

use super::{Attack, assert_refused};
use crate::support::{
    BROKER, address, admin, apply, client, deploy, eventually, join_as, record, refusal, set_up_broker,
};

#[tokio::test]
async fn secrets_cannot_be_read_or_written() {
    let attack = Attack::begin("secrets", 106).await;
    let secrets: Api<Secret> = attack.api();
    let hidden = json!({ "metadata": { "name": "attack-secrets" }, "stringData": { "key": "hidden" } });
    let admins: Api<Secret> = Api::namespaced(admin().await, BROKER);
    admins.create(&PostParams::default(), &serde_json::from_value(hidden).unwrap()).await.unwrap();
    assert_refused(refusal(secrets.get("attack-secrets").await), "cannot get resource \"secrets\"");
    assert_refused(refusal(secrets.list(&ListParams::default()).await), "cannot list resource \"secrets\"");
    assert_refused(
        refusal(Api::<Secret>::all(attack.mallory.clone()).list(&ListParams::default()).await),
        "cannot list resource \"secrets\"",
    );
    // A Secret of this kind would be filled with a token of any account.
    let lure = json!({
        "metadata": { "name": "lure", "annotations": { "kubernetes.io/service-account.name": "default" } },
        "type": "kubernetes.io/service-account-token",
    });
    let made = secrets.create(&PostParams::default(), &serde_json::from_value(lure).unwrap()).await;
    assert_refused(refusal(made), "cannot create resource \"secrets\"");
}

#[tokio::test]
async fn rights_cannot_be_widened() {
    let attack = Attack::begin("rights", 108).await;
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) = (attack.api(), attack.api());
    let role = json!({
        "metadata": { "name": "wide" }, "rules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }],
    });
    let role: Role = serde_json::from_value(role).unwrap();
    assert_refused(refusal(roles.create(&PostParams::default(), &role).await), "cannot create resource \"roles\"");
    let own = format!("credential-{}", attack.mallory_id);
    let wider = json!({ "rules": [] });
    let patched = roles.patch(&own, &PatchParams::default(), &Patch::Merge(wider)).await;
    assert_refused(refusal(patched), "cannot patch resource \"roles\"");
    let binding = json!({
        "metadata": { "name": "wide" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": format!("member-{}", attack.mallory_id) }],
    });
    let bound = bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await;
    assert_refused(refusal(bound), "cannot create resource \"rolebindings\"");
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let run = attack.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
    assert_refused(refusal(run), "cannot create resource \"pods\"");
}

#[tokio::test]
async fn tokens_of_other_accounts_cannot_be_made_nor_accounts_removed() {
    let attack = Attack::begin("tokens", 109).await;
    let accounts: Api<ServiceAccount> = attack.api();
    let request = TokenRequest::default();
    for account in [format!("member-{}", attack.victim_id), format!("join-{}", attack.victim_id), "default".into()] {
        let made = accounts.create_token_request(&account, &PostParams::default(), &request).await;
        assert_refused(refusal(made), "cannot create resource \"serviceaccounts/token\"");
    }
    let gone = accounts.delete(&format!("member-{}", attack.victim_id), &DeleteParams::default()).await;
    assert_refused(refusal(gone), "cannot delete resource \"serviceaccounts\"");
    let mut eternal = TokenRequest::default();
    eternal.spec.expiration_seconds = Some(10 * 365 * 24 * 3600);
    let own = format!("member-{}", attack.mallory_id);
    let made = accounts.create_token_request(&own, &PostParams::default(), &eternal).await;
    assert_refused(refusal(made), "lives at most 90 days");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_bounds_how_many_records_there_are() {
    let server = tokio::task::spawn_blocking(|| {
        let server = ApiServer::start().unwrap();
        set_up_broker(&server);
        server.kubectl(["apply", "-f", &format!("{}/quota.yaml", deploy("broker"))]).unwrap().done().unwrap();
        server
    });
    let server = server.await.unwrap();
    let admin = client(server.kubeconfig()).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(admin.clone(), BROKER);
    let counted = "count/servicerecords.linkspan.dev";
    assert!(quotas.get("linkspan").await.unwrap().spec.unwrap().hard.unwrap().contains_key(counted));
    let (_, mallory) = join_as(&admin, &address(&server), "mallory").await;
    let records: Api<ServiceRecord> = Api::namespaced(mallory, BROKER);
    // As kube-controller-manager would have counted, of a smaller quota.
    let status = json!({ "status": { "hard": { counted: "2" }, "used": { counted: "0" } } });
    quotas.patch_status("linkspan", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let mut number = 0;
    eventually("there are too many", async || {
        number += 1;
        let record = record("mallory", "default", &format!("web-{number}"), "10.153.0.9");
        match records.create(&PostParams::default(), &record).await {
            Ok(_) => false,
            Err(error) => error.to_string().contains("exceeded quota: linkspan"),
        }
    })
    .await;
    apply(&records, &record("mallory", "default", "web-1", "10.153.0.10")).await.unwrap();
}
