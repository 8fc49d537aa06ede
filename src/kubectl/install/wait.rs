//! Waiting for what a cluster does by itself.

use std::time::Duration;

use anyhow::bail;
use controller::api::names::SYSTEM_NAMESPACE;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::objects::Place;

/// How often it is looked.
pub const LOOK: Duration = Duration::from_millis(500);
/// Looks until a kind can be used, 30 s, and until an object is gone, 2 min.
const ESTABLISHED_LOOKS: u32 = 60;
const GONE_LOOKS: u32 = 240;

/// Waits until the kind of a CRD can be used.
///
/// # Errors
/// It cannot within 30 s.
pub async fn established(crd: &Place) -> anyhow::Result<()> {
    for _ in 0..ESTABLISHED_LOOKS {
        let conditions = crd.get().await?.map(|object| object.data["status"]["conditions"].clone()).unwrap_or_default();
        let is_true =
            |condition: &&serde_json::Value| condition["type"] == "Established" && condition["status"] == "True";
        if conditions.as_array().into_iter().flatten().any(|condition| is_true(&condition)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("{} is not established after 30 s; see `kubectl describe crd {}`", crd.full_name(), crd.name)
}

/// Waits until an object is gone with all that belongs to it.
///
/// # Errors
/// It is still there after two minutes.
pub async fn gone(place: &Place) -> anyhow::Result<()> {
    for _ in 0..GONE_LOOKS {
        if !place.is_there().await? {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("{} is still there after 2 minutes; see its finalizers, and run this command again", place.full_name())
}

/// What of Linkspan's workloads does not run yet as it was applied, for people; none where all do.
///
/// # Errors
/// The API server does not tell, or has none.
pub async fn rollout(client: &Client) -> kube::Result<Option<String>> {
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut rollouts = vec![Rollout::of_nodes(&daemons.get("linkspan-node").await?)];
    for name in ["linkspan-controller", "linkspan-dns"] {
        rollouts.push(Rollout::of_deployment(&deployments.get(name).await?));
    }
    Ok(rollouts.iter().find_map(Rollout::pending))
}

/// How far a workload is, by the counts that `kubectl rollout status` goes by.
struct Rollout {
    name: String,
    /// Its status is of what was applied last.
    is_counted: bool,
    wanted: i32,
    updated: i32,
    available: i32,
    /// Pods of before.
    earlier: i32,
}

impl Rollout {
    fn of_nodes(set: &DaemonSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            name: format!("daemonset/{}", set.name_any()),
            is_counted: status.observed_generation >= set.metadata.generation,
            wanted: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or_default(),
            available: status.number_available.unwrap_or_default(),
            earlier: 0,
        }
    }

    fn of_deployment(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let updated = status.updated_replicas.unwrap_or_default();
        Self {
            name: format!("deployment/{}", deployment.name_any()),
            is_counted: status.observed_generation >= deployment.metadata.generation,
            wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            updated,
            available: status.available_replicas.unwrap_or_default(),
            earlier: status.replicas.unwrap_or_default() - updated,
        }
    }

    fn pending(&self) -> Option<String> {
        let Self { name, is_counted, wanted, updated, available, earlier } = self;
        if !is_counted {
            return Some(format!("nobody has begun with {name}"));
        }
        if updated < wanted {
            return Some(format!("{updated} of {wanted} pods of {name} are new"));
        }
        if *earlier > 0 {
            return Some(format!("{earlier} earlier pods of {name} are still there"));
        }
        (available < wanted).then(|| format!("{available} of {wanted} pods of {name} are available"))
    }
}

/// Why pods of Linkspan do not start, for people; none where all do, or where nobody may see them.
pub async fn obstacle(client: &Client, namespace: &str) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default()).await.ok()?;
    pods.items.iter().find_map(pod_obstacle)
}

fn pod_obstacle(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.clone().unwrap_or_default();
        return Some(format!("pod {} finds no node: {why}", pod.name_any()));
    }
    let container = |status: &ContainerStatus| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let why = waiting.message.clone().unwrap_or_default();
        Some(format!("pod {} does not start: {reason}: {why}", pod.name_any()))
    };
    status.container_statuses.iter().flatten().find_map(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(object: serde_json::Value) -> T {
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn a_rollout_is_over_when_all_pods_are_new_and_available_and_none_is_left() {
        let nodes = |observed, updated, available| {
            let set: DaemonSet = read(serde_json::json!({
                "metadata": { "name": "linkspan-node", "generation": 3 },
                "status": { "observedGeneration": observed, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated,
                    "numberAvailable": available, "currentNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 2 },
            }));
            Rollout::of_nodes(&set).pending()
        };
        assert_eq!(nodes(2, 2, 2).as_deref(), Some("nobody has begun with daemonset/linkspan-node"));
        assert_eq!(nodes(3, 1, 2).as_deref(), Some("1 of 2 pods of daemonset/linkspan-node are new"));
        assert_eq!(nodes(3, 2, 1).as_deref(), Some("1 of 2 pods of daemonset/linkspan-node are available"));
        assert_eq!(nodes(3, 2, 2), None);
        let unseen: DaemonSet = read(serde_json::json!({ "metadata": { "name": "linkspan-node", "generation": 1 } }));
        assert!(Rollout::of_nodes(&unseen).pending().is_some(), "it has no status yet");

        let dns = |replicas, updated, available| {
            let deployment: Deployment = read(serde_json::json!({
                "metadata": { "name": "linkspan-dns", "generation": 1 },
                "spec": { "replicas": 2, "selector": {}, "template": {} },
                "status": { "observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated,
                    "availableReplicas": available },
            }));
            Rollout::of_deployment(&deployment).pending()
        };
        assert_eq!(dns(3, 1, 2).as_deref(), Some("1 of 2 pods of deployment/linkspan-dns are new"));
        assert_eq!(dns(3, 2, 2).as_deref(), Some("1 earlier pods of deployment/linkspan-dns are still there"));
        assert_eq!(dns(2, 2, 1).as_deref(), Some("1 of 2 pods of deployment/linkspan-dns are available"));
        assert_eq!(dns(2, 2, 2), None);
    }

    #[test]
    fn why_a_pod_does_not_start_is_told_in_the_kubelets_words() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({ "metadata": { "name": "x" }, "status": status })).expect("a pod")
        };
        let waiting = |reason: &str| {
            pod(serde_json::json!({ "containerStatuses": [{
                "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "no such image" } },
            }] }))
        };
        let told = pod_obstacle(&waiting("ErrImagePull")).expect("an obstacle");
        assert_eq!(told, "pod x does not start: ErrImagePull: no such image");
        assert_eq!(pod_obstacle(&waiting("ContainerCreating")), None);
        let unscheduled = pod(serde_json::json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
        ] }));
        assert_eq!(pod_obstacle(&unscheduled).as_deref(), Some("pod x finds no node: 0/1 nodes are available"));
    }
}
