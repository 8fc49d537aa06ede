//! `GatewayNode`: what a gateway node tells about itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VirtualCidr;

/// A node that can end tunnels; its name is the node's. Written by that node alone.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "linkspan.dev",
    version = "v1alpha1",
    kind = "GatewayNode",
    plural = "gatewaynodes",
    namespaced,
    status = "GatewayNodeStatus",
    category = "linkspan",
    derive = "PartialEq",
    shortname = "lsgw",
    printcolumn = r#"{"name":"Active","type":"boolean","jsonPath":".status.active"}"#,
    printcolumn = r#"{"name":"Peers","type":"string","jsonPath":".status.summary"}"#,
    printcolumn = r#"{"name":"Endpoints","type":"string","jsonPath":".spec.endpoints","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayNodeSpec {
    /// The WireGuard public key in base64.
    #[schemars(length(max = 44), regex(pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"))]
    pub public_key: String,
    /// Where it may be called: `address:port`, IPv6 in brackets.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub endpoints: Vec<String>,
    /// Its lanes, 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub lanes: u8,
}

/// What the gateway sees.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayNodeStatus {
    /// Whether it holds the gateway Lease and carries the cluster's traffic.
    #[serde(default)]
    pub active: bool,
    /// How many peers are up, for people: `2/3 up`.
    #[serde(default)]
    pub summary: String,
    /// Its peers, by cluster ID.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub peers: Vec<PeerStatus>,
    /// Prefixes of pods that its tunnel rewrites now, and what others know them by. Blocks that the Member claims and another one
    /// has are not among them.
    #[serde(rename = "virtualCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub virtual_cidrs: Vec<VirtualCidr>,
    /// When the numbers were read. States are written at once when they change, numbers now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Time>,
    /// `Ready`: device open, last pass without failure.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One peer of the gateway.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Cluster ID.
    pub cluster: String,
    /// Whether traffic reaches it.
    pub state: PeerState,
    /// Why, in one sentence.
    #[serde(default)]
    pub reason: String,
    /// Seconds since the newest handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_age_seconds: Option<u64>,
    /// Since when the cluster has not been reached, by this gateway or by those that carried the traffic before it. Absent
    /// while it is reached, and before it has been called in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Time>,
    /// Smoothed round-trip time in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_microseconds: Option<u64>,
    /// Lost probes of the last 100, in per mille.
    #[serde(default)]
    pub loss_permille: u32,
    /// Largest inner packet in bytes.
    #[serde(default)]
    pub mtu: u16,
    /// Bytes of inner packets received.
    #[serde(default)]
    pub rx_bytes: u64,
    /// Bytes of inner packets sent.
    #[serde(default)]
    pub tx_bytes: u64,
}

/// Whether traffic reaches a peer, as `tunnel::status::PeerState` tells it.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerState {
    /// Probes come back.
    Up,
    /// Not tried since it was quiet; neither good nor bad news.
    #[default]
    Idle,
    /// A handshake is under way.
    Connecting,
    /// It does not answer.
    Down,
    /// What another version writes and this one does not know. Taken for a peer that is not up. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_state_of_another_version_is_read_as_unknown() {
        let peer: PeerStatus = serde_json::from_str(r#"{ "cluster": "rome", "state": "Resting" }"#).expect("read");
        assert_eq!(peer.state, PeerState::Unknown);
    }
}
