//! A credential ends with its account, also for who uses it all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use controller::broker::token::{self, Replace, Wanted};
use data_encoding::BASE64URL_NOPAD;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::support::{BROKER, address, admin, broker, joined, now, wanted};

#[tokio::test]
async fn a_credential_that_is_kept_warm_gets_none_of_its_successor() {
    let (_, thief) = joined("warm").await;
    let (thief_accounts, admin) = (Api::<ServiceAccount>::namespaced(thief, BROKER), admin().await);
    let request = TokenRequest::default();
    let steal = async || thief_accounts.create_token_request("member-warm", &PostParams::default(), &request).await;
    steal().await.unwrap();
    let replaced = AtomicBool::new(false);
    let stealing = async {
        let mut stolen = Vec::new();
        while !replaced.load(Ordering::Relaxed) {
            stolen.extend(steal().await.ok().and_then(|made| made.status).map(|status| status.token));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stolen
    };
    let replacing = async {
        let wanted = Wanted { replace: Replace::Yes, ..wanted(&address(broker()), "warm") };
        token::create(&admin, &wanted, now()).await.unwrap();
        // Its rights may be known a moment later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        replaced.store(true, Ordering::Relaxed);
    };
    let (stolen, ()) = futures::join!(stealing, replacing);
    let uid = Api::<ServiceAccount>::namespaced(admin, BROKER).get("member-warm").await.unwrap().uid().unwrap();
    for token in stolen {
        let claims = token.split('.').nth(1).and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let account = claims["kubernetes.io"]["serviceaccount"]["uid"].as_str().unwrap();
        assert_ne!(account, uid, "a credential of the successor");
    }
    assert!(matches!(steal().await, Err(kube::Error::Api(status)) if status.code == 401));
}
