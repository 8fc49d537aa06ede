//! Clusters with the same prefixes.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::api::{Member, VirtualCidr};
use controller::broker::ask_to_leave;
use controller::members::{View, judge};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};

use super::support::{BROKER, Cluster, admin, apply, eventually, joined, member, new_token};

const TWINS: usize = 10;
/// Keys are unique among all that the tests share.
const KEY_OF_BERLIN: &str = "BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=";

/// The Members on the broker whose names begin so.
async fn published(prefix: &str) -> BTreeMap<String, Member> {
    let members: Api<Member> = Api::namespaced(admin().await, BROKER);
    let all = members.list(&ListParams::default()).await.unwrap().items;
    all.into_iter().map(|member| (member.name_any(), member)).filter(|(name, _)| name.starts_with(prefix)).collect()
}

fn blocks(members: &BTreeMap<String, Member>) -> BTreeMap<String, Vec<VirtualCidr>> {
    members.iter().map(|(name, member)| (name.clone(), member.spec.virtual_cidrs.clone())).collect()
}

/// What a Member tells on the broker of virtual prefixes at rest.
async fn resting(cluster: &str) -> Vec<String> {
    let published = published(cluster).await;
    published[cluster].spec.resting_cidrs.iter().map(|cidr| cidr.r#virtual.clone()).collect()
}

/// Joins it, and waits until the others see it.
async fn publish(cluster: &mut Cluster) {
    let name = cluster.config.cluster.to_string();
    cluster.give_token(&new_token(&name).await).await;
    cluster.start();
    cluster.wait_for(&name, "Published", "True", "Published").await;
}

#[tokio::test]
async fn ten_clusters_that_join_at_once_get_addresses_of_their_own_and_keep_them() {
    let mut clusters = Vec::new();
    for number in 0..TWINS {
        let name = format!("k3s-{number}");
        let cluster = Cluster::new(&name, "10.170.0.0/24").await;
        cluster.give_token(&new_token(&name).await).await;
        clusters.push(cluster);
    }
    for cluster in &mut clusters {
        cluster.start();
    }
    eventually("all have joined", async || published("k3s-").await.len() == TWINS).await;
    eventually("each has one block, that of nobody else", async || {
        let members = published("k3s-").await;
        let mut taken: Vec<String> = Vec::new();
        for blocks in blocks(&members).into_values() {
            taken.extend(blocks.into_iter().filter(|block| block.pods == "10.170.0.0/24").map(|block| block.r#virtual));
        }
        taken.sort();
        taken.dedup();
        let only = members.values().filter(|member| member.spec.virtual_only).count();
        // Whoever was first keeps its own addresses towards all who share none with it.
        taken.len() == TWINS && only == TWINS - 1
    })
    .await;
    let mut before = BTreeMap::new();
    eventually("they are those that they keep", async || {
        before = blocks(&published("k3s-").await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        blocks(&published("k3s-").await) == before
    })
    .await;
    for cluster in &mut clusters {
        cluster.stop().await;
        cluster.start();
    }
    for (number, cluster) in clusters.iter().enumerate() {
        cluster.wait_for(&format!("k3s-{number}"), "Virtual", "True", "Allocated").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(blocks(&published("k3s-").await), before);
    for cluster in &mut clusters {
        cluster.stop().await;
    }
}

#[tokio::test]
async fn what_a_member_had_rests_when_it_leaves_and_a_newcomer_gets_something_else() {
    let mut paris = Cluster::new("rest-paris", "10.171.0.0/24").await;
    let mut berlin = Cluster::new("rest-berlin", "10.171.0.0/24").await;
    publish(&mut paris).await;
    publish(&mut berlin).await;
    let block = async || {
        let of_it = published("rest-berlin").await;
        let block = of_it.get("rest-berlin")?.spec.virtual_cidrs.first()?.r#virtual.clone();
        Some(block)
    };
    eventually("berlin has a block", async || block().await.is_some()).await;
    let had = block().await.unwrap();
    eventually("paris knows it", async || {
        let copy = paris.members().get_opt("rest-berlin").await.unwrap();
        copy.is_some_and(|copy| copy.spec.virtual_cidrs.iter().any(|block| block.r#virtual == had))
    })
    .await;
    ask_to_leave(&berlin.client, &berlin.config.namespace).await.unwrap();
    berlin.wait_for("rest-berlin", "Joined", "False", "Left").await;
    berlin.stop().await;
    eventually("paris tells that it rests", async || resting("rest-paris").await.contains(&had)).await;
    // A cluster of the same ID, to which everything is new, would look at that block first.
    let mut newcomer = Cluster::with_uid("rest-berlin", "10.171.0.0/24", "uid-rest-berlin-2").await;
    publish(&mut newcomer).await;
    eventually("the newcomer has a block", async || block().await.is_some()).await;
    assert_ne!(block().await, Some(had), "{:#?}", published("rest-").await);
    for mut cluster in [paris, newcomer] {
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_member_that_comes_again_natively_while_a_cluster_is_cut_off_is_another_one_there() {
    let mut paris = Cluster::new("cut-paris", "10.172.0.0/24").await;
    publish(&mut paris).await;
    let (_, berlin) = joined("cut-berlin").await;
    let members: Api<Member> = Api::namespaced(berlin, BROKER);
    let (pods, had) = ("10.172.0.0/24".to_owned(), "100.127.172.0/24".to_owned());
    let mut first = member("cut-berlin", &pods, KEY_OF_BERLIN);
    first.spec.virtual_only = true;
    first.spec.virtual_cidrs = vec![VirtualCidr { pods, r#virtual: had.clone() }];
    apply(&members, &first).await.unwrap();
    eventually("paris has a copy", async || {
        paris.members().get_opt("cut-berlin").await.unwrap().is_some_and(|copy| copy.spec.virtual_only)
    })
    .await;
    paris.stop().await;
    members.delete("cut-berlin", &DeleteParams::default()).await.unwrap();
    let second = member("cut-berlin", "10.172.1.0/24", KEY_OF_BERLIN);
    apply(&members, &second).await.unwrap();
    paris.start();
    eventually("the copy is of the second one", async || {
        paris.members().get("cut-berlin").await.is_ok_and(|copy| copy.spec == second.spec)
    })
    .await;
    paris.wait_for("cut-berlin", "Ready", "True", "Ready").await;
    eventually("what the first one had rests", async || resting("cut-paris").await.contains(&had)).await;
    paris.stop().await;
}

/// By which addresses the nodes of `viewer` reach a Member, and over which prefixes; `None` while they do not.
async fn reached(viewer: &Cluster, member: &str) -> Option<(View, Vec<String>)> {
    let copies = viewer.members().list(&ListParams::default()).await.unwrap().items;
    let verdicts = judge(&viewer.config.cluster, &copies, &[]);
    let admitted = verdicts.get(member)?.accepted()?;
    let pods = admitted.view.pods(&admitted.claim);
    Some((admitted.view.clone(), pods.iter().map(ToString::to_string).collect()))
}

#[tokio::test]
async fn a_newcomer_with_the_prefixes_of_one_changes_nothing_between_the_others() {
    // In the order of their IDs as well, which is that of their ages when all join within one second.
    let ids = ["calm-1-paris", "calm-2-rome", "calm-3-berlin"];
    let mut paris = Cluster::new(ids[0], "10.174.0.0/24").await;
    let mut rome = Cluster::new(ids[1], "10.175.0.0/24").await;
    let mut berlin = Cluster::new(ids[2], "10.174.0.0/24").await;
    publish(&mut paris).await;
    publish(&mut rome).await;
    let native = |pods: &str| Some((View::Native, vec![pods.to_owned()]));
    let is_calm = async || {
        reached(&rome, ids[0]).await == native("10.174.0.0/24")
            && reached(&paris, ids[1]).await == native("10.175.0.0/24")
    };
    eventually("paris and rome know each other", async || is_calm().await).await;
    publish(&mut berlin).await;
    eventually("both have blocks for each other, and rome knows them", async || {
        assert!(is_calm().await, "what was between paris and rome has changed");
        let known = rome.members().list(&ListParams::default()).await.unwrap().items;
        let translated =
            |id: &str| known.iter().any(|copy| copy.name_any() == id && !copy.spec.virtual_cidrs.is_empty());
        translated(ids[0]) && translated(ids[2])
    })
    .await;
    let members = published("calm-").await;
    let said = |id: &str| (members[id].spec.pod_cidrs.join(" "), members[id].spec.virtual_only);
    assert_eq!(said(ids[0]), ("10.174.0.0/24".to_owned(), false));
    assert_eq!(said(ids[1]), ("10.175.0.0/24".to_owned(), false));
    assert_eq!(said(ids[2]), ("10.174.0.0/24".to_owned(), true));
    assert!(members[ids[1]].spec.virtual_cidrs.is_empty(), "it shares nothing");
    let is_virtual = async || reached(&rome, ids[2]).await.is_some_and(|(view, _)| view.is_virtual());
    eventually("rome reaches berlin by its virtual addresses", is_virtual).await;
    assert!(is_calm().await, "{members:#?}");
    for mut cluster in [paris, rome, berlin] {
        cluster.stop().await;
    }
}
