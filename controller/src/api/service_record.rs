//! `ServiceRecord`: one exported service of one Member, with its endpoints.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ImportType;

/// One exported service of one Member: what the Multi-Cluster Services API merges, and the endpoints behind it. A fact,
/// not a decision: every cluster merges the same records by itself.
///
/// Its name is `<cluster ID>.<namespace>.<service>`; the broker's policy and every importer see to it. Endpoints travel in the record, so that ports and endpoints never
/// disagree.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "linkspan.dev",
    version = "v1alpha1",
    kind = "ServiceRecord",
    plural = "servicerecords",
    namespaced,
    status = "ServiceRecordStatus",
    category = "linkspan",
    derive = "PartialEq",
    shortname = "lsrec",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterID"}"#,
    printcolumn = r#"{"name":"Service-Namespace","type":"string","jsonPath":".spec.namespace"}"#,
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.name"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecordSpec {
    /// The exporting cluster.
    #[serde(rename = "clusterID")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub cluster_id: String,
    /// Namespace of the service, the same in every cluster.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Name of the service.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// `ClusterSetIP` or `Headless`.
    #[serde(rename = "type")]
    pub kind: ImportType,
    /// Creation of the ServiceExport: the oldest wins conflicts.
    pub exported_at: Time,
    /// Ports of the Service.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub ports: Vec<RecordPort>,
    /// `IPv4`, `IPv6`, in the order of the Service.
    #[serde(default)]
    #[schemars(length(max = 2), inner(length(max = 4)))]
    pub ip_families: Vec<String>,
    /// `None` or `ClientIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub session_affinity: Option<String>,
    /// Seconds that a client stays with its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_timeout_seconds: Option<i32>,
    /// `Cluster` or `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub internal_traffic_policy: Option<String>,
    /// As the Service has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub traffic_distribution: Option<String>,
    /// `spec.exportedLabels` of the ServiceExport.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = { "type": "string", "maxLength": 63 }))]
    pub exported_labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations` of the ServiceExport.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = { "type": "string", "maxLength": 65536 }))]
    pub exported_annotations: BTreeMap<String, String>,
    /// The endpoints, sorted; one slice for each address family and set of port numbers.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub slices: Vec<RecordSlice>,
}

/// A port of the service, or of the endpoints of a slice under the name of the service's port.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordPort {
    /// Its name; empty when it is the only one and has none.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    #[schemars(length(max = 4))]
    pub protocol: String,
    /// Application protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub app_protocol: Option<String>,
    /// Number, 1 to 65 535: that clients use, or that the endpoints have.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// Endpoints that have the same port numbers.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordSlice {
    /// Family of all addresses.
    pub address_type: AddressType,
    /// Port numbers on the endpoints.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub ports: Vec<RecordPort>,
    /// The endpoints, sorted.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub endpoints: Vec<RecordEndpoint>,
}

/// Address families of EndpointSlices.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressType {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
    /// A family of another version. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A backend of the service.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordEndpoint {
    /// Its addresses, one as a rule.
    #[schemars(length(min = 1, max = 8), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    /// Its host name, an RFC 1123 label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub hostname: Option<String>,
    /// Whether it takes new connections; nothing said means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Whether it answers, even while it terminates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Whether it is about to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub zone: Option<String>,
    /// Its node, which means something in its own cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
}

/// What the holder of this copy made of it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecordStatus {
    /// `Accepted`: it is imported. False with a reason that names what is wrong.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
