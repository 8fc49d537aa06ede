//! Deletions of which it does not matter who was first.

use std::fmt::Debug;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::ServiceRecord;
use crate::api::names::LABEL_CLUSTER;
use crate::members::ClusterId;

/// What a removal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Something, which is gone now.
    Done,
    /// Nothing.
    NothingThere,
}

impl Removal {
    /// Of two parts of one thing.
    pub(super) fn and(self, other: Self) -> Self {
        if self == Self::Done { Self::Done } else { other }
    }
}

/// Deletes an object; that it is gone already is fine.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    remove(api, name).await.map(drop)
}

/// As [`delete`], for who has to tell whether it was there.
pub(super) async fn remove<K>(api: &Api<K>, name: &str) -> Result<Removal, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(Removal::Done),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Removal::NothingThere),
        Err(error) => Err(error),
    }
}

/// Deletes the ServiceRecords of one cluster, one by one: a Member may not delete whole collections.
pub(super) async fn delete_records(
    client: &Client,
    namespace: &str,
    cluster: &ClusterId,
) -> Result<Removal, kube::Error> {
    let api: Api<ServiceRecord> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&format!("{LABEL_CLUSTER}={cluster}"));
    let mut removal = Removal::NothingThere;
    for record in api.list_metadata(&own).await?.items {
        removal = removal.and(remove(&api, &record.name_any()).await?);
    }
    Ok(removal)
}
