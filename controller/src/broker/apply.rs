//! Writes what was planned.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use super::action::Action;
use super::connection::Refusal;
use super::remove::delete;
use super::store::Store;
use super::world::Key;
use crate::api::names::FIELD_MANAGER;
use crate::api::{Member, ServiceRecord, is_of_an_earlier_crd};
use crate::members::condition::{Finding, conditions};

/// Writes at the same time.
const PARALLEL: usize = 16;
/// Longest wait for one write.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("{}", super::describe(.0))]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("not joined")]
    NotJoined,
    #[error("{0}")]
    Withheld(String),
}

impl ApplyError {
    /// The refusal as people are told it: the API server looked at it and said no.
    pub fn refusal(&self) -> Option<Refusal> {
        let Self::Api(error @ kube::Error::Api(status)) = self else { return None };
        if is_of_an_earlier_crd(error) {
            let fix = "its CRDs are of an older version than this controller: apply deploy/crds of this version there";
            return Some(Refusal { reason: "OldBroker", message: format!("{fix} ({self})") });
        }
        let refused = matches!(status.code, 400 | 403 | 413 | 422);
        refused.then(|| Refusal { reason: "RefusedByBroker", message: self.to_string() })
    }
}

/// A write with its end.
pub(super) struct Outcome {
    pub key: Key,
    pub action: Action,
    pub result: Result<Written, ApplyError>,
}

/// What the API server answered to a write.
pub(super) enum Written {
    /// When the own Member on the broker was created.
    Published(Option<Timestamp>),
    /// The local object as it is now.
    Member(Box<Member>),
    Record(Box<ServiceRecord>),
    Nothing,
}

/// Where to write.
pub(super) struct Targets<'a> {
    pub local: &'a Client,
    pub namespace: &'a str,
    /// Client and namespace of the broker.
    pub broker: Option<(&'a Client, &'a str)>,
}

/// The local objects before, for the times of conditions.
pub(super) struct Before<'a> {
    pub members: &'a Store<Member>,
    pub records: &'a Store<ServiceRecord>,
}

/// Writes all; never stops at a failure. Objects come before what is said of them.
pub(super) async fn apply(
    actions: Vec<(Key, Action)>,
    targets: &Targets<'_>,
    before: &Before<'_>,
    now: Timestamp,
) -> Vec<Outcome> {
    let is_word = |(_, action): &(Key, Action)| matches!(action, Action::TellMember(..) | Action::TellRecord(..));
    let (words, objects): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_word);
    let mut outcomes = Vec::new();
    for group in [objects, words] {
        let writes = group.into_iter().map(async |(key, action)| {
            let write = write(&action, targets, before, now);
            let result = tokio::time::timeout(TIMEOUT, write).await.unwrap_or(Err(ApplyError::Timeout));
            Outcome { key, action, result }
        });
        outcomes.extend(futures::stream::iter(writes).buffer_unordered(PARALLEL).collect::<Vec<_>>().await);
    }
    outcomes
}

async fn write(
    action: &Action,
    targets: &Targets<'_>,
    before: &Before<'_>,
    now: Timestamp,
) -> Result<Written, ApplyError> {
    let members: Api<Member> = Api::namespaced(targets.local.clone(), targets.namespace);
    let records: Api<ServiceRecord> = Api::namespaced(targets.local.clone(), targets.namespace);
    let broker = || targets.broker.ok_or(ApplyError::NotJoined);
    match action {
        Action::PublishMember(member) => {
            let (client, namespace) = broker()?;
            let written = put(&Api::namespaced(client.clone(), namespace), member.as_ref()).await?;
            return Ok(Written::Published(written.creation_timestamp().map(|time| time.0)));
        }
        Action::PublishRecord(record) => {
            let (client, namespace) = broker()?;
            put(&Api::namespaced(client.clone(), namespace), record.as_ref()).await?;
        }
        Action::WithdrawRecord(name) => {
            let (client, namespace) = broker()?;
            delete(&Api::<ServiceRecord>::namespaced(client.clone(), namespace), name).await?;
        }
        Action::CopyMember(member) => {
            let written = put(&members, member.as_ref()).await?;
            return Ok(Written::Member(Box::new(written)));
        }
        Action::CopyMemberAnew(member) => {
            let written = put_anew(&members, member.as_ref()).await?;
            return Ok(Written::Member(Box::new(written)));
        }
        Action::CopyRecord(record) => {
            let written = put(&records, record.as_ref()).await?;
            return Ok(Written::Record(Box::new(written)));
        }
        Action::TellMember(name, findings) => {
            let had = before.members.get(name).and_then(|member| member.status.as_ref());
            let status = status(had.map_or(&[], |status| &status.conditions), findings, now);
            let written = tell(&members, name, status).await?;
            return Ok(written.map_or(Written::Nothing, |member| Written::Member(Box::new(member))));
        }
        Action::TellRecord(name, findings) => {
            let had = before.records.get(name).and_then(|record| record.status.as_ref());
            let status = status(had.map_or(&[], |status| &status.conditions), findings, now);
            let written = tell(&records, name, status).await?;
            return Ok(written.map_or(Written::Nothing, |record| Written::Record(Box::new(record))));
        }
        Action::DropMember(name) => delete(&members, name).await?,
        Action::DropRecord(name) => delete(&records, name).await?,
    }
    Ok(Written::Nothing)
}

async fn put<K>(api: &Api<K>, object: &K) -> Result<K, kube::Error>
where
    K: Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.patch(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await
}

/// Writes it over another one if the API server lets it, so that nothing is missing meanwhile: some of an object never
/// changes.
async fn put_anew(api: &Api<Member>, member: &Member) -> Result<Member, kube::Error> {
    match put(api, member).await {
        Err(kube::Error::Api(status)) if status.code == 422 => {
            delete(api, &member.name_any()).await?;
            put(api, member).await
        }
        written => written,
    }
}

fn status(before: &[Condition], findings: &[Finding], now: Timestamp) -> serde_json::Value {
    json!({ "conditions": conditions(before, findings, now) })
}

/// Writes conditions; that the object is gone by now is fine.
async fn tell<K>(api: &Api<K>, name: &str, status: serde_json::Value) -> Result<Option<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name },
        "status": status,
    });
    match api.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
