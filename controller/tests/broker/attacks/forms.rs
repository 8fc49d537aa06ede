//! Objects that are too large, malformed, or more than they seem.

use controller::api::{Member, ServiceRecord};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::json;

use super::{Attack, assert_refused, key};
use crate::support::{BROKER, KEYS, apply, member, record, refusal};

#[tokio::test]
async fn oversized_objects_are_refused() {
    let attack = Attack::begin("sizes", 110).await;
    let records = attack.records(&attack.mallory);
    let make = |change: &dyn Fn(&mut ServiceRecord)| {
        let mut bad = record(&attack.mallory_id, "default", "web", "10.110.1.9");
        change(&mut bad);
        bad
    };
    let endpoints = make(&|record| {
        let endpoint = record.spec.slices[0].endpoints[0].clone();
        record.spec.slices[0].endpoints = vec![endpoint; 1000];
        record.spec.slices = vec![record.spec.slices[0].clone(); 6];
    });
    assert_refused(refusal(apply(&records, &endpoints).await), "at most 5000 endpoints");
    let ports = make(&|record| record.spec.ports = vec![record.spec.ports[0].clone(); 300]);
    assert_refused(refusal(apply(&records, &ports).await), "spec.ports: Too many");
    let address = make(&|record| record.spec.slices[0].endpoints[0].addresses = vec!["1".repeat(5000)]);
    assert_refused(refusal(apply(&records, &address).await), "Too long");
    let annotated = make(&|record| {
        record.metadata.annotations = Some([("note".to_owned(), "x".repeat(5000))].into());
    });
    assert_refused(refusal(apply(&records, &annotated).await), "8 annotations of 1 KiB");
    let mut prefixes = member(&attack.mallory_id, "10.110.1.0/24", &key(110, 2));
    prefixes.spec.pod_cidrs = (0..2000).map(|i| format!("10.200.{}.{}/32", i / 256, i % 256)).collect();
    assert_refused(refusal(apply(&attack.members(&attack.mallory), &prefixes).await), "Too many");
}

#[tokio::test]
async fn malformed_objects_are_refused() {
    let attack = Attack::begin("forms", 111).await;
    let kind = kube::core::ApiResource::erase::<Member>(&());
    let members: Api<DynamicObject> = Api::namespaced_with(attack.mallory.clone(), BROKER, &kind);
    let attempts = [
        (json!({ "podCIDRs": ["everything"] }), "must be prefixes"),
        (json!({ "podCIDRs": "10.0.0.0/8" }), "podCIDRs"),
        (json!({ "podCIDRs": ["0.0.0.0/0"] }), "must not be wider"),
        (json!({ "serviceCIDRs": ["2000::/3"] }), "must not be wider"),
        (json!({ "virtualCIDRs": [{ "pods": "10.0.0.0/7", "virtual": "100.64.0.0/24" }] }), "pods must not be wider"),
        (json!({ "virtualCIDRs": [{ "pods": "10.0.0.0/24", "virtual": "0.0.0.0/0" }] }), "virtual must not be wider"),
        (json!({ "virtualCIDRs": [{ "pods": "fd00::/64", "virtual": "::/15" }] }), "virtual must not be wider"),
        (json!({ "gateways": [{ "node": "n", "publicKey": "short", "lanes": 1 }] }), "publicKey"),
        (json!({ "gateways": [{ "node": "n", "publicKey": KEYS[0], "lanes": 99 }] }), "lanes"),
        (json!({ "protocol": 0 }), "protocol"),
    ];
    for (spec, part) in attempts {
        let patch = json!({ "spec": spec });
        let result = members.patch(&attack.mallory_id, &PatchParams::default(), &Patch::Merge(patch)).await;
        assert_refused(refusal(result), part);
    }
    let records = attack.records(&attack.mallory);
    let mut misnamed = record(&attack.mallory_id, "default", "web", "10.111.1.9");
    misnamed.metadata.name = Some(format!("{}.default.other", attack.mallory_id));
    assert_refused(refusal(apply(&records, &misnamed).await), "metadata.name must be");
}

#[tokio::test]
async fn objects_that_stay_for_ever_or_drag_others_along_are_refused() {
    let attack = Attack::begin("meta", 112).await;
    let members = attack.members(&attack.mallory);
    let stuck = json!({ "metadata": { "finalizers": ["example.com/never"] } });
    let result = members.patch(&attack.mallory_id, &PatchParams::default(), &Patch::Merge(stuck)).await;
    assert_refused(refusal(result), "finalizers is not allowed");
    let owner = json!([{ "apiVersion": "v1", "kind": "Namespace", "name": "linkspan-broker", "uid": "1" }]);
    let owned = json!({ "metadata": { "ownerReferences": owner } });
    let result = members.patch(&attack.mallory_id, &PatchParams::default(), &Patch::Merge(owned)).await;
    assert_refused(refusal(result), "ownerReferences is not allowed");
}

#[tokio::test]
async fn services_of_reserved_namespaces_are_refused() {
    let attack = Attack::begin("reserved", 113).await;
    let records = attack.records(&attack.mallory);
    for namespace in ["kube-system", "kube-public", "linkspan-system"] {
        let evil = record(&attack.mallory_id, namespace, "kube-dns", "10.113.1.9");
        assert_refused(refusal(apply(&records, &evil).await), &format!("namespace {namespace} is reserved"));
    }
}
