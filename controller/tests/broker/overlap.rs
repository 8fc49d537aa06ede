//! Clusters with the same prefixes.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::api::{Member, VirtualCidr};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::support::{BROKER, Cluster, admin, eventually, new_token};

const TWINS: usize = 10;

/// The twins' Members on the broker.
async fn published() -> BTreeMap<String, Member> {
    let members: Api<Member> = Api::namespaced(admin().await, BROKER);
    let all = members.list(&ListParams::default()).await.unwrap().items;
    all.into_iter().map(|member| (member.name_any(), member)).filter(|(name, _)| name.starts_with("k3s-")).collect()
}

fn blocks(members: &BTreeMap<String, Member>) -> BTreeMap<String, Vec<VirtualCidr>> {
    members.iter().map(|(name, member)| (name.clone(), member.spec.virtual_cidrs.clone())).collect()
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
    eventually("all have joined", async || published().await.len() == TWINS).await;
    eventually("each has one block, that of nobody else", async || {
        let members = published().await;
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
    let before = blocks(&published().await);
    for cluster in &mut clusters {
        cluster.stop().await;
        cluster.start();
    }
    for (number, cluster) in clusters.iter().enumerate() {
        cluster.wait_for(&format!("k3s-{number}"), "Virtual", "True", "Allocated").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(blocks(&published().await), before);
    for cluster in &mut clusters {
        cluster.stop().await;
    }
}
