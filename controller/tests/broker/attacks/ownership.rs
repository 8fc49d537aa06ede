//! Another Member's objects, and objects that pretend to be.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Attack, assert_refused, key};
use crate::support::{BROKER, KEYS, apply, member, record, refusal};

#[tokio::test]
async fn another_members_objects_cannot_be_written_or_deleted() {
    let attack = Attack::begin("objects", 101).await;
    let (members, victim) = (attack.members(&attack.mallory), attack.victim_id.as_str());
    let mut theirs = member(victim, "10.101.0.0/24", &key(101, 9));
    assert_refused(refusal(apply(&members, &theirs).await), &format!("may not write Member {victim}"));
    theirs.metadata.labels = member(&attack.mallory_id, "10.101.1.0/24", KEYS[0]).metadata.labels;
    assert_refused(refusal(apply(&members, &theirs).await), &format!("may not write Member {victim}"));
    let gone = members.delete(victim, &DeleteParams::default()).await;
    assert_refused(refusal(gone), &format!("may not write Member {victim}"));
    let all = members.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    assert_refused(refusal(all), "cannot deletecollection");
    let status = json!({ "status": { "conditions": [] } });
    let told = members.patch_status(victim, &PatchParams::default(), &Patch::Merge(status)).await;
    assert_refused(refusal(told), "cannot patch resource \"members/status\"");
}

#[tokio::test]
async fn a_member_cannot_take_another_name() {
    let attack = Attack::begin("name", 102).await;
    let members = attack.members(&attack.mallory);
    let other = member("nobody", "10.102.9.0/24", &key(102, 9));
    assert_refused(refusal(members.create(&PostParams::default(), &other).await), "may not write Member nobody");
    let mut own = member(&attack.mallory_id, "10.102.1.0/24", &key(102, 2));
    own.spec.cluster_id = attack.victim_id.clone();
    assert_refused(refusal(apply(&members, &own).await), "clusterID");
    let mut generated = member("x", "10.102.9.0/24", &key(102, 9));
    generated.metadata.name = None;
    generated.metadata.generate_name = Some(format!("{}-", attack.mallory_id));
    assert_refused(refusal(members.create(&PostParams::default(), &generated).await), "must equal spec.clusterID");
}

#[tokio::test]
async fn another_members_service_records_cannot_be_written_or_deleted() {
    let attack = Attack::begin("records", 104).await;
    let (records, victim) = (attack.records(&attack.mallory), attack.victim_id.as_str());
    let theirs = record(victim, "default", "web", "10.104.0.9");
    attack.records(&attack.victim).create(&PostParams::default(), &theirs).await.unwrap();
    let name = format!("{victim}.default.web");
    assert_refused(refusal(apply(&records, &theirs).await), "may not write ServiceRecord");
    assert_refused(refusal(records.delete(&name, &DeleteParams::default()).await), "may not write ServiceRecord");
    let spec = json!({ "spec": { "slices": [] } });
    let emptied = records.patch(&name, &PatchParams::default(), &Patch::Merge(spec)).await;
    assert_refused(refusal(emptied), "may not write ServiceRecord");
    let mut disguised = record(&attack.mallory_id, "default", "web", "10.104.1.9");
    disguised.spec.cluster_id = victim.to_owned();
    assert_refused(refusal(apply(&records, &disguised).await), "metadata.name must be");
}

#[tokio::test]
async fn objects_without_or_with_a_false_label_are_refused() {
    let attack = Attack::begin("labels", 105).await;
    let records = attack.records(&attack.mallory);
    let wanted = format!("label linkspan.dev/cluster must be {}", attack.mallory_id);
    let mut bare = record(&attack.mallory_id, "default", "web", "10.105.1.9");
    bare.metadata.labels = None;
    assert_refused(refusal(records.create(&PostParams::default(), &bare).await), &wanted);
    bare.metadata.labels = Some([("linkspan.dev/cluster".to_owned(), attack.victim_id.clone())].into());
    assert_refused(refusal(records.create(&PostParams::default(), &bare).await), &wanted);
    let mut own = member(&attack.mallory_id, "10.105.1.0/24", &key(105, 2));
    own.metadata.labels = Some(BTreeMap::new());
    let members = attack.members(&attack.mallory);
    let unlabelled = json!({ "metadata": { "labels": { "linkspan.dev/cluster": null } } });
    let result = members.patch(&attack.mallory_id, &PatchParams::default(), &Patch::Merge(unlabelled)).await;
    assert_refused(refusal(result), &wanted);
}

#[tokio::test]
async fn leases_of_others_cannot_be_written_or_deleted() {
    let attack = Attack::begin("leases", 107).await;
    let theirs: Api<Lease> = Api::namespaced(attack.victim.clone(), BROKER);
    let name = format!("member-{}", attack.victim_id);
    let lease = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "victim" } });
    let lease: Lease = serde_json::from_value(lease).unwrap();
    let lease = theirs.create(&PostParams::default(), &lease).await.unwrap();
    let leases: Api<Lease> = attack.api();
    let refused = format!("may not write Lease {name}");
    assert_refused(refusal(leases.delete(&name, &DeleteParams::default()).await), &refused);
    assert_refused(refusal(leases.replace(&name, &PostParams::default(), &lease).await), &refused);
    let foreign: Lease = serde_json::from_value(json!({ "metadata": { "name": "kube-scheduler" } })).unwrap();
    assert_refused(refusal(leases.create(&PostParams::default(), &foreign).await), "may not write Lease");
    let own = json!({
        "metadata": { "name": format!("member-{}", attack.mallory_id) }, "spec": { "leaseDurationSeconds": 1_000_000 },
    });
    let eternal = leases.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await;
    assert_refused(refusal(eternal), "lasts at most 600 seconds");
}
