//! `leave`: a cluster is no Member any more, and nothing of the clusterset stays in it.

use anyhow::bail;
use controller::api::Member;
use controller::api::names::{SECRET_BROKER, SYSTEM_NAMESPACE};
use controller::broker::{Left, ask_to_leave, ask_to_leave_without_broker};
use controller::cluster::services::Leftovers;
use controller::members::ClusterId;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::objects::DryRun;
use super::steps::Steps;
use super::{join, wait};
use crate::kubectl::errors::{Told as _, is_not_found};

/// Looks until the controller has said how the leaving went, 5 s: its Member is made anew, and may be so after the rest.
const WORD_LOOKS: usize = 10;

/// From where a cluster is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// From the broker, and from its own API server.
    Everywhere,
    /// From its own API server only: the broker is lost.
    HomeOnly,
}

/// Leaves, and watches it for so many seconds. Some says what is still there where it is not waited for, with 0.
///
/// # Errors
/// An API server refuses, or something is left when the time is over.
pub async fn leave(steps: &Steps, seconds: u64, extent: Extent) -> anyhow::Result<Option<String>> {
    let client = &steps.target.client;
    if steps.dry_run != DryRun::None {
        let left = left(client).await?;
        let what =
            if left.is_empty() { "this cluster is no Member".to_owned() } else { format!("would remove {left}") };
        steps.say(&format!("{what}{}", steps.dry_run.suffix()))?;
        return Ok(None);
    }
    // Who is no Member any more may still have something: an earlier try did not wait for its end.
    let asked = match extent {
        Extent::Everywhere => ask_to_leave(client, SYSTEM_NAMESPACE).await,
        Extent::HomeOnly => ask_to_leave_without_broker(client, SYSTEM_NAMESPACE).await,
    };
    let was_member = match asked {
        Err(error) if is_not_found(&error) => false,
        asked => asked.map(|()| true).told("ask the controller to leave")?,
    };
    steps.progress.now(format!("waiting for {} to leave", steps.target.name));
    let mut told = String::new();
    for _ in 0..(seconds * 2).max(1) {
        let left = left(client).await?;
        match (left.is_empty(), was_member || !told.is_empty()) {
            (true, true) => {
                steps.say(&end(client, extent).await?)?;
                return Ok(None);
            }
            (true, false) => {
                steps.say("this cluster is no Member")?;
                return Ok(None);
            }
            (false, _) if seconds == 0 => return Ok(Some(left)),
            (false, _) => {}
        }
        if told != left {
            steps.say(&format!("still there: {left}"))?;
            told = left;
        }
        tokio::time::sleep(wait::LOOK).await;
    }
    let lost = match extent {
        Extent::Everywhere => "; if the broker is lost for good, with --without-broker",
        Extent::HomeOnly => "",
    };
    bail!(
        "after {seconds} s there is still {told}: a controller has to run to remove it, see `kubectl logs -n \
         {SYSTEM_NAMESPACE} deploy/linkspan-controller`; then run this command again{lost}"
    )
}

/// What is said to somebody whose cluster has left.
async fn end(client: &Client, extent: Extent) -> anyhow::Result<String> {
    let left = "this cluster has left the clusterset";
    let id = join::known_id(client).await?;
    if extent == Extent::Everywhere {
        let told = match id.and_then(|id| id.parse().ok()) {
            Some(id) => told(client, &id).await,
            None => None,
        };
        return Ok(told.unwrap_or_else(|| left.to_owned()));
    }
    let id = id.unwrap_or_else(|| "CLUSTER".to_owned());
    Ok(format!(
        "{left}, and its broker was not asked: if that comes back, run `kubectl linkspan member remove {id}` with its context"
    ))
}

/// What the controller says of a leaving after which something may be left on the broker. Where it cannot be read, nothing:
/// that the cluster has left is certain.
async fn told(client: &Client, id: &ClusterId) -> Option<String> {
    let members: Api<Member> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for _ in 0..WORD_LOOKS {
        let own = members.get_opt(id.as_str()).await.ok()?;
        if let Some(word) = own.as_ref().and_then(last_word) {
            return Some(word.to_owned()).filter(|word| *word != Left::Clean.tell(id));
        }
        tokio::time::sleep(wait::LOOK).await;
    }
    None
}

/// What a Member says whose cluster has left.
fn last_word(own: &Member) -> Option<&str> {
    let conditions = own.status.iter().flat_map(|status| &status.conditions);
    let mut joined = conditions.filter(|condition| condition.type_ == "Joined" && condition.status == "False");
    joined.find(|condition| condition.reason == "Left").map(|condition| condition.message.as_str())
}

/// What is still there, for people; empty when nothing is.
async fn left(client: &Client) -> anyhow::Result<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let credential = secrets.get_metadata_opt(SECRET_BROKER).await.told("look at the credential")?;
    let objects = Leftovers::find(client).await.told("list what Linkspan has made")?;
    let mut left = Vec::new();
    left.extend(credential.map(|_| format!("the credential (Secret {SECRET_BROKER})")));
    left.extend(Some(objects).filter(|objects| !objects.is_empty()).map(|objects| objects.to_string()));
    if forwards(client).await? {
        left.push("the forwarding of clusterset.local in cluster DNS".to_owned());
    }
    Ok(left.join(", "))
}

/// Whether cluster DNS still has something of ours.
async fn forwards(client: &Client) -> anyhow::Result<bool> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    for name in ["coredns", "coredns-custom"] {
        let config = configs.get_opt(name).await.told(&format!("read ConfigMap {name}"))?;
        let data = config.and_then(|config| config.data).unwrap_or_default();
        if data.iter().any(|(key, text)| key.starts_with("linkspan.") || text.contains("# linkspan begin")) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rome(reason: &str, message: &str) -> Member {
        let condition = json!({
            "type": "Joined", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "metadata": { "name": "rome" },
            "spec": { "clusterID": "rome", "clusterUID": "x" },
            "status": { "conditions": [condition] },
        }))
        .unwrap()
    }

    #[test]
    fn the_last_word_is_the_controllers_when_it_is_done() {
        assert_eq!(last_word(&rome("Leaving", "not yet")), None);
        assert_eq!(last_word(&rome("Starting", "just begun")), None);
        let message = Left::Refused.tell(&"rome".parse().unwrap());
        assert!(message.contains("if Member rome is, `linkspan member remove rome`"), "{message}");
        assert_eq!(last_word(&rome("Left", &message)), Some(message.as_str()));
    }
}
