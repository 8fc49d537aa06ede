//! What was seen of each cluster, as plain data: everything that is judged afterwards is in here, so that judging needs no
//! cluster, and a picture that somebody sends tells the same story elsewhere.

mod exec;
pub mod facts;
mod observe;
#[cfg(test)]
pub mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::{Deserialize, Serialize};

use super::contexts::Target;
use super::inspect::{Inspection, Questions};
use crate::status::Report;

pub use exec::{Answers, NODE_CONTAINER, Wanted, answers, put_all, wanted};
pub use facts::{Known, Place, PodRef};
pub use observe::now;

/// What was seen of all clusters that were asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// The clusters, in the order in which they were named.
    pub clusters: Vec<ClusterPicture>,
}

/// One part of a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part<T> {
    /// What there is.
    Seen(T),
    /// What there is in some namespaces: the rest could not be seen.
    Partly(Partly<T>),
    /// Nobody could look.
    Unseen(Unseen),
}

/// What was seen of a part, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partly<T> {
    /// What there is.
    pub seen: T,
    /// The namespaces in which it is.
    pub namespaces: Vec<String>,
    /// Why no other could be seen.
    pub rest: Unseen,
}

/// Why a part was not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unseen {
    /// What is missing, for people: `pods`.
    pub what: String,
    /// Why: `missing permission: list pods in all namespaces`.
    pub why: String,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::Unseen(Unseen { what: "this".to_owned(), why: "nobody has looked".to_owned() })
    }
}

impl<T> Part<T> {
    /// All that there is, if somebody could look everywhere.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Partly(_) | Self::Unseen(_) => None,
        }
    }

    /// Why nobody could look everywhere.
    pub fn unseen(&self) -> Option<&Unseen> {
        match self {
            Self::Seen(_) => None,
            Self::Partly(Partly { rest, .. }) => Some(rest),
            Self::Unseen(unseen) => Some(unseen),
        }
    }

    /// Why nobody could look into a namespace.
    pub fn unseen_in(&self, namespace: &str) -> Option<&Unseen> {
        match self {
            Self::Partly(partly) if partly.namespaces.iter().any(|seen| seen == namespace) => None,
            _ => self.unseen(),
        }
    }
}

impl<T> Part<Vec<T>> {
    /// What was seen; nothing where nobody could look.
    pub fn all(&self) -> &[T] {
        match self {
            Self::Seen(seen) | Self::Partly(Partly { seen, .. }) => seen,
            Self::Unseen(_) => &[],
        }
    }
}

/// What was seen of one cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPicture {
    /// What the person calls it: the context.
    pub context: String,
    /// Its API server.
    pub server: Part<Server>,
    /// Its ID, as its ClusterProperty or ConfigMap `linkspan` says.
    pub id: Part<Option<String>>,
    /// ConfigMaps: `linkspan`, and those of cluster DNS, by `namespace/name`.
    pub configs: Part<BTreeMap<String, ConfigMap>>,
    /// Local copies of all Members, its own among them.
    pub members: Part<Vec<Member>>,
    /// Its gateways.
    pub gateways: Part<Vec<GatewayNode>>,
    /// Leases in `linkspan-system`.
    pub leases: Part<Vec<Lease>>,
    /// Local copies of all ServiceRecords.
    pub records: Part<Vec<ServiceRecord>>,
    /// Its ServiceExports.
    pub exports: Part<Vec<ServiceExport>>,
    /// Its ServiceImports.
    pub imports: Part<Vec<ServiceImport>>,
    /// All nodes.
    pub nodes: Part<Vec<Node>>,
    /// All namespaces.
    pub namespaces: Part<Vec<Namespace>>,
    /// All pods.
    pub pods: Part<Vec<Pod>>,
    /// All services, derived ones too.
    pub services: Part<Vec<Service>>,
    /// All EndpointSlices.
    pub slices: Part<Vec<EndpointSlice>>,
    /// All NetworkPolicies.
    pub policies: Part<Vec<NetworkPolicy>>,
    /// Names of Linkspan's roles and bindings that exist: `ClusterRole/linkspan-node`.
    pub roles: Part<Vec<String>>,
    /// What each node says of itself, by name. Empty until nodes are asked.
    pub inspections: BTreeMap<String, Part<NodePicture>>,
    /// What follows from its ID, its Members and its nodes, once these stay as they are: see [`ClusterPicture::settle`].
    #[serde(skip)]
    pub known: Option<Arc<Known>>,
}

/// An API server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// `v1.34.4`.
    pub version: String,
    /// Its clock, from the `Date` header of an answer; seconds are all that it tells.
    pub clock: Option<Clock>,
}

/// What a clock said, between two looks at the person's own. Milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Clock {
    /// The person's, before asking.
    pub before: i64,
    /// The earliest that the other one may have said.
    pub from: i64,
    /// The latest.
    pub to: i64,
    /// The person's, after the answer.
    pub after: i64,
}

impl Clock {
    /// By how many milliseconds it is certainly ahead of the person's clock (positive) or behind it (negative); 0 when
    /// the two may agree.
    pub fn offset(&self) -> i64 {
        if self.to < self.before {
            self.to - self.before
        } else if self.from > self.after {
            self.from - self.after
        } else {
            0
        }
    }
}

/// What one node says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePicture {
    /// The pod that was asked.
    pub pod: String,
    /// The node's clock.
    pub clock: Option<Clock>,
    /// What `linkspan status` says.
    pub status: Part<Report>,
    /// What the kernel has.
    pub inspection: Inspection,
    /// Why the node did not answer when it was asked for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
}

/// Reads what all API servers have.
pub async fn look(targets: &[Target]) -> Picture {
    look_into(targets, &[]).await
}

/// The same; of these namespaces what there is, too, where the person may not see all.
pub async fn look_into(targets: &[Target], namespaces: &[String]) -> Picture {
    let clusters = targets.iter().map(|target| observe::observe(&target.name, &target.client, namespaces));
    let mut clusters = join_all(clusters).await;
    clusters.iter_mut().for_each(ClusterPicture::settle);
    Picture { clusters }
}

/// Asks nodes of all clusters at once: those for which there are questions, which are in the order of the picture.
pub async fn ask(targets: &[Target], picture: &mut Picture, questions: &[BTreeMap<String, Questions>]) {
    let each = picture.clusters.iter_mut().zip(targets).zip(questions);
    join_all(each.map(|((cluster, target), questions)| exec::inspect_nodes(&target.client, cluster, questions))).await;
}

/// No questions to all nodes, which tell what they always tell.
pub fn all_nodes(picture: &Picture) -> Vec<BTreeMap<String, Questions>> {
    let of_cluster =
        |cluster: &ClusterPicture| cluster.node_names().into_iter().map(|node| (node, Questions::default())).collect();
    picture.clusters.iter().map(of_cluster).collect()
}
