//! Virtual addresses: what overlaps lawfully, and what is another Member's all the same.

use controller::api::{Member, VirtualCidr};

use super::{Attack, NOTICED, assert_refused, key};
use crate::support::{apply, member, refusal, until_refused};

/// A Member as [`member`] makes it, whose pods are known by virtual ones, by all when `only`.
fn translated(cluster: &str, pods: &str, key: &str, r#virtual: &str, only: bool) -> Member {
    let mut member = member(cluster, pods, key);
    member.spec.virtual_cidrs = vec![VirtualCidr { pods: pods.to_owned(), r#virtual: r#virtual.to_owned() }];
    member.spec.virtual_only = only;
    member
}

#[tokio::test]
async fn who_is_virtual_to_all_may_have_anothers_prefix_and_stays_virtual() {
    let attack = Attack::begin("virtual", 160).await;
    let members = attack.members(&attack.mallory);
    let taken = "10.160.0.0/24";
    let named = format!("a prefix that was added overlaps one of cluster {}", attack.victim_id);
    let open = translated(&attack.mallory_id, taken, &key(160, 2), "100.64.160.0/24", false);
    until_refused(&members, &open, &named).await;
    assert_refused(refusal(apply(&members, &open).await), &named);
    let only = translated(&attack.mallory_id, taken, &key(160, 2), "100.64.160.0/24", true);
    apply(&members, &only).await.unwrap();
    // With that it could take what the other one has.
    assert_refused(refusal(apply(&members, &open).await), "virtualOnly stays");
    assert_refused(
        refusal(apply(&members, &member(&attack.mallory_id, taken, &key(160, 2))).await),
        "virtualOnly stays",
    );
}

#[tokio::test]
async fn a_virtual_prefix_is_its_members_as_any_other() {
    let attack = Attack::begin("block", 161).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    let theirs = translated(&attack.victim_id, "10.161.0.0/24", &key(161, 1), "100.64.161.0/24", false);
    apply(&victims, &theirs).await.unwrap();
    let named = format!("a prefix that was added overlaps one of cluster {}", attack.victim_id);
    let thief = |stolen: &str| translated(&attack.mallory_id, "10.161.1.0/24", &key(161, 2), stolen, true);
    // What the victim has had from the beginning would be refused before this is known.
    until_refused(&members, &thief("100.64.161.0/24"), &named).await;
    for stolen in ["100.64.161.0/24", "10.161.0.0/24"] {
        assert_refused(refusal(apply(&members, &thief(stolen)).await), &named);
    }
    let thief = member(&attack.mallory_id, "100.64.161.0/25", &key(161, 2));
    assert_refused(refusal(apply(&members, &thief).await), &named);
    let honest = translated(&attack.mallory_id, "10.161.0.0/24", &key(161, 2), "100.64.162.0/24", true);
    apply(&members, &honest).await.unwrap();
}

#[tokio::test]
async fn services_of_two_members_may_be_the_same() {
    let attack = Attack::begin("services", 162).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    let mut theirs = member(&attack.victim_id, "10.162.0.0/24", &key(162, 1));
    theirs.spec.service_cidrs = vec!["10.162.64.0/18".to_owned()];
    apply(&victims, &theirs).await.unwrap();
    tokio::time::sleep(NOTICED).await;
    let mut own = member(&attack.mallory_id, "10.162.1.0/24", &key(162, 2));
    own.spec.service_cidrs = vec!["10.162.64.0/18".to_owned()];
    apply(&members, &own).await.unwrap();
}

#[tokio::test]
async fn who_has_anothers_services_does_not_get_its_virtual_prefix() {
    let attack = Attack::begin("squat", 164).await;
    let (victims, members) = (attack.members(&attack.victim), attack.members(&attack.mallory));
    let mut theirs = translated(&attack.victim_id, "10.164.0.0/24", &key(164, 1), "100.64.164.0/24", true);
    theirs.spec.service_cidrs = vec!["10.164.64.0/18".to_owned()];
    apply(&victims, &theirs).await.unwrap();
    let mut own = member(&attack.mallory_id, "10.164.64.0/24", &key(164, 2));
    own.spec.gateways[0].endpoints = vec!["10.164.65.9:51820".to_owned()];
    let mut thief = own.clone();
    thief.spec.virtual_cidrs = vec![VirtualCidr { pods: "10.164.64.0/24".into(), r#virtual: "100.64.164.0/24".into() }];
    let named = format!("a prefix that was added overlaps one of cluster {}", attack.victim_id);
    until_refused(&members, &thief, &named).await;
    // Nobody is refused for that, so it must open nothing.
    apply(&members, &own).await.unwrap();
    assert_refused(refusal(apply(&members, &thief).await), &named);
}

#[tokio::test]
async fn virtual_prefixes_are_prefixes() {
    let attack = Attack::begin("form", 163).await;
    let members = attack.members(&attack.mallory);
    let wrong = translated(&attack.mallory_id, "10.163.1.0/24", &key(163, 2), "everything", true);
    assert_refused(refusal(apply(&members, &wrong).await), "virtual must be a prefix");
}
