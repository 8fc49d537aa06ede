//! Join tokens whose exchange is cut short: the cluster that has claimed one goes on, and nobody else does.

use controller::broker::Credential;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::support::{BROKER, Cluster, admin, client, eventually, home, new_token};

/// Rights of a controller that cannot store its credential.
const FORGETFUL: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: forgetful }
rules:
  - { apiGroups: ['*'], resources: ['*'], verbs: [get, list, watch] }
  - { apiGroups: [linkspan.dev], resources: ['*'], verbs: ['*'] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: forgetful }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: forgetful }
subjects:
  - { apiGroup: rbac.authorization.k8s.io, kind: User, name: forgetful }
";

#[tokio::test]
async fn a_controller_that_was_stopped_between_claim_and_credential_goes_on_and_a_copy_of_the_token_does_not() {
    home().apply(FORGETFUL).unwrap();
    let forgetful = home().kubeconfig_of("forgetful", None).unwrap();
    let token = new_token("cut-short").await;
    let mut cluster = Cluster::with_uid("cut-short", "10.165.0.0/24", "uid-cut-short-1").await;
    cluster.give_token(&token).await;
    let allowed = std::mem::replace(&mut cluster.client, client(&forgetful).await);
    cluster.start();
    let claims: Api<ConfigMap> = Api::namespaced(admin().await, BROKER);
    eventually("the token is claimed", async || claims.get("join-cut-short").await.unwrap().data.is_some()).await;
    let mut thief = Cluster::with_uid("cut-short", "10.165.1.0/24", "uid-cut-short-2").await;
    thief.give_token(&token).await;
    thief.start();
    let message = thief.wait_for("cut-short", "Joined", "False", "TokenUsed").await;
    assert!(message.contains("`linkspan member remove cut-short`"), "{message}");
    cluster.stop().await;
    cluster.client = allowed;
    assert!(cluster.secrets().get_opt("linkspan-broker").await.unwrap().is_none(), "the credential was stored");

    cluster.start();
    cluster.wait_for("cut-short", "Joined", "True", "Joined").await;
    thief.stop().await;
    cluster.wait_for("cut-short", "Published", "True", "Published").await;
    let bindings: Api<RoleBinding> = Api::namespaced(admin().await, BROKER);
    eventually("the token is used up", async || bindings.get_opt("join-cut-short").await.unwrap().is_none()).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_token_that_cannot_be_used_up_joins_all_the_same_and_goes_later() {
    let token = new_token("lingering").await;
    let roles: Api<Role> = Api::namespaced(admin().await, BROKER);
    let mut rules = roles.get("join-lingering").await.unwrap().rules.unwrap();
    rules.retain(|rule| rule.verbs != ["delete"]);
    assert_eq!(rules.len(), 2);
    let patch = Patch::Merge(json!({ "rules": rules }));
    roles.patch("join-lingering", &PatchParams::default(), &patch).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(token.client().unwrap(), BROKER);
    eventually("the token has lost that right", async || {
        let dry_run = kube::api::DeleteParams { dry_run: true, ..Default::default() };
        bindings.delete("join-lingering", &dry_run).await.is_err()
    })
    .await;
    let mut cluster = Cluster::new("lingering", "10.166.0.0/24").await;
    cluster.give_token(&token).await;
    cluster.start();
    cluster.wait_for("lingering", "Joined", "True", "Joined").await;
    let secret = cluster.secrets().get("linkspan-broker").await.unwrap();
    assert_eq!(Credential::from_secret(&secret).unwrap().joined_with, token.fingerprint());
    let accounts: Api<ServiceAccount> = Api::namespaced(admin().await, BROKER);
    eventually("what is left of the token goes", async || accounts.get_opt("join-lingering").await.unwrap().is_none())
        .await;
    cluster.stop().await;
}
