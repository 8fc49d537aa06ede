//! Waiting for what a cluster does by itself.

use std::time::Duration;

use anyhow::bail;
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
