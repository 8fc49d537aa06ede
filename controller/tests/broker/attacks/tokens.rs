//! Join tokens: replayed, copied, expired, revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use controller::api::Member;
use controller::broker::{DryRun, join, token};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::jiff::SignedDuration;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::assert_refused;
use crate::support::{BROKER, Cluster, NONCE, admin, aged, broker, eventually, id, new_token, now, refusal, retried};

const LIFETIME: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_replayed_join_token_is_refused() {
    let (token, own) = (new_token("attack-replay").await, id("attack-replay"));
    let client = token.client().unwrap();
    eventually("the token is exchanged", async || {
        join::exchange(&client, &token, &own, LIFETIME, NONCE, now()).await.is_ok()
    })
    .await;
    let other = "another nonce, of whoever stole the token";
    let replayed = join::exchange(&client, &token, &own, LIFETIME, other, now()).await.unwrap_err();
    assert!(matches!(replayed, join::JoinError::Used { .. }), "{replayed}");
    assert!(replayed.to_string().contains("was used already"), "{replayed}");
    join::use_up(&client, &token).await.unwrap();
    let listed = token::list(&admin().await, BROKER, now()).await.unwrap();
    let info = listed.iter().find(|info| info.cluster == "attack-replay").unwrap();
    assert_eq!(info.state, token::TokenState::Used);
}

#[tokio::test]
async fn of_many_who_exchange_one_token_at_once_one_gets_a_credential() {
    let (token, own) = (new_token("attack-race").await, id("attack-race"));
    let client = token.client().unwrap();
    let claims: Api<ConfigMap> = Api::namespaced(client.clone(), BROKER);
    let nonces: Vec<String> = (0..8).map(|i| format!("{i}").repeat(40)).collect();
    // Until the rights are there, all are refused.
    eventually("the rights are there", async || {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let claim = Patch::Merge(json!({ "data": { "nonce": nonces[0] } }));
        claims.patch("join-attack-race", &dry_run, &claim).await.is_ok()
    })
    .await;
    let mut won = BTreeSet::new();
    // Whose claim came first may have to try again until the broker sees it.
    eventually("one of them gets a credential", async || {
        let attempts = nonces.iter().map(|nonce| join::exchange(&client, &token, &own, LIFETIME, nonce, now()));
        let results = futures::future::join_all(attempts).await;
        won.extend(nonces.iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(nonce, _)| nonce.clone()));
        !won.is_empty()
    })
    .await;
    assert_eq!(won.len(), 1, "{won:?}");
}

#[tokio::test]
async fn a_copy_of_a_join_token_gives_no_credential_beside_the_first() {
    let (token, own) = (new_token("attack-copy").await, id("attack-copy"));
    let thief = token.client().unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(thief.clone(), BROKER);
    let claims: Api<ConfigMap> = Api::namespaced(thief.clone(), BROKER);
    let ask = async |nonce: &str| {
        let mut request = TokenRequest::default();
        request.metadata.annotations = Some([("linkspan.dev/nonce".to_owned(), nonce.to_owned())].into());
        accounts.create_token_request("member-attack-copy", &PostParams::default(), &request).await
    };
    eventually(
        "the rights are there",
        async || matches!(ask("").await, Err(kube::Error::Api(told)) if told.message.contains("claimed first")),
    )
    .await;
    let claim = json!({ "data": { "nonce": NONCE } });
    claims.patch("join-attack-copy", &PatchParams::default(), &Patch::Merge(claim)).await.unwrap();
    // Somebody has claimed it; the thief, with the same rights, neither replaces the claim nor passes without it.
    for evil in [json!({ "nonce": "f".repeat(40) }), json!({ "nonce": null }), json!(null)] {
        let patch = Patch::Merge(json!({ "data": evil }));
        let result = claims.patch("join-attack-copy", &PatchParams::default(), &patch).await;
        assert_refused(refusal(result), "used already");
    }
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "1" }]);
    let owners_or_finalizers = "the owners and finalizers of a claim do not change";
    let binary_or_immutable = "a claim has no binaryData and is not immutable";
    for (evil, part) in [
        (json!({ "metadata": { "labels": null } }), "labels of a claim do not change"),
        // With the first it would go by itself, and with the second never.
        (json!({ "metadata": { "ownerReferences": owner } }), owners_or_finalizers),
        (json!({ "metadata": { "finalizers": ["example.com/never"] } }), owners_or_finalizers),
        (json!({ "metadata": { "annotations": { "note": "x" } } }), "annotations of a claim do not change"),
        (json!({ "binaryData": { "note": "eA==" } }), binary_or_immutable),
        (json!({ "immutable": true }), binary_or_immutable),
    ] {
        let result = claims.patch("join-attack-copy", &PatchParams::default(), &Patch::Merge(evil)).await;
        assert_refused(refusal(result), part);
    }
    assert_refused(refusal(ask(&"f".repeat(40)).await), "whoever's claim came first");
    assert_refused(refusal(claims.get("join-attack-copy").await), "cannot get resource \"configmaps\"");
    retried(async || join::exchange(&thief, &token, &own, LIFETIME, NONCE, now()).await).await;
}

#[tokio::test]
async fn an_expired_join_token_is_refused_before_the_broker_is_asked() {
    let token = new_token("attack-expired").await;
    let own = id("attack-expired");
    let client = token.client().unwrap();
    let late = token.expires;
    let error = join::exchange(&client, &token, &own, LIFETIME, NONCE, late).await.unwrap_err();
    assert!(matches!(error, join::JoinError::Expired { .. }), "{error}");
    assert!(error.to_string().contains("expired at"), "{error}");
}

#[tokio::test]
async fn a_cluster_says_that_its_join_token_has_expired_and_a_thief_cannot_hide_it() {
    let token = new_token("attack-late").await;
    let mut late = Cluster::new("attack-late", "10.152.0.0/24").await;
    let past = now().checked_sub(SignedDuration::from_hours(1)).unwrap();
    late.give_token(&aged(broker(), &token, 7200, past)).await;
    late.start();
    let message = late.wait_for("attack-late", "Joined", "False", "TokenExpired").await;
    assert!(message.contains("expired at 20") && message.contains("linkspan token create"), "{message}");
    // The broker's API server does not ask the wrapping when the token has expired.
    late.give_token(&aged(broker(), &token, 7200, token.expires)).await;
    let message = late.wait_for("attack-late", "Joined", "False", "TokenRevoked").await;
    assert!(message.contains("has expired by the broker's clock"), "{message}");
    let members: Api<Member> = Api::namespaced(admin().await, BROKER);
    assert!(members.get_opt("attack-late").await.unwrap().is_none());
    // Signed like this, one that has not expired is as good as the original.
    late.give_token(&aged(broker(), &token, 1, token.expires)).await;
    late.wait_for("attack-late", "Joined", "True", "Joined").await;
    late.stop().await;
}

#[tokio::test]
async fn a_revoked_join_token_is_refused() {
    let token = new_token("attack-revoked").await;
    let own = id("attack-revoked");
    token::revoke(&admin().await, BROKER, &own, DryRun::None).await.unwrap();
    let client = token.client().unwrap();
    eventually("the token is refused", async || {
        join::exchange(&client, &token, &own, LIFETIME, NONCE, now()).await.is_err()
    })
    .await;
    let listed = token::list(&admin().await, BROKER, now()).await.unwrap();
    assert!(listed.iter().all(|info| info.cluster != "attack-revoked"));
}
