//! NetworkPolicies (`networking.k8s.io/v1`), evaluated for one connection. Addresses of other clusters are nobody's pods
//! here: only an `ipBlock` can mean them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::kubectl::picture::ClusterPicture;

/// Which side of a connection the policies of a pod are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of it.
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// The other end of the connection, as this cluster sees it, and the port of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The port that is called, on the server's side; none when any may be.
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'a str,
}

/// What the policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// No policy selects the pod for this direction.
    Free,
    /// This one lets the connection through.
    Allowed(String),
    /// These select the pod, and none lets it through.
    Dropped(Vec<String>),
}

/// What the policies of a cluster say of a connection of one of its pods.
pub fn ruling(cluster: &ClusterPicture, pod: &Pod, direction: Direction, other: &Other<'_>) -> Ruling {
    let namespace = pod.namespace().unwrap_or_default();
    let mut selecting = Vec::new();
    for policy in cluster.policies.all().iter().filter(|policy| policy.namespace().as_ref() == Some(&namespace)) {
        let Some(spec) = policy.spec.as_ref().filter(|spec| governs(spec, direction)) else { continue };
        let selector = spec.pod_selector.as_ref();
        if !selector.is_none_or(|selector| selects(selector, pod.labels())) {
            continue;
        }
        let name = format!("{namespace}/{}", policy.name_any());
        if allows(cluster, policy, spec, direction, pod, other) {
            return Ruling::Allowed(name);
        }
        selecting.push(name);
    }
    if selecting.is_empty() { Ruling::Free } else { Ruling::Dropped(selecting) }
}

/// Whether a policy is about a direction: as its types say, and without types Ingress always, Egress with rules of it.
fn governs(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types.iter().any(|name| name == direction.name()),
        _ => direction == Direction::Ingress || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

fn allows(
    cluster: &ClusterPicture,
    policy: &NetworkPolicy,
    spec: &NetworkPolicySpec,
    direction: Direction,
    pod: &Pod,
    other: &Other<'_>,
) -> bool {
    let namespace = policy.namespace().unwrap_or_default();
    let rules: Vec<(&[NetworkPolicyPort], &[NetworkPolicyPeer])> = match direction {
        Direction::Ingress => {
            let rules = spec.ingress.iter().flatten();
            rules.map(|rule| (slice(&rule.ports), slice(&rule.from))).collect()
        }
        Direction::Egress => {
            let rules = spec.egress.iter().flatten();
            rules.map(|rule| (slice(&rule.ports), slice(&rule.to))).collect()
        }
    };
    // Names of ports are those of the pod that serves; of a pod elsewhere, nobody here knows them.
    let server = match direction {
        Direction::Ingress => Some(pod),
        Direction::Egress => cluster.pod_by_address(other.address),
    };
    rules.into_iter().any(|(ports, peers)| {
        let port = ports.is_empty() || ports.iter().any(|port| takes_port(port, server, other));
        port && (peers.is_empty() || peers.iter().any(|peer| takes_peer(cluster, &namespace, peer, other.address)))
    })
}

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

fn takes_port(port: &NetworkPolicyPort, server: Option<&Pod>, other: &Other<'_>) -> bool {
    if port.protocol.as_deref().unwrap_or("TCP") != other.protocol {
        return false;
    }
    let Some(called) = other.port.map(i32::from) else { return true };
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&called),
        (Some(IntOrString::Int(number)), None) => *number == called,
        (Some(IntOrString::String(name)), _) => server.is_some_and(|pod| has_port(pod, name, called, other.protocol)),
    }
}

fn has_port(pod: &Pod, name: &str, number: i32, protocol: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.any(|port| {
        port.name.as_deref() == Some(name)
            && port.container_port == number
            && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })
}

fn takes_peer(cluster: &ClusterPicture, namespace: &str, peer: &NetworkPolicyPeer, address: IpAddr) -> bool {
    if let Some(block) = &peer.ip_block {
        let holds = |text: &str| text.parse::<IpNet>().is_ok_and(|net| net.contains(&address));
        return holds(&block.cidr) && !block.except.iter().flatten().any(|text| holds(text));
    }
    let Some(pod) = cluster.pod_by_address(address) else { return false };
    let of = pod.namespace().unwrap_or_default();
    let in_namespace = match &peer.namespace_selector {
        None => of == namespace,
        Some(selector) => {
            let found = cluster.namespaces.all().iter().find(|found| found.name_any() == of);
            found.is_some_and(|found| selects(selector, found.labels()))
        }
    };
    in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod.labels()))
}

/// Whether a label selector means these labels.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let among = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
