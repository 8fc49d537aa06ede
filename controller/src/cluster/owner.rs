//! What everything belongs to that this cluster makes of imports.
//!
//! `kubectl delete -k` takes the controller's rights away a moment before the controller itself. Kubernetes' own garbage
//! collector then removes what belongs to objects that are gone, once all of them are: the two that give the controller its
//! rights, which every way of installing makes, and only removing Linkspan deletes both.

use std::fmt::Debug;

use futures::StreamExt as _;
use futures::stream::select;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Event, Result as Watched};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::watching::{named, watch};
use crate::api::ServiceImport;
use crate::api::names::{CLUSTER_ROLE, FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_SERVICE_NAME, MANAGED_BY};

/// Objects of one list request.
const PAGE: u32 = 500;

/// The owners of what is made of imports: the ClusterRole and the ClusterRoleBinding [`CLUSTER_ROLE`], as far as they are
/// there and may be read.
///
/// # Errors
/// The API server cannot be reached.
pub async fn find(client: &Client) -> Result<Vec<OwnerReference>, Error> {
    let role = find_one::<ClusterRole>(client).await?;
    let binding = find_one::<ClusterRoleBinding>(client).await?;
    Ok(role.into_iter().chain(binding).collect())
}

async fn find_one<K>(client: &Client) -> Result<Option<OwnerReference>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match Api::<PartialObjectMeta<K>>::all(client.clone()).get_opt(CLUSTER_ROLE).await {
        Ok(object) => Ok(object.as_ref().and_then(reference)),
        Err(Error::Api(status)) if status.code == 403 => {
            tracing::warn!("what is made of imports will not go with Linkspan by itself: {}", status.message);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn reference<K: Resource<DynamicType = ()>>(object: &PartialObjectMeta<K>) -> Option<OwnerReference> {
    object.owner_ref(&()).filter(|_| object.metadata.deletion_timestamp.is_none())
}

/// Waits until there is another owner than those that are `known`. One that is gone is no other: so is Linkspan, then, or
/// somebody will make it again.
pub async fn replaced(client: &Client, known: &[OwnerReference]) {
    let roles = watch(Api::<PartialObjectMeta<ClusterRole>>::all(client.clone()), named(CLUSTER_ROLE));
    let bindings = watch(Api::<PartialObjectMeta<ClusterRoleBinding>>::all(client.clone()), named(CLUSTER_ROLE));
    let mut seen = std::pin::pin!(select(roles.map(owner_in), bindings.map(owner_in)));
    while let Some(owner) = seen.next().await {
        if owner.is_some_and(|owner| !known.contains(&owner)) {
            return;
        }
    }
}

fn owner_in<K: Resource<DynamicType = ()>>(event: Watched<Event<PartialObjectMeta<K>>>) -> Option<OwnerReference> {
    match event {
        Ok(Event::InitApply(object) | Event::Apply(object)) => reference(&object),
        Ok(Event::Init | Event::InitDone | Event::Delete(_)) | Err(_) => None,
    }
}

/// Gives `owners` what was made before there were any, or for those before them.
///
/// # Errors
/// The last request that failed; all others are made nevertheless.
pub async fn adopt(client: &Client, owners: &[OwnerReference]) -> Result<(), Error> {
    let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
    let of_services = format!("{ours},{LABEL_SERVICE_NAME}");
    // Services of others may bear our labels; policies leave us those alone that we have made.
    let services = adopt_all::<Service>(client, &of_services, "derived-", owners).await;
    let slices = adopt_all::<EndpointSlice>(client, &of_services, "derived-", owners).await;
    adopt_all::<ServiceImport>(client, &ours, "", owners).await.and(services).and(slices)
}

async fn adopt_all<K>(client: &Client, labels: &str, prefix: &str, owners: &[OwnerReference]) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let all: Api<K> = Api::all(client.clone());
    let mut outcome = Ok(());
    let mut page = ListParams::default().labels(labels).limit(PAGE);
    loop {
        let list = all.list_metadata(&page).await?;
        let strangers = list.items.iter().filter(|object| object.owner_references() != owners);
        for object in strangers.filter(|object| object.name_any().starts_with(prefix)) {
            outcome = adopt_one(client, object, owners).await.and(outcome);
        }
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return outcome;
        }
    }
}

async fn adopt_one<K>(client: &Client, object: &PartialObjectMeta<K>, owners: &[OwnerReference]) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let belongs = json!({ "metadata": { "ownerReferences": owners } });
    let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    match api.patch_metadata(&object.name_any(), &how, &Patch::Merge(&belongs)).await {
        // It is gone meanwhile.
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(uid: &str, deleted: bool) -> PartialObjectMeta<ClusterRole> {
        let at = deleted.then_some("2026-01-01T00:00:00Z");
        let metadata = json!({ "name": CLUSTER_ROLE, "uid": uid, "deletionTimestamp": at });
        serde_json::from_value(json!({ "metadata": metadata })).expect("metadata of a role")
    }

    #[test]
    fn an_owner_is_one_that_is_there_and_not_being_deleted() {
        let owner = reference(&role("u1", false)).expect("it is there");
        assert_eq!((owner.api_version.as_str(), owner.kind.as_str()), ("rbac.authorization.k8s.io/v1", "ClusterRole"));
        assert_eq!((owner.name.as_str(), owner.uid.as_str()), (CLUSTER_ROLE, "u1"));
        assert_eq!(owner.block_owner_deletion, None, "it would take a right over finalizers");
        assert_eq!(owner_in(Ok(Event::Apply(role("u1", false)))), Some(owner.clone()));
        assert_eq!(owner_in(Ok(Event::InitApply(role("u1", false)))), Some(owner.clone()));
        assert_ne!(owner_in(Ok(Event::Apply(role("u2", false)))), Some(owner));
        for event in [Event::Apply(role("u1", true)), Event::Delete(role("u1", false)), Event::Init, Event::InitDone] {
            assert_eq!(owner_in(Ok(event)), None);
        }
    }
}
