//! A broker that refuses a Member's credential for a time, or for good; and what others do to its Lease.

use std::time::Duration;

use controller::api::Member;
use controller::broker::{ask_to_leave, token};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::support::{
    BROKER, Cluster, LASTING, address, admin, aged, client, eventually, join_as, now, set_up_broker, start, wanted,
};

/// Takes from all Members of a broker what they may do there; gives back what gives it to them again.
async fn disarm(admin: &Client) -> Role {
    let roles: Api<Role> = Api::namespaced(admin.clone(), BROKER);
    let Role { metadata, rules } = roles.get("linkspan-member").await.unwrap();
    roles.delete("linkspan-member", &DeleteParams::default()).await.unwrap();
    Role { metadata: ObjectMeta { name: metadata.name, ..ObjectMeta::default() }, rules }
}

async fn rearm(admin: &Client, role: &Role) {
    Api::<Role>::namespaced(admin.clone(), BROKER).create(&PostParams::default(), role).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_was_refused_for_a_time_is_taken_again_whatever_token_lies_there() {
    let broker = start(set_up_broker).await;
    let admin = client(broker.kubeconfig()).await;
    let token = token::create(&admin, &wanted(&address(&broker), "lasting"), now()).await.unwrap();
    let mut cluster = Cluster::new("lasting", "10.167.0.0/24").await;
    cluster.give_token(&token).await;
    cluster.start();
    cluster.wait_for("lasting", "Published", "True", "Published").await;

    let past = now().checked_sub(SignedDuration::from_hours(1)).unwrap();
    cluster.give_token(&aged(&broker, &token, 7200, past)).await;
    let role = disarm(&admin).await;
    cluster.wait_for("lasting", "Joined", "False", "TokenExpired").await;
    eventually("it is told why it is asked for a token", async || {
        let (_, reason, message) = cluster.member_says("lasting", "Joined").await.unwrap();
        reason == "TokenExpired" && message.starts_with("the broker refuses the credential, and the join token")
    })
    .await;
    rearm(&admin, &role).await;
    cluster.wait_for("lasting", "Joined", "True", "Joined").await;
    cluster.wait_for("lasting", "Published", "True", "Published").await;

    let nonsense = Patch::Merge(json!({ "stringData": { "token": "nonsense" } }));
    cluster.secrets().patch("linkspan-join", &PatchParams::default(), &nonsense).await.unwrap();
    let role = disarm(&admin).await;
    cluster.wait_for("lasting", "Joined", "False", "InvalidToken").await;
    rearm(&admin, &role).await;
    cluster.wait_for("lasting", "Joined", "True", "Joined").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_broker_that_refuses_it_gives_up_its_account_and_says_what_may_be_left() {
    let broker = start(set_up_broker).await;
    let admin = client(broker.kubeconfig()).await;
    let (credential, _) = join_as(&admin, &address(&broker), "ghost").await;
    let mut first = Cluster::with_uid("ghost", "10.168.0.0/24", "uid-ghost-1").await;
    first.config.lease_duration = LASTING;
    first.give_credential(&credential).await;
    first.start();
    first.wait_for("ghost", "Published", "True", "Published").await;
    let mut second = Cluster::with_uid("ghost", "10.168.1.0/24", "uid-ghost-2").await;
    second.give_credential(&credential).await;
    second.start();
    second.wait_for("ghost", "Unique", "False", "DuplicateID").await;
    disarm(&admin).await;
    for cluster in [&first, &second] {
        cluster.wait_for("ghost", "Joined", "False", "CredentialRefused").await;
    }

    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), BROKER);
    ask_to_leave(&second.client, &second.config.namespace).await.unwrap();
    let message = second.wait_for("ghost", "Joined", "False", "Left").await;
    assert!(message.contains("another living cluster has this ID"), "{message}");
    accounts.get("member-ghost").await.unwrap();
    ask_to_leave(&first.client, &first.config.namespace).await.unwrap();
    let message = first.wait_for("ghost", "Joined", "False", "Left").await;
    assert!(message.contains("the broker refused its credential"), "{message}");
    assert!(message.contains("if Member ghost is, `linkspan member remove ghost`"), "{message}");
    assert!(accounts.get_opt("member-ghost").await.unwrap().is_none());
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), BROKER);
    assert!(bindings.get_opt("member-ghost").await.unwrap().is_none());
    assert!(first.secrets().get_opt("linkspan-broker").await.unwrap().is_none());
    // The ghost that is meant.
    Api::<Member>::namespaced(admin, BROKER).get("ghost").await.unwrap();
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_leaving_that_stopped_when_it_had_given_up_its_rights_is_finished() {
    let mut cluster = Cluster::published("halfway", "10.169.0.0/24").await;
    cluster.stop().await;
    let admin = admin().await;
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), BROKER);
    bindings.delete("member-halfway", &DeleteParams::default()).await.unwrap();
    ask_to_leave(&cluster.client, &cluster.config.namespace).await.unwrap();
    cluster.start();
    cluster.wait_for("halfway", "Joined", "False", "Left").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, BROKER);
    assert!(accounts.get_opt("member-halfway").await.unwrap().is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn what_somebody_puts_on_all_leases_does_not_end_a_heartbeat() {
    let mut cluster = Cluster::published("labelled", "10.173.0.0/24").await;
    let leases: Api<Lease> = Api::namespaced(admin().await, BROKER);
    let notes: serde_json::Map<_, _> = (0..9).map(|n| (format!("example.com/note-{n}"), "for all".into())).collect();
    let metadata = json!({ "labels": { "team": "network" }, "annotations": notes, "finalizers": ["example.com/kept"] });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let before = leases.patch("member-labelled", &PatchParams::default(), &patch).await.unwrap();
    let renewed = |lease: &Lease| lease.spec.as_ref().unwrap().renew_time.clone();
    eventually("the heart beats", async || renewed(&leases.get("member-labelled").await.unwrap()) != renewed(&before))
        .await;
    // Time for more heartbeats.
    tokio::time::sleep(3 * Duration::from_millis(500)).await;
    let (status, reason, message) = cluster.member_says("labelled", "Joined").await.unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Joined"), "{message}");
    cluster.stop().await;
}
