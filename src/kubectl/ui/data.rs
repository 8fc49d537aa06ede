//! What the page shows, as plain data; its JSON is what the page reads.

use serde::{Deserialize, Serialize};

use crate::kubectl::diagnose::{Finding, State};

/// The clusterset, as far as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Clusters by name: those that were asked, and those that these know.
    pub clusters: Vec<Cluster>,
    /// Tunnels, by the names of their clusters.
    pub links: Vec<Link>,
    /// Exported services, by cluster, namespace and name.
    pub exports: Vec<Export>,
    /// All that is not as it should be, the worst first. Others refer to it by position.
    pub findings: Vec<Finding>,
}

/// How a cluster is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sight {
    /// It was asked.
    #[default]
    Asked,
    /// It was asked, and says nothing.
    Unreachable,
    /// No context of it was named; other clusters know it.
    HeardOf,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its ID, or else its context.
    pub name: String,
    /// Its context.
    #[serde(default)]
    pub context: Option<String>,
    /// How it is known.
    #[serde(default)]
    pub sight: Sight,
    /// The worst that was found about the cluster itself. Its tunnels have states of their own.
    pub state: State,
    /// Why, in one sentence; empty when all is as it should be.
    #[serde(default)]
    pub note: String,
    /// Version of Kubernetes.
    #[serde(default)]
    pub kubernetes: String,
    /// Version of Linkspan.
    #[serde(default)]
    pub version: String,
    /// How many nodes it has.
    #[serde(default)]
    pub nodes: Option<usize>,
    /// How many services it exports.
    #[serde(default)]
    pub exports: usize,
    /// How many it imports.
    #[serde(default)]
    pub imports: Option<usize>,
    /// Prefixes of its pods.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// Its gateways, the active one first.
    #[serde(default)]
    pub gateways: Vec<Gateway>,
    /// What was found about it: positions in [`Topology::findings`].
    #[serde(default)]
    pub findings: Vec<usize>,
}

/// A node that ends tunnels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The node.
    pub node: String,
    /// Whether it carries the traffic; others stand by.
    #[serde(default)]
    pub active: bool,
    /// The worst that was found about the node.
    pub state: State,
    /// Where it may be called.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Its lanes.
    #[serde(default)]
    pub lanes: u8,
}

/// The tunnel between two clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// The cluster whose name comes first.
    pub a: String,
    /// The other.
    pub b: String,
    /// The worst that was found about it.
    pub state: State,
    /// The state in one word: `up`, `idle`, `connecting`, `down`, `unknown`.
    pub word: String,
    /// What each end says, where it was asked.
    #[serde(default)]
    pub ends: Vec<End>,
    /// What was found about it: positions in [`Topology::findings`].
    #[serde(default)]
    pub findings: Vec<usize>,
}

/// One end of a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct End {
    /// The cluster that says this.
    pub cluster: String,
    /// The cluster of which it says it.
    pub far: String,
    /// Its active gateway.
    pub gateway: String,
    /// `up`, `idle`, `connecting` or `down`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Round-trip time.
    pub rtt_milliseconds: Option<f64>,
    /// Share of lost probes, 0 to 1.
    pub loss: f64,
    /// Largest packet that reaches the other end, in bytes.
    pub mtu: u16,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bytes received per second.
    pub rx_rate: Option<f64>,
    /// Bytes sent per second.
    pub tx_rate: Option<f64>,
    /// Age of the newest handshake.
    pub handshake_seconds: Option<f64>,
    /// Where its packets go.
    pub endpoint: Option<String>,
}

/// A service that a cluster exports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// The cluster.
    pub cluster: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// `ClusterSetIP` or `Headless`; empty where nobody says.
    #[serde(default)]
    pub kind: String,
    /// The worst that was found about it.
    pub state: State,
    /// What its conditions say against it.
    #[serde(default)]
    pub note: String,
    /// Clusters that were asked and import it from this one.
    #[serde(default)]
    pub importers: Vec<String>,
    /// What was found about it: positions in [`Topology::findings`].
    #[serde(default)]
    pub findings: Vec<usize>,
}

/// The topology, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Shown {
    /// How often something new was shown; 0 before anything was.
    pub round: u64,
    /// What was seen.
    #[serde(flatten)]
    pub topology: Topology,
}
