//! What the broker part is told.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::watch;

use super::credential;
use super::records::Policy;
use super::status::BrokerStatus;
use crate::api::names::SYSTEM_NAMESPACE;
use crate::members::{ClusterId, Overrides, Selector, default_pool};

/// What the broker part is told by whoever starts it.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// This cluster's ID.
    pub cluster: ClusterId,
    /// UID of this cluster's namespace `kube-system`; see [`cluster_uid`](super::cluster_uid).
    pub cluster_uid: String,
    /// Linkspan's namespace in this cluster.
    pub namespace: String,
    /// Version of this program.
    pub version: String,
    /// Prefixes that are set by hand.
    pub overrides: Overrides,
    /// Labels of the nodes that people have made gateways.
    pub gateways: Selector,
    /// What may be imported.
    pub policy: Policy,
    /// How long a credential lives; it renews itself at half of that.
    pub credential_lifetime: Duration,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long a heartbeat counts.
    pub lease_duration: Duration,
    /// What ClusterProperties belong to, so that they go with them; see [`owner`](crate::cluster::owner).
    pub owners: Vec<OwnerReference>,
    /// Where the state of the broker part is told, for metrics and probes.
    pub status: watch::Sender<BrokerStatus>,
}

impl BrokerConfig {
    /// A configuration in which everything is found and nothing set by hand.
    pub fn new(cluster: ClusterId, cluster_uid: String) -> Self {
        Self {
            cluster,
            cluster_uid,
            namespace: SYSTEM_NAMESPACE.to_owned(),
            version: String::new(),
            overrides: Overrides {
                pod_cidrs: Ok(Vec::new()),
                service_cidrs: Ok(Vec::new()),
                virtual_pool: default_pool(),
                allowed: Vec::new(),
            },
            gateways: Selector::default(),
            policy: Policy::default(),
            credential_lifetime: credential::LIFETIME,
            heartbeat: Duration::from_secs(10),
            lease_duration: Duration::from_secs(40),
            owners: Vec::new(),
            status: watch::Sender::default(),
        }
    }
}
