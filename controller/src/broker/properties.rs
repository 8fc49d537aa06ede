//! The ClusterProperties that tell other programs of the membership (KEP-2149).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::remove::delete;
use crate::api::names::{FIELD_MANAGER, LABEL_MANAGED_BY, MANAGED_BY, PROPERTY_CLUSTER, PROPERTY_CLUSTERSET};
use crate::members::ClusterId;

const VERSION: &str = "v1alpha1";
const GROUP: &str = "about.k8s.io";
const KIND: &str = "ClusterProperty";

pub(super) fn api(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
    Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, "clusterproperties"))
}

/// The cluster ID that a cluster says it has (KEP-2149); none before it joins.
///
/// # Errors
/// The API server refuses, does not know the kind, or cannot be reached.
pub async fn cluster_id(client: &Client) -> Result<Option<String>, kube::Error> {
    let property = api(client).get_opt(PROPERTY_CLUSTER).await?;
    Ok(property.as_ref().and_then(value_of).map(str::to_owned))
}

/// A property that somebody else has made, and that says something else than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    pub name: &'static str,
    /// What it says.
    pub says: String,
    /// What it should say.
    pub wanted: String,
}

/// Says which cluster this is, and of which clusterset. What somebody else has made is left alone: KEP-2149 lets others
/// make them. Gives back those that say something else. They go with `owners`.
pub(super) async fn set(
    client: &Client,
    cluster: &ClusterId,
    clusterset: &str,
    owners: &[OwnerReference],
) -> Result<Vec<Foreign>, kube::Error> {
    let api = api(client);
    let mut foreign = Vec::new();
    for (name, value) in [(PROPERTY_CLUSTER, cluster.as_str()), (PROPERTY_CLUSTERSET, clusterset)] {
        let there = api.get_opt(name).await?;
        if let Some(theirs) = there.as_ref().filter(|property| !is_ours(property)) {
            let says = value_of(theirs).unwrap_or_default();
            if says != value {
                foreign.push(Foreign { name, says: says.to_owned(), wanted: value.to_owned() });
            }
            continue;
        }
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": KIND,
            "metadata": { "name": name, "labels": { LABEL_MANAGED_BY: MANAGED_BY }, "ownerReferences": owners },
            "spec": { "value": value },
        });
        // One that somebody makes at this moment is not overwritten either.
        let params = PatchParams { force: there.is_some(), ..PatchParams::apply(FIELD_MANAGER) };
        api.patch(name, &params, &Patch::Apply(body)).await?;
    }
    Ok(foreign)
}

fn is_ours(property: &DynamicObject) -> bool {
    property.labels().get(LABEL_MANAGED_BY).is_some_and(|by| by == MANAGED_BY)
}

fn value_of(property: &DynamicObject) -> Option<&str> {
    property.data["spec"]["value"].as_str()
}

/// Removes what [`set`] said. A property that somebody else has made stays.
pub(super) async fn unset(client: &Client) -> Result<(), kube::Error> {
    let api = api(client);
    for name in [PROPERTY_CLUSTERSET, PROPERTY_CLUSTER] {
        match api.get_opt(name).await {
            Ok(Some(property)) if is_ours(&property) => delete(&api, name).await?,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
