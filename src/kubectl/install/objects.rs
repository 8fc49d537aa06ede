//! Objects of any kind: written by server-side apply, deleted, or only shown.

use clap::ValueEnum;
use controller::broker;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use crate::kubectl::errors::{Told as _, is_not_found};

/// Field manager of manifests: other than that of single values, which a newer manifest would otherwise take back.
const INSTALLER: &str = "linkspan-install";

/// Whether something is done, as kubectl's `--dry-run` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// It is done.
    #[default]
    None,
    /// Nothing is sent; what would be sent is shown.
    Client,
    /// The API server checks everything and stores nothing.
    Server,
}

impl DryRun {
    /// What follows the line of an object.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

impl From<DryRun> for broker::DryRun {
    fn from(how: DryRun) -> Self {
        match how {
            DryRun::None => Self::None,
            DryRun::Client => Self::Client,
            DryRun::Server => Self::Server,
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was changed.
    Configured,
    /// It was as it should be.
    Unchanged,
    /// It is newer than ours and was left alone.
    Newer,
    /// It is deleted.
    Deleted,
    /// There was none to delete.
    Absent,
}

impl Outcome {
    /// As kubectl says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Newer => "kept, it is newer",
            Self::Deleted => "deleted",
            Self::Absent => "not found",
        }
    }
}

/// Where an object is, and what it is.
pub struct Place {
    api: Api<DynamicObject>,
    resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Its namespace, if it is in one.
    pub namespace: Option<String>,
}

impl Place {
    /// Of an object with `apiVersion`, `kind` and `metadata`.
    ///
    /// # Errors
    /// It lacks one of them.
    pub fn of(client: &Client, object: &Value) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let types = TypeMeta { api_version: text(&object["apiVersion"]), kind: text(&object["kind"]) };
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let (name, namespace) = (text(&object["metadata"]["name"]), object["metadata"]["namespace"].as_str());
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        Ok(Self { api, resource, name, namespace: namespace.map(str::to_owned) })
    }

    /// KIND.GROUP/NAME, as kubectl names it.
    pub fn full_name(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        match self.resource.group.as_str() {
            "" => format!("{kind}/{}", self.name),
            group => format!("{kind}.{group}/{}", self.name),
        }
    }

    /// Brings the object to what `object` says, by server-side apply.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, object: &Value, dry_run: DryRun) -> anyhow::Result<Outcome> {
        if dry_run == DryRun::Client {
            // Who may not look is shown what an empty cluster would get.
            let is_there = self.is_there().await.unwrap_or_default();
            return Ok(if is_there { Outcome::Configured } else { Outcome::Created });
        }
        let what = self.full_name();
        let before = self.api.get_opt(&self.name).await;
        let before = match before {
            Err(error) if is_not_found(&error) => None,
            before => before.told(&format!("read {what}"))?,
        };
        if before.as_ref().is_some_and(|before| is_newer(before, object)) {
            return Ok(Outcome::Newer);
        }
        let how = PatchParams { dry_run: dry_run == DryRun::Server, ..PatchParams::apply(INSTALLER).force() };
        let after = match self.api.patch(&self.name, &how, &Patch::Apply(object)).await {
            // Its namespace or its kind would have been made a moment earlier.
            Err(error) if dry_run == DryRun::Server && is_not_found(&error) => return Ok(Outcome::Created),
            after => after.told(&format!("apply {what}"))?,
        };
        let unchanged = before.map(|before| same(before, after));
        Ok(match unchanged {
            None => Outcome::Created,
            Some(true) => Outcome::Unchanged,
            Some(false) => Outcome::Configured,
        })
    }

    /// Deletes the object; pods of a workload go first, so that who waits for its end knows that they have ended.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn delete(&self, dry_run: DryRun) -> anyhow::Result<Outcome> {
        let has_pods = matches!(self.resource.kind.as_str(), "DaemonSet" | "Deployment" | "StatefulSet");
        let how = DeleteParams {
            dry_run: dry_run == DryRun::Server,
            propagation_policy: has_pods.then_some(PropagationPolicy::Foreground),
            ..DeleteParams::default()
        };
        if dry_run == DryRun::Client {
            return Ok(if self.is_there().await? { Outcome::Deleted } else { Outcome::Absent });
        }
        match self.api.delete(&self.name, &how).await {
            Err(error) if is_not_found(&error) => Ok(Outcome::Absent),
            deleted => deleted.told(&format!("delete {}", self.full_name())).map(|_| Outcome::Deleted),
        }
    }

    /// The object; none where there is none, or no such kind.
    ///
    /// # Errors
    /// The API server refuses to say.
    pub async fn get(&self) -> anyhow::Result<Option<DynamicObject>> {
        match self.api.get_opt(&self.name).await {
            Err(error) if is_not_found(&error) => Ok(None),
            found => found.told(&format!("read {}", self.full_name())),
        }
    }

    /// Whether the object exists.
    ///
    /// # Errors
    /// As [`Place::get`].
    pub async fn is_there(&self) -> anyhow::Result<bool> {
        Ok(self.get().await?.is_some())
    }
}

/// Equal but for what a write itself changes, and what others tell of an object in its status.
fn same(before: DynamicObject, after: DynamicObject) -> bool {
    if before.resource_version() == after.resource_version() {
        return true;
    }
    let essence = |mut object: DynamicObject| {
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        if let Some(fields) = object.data.as_object_mut() {
            fields.remove("status");
        }
        object
    };
    essence(before) == essence(after)
}

/// Whether a CRD of the Multi-Cluster Services API is newer than ours: by the marks that it was made to be compared by
/// (`multicluster.x-k8s.io/release-version` and `crd-schema-revision` of sigs.k8s.io/mcs-api).
fn is_newer(there: &DynamicObject, ours: &Value) -> bool {
    let marks = |metadata: &Value| {
        let labels = &metadata["labels"];
        let version = labels["multicluster.x-k8s.io/release-version"].as_str()?;
        let revision = labels["multicluster.x-k8s.io/crd-schema-revision"].as_str().and_then(|text| text.parse().ok());
        let numbers = version.trim_start_matches('v').split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        Some((numbers.take(3).collect::<Vec<_>>(), revision.unwrap_or(0_u32)))
    };
    let there = serde_json::to_value(&there.metadata).ok().and_then(|metadata| marks(&metadata));
    matches!((there, marks(&ours["metadata"])), (Some(there), Some(ours)) if there > ours)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(version: &str, revision: &str) -> Value {
        json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {
            "name": "x",
            "labels": {
                "multicluster.x-k8s.io/release-version": version,
                "multicluster.x-k8s.io/crd-schema-revision": revision,
            },
        } })
    }

    #[test]
    fn a_status_that_somebody_writes_meanwhile_is_no_change() {
        let object = |version: &str, spec: &str, status: Value| -> DynamicObject {
            let metadata = json!({ "name": "x", "resourceVersion": version });
            serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).expect("an object")
        };
        let checked = json!({ "typeChecking": {} });
        assert!(same(object("1", "a", json!({})), object("2", "a", checked.clone())));
        assert!(!same(object("1", "a", checked.clone()), object("2", "b", checked)));
    }

    #[test]
    fn a_newer_definition_of_others_is_known() {
        let newer = |there: Value, ours: Value| is_newer(&serde_json::from_value(there).expect("an object"), &ours);
        assert!(newer(crd("v0.10.0", "0"), crd("v0.5.2", "0")));
        assert!(newer(crd("v0.5.2", "1"), crd("v0.5.2", "0")));
        assert!(!newer(crd("v0.5.2", "0"), crd("v0.5.2", "0")));
        assert!(!newer(crd("v0.5.1", "9"), crd("v0.5.2", "0")));
        assert!(!newer(json!({ "metadata": { "name": "x" } }), crd("v0.5.2", "0")));
    }
}
