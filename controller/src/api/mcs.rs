//! The Multi-Cluster Services API, `multicluster.x-k8s.io/v1beta1` (KEP-1645, mcs-api v0.5.2). The CRDs themselves are
//! upstream's, in `deploy/crds`; these are the types to read and write them with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::SessionAffinityConfig;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{CustomResource, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes the Service of the same name and namespace known to the clusterset. Written by hand, because people may leave out
/// `spec`, which a derived type insists on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "WrittenExport")]
pub struct ServiceExport {
    /// Name and namespace of the Service.
    pub metadata: ObjectMeta,
    /// What goes along with it.
    #[serde(default)]
    pub spec: ServiceExportSpec,
    /// What became of it.
    pub status: Option<ServiceExportStatus>,
}

impl Resource for ServiceExport {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ServiceExport".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "multicluster.x-k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1beta1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "serviceexports".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A ServiceExport with its type, as the API server wants it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenExport {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: ServiceExportSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ServiceExportStatus>,
}

impl From<ServiceExport> for WrittenExport {
    fn from(export: ServiceExport) -> Self {
        Self {
            api_version: ServiceExport::api_version(&()).into_owned(),
            kind: ServiceExport::kind(&()).into_owned(),
            metadata: export.metadata,
            spec: export.spec,
            status: export.status,
        }
    }
}

/// What goes along with an exported service.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceExportSpec {
    /// Labels for the ServiceImport.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_labels: BTreeMap<String, String>,
    /// Annotations for the ServiceImport.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_annotations: BTreeMap<String, String>,
}

/// `Valid`, `Ready` and `Conflict`.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceExportStatus {
    /// Conditions by type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A service of the clusterset, as one importing cluster sees it.
#[derive(CustomResource, JsonSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multicluster.x-k8s.io",
    version = "v1beta1",
    kind = "ServiceImport",
    plural = "serviceimports",
    namespaced,
    status = "ServiceImportStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceImportSpec {
    /// The merged ports.
    pub ports: Vec<ImportPort>,
    /// Clusterset IPs; empty for headless services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// `ClusterSetIP` or `Headless`.
    #[serde(rename = "type")]
    pub kind: ImportType,
    /// `None` or `ClientIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<String>,
    /// How long a client stays with its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// `IPv4`, `IPv6`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// `Cluster` or `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// As Services have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// How a service of the clusterset is reached.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImportType {
    /// By a virtual IP.
    ClusterSetIP,
    /// By the addresses of its endpoints.
    Headless,
    /// A type of another version, which this one cannot serve. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A port of a ServiceImport.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPort {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Application protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Number that clients use.
    pub port: i32,
}

/// State of a ServiceImport.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceImportStatus {
    /// Whether imported EndpointSlice objects exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_slice_objects: Option<EndpointSliceObjects>,
    /// The exporting clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterStatus>,
    /// Conditions by type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Whether imported EndpointSlice objects exist.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointSliceObjects {
    /// They do.
    Present,
    /// They do not.
    Absent,
    /// What another version says. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// An exporting cluster.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its ID.
    pub cluster: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_version_are_read_as_unknown() {
        let kind: ImportType = serde_json::from_str("\"Mesh\"").expect("read");
        assert_eq!(kind, ImportType::Unknown);
        let status: ServiceImportStatus =
            serde_json::from_str(r#"{ "endpointSliceObjects": "Partly" }"#).expect("read");
        assert_eq!(status.endpoint_slice_objects, Some(EndpointSliceObjects::Unknown));
    }

    #[test]
    fn an_export_may_have_no_spec_and_is_written_with_its_type() {
        let text = r#"{"apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExport","metadata":{"name":"web"}}"#;
        let export: ServiceExport = serde_json::from_str(text).expect("as people write it");
        assert_eq!(export.spec, ServiceExportSpec::default());
        let written = serde_json::to_value(&export).expect("plain data");
        assert_eq!(written["kind"], "ServiceExport");
        assert_eq!(written["apiVersion"], "multicluster.x-k8s.io/v1beta1");
    }
}
