//! `Member`: one cluster of the clusterset.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use tunnel::config::Translation;

/// One cluster of the clusterset: who it is, which prefixes are behind it, and where its gateways are.
///
/// Its name is the cluster ID. The original lives on the broker and is written by the cluster's own controller; every
/// other Member keeps a copy, which its nodes are configured from.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "linkspan.dev",
    version = "v1alpha1",
    kind = "Member",
    plural = "members",
    namespaced,
    status = "MemberStatus",
    category = "linkspan",
    derive = "PartialEq",
    shortname = "lsm",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".spec.podCIDRs"}"#,
    printcolumn = r#"{"name":"Services","type":"string","jsonPath":".spec.serviceCIDRs"}"#,
    printcolumn = r#"{"name":"Version","type":"string","priority":1,"jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Virtual","type":"string","priority":1,"jsonPath":".spec.virtualCIDRs[*].virtual"}"#,
    validation = ("self.metadata.name == self.spec.clusterID", "metadata.name must equal spec.clusterID"),
    validation = (
        "!(has(oldSelf.spec.virtualOnly) && oldSelf.spec.virtualOnly) || (has(self.spec.virtualOnly) && self.spec.virtualOnly)",
        "spec.virtualOnly stays: leave and join again"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MemberSpec {
    /// The cluster ID: one RFC 1123 label, unique in the clusterset (KEP-2149).
    #[serde(rename = "clusterID")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "a cluster ID never changes: leave and join again"))]
    pub cluster_id: String,
    /// UID of the cluster's `kube-system` namespace. It tells a rebuilt cluster from a second one under the same ID.
    #[serde(rename = "clusterUID")]
    #[schemars(length(min = 1, max = 64))]
    pub cluster_uid: String,
    /// Prefixes of all pods.
    #[serde(rename = "podCIDRs", default)]
    #[schemars(length(max = 256), inner(length(max = 43)))]
    #[x_kube(validation = ("self.all(cidr, isCIDR(cidr))", "podCIDRs must be prefixes such as 10.42.0.0/16"))]
    #[x_kube(validation = ("self.all(net, !isCIDR(net) || cidr(net).prefixLength() >= (net.contains(':') ? 16 : 8))", "podCIDRs must not be wider than /8, or /16 in IPv6"))]
    pub pod_cidrs: Vec<String>,
    /// Prefixes of all service addresses.
    #[serde(rename = "serviceCIDRs", default)]
    #[schemars(length(max = 16), inner(length(max = 43)))]
    #[x_kube(validation = ("self.all(cidr, isCIDR(cidr))", "serviceCIDRs must be prefixes such as 10.43.0.0/16"))]
    #[x_kube(validation = ("self.all(net, !isCIDR(net) || cidr(net).prefixLength() >= (net.contains(':') ? 16 : 8))", "serviceCIDRs must not be wider than /8, or /16 in IPv6"))]
    pub service_cidrs: Vec<String>,
    /// Prefixes of the clusterset's pool that stand for prefixes of pods, where those are not unique.
    #[serde(rename = "virtualCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub virtual_cidrs: Vec<VirtualCidr>,
    /// Whether all others know the pods by their virtual addresses: the cluster came when its prefixes were another's
    /// already. Stays as long as the cluster is a Member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_only: bool,
    /// Virtual prefixes of nodes that have gone and Members that have left: nobody takes them before their time is over.
    #[serde(rename = "restingCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub resting_cidrs: Vec<RestingCidr>,
    /// Nodes that end tunnels. The active one carries the cluster's traffic; without one the cluster is not reachable.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.filter(gateway, has(gateway.active) && gateway.active).size() <= 1", "at most one gateway is active"))]
    pub gateways: Vec<Gateway>,
    /// Version of Linkspan that wrote this object.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub version: String,
    /// Newest version of the protocol between gateways and of these objects that the cluster speaks; 1.
    #[serde(default = "protocol")]
    #[schemars(range(min = 1, max = 1000))]
    pub protocol: u32,
    /// Oldest version that it speaks, where it speaks more than one. Two Members work together when their ranges overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_protocol: Option<u32>,
}

/// A prefix of pods, and the one of the same length that stands for it elsewhere.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualCidr {
    /// What the pods have.
    #[schemars(length(max = 43))]
    #[x_kube(validation = ("isCIDR(self)", "pods must be a prefix such as 10.42.0.0/24"))]
    #[x_kube(validation = ("!isCIDR(self) || cidr(self).prefixLength() >= (self.contains(':') ? 16 : 8)", "pods must not be wider than /8, or /16 in IPv6"))]
    pub pods: String,
    /// What others know them by.
    #[schemars(length(max = 43))]
    #[x_kube(validation = ("isCIDR(self)", "virtual must be a prefix such as 100.64.0.0/24"))]
    #[x_kube(validation = ("!isCIDR(self) || cidr(self).prefixLength() >= (self.contains(':') ? 16 : 8)", "virtual must not be wider than /8, or /16 in IPv6"))]
    pub r#virtual: String,
}

impl From<&Translation> for VirtualCidr {
    fn from(block: &Translation) -> Self {
        Self { pods: block.native.to_string(), r#virtual: block.r#virtual.to_string() }
    }
}

/// A virtual prefix that was another Member's.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestingCidr {
    /// The prefix.
    #[schemars(length(max = 43))]
    #[x_kube(validation = ("isCIDR(self)", "virtual must be a prefix such as 100.64.0.0/24"))]
    pub r#virtual: String,
    /// When it may be taken again.
    pub until: Time,
}

fn protocol() -> u32 {
    1
}

/// A node that ends tunnels.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Its WireGuard public key in base64. Made on the node, as the private key is.
    #[schemars(length(max = 44), regex(pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"))]
    pub public_key: String,
    /// Where it may be called, best first: `address:port`, IPv6 in brackets. Empty: it calls the others.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(max = 64), regex(pattern = r"^[0-9A-Fa-f.:\[\]]*$")))]
    pub endpoints: Vec<String>,
    /// Its lanes, 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub lanes: u8,
    /// Whether it carries the cluster's traffic now; at most one does.
    #[serde(default)]
    pub active: bool,
}

/// What is known of a Member, by whoever holds this copy.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// `Ready`: it is used. False with `Overlap`, `DuplicateID`, `DuplicateKey`, `Invalid`, `NoGateway` or `Unreachable`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
