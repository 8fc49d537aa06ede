//! What a node is planned from, read off API objects. Objects are what the API server lets through, so each value is
//! checked here, and one that is wrong is left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use controller::api::Member;
use controller::members::Selector;
use controller::node::reached_at;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::site::values;

/// Annotation of a node: where its gateway may be called, as `address:port`, several with commas between. Without it
/// the node's own addresses are told.
pub const ANNOTATION_ENDPOINTS: &str = "linkspan.dev/endpoints";

/// Everything that a node of the cluster is planned from. Kept on disk, for a start without the API server; holds no key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// The local copies of all Members, this cluster's own among them, by cluster ID.
    pub members: BTreeMap<String, Member>,
    /// The cluster's nodes, by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// The holder of the gateway Lease: the node that carries the cluster's traffic.
    pub active: Option<String>,
}

/// The label of nodes that run the control plane (Kubernetes, "Well-Known Labels").
const LABEL_SERVER: &str = "node-role.kubernetes.io/control-plane";

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFacts {
    /// UID of the Node object.
    pub uid: String,
    /// Its `InternalIP` addresses, as the Node lists them.
    pub internal: Vec<IpAddr>,
    /// Where the other nodes reach it; for the node itself, what it sends from.
    pub reached_at: Option<IpAddr>,
    /// Its `ExternalIP` addresses.
    pub external: Vec<IpAddr>,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether people have made it a gateway, by label.
    pub labelled: bool,
    /// Whether it runs the control plane, as servers of K3s do.
    pub server: bool,
    /// Whether its kubelet is heard of.
    pub ready: bool,
    /// What its annotation tells of where its gateway may be called.
    pub endpoints: Vec<SocketAddr>,
}

impl NodeFacts {
    /// Reads a Node.
    pub fn read(node: &Node, gateways: &Selector) -> Self {
        let none = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&none);
        let annotations = node.metadata.annotations.as_ref().unwrap_or(&none);
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let of_kind = |kind: &str| {
            let addresses = status.iter().flat_map(|status| status.addresses.iter().flatten());
            addresses.filter(|at| at.type_ == kind).filter_map(|at| values::unicast(&at.address).ok()).collect()
        };
        let pods =
            spec.and_then(|spec| spec.pod_cidrs.clone().or_else(|| spec.pod_cidr.clone().map(|cidr| vec![cidr])));
        let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let endpoints = annotations.get(ANNOTATION_ENDPOINTS).map(String::as_str).unwrap_or_default();
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            internal: of_kind("InternalIP"),
            reached_at: reached_at(node),
            external: of_kind("ExternalIP"),
            pod_cidrs: pods.into_iter().flatten().filter_map(|cidr| values::routed_prefix(&cidr).ok()).collect(),
            labelled: gateways.matches(labels),
            server: labels.contains_key(LABEL_SERVER),
            ready: conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "True"),
            endpoints: endpoints.split(',').filter_map(|at| values::endpoint(at.trim()).ok()).collect(),
        }
    }

    /// Under which address the other nodes of the cluster reach it.
    pub fn address(&self) -> Option<IpAddr> {
        self.reached_at.or(self.internal.first().copied())
    }

    /// Takes what the node itself sends from, for its own facts. An address that it does not hold, because a router translates
    /// it, is of use to the others alone.
    pub fn settle(&mut self, is_held: impl Fn(IpAddr) -> bool) {
        if let Some(told) = self.reached_at.filter(|told| !is_held(*told)) {
            self.reached_at = self.internal.iter().find(|address| address.is_ipv4() == told.is_ipv4()).copied();
        }
    }

    /// Where its gateway may be called, best first: what people say, else what is reachable from outside, else its own
    /// address.
    pub fn called_at(&self, port: u16) -> Vec<SocketAddr> {
        if !self.endpoints.is_empty() {
            return self.endpoints.clone();
        }
        let mut all: Vec<SocketAddr> = Vec::new();
        for address in self.external.iter().chain(&self.internal) {
            let at = SocketAddr::new(*address, port);
            if !all.contains(&at) {
                all.push(at);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: serde_json::Value) -> NodeFacts {
        NodeFacts::read(&serde_json::from_value(json).expect("a node"), &Selector::default())
    }

    #[test]
    fn a_node_of_k3s_is_read() {
        let facts = node(serde_json::json!({
            "metadata": { "name": "a", "uid": "u", "labels": { "linkspan.dev/gateway": "true" } },
            "spec": { "podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64"] },
            "status": {
                "addresses": [
                    { "type": "InternalIP", "address": "192.168.7.2" },
                    { "type": "InternalIP", "address": "fd07::2" },
                    { "type": "ExternalIP", "address": "198.51.100.7" },
                    { "type": "Hostname", "address": "a" },
                ],
                "conditions": [{ "type": "MemoryPressure", "status": "False" }, { "type": "Ready", "status": "True" }],
            },
        }));
        assert_eq!(facts.address(), Some("192.168.7.2".parse().expect("valid")));
        assert_eq!(facts.pod_cidrs.len(), 2);
        assert!(facts.labelled && facts.ready && !facts.server);
        let told: Vec<String> = facts.called_at(51820).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["198.51.100.7:51820", "192.168.7.2:51820", "[fd07::2]:51820"]);
    }

    #[test]
    fn what_people_say_of_a_gateways_address_counts_alone() {
        let facts = node(serde_json::json!({
            "metadata": { "annotations": { ANNOTATION_ENDPOINTS: "203.0.113.9:4500, nonsense,[2001:db8::9]:51820" } },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.7.2" }] },
        }));
        let told: Vec<String> = facts.called_at(51820).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["203.0.113.9:4500", "[2001:db8::9]:51820"]);
    }

    #[test]
    fn a_node_sends_from_an_address_that_it_holds() {
        let facts = |internal: &[&str]| {
            let addresses: Vec<_> =
                internal.iter().map(|at| serde_json::json!({ "type": "InternalIP", "address": at })).collect();
            let annotations = serde_json::json!({ "linkspan.dev/node-address": "198.51.100.7" });
            node(
                serde_json::json!({ "metadata": { "annotations": annotations }, "status": { "addresses": addresses } }),
            )
        };
        let sends_from = |internal: &[&str], held: bool| {
            let mut facts = facts(internal);
            facts.settle(|_| held);
            facts.address().map(|address| address.to_string()).expect("it has one")
        };
        assert_eq!(sends_from(&["10.0.0.2"], true), "198.51.100.7");
        assert_eq!(sends_from(&["fd07::2", "10.0.0.2"], false), "10.0.0.2");
        assert_eq!(sends_from(&["fd07::2"], false), "fd07::2");
    }

    #[test]
    fn an_empty_node_and_nonsense_are_no_panic() {
        assert_eq!(node(serde_json::json!({ "metadata": {} })), NodeFacts::default());
        let facts = node(serde_json::json!({
            "metadata": {},
            "spec": { "podCIDR": "everything", "podCIDRs": ["10.42.1.7/24", "127.0.0.0/8"] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }] },
        }));
        assert_eq!(facts, NodeFacts::default());
    }
}
