//! Reads what a cluster has of Linkspan: objects, logs, and what its nodes say.

use controller::api::names::{BROKER_NAMESPACE, SYSTEM_NAMESPACE};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::archive::part;
use crate::kubectl::errors::{explain, is_cut_off, is_not_found};
use crate::kubectl::exec;

/// Lines of each log, the newest ones, and the most bytes of it.
const LOG_LINES: i64 = 20_000;
const LOG_BYTES: i64 = 8 << 20;
/// Pods that are asked at a time.
const AT_ONCE: usize = 8;

/// Which objects are read.
struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// None: of the whole cluster.
    namespace: Option<&'static str>,
    labels: Option<&'static str>,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespace: None, labels: None }
}

impl Kind {
    const fn within(self, namespace: &'static str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    const fn labelled(self, labels: &'static str) -> Self {
        Self { labels: Some(labels), ..self }
    }

    fn path(&self) -> String {
        let place = self.namespace.unwrap_or("cluster");
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("objects/{place}/{}{group}.yaml", self.plural)
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICIES: &str = "admissionregistration.k8s.io";
const OURS: &str = "app.kubernetes.io/name=linkspan";
const PART: &str = "app.kubernetes.io/part-of=linkspan";

/// Secrets are not among them: see [`secrets`].
const KINDS: [Kind; 34] = [
    kind("linkspan.dev", "v1alpha1", "Member", "members").within(SYSTEM_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "GatewayNode", "gatewaynodes").within(SYSTEM_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "ServiceRecord", "servicerecords").within(SYSTEM_NAMESPACE),
    kind("multicluster.x-k8s.io", "v1beta1", "ServiceExport", "serviceexports"),
    kind("multicluster.x-k8s.io", "v1beta1", "ServiceImport", "serviceimports"),
    kind("about.k8s.io", "v1alpha1", "ClusterProperty", "clusterproperties"),
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions").labelled(PART),
    kind("", "v1", "Node", "nodes"),
    kind("", "v1", "Namespace", "namespaces"),
    kind("", "v1", "Pod", "pods").within(SYSTEM_NAMESPACE),
    kind("", "v1", "ConfigMap", "configmaps").within(SYSTEM_NAMESPACE),
    kind("", "v1", "Service", "services").within(SYSTEM_NAMESPACE),
    kind("", "v1", "ServiceAccount", "serviceaccounts").within(SYSTEM_NAMESPACE),
    kind("events.k8s.io", "v1", "Event", "events").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "DaemonSet", "daemonsets").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "Deployment", "deployments").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "ReplicaSet", "replicasets").within(SYSTEM_NAMESPACE),
    kind("coordination.k8s.io", "v1", "Lease", "leases").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "Role", "roles").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "RoleBinding", "rolebindings").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "ClusterRole", "clusterroles").labelled(OURS),
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings").labelled(OURS),
    kind(POLICIES, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies").labelled(PART),
    kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs"),
    // What is made of imports, and cluster DNS, which forwards to us.
    kind("", "v1", "Service", "services").labelled("app.kubernetes.io/managed-by=linkspan.dev"),
    kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .labelled("endpointslice.kubernetes.io/managed-by=linkspan.dev"),
    kind("", "v1", "ConfigMap", "configmaps").within("kube-system"),
    kind("linkspan.dev", "v1alpha1", "Member", "members").within(BROKER_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "ServiceRecord", "servicerecords").within(BROKER_NAMESPACE),
    kind("coordination.k8s.io", "v1", "Lease", "leases").within(BROKER_NAMESPACE),
    kind("", "v1", "ServiceAccount", "serviceaccounts").within(BROKER_NAMESPACE),
    kind("", "v1", "ConfigMap", "configmaps").within(BROKER_NAMESPACE),
    kind(RBAC, "v1", "RoleBinding", "rolebindings").within(BROKER_NAMESPACE),
    kind(RBAC, "v1", "Role", "roles").within(BROKER_NAMESPACE),
];

/// What one cluster gave.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Lists of objects by their paths.
    pub objects: Vec<(String, Value)>,
    /// Texts by their paths: logs, and what nodes say.
    pub texts: Vec<(String, String)>,
    /// Values of Secrets, to be taken out wherever else they stand.
    pub secrets: Vec<Vec<u8>>,
    /// What could not be read, and why.
    pub missing: Vec<String>,
    /// Whether the API server does not answer, so that it was asked for nothing more.
    pub is_cut_off: bool,
}

impl Collected {
    fn miss(&mut self, what: &str, error: &kube::Error) {
        self.is_cut_off |= is_cut_off(error);
        self.missing.push(format!("{what}: {}", explain(error)));
    }
}

/// Reads everything of a cluster that the person may read. Where nobody answers, that is told once.
pub(super) async fn collect(client: &Client) -> Collected {
    let mut collected = Collected::default();
    match client.apiserver_version().await {
        Ok(version) => collected.texts.push(("version.txt".to_owned(), format!("{}\n", version.git_version))),
        Err(error) => collected.miss("version.txt", &error),
    }
    for kind in &KINDS {
        if collected.is_cut_off {
            return collected;
        }
        match list(client, kind).await {
            Ok(items) if items.is_empty() => {}
            Ok(items) => {
                let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
                collected.objects.push((kind.path(), list));
            }
            Err(error) => collected.miss(&kind.path(), &error),
        }
    }
    secrets(client, &mut collected).await;
    pods(client, &mut collected).await;
    collected
}

async fn list(client: &Client, kind: &Kind) -> kube::Result<Vec<Value>> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind), kind.plural);
    let api: Api<DynamicObject> = match kind.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = kind.labels.map_or_else(ListParams::default, |labels| ListParams::default().labels(labels));
    match api.list(&params).await {
        // A list's items do not say what they are.
        Ok(list) => Ok(list.items.iter().filter_map(|item| typed(item, kind)).collect()),
        // A kind that is not there has no objects; that Linkspan is not, the others tell.
        Err(error) if is_not_found(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn typed(item: &DynamicObject, kind: &Kind) -> Option<Value> {
    let mut value = serde_json::to_value(item).ok()?;
    let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
    value["apiVersion"] = format!("{group}{}", kind.version).into();
    value["kind"] = kind.kind.into();
    Some(value)
}

/// Names and keys of Secrets go into the archive; their values serve to be recognized elsewhere.
async fn secrets(client: &Client, collected: &mut Collected) {
    for namespace in [SYSTEM_NAMESPACE, BROKER_NAMESPACE] {
        if collected.is_cut_off {
            return;
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let path = format!("objects/{namespace}/secrets.yaml");
        match api.list(&ListParams::default()).await {
            Ok(list) if list.items.is_empty() => {}
            Ok(list) => {
                let names = list.items.iter().map(described);
                let names = json!({ "apiVersion": "v1", "kind": "List", "items": names.collect::<Vec<_>>() });
                collected.objects.push((path, names));
                let data = list.items.into_iter().flat_map(|secret| secret.data.unwrap_or_default());
                collected.secrets.extend(data.map(|(_, value)| value.0));
            }
            Err(error) => collected.miss(&path, &error),
        }
    }
}

fn described(secret: &Secret) -> Value {
    let keys = secret.data.iter().flat_map(|data| data.keys()).map(|key| (key.clone(), super::scrub::REMOVED.into()));
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name_any(),
            "namespace": secret.namespace(),
            "creationTimestamp": secret.metadata.creation_timestamp,
            "labels": secret.metadata.labels,
        },
        "type": secret.type_,
        "data": keys.collect::<serde_json::Map<_, _>>(),
    })
}

/// Logs of all pods of Linkspan, and of cluster DNS; and what the nodes' own pods say.
async fn pods(client: &Client, collected: &mut Collected) {
    for (namespace, labels) in [(SYSTEM_NAMESPACE, None), ("kube-system", Some("k8s-app=kube-dns"))] {
        if collected.is_cut_off {
            return;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let params = labels.map_or_else(ListParams::default, |labels| ListParams::default().labels(labels));
        let list = match api.list(&params).await {
            Ok(list) => list.items,
            Err(error) => {
                collected.miss(&format!("logs/{namespace}"), &error);
                continue;
            }
        };
        let asked = list.iter().map(|pod| ask(&api, namespace, pod)).collect::<Vec<_>>();
        let answers: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
        for (path, answer) in answers.into_iter().flatten() {
            match answer {
                Ok(text) => collected.texts.push((path, text)),
                Err(why) => collected.missing.push(format!("{path}: {why}")),
            }
        }
    }
}

type Answer = (String, Result<String, String>);

async fn ask(api: &Api<Pod>, namespace: &str, pod: &Pod) -> Vec<Answer> {
    let name = pod.name_any();
    let mut answers = Vec::new();
    let spec = pod.spec.clone().unwrap_or_default();
    for container in &spec.containers {
        let path = format!("logs/{namespace}/{}/{}", part(&name), part(&container.name));
        answers.push((format!("{path}.log"), log(api, &name, &container.name, false).await));
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        if statuses.into_iter().any(|status| status.name == container.name && status.restart_count > 0) {
            answers.push((format!("{path}.previous.log"), log(api, &name, &container.name, true).await));
        }
    }
    if spec.containers.iter().any(|container| container.name == "node") && namespace == SYSTEM_NAMESPACE {
        let node = part(spec.node_name.as_deref().unwrap_or(&name));
        for question in ["status", "inspect"] {
            let said = exec::output(api, &name, "node", &["linkspan", question, "-o", "json"]).await;
            answers.push((format!("nodes/{node}/{question}.json"), said));
        }
    }
    answers
}

async fn log(api: &Api<Pod>, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let params = LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        timestamps: true,
        ..LogParams::default()
    };
    api.logs(pod, &params).await.map_err(|error| explain(&error))
}

#[cfg(test)]
mod tests {
    use controller::api::names::{LABEL_MANAGED_BY, MANAGED_BY};

    use super::*;

    #[test]
    fn labels_are_those_that_objects_bear_and_no_secret_is_read_as_a_whole() {
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        assert!(KINDS.iter().any(|kind| kind.kind == "Service" && kind.labels == Some(ours.as_str())));
        assert!(KINDS.iter().all(|kind| kind.kind != "Secret"));
        let mut paths: Vec<String> = KINDS.iter().map(Kind::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), KINDS.len(), "each list has a file of its own");
    }
}
