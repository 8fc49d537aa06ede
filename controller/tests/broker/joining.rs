//! Joining, renewing, leaving, joining again; two clusters under one ID.

use controller::broker::token::{self, Replace, TokenError};
use controller::broker::{Credential, DryRun, ask_to_leave};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::jiff::SignedDuration;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use super::support::{
    BROKER, Cluster, LASTING, address, admin, apply, broker, eventually, id, joined, new_token, now, record, wanted,
};

fn properties(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("about.k8s.io", "v1alpha1", "ClusterProperty");
    Api::all_with(cluster.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "clusterproperties"))
}

#[tokio::test]
async fn a_token_delivered_as_a_secret_joins_the_cluster_once_and_leaves_nothing_behind() {
    let mut paris = Cluster::new("join-paris", "10.120.0.0/24").await;
    paris.start();
    paris.wait_for("join-paris", "Joined", "False", "NotJoined").await;
    let token = new_token("join-paris").await;
    paris.give_token(&token).await;
    paris.wait_for("join-paris", "Joined", "True", "Joined").await;
    paris.wait_for("join-paris", "Published", "True", "Published").await;
    paris.wait_for("join-paris", "BrokerReachable", "True", "Reachable").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin().await, BROKER);
    eventually("what is left of the token goes", async || accounts.get_opt("join-join-paris").await.unwrap().is_none())
        .await;
    let secret = paris.secrets().get("linkspan-join").await.unwrap();
    assert_eq!(secret.metadata.annotations.unwrap()["linkspan.dev/used"], token.fingerprint());
    let credential = Credential::from_secret(&paris.secrets().get("linkspan-broker").await.unwrap()).unwrap();
    assert_eq!(credential.cluster, id("join-paris"));
    // Another controller goes on with the credential, and does not use the token again.
    paris.stop().await;
    paris.start();
    paris.wait_for("join-paris", "Joined", "True", "Joined").await;
    paris.stop().await;
}

#[tokio::test]
async fn a_token_of_another_cluster_is_refused_with_a_reason() {
    let mut rome = Cluster::new("join-rome", "10.121.0.0/24").await;
    rome.give_token(&new_token("join-oslo").await).await;
    rome.start();
    let message = rome.wait_for("join-rome", "Joined", "False", "TokenOfOtherCluster").await;
    assert!(message.contains("join-oslo"), "{message}");
    rome.stop().await;
}

#[tokio::test]
async fn the_credential_renews_itself_at_half_life() {
    let mut cluster = Cluster::new("renew", "10.122.0.0/24").await;
    let (mut credential, _) = joined("renew").await;
    // As if it had been made long ago.
    credential.issued = now().checked_sub(SignedDuration::from_hours(20)).unwrap();
    cluster.give_credential(&credential).await;
    cluster.start();
    eventually("there is a new credential", async || {
        let secret = cluster.secrets().get("linkspan-broker").await.unwrap();
        Credential::from_secret(&secret).unwrap().issued > credential.issued
    })
    .await;
    cluster.wait_for("renew", "Published", "True", "Published").await;
    cluster.stop().await;
}

#[tokio::test]
async fn an_expired_credential_is_told_with_the_way_out() {
    let mut cluster = Cluster::new("expired", "10.123.0.0/24").await;
    let (mut credential, _) = joined("expired").await;
    credential.expires = now();
    cluster.give_credential(&credential).await;
    cluster.start();
    let message = cluster.wait_for("expired", "Joined", "False", "CredentialExpired").await;
    assert!(message.contains("linkspan token create"), "{message}");
    cluster.give_token(&new_token("expired").await).await;
    cluster.wait_for("expired", "Joined", "True", "Joined").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_revoked_credential_is_told_and_a_new_token_heals_it() {
    let mut cluster = Cluster::published("revoked", "10.124.0.0/24").await;
    token::remove_member(&admin().await, BROKER, &id("revoked"), DryRun::None).await.unwrap();
    cluster.wait_for("revoked", "Joined", "False", "CredentialRefused").await;
    cluster.give_token(&new_token("revoked").await).await;
    cluster.wait_for("revoked", "Published", "True", "Published").await;
    cluster.stop().await;
}

#[tokio::test]
async fn row_104_leaving_removes_every_trace_at_both_ends() {
    let mut leaver = Cluster::new("leaver", "10.125.0.0/24").await;
    let mut stayer = Cluster::new("stayer", "10.125.1.0/24").await;
    for cluster in [&mut leaver, &mut stayer] {
        let name = cluster.config.cluster.to_string();
        cluster.give_token(&new_token(&name).await).await;
        cluster.start();
        cluster.wait_for(&name, "Published", "True", "Published").await;
    }
    apply(&leaver.records(), &record("leaver", "default", "web", "10.125.0.9")).await.unwrap();
    apply(&stayer.records(), &record("stayer", "default", "web", "10.125.1.9")).await.unwrap();
    stayer.wait_for_record("leaver.default.web", "True", "Accepted").await;
    leaver.wait_for_record("stayer.default.web", "True", "Accepted").await;
    eventually("the membership is told", async || {
        properties(&leaver).get_opt("clusterset.k8s.io").await.unwrap().is_some()
    })
    .await;
    ask_to_leave(&leaver.client, &leaver.config.namespace).await.unwrap();
    leaver.wait_for("leaver", "Joined", "False", "Left").await;
    let admin = admin().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), BROKER);
    assert!(accounts.get_opt("member-leaver").await.unwrap().is_none());
    let leases: Api<Lease> = Api::namespaced(admin.clone(), BROKER);
    assert!(leases.get_opt("member-leaver").await.unwrap().is_none());
    let bindings: Api<RoleBinding> = Api::namespaced(admin, BROKER);
    assert!(bindings.get_opt("member-leaver").await.unwrap().is_none());
    assert!(leaver.members().get_opt("stayer").await.unwrap().is_none());
    assert!(leaver.records().get_opt("stayer.default.web").await.unwrap().is_none());
    assert!(leaver.secrets().get_opt("linkspan-broker").await.unwrap().is_none());
    assert!(leaver.secrets().get_opt("linkspan-join").await.unwrap().is_none());
    eventually("the others forget it", async || {
        stayer.members().get_opt("leaver").await.unwrap().is_none()
            && stayer.records().get_opt("leaver.default.web").await.unwrap().is_none()
    })
    .await;
    leaver.stop().await;
    stayer.stop().await;
}

#[tokio::test]
async fn row_105_a_second_living_cluster_under_the_same_id_is_refused_and_both_say_so() {
    let mut first = Cluster::with_uid("twin", "10.126.0.0/24", "uid-twin-1").await;
    first.config.lease_duration = LASTING;
    let (credential, _) = joined("twin").await;
    first.give_credential(&credential).await;
    first.start();
    first.wait_for("twin", "Published", "True", "Published").await;
    let mut second = Cluster::with_uid("twin", "10.126.1.0/24", "uid-twin-2").await;
    second.give_credential(&credential).await;
    second.start();
    let message = second.wait_for("twin", "Unique", "False", "DuplicateID").await;
    assert!(message.contains("uid-twin-1"), "{message}");
    second.wait_for("twin", "Ready", "False", "DuplicateID").await;
    let message = first.wait_for("twin", "Unique", "False", "DuplicateID").await;
    assert!(message.contains("uid-twin-2"), "{message}");
    let published = Api::<controller::api::Member>::namespaced(admin().await, BROKER).get("twin").await.unwrap();
    assert_eq!(published.spec.cluster_uid, "uid-twin-1");
    second.stop().await;
    first.wait_for("twin", "Unique", "True", "Unique").await;
    // Once the first one has been silent before its eyes, the ID is the second one's.
    first.stop().await;
    second.start();
    second.wait_for("twin", "Unique", "False", "DuplicateID").await;
    second.wait_for("twin", "Published", "True", "Published").await;
    second.stop().await;
}

#[tokio::test]
async fn a_rebuilt_cluster_joins_again_under_its_id_without_a_ghost() {
    let mut old = Cluster::with_uid("rebuilt", "10.127.0.0/24", "uid-rebuilt-1").await;
    old.config.lease_duration = LASTING;
    old.give_token(&new_token("rebuilt").await).await;
    old.start();
    apply(&old.records(), &record("rebuilt", "default", "ghost", "10.127.0.9")).await.unwrap();
    let mut watcher = Cluster::new("rebuilt-watcher", "10.127.9.0/24").await;
    watcher.give_token(&new_token("rebuilt-watcher").await).await;
    watcher.start();
    watcher.wait_for_record("rebuilt.default.ghost", "True", "Accepted").await;
    let error = token::create(&admin().await, &wanted(&address(broker()), "rebuilt"), now()).await.unwrap_err();
    assert!(matches!(error, TokenError::Alive { .. }), "{error}");
    old.stop().await;
    eventually("the old cluster is silent", async || {
        let again = token::create(&admin().await, &wanted(&address(broker()), "rebuilt"), now()).await;
        again.is_ok()
    })
    .await;
    let mut new = Cluster::with_uid("rebuilt", "10.127.1.0/24", "uid-rebuilt-2").await;
    new.give_token(&new_token("rebuilt").await).await;
    new.start();
    new.wait_for("rebuilt", "Published", "True", "Published").await;
    eventually("the ghost is gone", async || {
        watcher.records().get_opt("rebuilt.default.ghost").await.unwrap().is_none()
    })
    .await;
    eventually("the new cluster is known", async || {
        let copy = watcher.members().get_opt("rebuilt").await.unwrap();
        copy.is_some_and(|copy| copy.spec.pod_cidrs == ["10.127.1.0/24"])
    })
    .await;
    // The old one comes back, with a credential that was revoked.
    old.start();
    old.wait_for("rebuilt", "Joined", "False", "CredentialRefused").await;
    for mut cluster in [old, new, watcher] {
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_living_cluster_can_be_replaced_on_purpose() {
    let mut living = Cluster::new("replaced", "10.128.0.0/24").await;
    living.config.lease_duration = LASTING;
    living.give_token(&new_token("replaced").await).await;
    living.start();
    living.wait_for("replaced", "Published", "True", "Published").await;
    let mut wanted = wanted(&address(broker()), "replaced");
    let error = token::create(&admin().await, &wanted, now()).await.unwrap_err();
    assert!(matches!(error, TokenError::Alive { .. }), "{error}");
    assert!(error.to_string().contains("--replace"), "{error}");
    living.wait_for("replaced", "Joined", "True", "Joined").await;
    wanted.replace = Replace::Yes;
    token::create(&admin().await, &wanted, now()).await.unwrap();
    // Credentials are cached for ten seconds, and their account's end is seen at once or soon.
    living.wait_for("replaced", "Joined", "False", "CredentialRefused").await;
    living.stop().await;
}
