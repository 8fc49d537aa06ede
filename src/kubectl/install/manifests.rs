//! The manifests of `deploy/`, inside the program: what `kubectl apply -k` would apply, of the very version that runs here.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

/// The files of a folder below `deploy/`, with their texts.
macro_rules! folder {
    ($folder:literal: $($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../../deploy/", $folder, "/", $file)))),*]
    };
}

const CRDS: Files = folder!("crds":
    "kustomization.yaml",
    "about.k8s.io_clusterproperties.yaml",
    "linkspan.dev_gatewaynodes.yaml",
    "linkspan.dev_members.yaml",
    "linkspan.dev_servicerecords.yaml",
    "multicluster.x-k8s.io_serviceexports.yaml",
    "multicluster.x-k8s.io_serviceimports.yaml",
);

const BROKER: Files = folder!("broker":
    "kustomization.yaml",
    "namespace.yaml",
    "policy-claims.yaml",
    "policy-joining.yaml",
    "policy-ownership.yaml",
    "policy-tokens.yaml",
    "rbac.yaml",
);

const MEMBER: Files = folder!("member":
    "kustomization.yaml",
    "admission.yaml",
    "config.yaml",
    "controller-rbac.yaml",
    "controller.yaml",
    "dns-rbac.yaml",
    "dns.yaml",
    "namespace.yaml",
    "node-rbac.yaml",
    "node.yaml",
    "quota.yaml",
    "roles.yaml",
);

type Files = &'static [(&'static str, &'static str)];

/// A kustomize base of `deploy/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `deploy/crds`: the kinds, for the broker's cluster and for Members.
    Crds,
    /// `deploy/broker`.
    Broker,
    /// `deploy/member`.
    Member,
}

/// What we use of kustomize; anything else in a `kustomization.yaml` is an error, and found by a test.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    labels: Vec<Labels>,
    resources: Vec<String>,
    #[serde(default)]
    images: Vec<Image>,
    /// The order of the files, which is ours as well.
    #[serde(default, rename = "sortOptions")]
    _sort_options: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    pairs: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_name: String,
    new_tag: String,
}

impl Base {
    fn files(self) -> Files {
        match self {
            Self::Crds => CRDS,
            Self::Broker => BROKER,
            Self::Member => MEMBER,
        }
    }

    /// Its objects in the order in which they are to be applied. `image` takes the place of Linkspan's own.
    ///
    /// # Errors
    /// A manifest is malformed, which a test excludes.
    pub fn objects(self, image: Option<&str>) -> anyhow::Result<Vec<Value>> {
        let kustomization: Kustomization = serde_saphyr::from_str(self.file("kustomization.yaml")?)
            .with_context(|| format!("{self:?}: kustomization.yaml"))?;
        let mut objects = Vec::new();
        for name in &kustomization.resources {
            let found: Vec<Value> = serde_saphyr::from_multiple(self.file(name)?).with_context(|| name.clone())?;
            objects.extend(found);
        }
        for object in &mut objects {
            for (key, value) in kustomization.labels.iter().flat_map(|labels| &labels.pairs) {
                object["metadata"]["labels"][key] = value.as_str().into();
            }
            for wanted in &kustomization.images {
                let reference = format!("{}:{}", wanted.new_name, wanted.new_tag);
                replace_image(object, &wanted.name, image.unwrap_or(&reference));
            }
        }
        objects.sort_by_key(rank);
        Ok(objects)
    }

    fn file(self, name: &str) -> anyhow::Result<&'static str> {
        match self.files().iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Ok(text),
            None => bail!("{name} of {self:?} is not in the program: name it in src/kubectl/install/manifests.rs"),
        }
    }
}

fn replace_image(object: &mut Value, name: &str, reference: &str) {
    for list in ["initContainers", "containers"] {
        let containers = object.pointer_mut(&format!("/spec/template/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|container| container["image"] == name) {
            container["image"] = reference.into();
        }
    }
}

/// What others need comes first: policies hold before somebody runs whom they are meant for.
fn rank(object: &Value) -> usize {
    const ORDER: [&str; 13] = [
        "Namespace",
        "CustomResourceDefinition",
        "ResourceQuota",
        "PriorityClass",
        "ServiceAccount",
        "Role",
        "ClusterRole",
        "RoleBinding",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ConfigMap",
        "Secret",
    ];
    const LAST: [&str; 3] = ["Deployment", "DaemonSet", "StatefulSet"];
    let kind = object["kind"].as_str().unwrap_or_default();
    let first = ORDER.iter().position(|known| *known == kind);
    let last = LAST.iter().position(|known| *known == kind).map(|at| ORDER.len() + 1 + at);
    first.or(last).unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_deploy_that_is_a_resource_is_in_the_program() {
        for (base, count) in [(Base::Crds, 6), (Base::Broker, 10), (Base::Member, 20)] {
            let objects = base.objects(None).expect("complete and well formed");
            assert!(objects.len() >= count, "{base:?} has only {} objects", objects.len());
        }
    }

    #[test]
    fn the_image_is_the_one_that_was_asked_for() {
        let images = |image| {
            let objects = Base::Member.objects(image).expect("well formed");
            let containers =
                objects.iter().filter_map(|object| object["spec"]["template"]["spec"]["containers"].as_array());
            containers.flatten().map(|container| container["image"].to_string()).collect::<Vec<_>>()
        };
        assert_eq!(images(Some("registry.example/linkspan:1")), ["\"registry.example/linkspan:1\""; 3]);
        assert!(images(None).iter().all(|image| image.starts_with("\"linkspan/linkspan:")), "{:?}", images(None));
    }

    #[test]
    fn what_others_need_comes_first() {
        let objects = Base::Member.objects(None).expect("well formed");
        let at = |kind: &str| objects.iter().position(|object| object["kind"] == kind).expect("there is one");
        assert_eq!(at("Namespace"), 0);
        assert!(at("ClusterRole") < at("ValidatingAdmissionPolicy"));
        assert!(at("ValidatingAdmissionPolicy") < at("DaemonSet"));
        assert!(at("Service") < at("Deployment"));
    }
}
