//! Deletions of which it does not matter who was first.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::ServiceRecord;
use crate::api::names::LABEL_CLUSTER;
use crate::members::ClusterId;

/// How long an API server may take the credential of an account that is gone: what it has found of a token it believes for
/// ten seconds (`TokenSuccessCacheTTL` of kube-apiserver), and it hears of the end of an account soon. Rights are given by
/// the account's name; so within that time there must not be another one of that name.
pub const FORGOTTEN: Duration = Duration::from_secs(12);

/// Whether something is done, as kubectl's `--dry-run` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// It is done.
    None,
    /// Objects are only looked for.
    Client,
    /// The API server checks everything and stores nothing.
    Server,
}

/// Waits until no API server takes the credentials of what was deleted ([`FORGOTTEN`]); not at all where no account was.
pub async fn forget(deleted: &[ObjectReference], dry_run: DryRun) {
    if dry_run == DryRun::None && deleted.iter().any(|object| object.kind.as_deref() == Some("ServiceAccount")) {
        tokio::time::sleep(FORGOTTEN).await;
    }
}

/// An object of this kind, by its name.
pub(super) fn reference<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// Deletes an object; that it is gone already is fine.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    was_deleted(api, name, &DeleteParams::default()).await.map(drop)
}

/// As [`delete`], for who has to tell whether it was there: the object that is gone now, or would be.
pub(super) async fn remove<K>(api: &Api<K>, name: &str, dry_run: DryRun) -> Result<Option<ObjectReference>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let was_there = match dry_run {
        DryRun::None => was_deleted(api, name, &DeleteParams::default()).await?,
        DryRun::Client => api.get_metadata_opt(name).await?.is_some(),
        DryRun::Server => was_deleted(api, name, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await?,
    };
    Ok(was_there.then(|| reference::<K>(api.namespace(), name)))
}

async fn was_deleted<K>(api: &Api<K>, name: &str, how: &DeleteParams) -> Result<bool, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    match api.delete(name, how).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the ServiceRecords of one cluster, one by one: a Member may not delete whole collections.
pub(super) async fn delete_records(client: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), kube::Error> {
    remove_records(client, namespace, cluster, DryRun::None).await.map(drop)
}

/// As [`delete_records`], for who has to tell which there were.
pub(super) async fn remove_records(
    client: &Client,
    namespace: &str,
    cluster: &ClusterId,
    dry_run: DryRun,
) -> Result<Vec<ObjectReference>, kube::Error> {
    let api: Api<ServiceRecord> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&format!("{LABEL_CLUSTER}={cluster}"));
    let mut removed = Vec::new();
    for record in api.list_metadata(&own).await?.items {
        removed.extend(remove(&api, &record.name_any(), dry_run).await?);
    }
    Ok(removed)
}
