//! Another Member's prefixes, keys and gateway addresses.

use std::time::Duration;

use controller::api::{Member, MemberSpec, VirtualCidr};
use controller::members::{Verdict, judge};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::{Attack, NOTICED, assert_refused, key};
use crate::support::{BROKER, Cluster, apply, eventually, id, joined, member, refusal, until_refused};

/// The broker knows ages in whole seconds.
const SECOND: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn a_joined_member_cannot_claim_another_ones_prefix_or_key() {
    let attack = Attack::begin("claim", 103).await;
    let members = attack.members(&attack.mallory);
    let named = format!("one of cluster {}", attack.victim_id);
    let thief = member(&attack.mallory_id, "10.103.1.0/24", &key(103, 1));
    until_refused(&members, &thief, &named).await;
    for stolen in ["10.103.0.0/24", "10.103.0.128/25", "10.103.0.0/16"] {
        let mut greedy = member(&attack.mallory_id, "10.103.1.0/24", &key(103, 2));
        greedy.spec.pod_cidrs.push(stolen.to_owned());
        assert_refused(refusal(apply(&members, &greedy).await), &named);
    }
    assert_refused(refusal(apply(&members, &thief).await), &named);
    let mut honest = member(&attack.mallory_id, "10.103.1.0/24", &key(103, 3));
    honest.spec.pod_cidrs.push("10.103.2.0/24".to_owned());
    apply(&members, &honest).await.unwrap();
}

/// A Member as [`member`] makes it, whose gateway is called at `endpoints`.
fn called_at(cluster: &str, pods: &str, key: &str, endpoints: &[&str]) -> Member {
    let mut member = member(cluster, pods, key);
    member.spec.gateways[0].endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
    member
}

/// Deletes the victim's Member and lets it begin again, a second later: so it is the younger one.
async fn rejuvenate(attack: &Attack, anew: &Member) {
    let members = attack.members(&attack.victim);
    members.delete(&attack.victim_id, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    apply(&members, anew).await.unwrap();
}

/// Waits until the broker compares with what has just been written.
async fn until_known(mut tried: impl AsyncFnMut() -> Result<Member, kube::Error>, part: &str) {
    eventually(part, async || match tried().await {
        Err(kube::Error::Api(status)) => status.message.contains(part),
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn an_older_member_cannot_claim_a_prefix_that_holds_a_younger_ones_gateway() {
    let attack = Attack::begin("swallow", 117).await;
    let endpoints = ["198.18.117.7:51820", "[2001:db8:117::7]:51820"];
    rejuvenate(&attack, &called_at(&attack.victim_id, "10.117.0.0/24", &key(117, 1), &endpoints)).await;
    let members = attack.members(&attack.mallory);
    let named = format!("a prefix that was added holds a gateway address of cluster {}", attack.victim_id);
    let with = |more: &str| {
        let mut member = member(&attack.mallory_id, "10.117.1.0/24", &key(117, 2));
        member.spec.pod_cidrs.push(more.to_owned());
        member
    };
    until_refused(&members, &with("198.18.117.0/24"), &named).await;
    for stolen in ["198.18.117.0/24", "198.18.117.7/32", "2001:db8:117::/48"] {
        assert_refused(refusal(apply(&members, &with(stolen)).await), &named);
    }
    apply(&members, &with("198.18.118.0/24")).await.unwrap();
}

#[tokio::test]
async fn an_older_member_cannot_put_its_gateway_into_a_younger_ones_prefix() {
    let attack = Attack::begin("enter", 118).await;
    let mut theirs = member(&attack.victim_id, "10.118.0.0/24", &key(118, 1));
    theirs.spec.pod_cidrs.push("fd00:118::/112".to_owned());
    rejuvenate(&attack, &theirs).await;
    let members = attack.members(&attack.mallory);
    let named = format!("a gateway address that was added is inside a prefix of cluster {}", attack.victim_id);
    let at = |endpoints: &[&str]| called_at(&attack.mallory_id, "10.118.1.0/24", &key(118, 2), endpoints);
    // The victim's first Member, which was the older one, had no such prefix.
    until_refused(&members, &at(&["[fd00:118::9]:51820"]), &named).await;
    for inside in ["10.118.0.9:51820", "10.118.0.9:0", "[fd00:118::9]:51820"] {
        assert_refused(refusal(apply(&members, &at(&["198.18.0.1:1", inside])).await), &named);
    }
    // What is no address is let through, and binds nobody: importers refuse it.
    for outside in ["10.118.2.9:51820", "10.118.0:9", ""] {
        apply(&members, &at(&[outside])).await.unwrap();
    }
    // What would become several addresses when it is taken apart.
    for several in [" 10.118.2.9:51820", "10.118.2.9:1 10.118.3.9:1", "10.118.2.9:1\t", "[fe80::1%2]:1"] {
        assert_refused(refusal(apply(&members, &at(&[several])).await), "spec.gateways[0].endpoints[0]");
    }
}

#[tokio::test]
async fn who_joins_with_a_conflict_does_not_hold_up_the_older_one() {
    let attack = Attack::begin("hold-up", 119).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    members.delete(&attack.mallory_id, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    apply(&members, &member(&attack.mallory_id, "10.119.0.0/16", &key(119, 2))).await.unwrap();
    tokio::time::sleep(NOTICED).await;
    let mut grown = member(&attack.victim_id, "10.119.0.0/24", &key(119, 1));
    grown.spec.pod_cidrs.push("10.119.1.0/24".to_owned());
    grown.spec.gateways[0].endpoints = vec!["10.119.7.7:51820".to_owned()];
    // Mallory's first Member, which had that prefix, may be known for longer.
    eventually("the older one grows", async || apply(&victims, &grown).await.is_ok()).await;
}

/// A virtual prefix, of as many pods.
fn block(of: &str) -> VirtualCidr {
    VirtualCidr { pods: of.to_owned(), r#virtual: of.to_owned() }
}

/// Importers leave out virtual prefixes of a younger Member that are in the way of an older one's.
#[tokio::test]
async fn who_joins_with_virtual_prefixes_around_anothers_does_not_hold_up_the_older_one() {
    let attack = Attack::begin("wrap", 120).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    let mut theirs = called_at(&attack.victim_id, "10.120.0.0/24", &key(120, 1), &["198.18.120.1:51820"]);
    theirs.spec.virtual_cidrs = vec![block("100.120.0.0/24")];
    apply(&victims, &theirs).await.unwrap();
    members.delete(&attack.mallory_id, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let mut evil = member(&attack.mallory_id, "10.121.0.0/24", &key(120, 2));
    (evil.spec.pod_cidrs, evil.spec.gateways) = (Vec::new(), Vec::new());
    let around = ["10.120.0.0/16", "100.120.0.0/16", "198.18.120.0/24", "10.122.0.0/16"];
    evil.spec.virtual_cidrs = around.map(block).into();
    apply(&members, &evil).await.unwrap();
    let grown = |change: fn(&mut MemberSpec)| {
        let mut grown = theirs.clone();
        change(&mut grown.spec);
        grown
    };
    // What overlaps nothing of the victim is as good as any other's.
    let named = format!("a prefix that was added overlaps one of cluster {}", attack.mallory_id);
    let taken = grown(|spec| spec.pod_cidrs.push("10.122.7.0/24".to_owned()));
    until_refused(&victims, &taken, &named).await;
    let taken = grown(|spec| spec.virtual_cidrs.push(block("10.122.0.0/15")));
    assert_refused(refusal(apply(&victims, &taken).await), &named);
    let taken = grown(|spec| spec.gateways[0].endpoints.push("10.122.7.7:51820".to_owned()));
    let named = format!("a gateway address that was added is inside a prefix of cluster {}", attack.mallory_id);
    assert_refused(refusal(apply(&victims, &taken).await), &named);
    let all = grown(|spec| {
        spec.pod_cidrs.push("10.120.1.0/24".to_owned());
        spec.virtual_cidrs.push(block("100.120.1.0/24"));
        spec.gateways[0].endpoints = vec!["10.120.7.7:51820".to_owned(), "198.18.120.2:51820".to_owned()];
    });
    apply(&victims, &all).await.unwrap();
    // And so it is not as soon as the other one is the older one.
    victims.delete(&attack.victim_id, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    apply(&victims, &theirs).await.unwrap();
    let named = format!("a prefix that was added overlaps one of cluster {}", attack.mallory_id);
    let taken = grown(|spec| spec.virtual_cidrs.push(block("100.120.1.0/24")));
    assert_refused(refusal(apply(&victims, &taken).await), &named);
    // Blocks from outside the pool keep others from choosing theirs.
    for (api, id) in [(&victims, &attack.victim_id), (&members, &attack.mallory_id)] {
        api.delete(id, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_that_begin_in_one_second_the_second_one_has_no_conflict_with_the_first() {
    let attack = Attack::begin("second", 150).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    let named = format!("one of cluster {}", attack.victim_id);
    // By name, mallory would be the first of two of the same age.
    assert!(attack.mallory_id < attack.victim_id);
    members.delete(&attack.mallory_id, &DeleteParams::default()).await.unwrap();
    until_known(
        async || {
            // What was let through the last time may still be known, and keep the victim out.
            let _ = victims.delete(&attack.victim_id, &DeleteParams::default()).await;
            apply(&victims, &member(&attack.victim_id, "10.150.0.0/24", &key(150, 1))).await?;
            tokio::time::sleep(NOTICED).await;
            let evil = apply(&members, &member(&attack.mallory_id, "10.150.0.0/24", &key(150, 2))).await?;
            // It is the younger one, or the victim is not known yet.
            members.delete(&attack.mallory_id, &DeleteParams::default()).await.unwrap();
            Ok(evil)
        },
        &named,
    )
    .await;
}

#[tokio::test]
async fn no_member_can_take_the_brokers_address() {
    let mut importer = Cluster::new("importer-broker", "10.151.0.0/24").await;
    let (mut credential, _) = joined("importer-broker").await;
    importer.give_credential(&credential).await;
    importer.start();
    let (_, mallory) = joined("mallory-broker").await;
    apply(&Api::namespaced(mallory, BROKER), &member("mallory-broker", "198.18.151.0/24", &key(151, 1))).await.unwrap();
    importer.wait_for("mallory-broker", "Ready", "True", "Ready").await;
    // The broker moves to an address that mallory has claimed.
    importer.stop().await;
    credential.broker.server = "https://198.18.151.9:6443".to_owned();
    importer.give_credential(&credential).await;
    importer.start();
    eventually("nodes refuse mallory", async || {
        let all = importer.members().list(&ListParams::default()).await.unwrap().items;
        match &judge(&id("importer-broker"), &all, &[])["mallory-broker"] {
            Verdict::Accepted(_) => false,
            Verdict::Refused(refusal) => refusal.message.contains("198.18.151.9 of the broker"),
        }
    })
    .await;
    importer.stop().await;
}

#[tokio::test]
async fn a_newcomer_that_claims_anothers_prefix_or_key_is_refused_by_every_importer() {
    let mut importer = Cluster::published("importer-claims", "10.116.0.0/24").await;
    let (_, mallory) = joined("mallory-overlap").await;
    let members: Api<Member> = Api::namespaced(mallory, BROKER);
    tokio::time::sleep(SECOND).await;
    apply(&members, &member("mallory-overlap", "10.116.0.128/25", &key(116, 1))).await.unwrap();
    let message = importer.wait_for("mallory-overlap", "Ready", "False", "Overlap").await;
    assert!(message.contains("10.116.0.0/24 of cluster importer-claims"), "{message}");
    let (_, victim) = joined("victim-key").await;
    let theirs = member("victim-key", "10.116.1.0/24", &key(116, 2));
    apply(&Api::namespaced(victim, BROKER), &theirs).await.unwrap();
    importer.wait_for("victim-key", "Ready", "True", "Ready").await;
    tokio::time::sleep(SECOND).await;
    let (_, thief) = joined("mallory-key").await;
    apply(&Api::namespaced(thief, BROKER), &member("mallory-key", "10.116.2.0/24", &key(116, 2))).await.unwrap();
    let message = importer.wait_for("mallory-key", "Ready", "False", "DuplicateKey").await;
    assert!(message.contains("that of cluster victim-key"), "{message}");
    importer.wait_for("victim-key", "Ready", "True", "Ready").await;
    importer.stop().await;
}
