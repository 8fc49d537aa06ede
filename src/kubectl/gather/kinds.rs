//! Which objects of a cluster are gathered.

use controller::api::names::{BROKER_NAMESPACE, SYSTEM_NAMESPACE};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::kubectl::errors::{explain, is_not_found};

/// Which objects are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind<'a> {
    group: &'static str,
    version: &'static str,
    /// Its name.
    pub kind: &'static str,
    plural: &'static str,
    /// None: of the whole cluster.
    namespace: Option<&'a str>,
    labels: Option<&'static str>,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind<'static> {
    Kind { group, version, kind, plural, namespace: None, labels: None }
}

impl<'a> Kind<'a> {
    /// Those of one namespace.
    pub(super) const fn within(self, namespace: &'a str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    const fn labelled(self, labels: &'static str) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// Where they go.
    pub(super) fn path(&self) -> String {
        format!("objects/{}/{}", self.namespace.unwrap_or("cluster"), self.file())
    }

    /// What their file is called.
    pub(super) fn file(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{}{group}.yaml", self.plural)
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICIES: &str = "admissionregistration.k8s.io";
const OURS: &str = "app.kubernetes.io/name=linkspan";
const PART: &str = "app.kubernetes.io/part-of=linkspan";

/// Events, which viewers may read in this group alone.
pub(super) const EVENTS: Kind<'static> = kind("", "v1", "Event", "events");
/// What carries a service: read where services are exported or imported.
pub(super) const OF_SERVICES: [Kind<'static>; 3] = [
    kind("", "v1", "Service", "services"),
    kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

/// Secrets are not among them: see [`super::collect`].
pub(super) const KINDS: [Kind<'static>; 34] = [
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
    EVENTS.within(SYSTEM_NAMESPACE),
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

/// Reads them; none where their kind is not there.
///
/// # Errors
/// They cannot be read, for this reason.
pub(super) async fn list(client: &Client, kind: &Kind<'_>) -> Result<Vec<Value>, String> {
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
        Err(error) => Err(explain(&error)),
    }
}

fn typed(item: &DynamicObject, kind: &Kind<'_>) -> Option<Value> {
    let mut value = serde_json::to_value(item).ok()?;
    let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
    value["apiVersion"] = format!("{group}{}", kind.version).into();
    value["kind"] = kind.kind.into();
    Some(value)
}

#[cfg(test)]
mod tests {
    use controller::api::names::{LABEL_MANAGED_BY, MANAGED_BY};

    use super::*;

    #[test]
    fn labels_are_those_that_objects_bear_and_no_secret_is_read_as_a_whole() {
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        assert!(KINDS.iter().any(|kind| kind.kind == "Service" && kind.labels == Some(ours.as_str())));
        assert!(KINDS.iter().chain(&OF_SERVICES).all(|kind| kind.kind != "Secret"));
        let mut paths: Vec<String> = KINDS.iter().map(Kind::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), KINDS.len(), "each list has a file of its own");
    }
}
