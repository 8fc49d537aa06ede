//! The ClusterProperties that tell other programs of the membership (KEP-2149).

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
    Ok(property.and_then(|property| property.data["spec"]["value"].as_str().map(str::to_owned)))
}

/// Says which cluster this is, and of which clusterset.
pub(super) async fn set(client: &Client, cluster: &ClusterId, clusterset: &str) -> Result<(), kube::Error> {
    let api = api(client);
    for (name, value) in [(PROPERTY_CLUSTER, cluster.as_str()), (PROPERTY_CLUSTERSET, clusterset)] {
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": KIND,
            "metadata": { "name": name, "labels": { LABEL_MANAGED_BY: MANAGED_BY } },
            "spec": { "value": value },
        });
        api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await?;
    }
    Ok(())
}

/// Removes what [`set`] said. A property that somebody else has made stays.
pub(super) async fn unset(client: &Client) -> Result<(), kube::Error> {
    let api = api(client);
    for name in [PROPERTY_CLUSTERSET, PROPERTY_CLUSTER] {
        match api.get_opt(name).await {
            Ok(Some(property)) if property.labels().get(LABEL_MANAGED_BY).map(String::as_str) == Some(MANAGED_BY) => {
                delete(&api, name).await?;
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
