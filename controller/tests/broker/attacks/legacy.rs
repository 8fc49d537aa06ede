//! Members that were stored before their kind had all its rules. They stay as they are, and so does what is not changed in
//! them.

use std::time::Duration;

use controller::api::{Member, VirtualCidr};
use controller::members::{ANNOTATION_JOINED_AT, judge};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use testbed::ApiServer;
use tokio::sync::OnceCell;

use super::{assert_refused, key};
use crate::support::{
    BROKER, address, apply, client, eventually, id, join_as, member, refusal, set_up_broker, start, until_refused,
};

/// A broker that takes Members as an earlier version did: endpoints of any form, and prefixes of any width.
async fn earlier() -> &'static ApiServer {
    static EARLIER: OnceCell<ApiServer> = OnceCell::const_new();
    EARLIER
        .get_or_init(|| {
            start(|server| {
                set_up_broker(server);
                let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
                let paths = [
                    "gateways/items/properties/endpoints/items/pattern",
                    "podCIDRs/x-kubernetes-validations",
                    "virtualCIDRs/items/properties/pods/x-kubernetes-validations",
                    "virtualCIDRs/items/properties/virtual/x-kubernetes-validations",
                ];
                let removals = paths.map(|path| json!({ "op": "remove", "path": format!("{spec}/{path}") }));
                let patch = Value::from(removals.to_vec()).to_string();
                let change = ["patch", "crd", "members.linkspan.dev", "--type=json", "--patch", &patch];
                server.kubectl(change).unwrap().done().unwrap();
            })
        })
        .await
}

/// The Members as a new cluster writes them there, with an account of its own.
async fn members_of(cluster: &str) -> Api<Member> {
    let server = earlier().await;
    let (_, client) = join_as(&client(server.kubeconfig()).await, &address(server), cluster).await;
    Api::namespaced(client, BROKER)
}

/// Whether all importers use a Member.
async fn is_used(members: &Api<Member>, cluster: &str) -> bool {
    let mut copies = members.list(&ListParams::default()).await.unwrap().items;
    for copy in &mut copies {
        let created = copy.creation_timestamp().unwrap().0.to_string();
        copy.annotations_mut().insert(ANNOTATION_JOINED_AT.to_owned(), created);
    }
    judge(&id("importer"), &copies, &[])[cluster].accepted().is_some()
}

/// Applies it as soon as the kind is what it was earlier; a second later, whoever comes is younger.
async fn store(members: &Api<Member>, member: &Member) {
    eventually("the kind is what it was", async || apply(members, member).await.is_ok()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[tokio::test]
async fn endpoints_with_spaces_are_no_conflict_to_come() {
    let mut evil = member("mallory-spaces", "10.43.0.0/16", &key(1, 1));
    evil.spec.gateways[0].endpoints = vec![" 10.42.0.1:51820".to_owned(), "10.42.0.2:1 10.42.0.3:1".to_owned()];
    let (members, victims) = (members_of("mallory-spaces").await, members_of("victim-spaces").await);
    store(&members, &evil).await;
    let theirs = member("victim-spaces", "10.42.0.0/16", &key(1, 2));
    apply(&victims, &theirs).await.unwrap();
    assert!(is_used(&victims, "victim-spaces").await);
    let thief = |change: &dyn Fn(&mut Member)| {
        let mut thief = evil.clone();
        change(&mut thief);
        thief
    };
    let prefix = thief(&|it| it.spec.pod_cidrs.push("10.42.0.0/16".to_owned()));
    until_refused(&members, &prefix, "a prefix that was added overlaps one of cluster victim-spaces").await;
    let with_key = thief(&|it| {
        let mut second = theirs.spec.gateways[0].clone();
        (second.node, second.active) = ("node-2".to_owned(), false);
        it.spec.gateways.push(second);
    });
    let named = "a gateway key that was added is one of cluster victim-spaces";
    assert_refused(refusal(apply(&members, &with_key).await), named);
    let named = "a gateway address that was added is inside a prefix of cluster victim-spaces";
    for valid in [vec!["10.42.0.1:51820".to_owned()], vec![" 10.42.0.1:1".to_owned(), "10.42.0.2:1".to_owned()]] {
        let inside = thief(&|it| it.spec.gateways[0].endpoints.clone_from(&valid));
        assert_refused(refusal(apply(&members, &inside).await), named);
    }
    // Those with spaces are let through, and harm nobody.
    let more = thief(&|it| it.spec.gateways[0].endpoints.push(" 10.42.0.9:1".to_owned()));
    apply(&members, &more).await.unwrap();
    assert!(is_used(&victims, "victim-spaces").await);
    assert!(!is_used(&victims, "mallory-spaces").await);
}

#[tokio::test]
async fn prefixes_of_any_width_neither_hold_up_others_nor_are_a_conflict_to_come() {
    let mut evil = member("mallory-wide", "0.0.0.0/0", &key(2, 1));
    let block = |of: &str| VirtualCidr { pods: of.to_owned(), r#virtual: of.to_owned() };
    evil.spec.virtual_cidrs = vec![block("0.0.0.0/0"), block("::/0")];
    let (members, victims) = (members_of("mallory-wide").await, members_of("victim-wide").await);
    store(&members, &evil).await;
    let mut theirs = member("victim-wide", "10.44.0.0/16", &key(2, 2));
    apply(&victims, &theirs).await.unwrap();
    assert!(is_used(&victims, "victim-wide").await);
    evil.spec.pod_cidrs.push("10.44.0.0/16".to_owned());
    until_refused(&members, &evil, "a prefix that was added overlaps one of cluster victim-wide").await;
    theirs.spec.pod_cidrs.extend(["10.45.0.0/16".to_owned(), "fd00:45::/64".to_owned()]);
    theirs.spec.virtual_cidrs = vec![block("100.64.0.0/24")];
    theirs.spec.gateways[0].endpoints = vec!["198.18.0.1:51820".to_owned()];
    apply(&victims, &theirs).await.unwrap();
    assert!(is_used(&victims, "victim-wide").await);
}
