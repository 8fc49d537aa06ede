//! Restarts a gateway while it carries traffic.

use std::time::Duration;

use controller::api::names::{LEASE_GATEWAY, SYSTEM_NAMESPACE};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};

use super::judge::Outcome;
use super::plan::Kind;
use crate::echo::client::Gap;
use crate::kubectl::errors::explain;
use crate::kubectl::stage::{self, Cluster, Stage};

/// How long calls go on, in seconds.
const SECONDS: &str = "15";
/// Longest time of that: twice as long, until an answer comes, and a margin.
const CALL: Duration = Duration::from_secs(60);
/// How long they have gone on when the gateway is restarted.
const BEFORE: Duration = Duration::from_secs(3);
/// The longest time without an answer that passes, in milliseconds.
const LIMIT: u64 = 5000;

/// Deletes the pod of the cluster's active gateway while a pod of another cluster calls one of this cluster.
pub async fn restart_gateway(stage: &Stage, cluster: &Cluster) -> Outcome {
    let told = |from, target, result| Outcome::new(Kind::Failover, from, &cluster.id, target, result);
    let caller = stage.clusters.iter().find_map(|near| {
        let known = near.known.get(&cluster.id)?;
        let address = known.pods.values().flatten().next()?;
        Some((near, near.pods.first()?, stage::at(*address)))
    });
    let Some((near, pod, target)) = caller else {
        return told("-".to_owned(), "-".to_owned(), Err("no pod of another cluster knows one of this".to_owned()));
    };
    let words = ["watch", &target, "--seconds", SECONDS];
    let calls = near.call::<Gap>(&pod.name, &words, CALL);
    let restart = async {
        tokio::time::sleep(BEFORE).await;
        delete_gateway(&cluster.target.client).await
    };
    let (gap, restarted) = tokio::join!(calls, restart);
    let result = gap.and_then(|gap| restarted.and_then(|node| judge(gap, &node)));
    told(format!("{}/{}", near.id, pod.name), target, result)
}

fn judge(gap: Gap, node: &str) -> Result<String, String> {
    let told = format!("gateway {node} was restarted; no answer for {} ms", gap.milliseconds);
    if gap.milliseconds <= LIMIT { Ok(told) } else { Err(format!("{told}, more than {LIMIT} ms")) }
}

/// The node whose gateway was restarted.
async fn delete_gateway(client: &Client) -> Result<String, String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let lease = leases.get(LEASE_GATEWAY).await.map_err(|error| explain(&error))?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
    let node = holder.ok_or("no node is the active gateway")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let of_nodes =
        ListParams::default().labels("app.kubernetes.io/component=node").fields(&format!("spec.nodeName={node}"));
    let found = pods.list(&of_nodes).await.map_err(|error| explain(&error))?;
    let pod = found.items.first().map(|pod| pod.name_any()).ok_or(format!("no pod of Linkspan runs on {node}"))?;
    pods.delete(&pod, &DeleteParams::default()).await.map_err(|error| explain(&error))?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_has_to_be_back_within_five_seconds() {
        let gap = |milliseconds| Gap { milliseconds, answered: 90, failed: 2 };
        assert_eq!(judge(gap(800), "n1"), Ok("gateway n1 was restarted; no answer for 800 ms".to_owned()));
        assert!(judge(gap(5001), "n1").is_err());
    }
}
