//! Deletions of which it does not matter who was first.

use std::fmt::Debug;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::ServiceRecord;
use crate::api::names::LABEL_CLUSTER;
use crate::members::ClusterId;

/// Deletes an object; that it is gone already is fine.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the ServiceRecords of one cluster, one by one: a Member may not delete whole collections.
pub(super) async fn delete_records(client: &Client, namespace: &str, cluster: &ClusterId) -> Result<(), kube::Error> {
    let api: Api<ServiceRecord> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&format!("{LABEL_CLUSTER}={cluster}"));
    for record in api.list_metadata(&own).await?.items {
        delete(&api, &record.name_any()).await?;
    }
    Ok(())
}
