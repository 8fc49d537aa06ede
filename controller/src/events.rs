//! Events: how people who look at an object learn what became of it, and when.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::timeout;
use tracing::debug;

/// Longest note of an Event in bytes (`events.k8s.io`).
const MAX_NOTE: usize = 1024;
/// Longest action of an Event in bytes.
const MAX_ACTION: usize = 128;
/// How long writing one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whether it is as people want it.
    pub weight: Weight,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// What tells it from other news of that reason. Within six minutes, news that are alike in all but the note are told as
    /// one that came again, with the first note.
    pub action: String,
    /// What, for people.
    pub note: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// All is well.
    Normal,
    /// Someone has to do something.
    Warning,
}

impl News {
    /// News whose note and action fit into an Event.
    pub fn new(weight: Weight, reason: &'static str, action: impl Into<String>, note: &str) -> Self {
        let note = note[..note.floor_char_boundary(MAX_NOTE)].to_owned();
        let mut action = action.into();
        action.truncate(action.floor_char_boundary(MAX_ACTION));
        Self { weight, reason, action, note }
    }
}

/// Writes Events to one API server.
#[derive(Clone)]
pub struct Teller {
    events: Recorder,
}

impl Teller {
    /// For the program `controller`, in the pod or on the node `instance`; the host's name where none is given.
    pub fn new(client: Client, controller: &'static str, instance: Option<String>) -> Self {
        let reporter = match instance {
            Some(instance) => Reporter { controller: controller.to_owned(), instance: Some(instance) },
            None => controller.into(),
        };
        Self { events: Recorder::new(client, reporter) }
    }

    /// Events help people only: one that cannot be written is not tried again, and those after it are not tried at all.
    /// Whether all were written: who has more to tell lets it be otherwise, since each may take 5 s.
    pub async fn tell(&self, about: &ObjectReference, news: &[News]) -> bool {
        for News { weight, reason, action, note } in news {
            let type_ = match weight {
                Weight::Normal => EventType::Normal,
                Weight::Warning => EventType::Warning,
            };
            let event = Event {
                type_,
                reason: (*reason).to_owned(),
                note: Some(note.clone()),
                action: action.clone(),
                secondary: None,
            };
            match timeout(PATIENCE, self.events.publish(&event, about)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => debug!(%error, reason, "an Event is lost"),
                Err(_) => debug!(reason, "an Event is lost: no answer within {PATIENCE:?}"),
            }
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_actions_fit_into_an_event() {
        assert_eq!(News::new(Weight::Normal, "Conflict", "PortConflict,".repeat(15), "").action.len(), 128);
        assert_eq!(News::new(Weight::Normal, "Ready", "", &"ü".repeat(600)).note.len(), 1024);
        assert_eq!(News::new(Weight::Normal, "Ready", "", &"ü".repeat(1024 / 2)).note.len(), 1024);
        assert_eq!(News::new(Weight::Normal, "Ready", "", "aü").note, "aü");
    }
}
