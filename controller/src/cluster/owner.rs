//! What everything belongs to that this cluster makes of imports.
//!
//! `kubectl delete -k` takes the controller's rights away a moment before the controller itself. Kubernetes' own garbage
//! collector then removes what belongs to an object that is gone: one of those that every way of installing makes and no
//! other way than removing Linkspan deletes.

use std::fmt::Debug;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::watching::{named, watch};
use crate::api::ServiceImport;
use crate::api::names::{CLUSTER_ROLE, FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_SERVICE_NAME, MANAGED_BY};

/// Objects of one list request.
const PAGE: u32 = 500;

/// The owner of what is made of imports: ClusterRole [`CLUSTER_ROLE`]. None where there is none, or where it may not be read.
///
/// # Errors
/// The API server cannot be reached.
pub async fn find(client: &Client) -> Result<Option<OwnerReference>, Error> {
    let roles: Api<PartialObjectMeta<ClusterRole>> = Api::all(client.clone());
    match roles.get_opt(CLUSTER_ROLE).await {
        Ok(role) => Ok(role.as_ref().and_then(reference)),
        Err(Error::Api(status)) if status.code == 403 => {
            tracing::warn!("what is made of imports will not go with Linkspan by itself: {}", status.message);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn reference(role: &PartialObjectMeta<ClusterRole>) -> Option<OwnerReference> {
    let deleted = role.metadata.deletion_timestamp.is_some();
    Some(OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: role.name_any(),
        uid: role.uid().filter(|_| !deleted)?,
        ..OwnerReference::default()
    })
}

/// Waits until there is another owner than `known`. One that is gone is no other: so is Linkspan, then.
pub async fn replaced(client: &Client, known: Option<&OwnerReference>) {
    let mut events = std::pin::pin!(watch(Api::all(client.clone()), named(CLUSTER_ROLE)));
    while let Some(event) = events.next().await {
        if let Ok(Event::InitApply(role) | Event::Apply(role)) = event
            && let Some(now) = reference(&role)
            && known.is_none_or(|known| known.uid != now.uid)
        {
            return;
        }
    }
}

/// Gives `owner` what was made before there was one, or for the one before it.
///
/// # Errors
/// The first request that fails; what is left is given to it when it changes.
pub async fn adopt(client: &Client, owner: &OwnerReference) -> Result<(), Error> {
    let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
    let of_services = format!("{ours},{LABEL_SERVICE_NAME}");
    adopt_all::<Service>(client, &of_services, owner).await?;
    adopt_all::<EndpointSlice>(client, &of_services, owner).await?;
    adopt_all::<ServiceImport>(client, &ours, owner).await
}

async fn adopt_all<K>(client: &Client, labels: &str, owner: &OwnerReference) -> Result<(), Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let belongs = json!({ "metadata": { "ownerReferences": [owner] } });
    let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let all: Api<K> = Api::all(client.clone());
    let mut page = ListParams::default().labels(labels).limit(PAGE);
    loop {
        let list = all.list_metadata(&page).await?;
        for object in list.items.iter().filter(|object| object.owner_references() != std::slice::from_ref(owner)) {
            let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
            match api.patch_metadata(&object.name_any(), &how, &Patch::Merge(&belongs)).await {
                // It is gone meanwhile.
                Err(Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(());
        }
    }
}
