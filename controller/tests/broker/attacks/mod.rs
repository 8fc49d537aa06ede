//! What a stolen credential of one Member can do to the others: nothing, and somebody can see that it was tried.
//!
//! `mallory` is a Member with a good credential. Each attack names who refuses it: the broker's API server (RBAC, policy
//! or CRD) at once, or every importer with a condition.

mod addresses;
mod claims;
mod forms;
mod legacy;
mod ownership;
mod rights;
mod sizes;
mod tokens;
mod virtuals;

use std::time::Duration;

use controller::api::{Member, ServiceRecord};
use kube::{Api, Client};

use super::support::{BROKER, apply, joined, member};

/// Policies see some milliseconds later what was written.
const NOTICED: Duration = Duration::from_millis(300);

/// Mallory's own objects, the victim's objects and credential, and clients of both.
struct Attack {
    mallory: Client,
    victim: Client,
    mallory_id: String,
    victim_id: String,
}

impl Attack {
    /// Two Members that have published themselves, with IDs and prefixes of this test.
    async fn begin(test: &str, number: u8) -> Self {
        let (mallory_id, victim_id) = (format!("mallory-{test}"), format!("victim-{test}"));
        let (_, victim) = joined(&victim_id).await;
        let (_, mallory) = joined(&mallory_id).await;
        let attack = Self { mallory, victim, mallory_id, victim_id };
        let theirs = member(&attack.victim_id, &format!("10.{number}.0.0/24"), &key(number, 1));
        apply(&attack.members(&attack.victim), &theirs).await.unwrap();
        let own = member(&attack.mallory_id, &format!("10.{number}.1.0/24"), &key(number, 2));
        apply(&attack.members(&attack.mallory), &own).await.unwrap();
        attack
    }

    fn members(&self, client: &Client) -> Api<Member> {
        Api::namespaced(client.clone(), BROKER)
    }

    fn records(&self, client: &Client) -> Api<ServiceRecord> {
        Api::namespaced(client.clone(), BROKER)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.mallory.clone(), BROKER)
    }
}

/// A well-formed public key that no other test has.
fn key(number: u8, which: u8) -> String {
    use data_encoding::BASE64;
    let mut bytes = [7; 32];
    (bytes[0], bytes[1]) = (number, which);
    BASE64.encode(&bytes)
}

fn assert_refused(refusal: (u16, String), part: &str) {
    let (code, message) = refusal;
    assert!(matches!(code, 403 | 422) && message.contains(part), "{code}: {message}");
}
