//! Join tokens whose exchange is cut short: the cluster that has claimed one goes on, and nobody else does.

use std::time::{Duration, Instant};

use controller::broker::join::JoinError;
use controller::broker::{Credential, JoinToken, join};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::support::{BROKER, Cluster, NONCE, admin, client, eventually, home, id, new_token, now, retried};

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

#[tokio::test]
async fn rights_that_the_broker_does_not_see_yet_are_waited_for_and_a_used_token_is_told_at_once() {
    let (token, own) = (new_token("early").await, id("early"));
    let binding = unbound(&token).await;
    let (joining, lifetime) = (token.client().unwrap(), Duration::from_secs(3600));
    let exchange = async || join::exchange(&joining, &token, &own, lifetime, NONCE, now()).await;
    let began = Instant::now();
    let ((exchanged, waited), ()) = tokio::join!(async { (exchange().await, began.elapsed()) }, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bind(&binding).await;
    });
    let credential = match exchanged {
        // A busy broker sees them later than anybody waits in one exchange.
        Err(error) if error.is_passing() && waited > Duration::from_secs(3) => retried(exchange).await,
        exchanged => exchanged.unwrap(),
    };
    assert_eq!(credential.joined_with, token.fingerprint());
    let other = "f".repeat(64);
    let late = join::exchange(&joining, &token, &own, lifetime, &other, now()).await.unwrap_err();
    assert!(matches!(late, JoinError::Used { .. }), "{late}");
}

#[tokio::test]
async fn a_token_whose_rights_come_late_is_tried_until_they_are_there() {
    let token = new_token("late-rights").await;
    let binding = unbound(&token).await;
    let mut cluster = Cluster::new("late-rights", "10.176.0.0/24").await;
    cluster.give_token(&token).await;
    cluster.start();
    let message = cluster.wait_for("late-rights", "Joined", "False", "TokenRefused").await;
    assert!(message.contains("`linkspan member remove late-rights`"), "{message}");
    assert!(message.ends_with("; trying again"), "{message}");
    bind(&binding).await;
    cluster.wait_for("late-rights", "Joined", "True", "Joined").await;
    cluster.stop().await;
}

/// Takes a token's rights away, and waits until the broker sees that. The RoleBinding that was there.
async fn unbound(token: &JoinToken) -> RoleBinding {
    let name = format!("join-{}", token.cluster);
    let bindings: Api<RoleBinding> = Api::namespaced(admin().await, BROKER);
    let claims: Api<ConfigMap> = Api::namespaced(token.client().unwrap(), BROKER);
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let claim = Patch::Merge(json!({ "data": { "nonce": NONCE } }));
    let claimed = async || claims.patch(&name, &dry_run, &claim).await;
    // Those that are not seen yet look like those that are gone.
    eventually("the rights are there", async || claimed().await.is_ok()).await;
    let mut binding = bindings.get(&name).await.unwrap();
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually(
        "the rights are gone",
        async || matches!(claimed().await, Err(kube::Error::Api(status)) if status.code == 403),
    )
    .await;
    let metadata = &mut binding.metadata;
    (metadata.uid, metadata.resource_version, metadata.managed_fields) = (None, None, None);
    binding
}

async fn bind(binding: &RoleBinding) {
    let bindings: Api<RoleBinding> = Api::namespaced(admin().await, BROKER);
    bindings.create(&PostParams::default(), binding).await.unwrap();
}
