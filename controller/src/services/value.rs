//! Checked values: what a ServiceRecord says once its strings are known to be right.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use dns::Protocol;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::api::names::{LABEL_CLUSTER, LABEL_NAMESPACE, record_name};
use crate::api::{AddressType, ImportType, RecordEndpoint, RecordPort, RecordSlice, ServiceRecord, ServiceRecordSpec};

pub use crate::members::{ClusterId, InvalidClusterId};

/// How long a client stays with its endpoint when a Service does not say (`v1.DefaultClientIPServiceAffinitySeconds`).
pub const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// Namespace and name of a service, the same in all clusters (KEP-1645, namespace sameness).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceKey {
    /// The service `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An IP family, as Services and ServiceImports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family that Kubernetes calls `text`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// What Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port, of a service or of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its name; may be empty.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Its number, never 0.
    pub number: u16,
    /// Application protocol.
    pub app_protocol: Option<String>,
}

/// The protocol that Kubernetes calls `text`.
pub fn parse_protocol(text: &str) -> Option<Protocol> {
    match text {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Session affinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affinity {
    /// None.
    None,
    /// A client stays with its endpoint.
    ClientIp {
        /// For so long, 1 to 86 400 s.
        seconds: i32,
    },
}

/// Which endpoints internal traffic may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficPolicy {
    /// All.
    Cluster,
    /// Those on the client's node.
    Local,
}

impl TrafficPolicy {
    /// What Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// Which endpoints are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distribution {
    /// Those in the client's zone, by its first name.
    PreferClose,
    /// Those in the client's zone.
    PreferSameZone,
    /// Those on the client's node.
    PreferSameNode,
}

impl Distribution {
    /// The distribution that Kubernetes calls `text`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "PreferClose" => Some(Self::PreferClose),
            "PreferSameZone" => Some(Self::PreferSameZone),
            "PreferSameNode" => Some(Self::PreferSameNode),
            _ => None,
        }
    }

    /// What Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreferClose => "PreferClose",
            Self::PreferSameZone => "PreferSameZone",
            Self::PreferSameNode => "PreferSameNode",
        }
    }
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its addresses, at least one, all of its slice's family.
    pub addresses: Box<[IpAddr]>,
    /// Its host name.
    pub hostname: Option<Box<str>>,
    /// Whether it takes new connections; nothing said means yes.
    pub ready: Option<bool>,
    /// Whether it answers.
    pub serving: Option<bool>,
    /// Whether it is about to go.
    pub terminating: Option<bool>,
    /// Its zone.
    pub zone: Option<Box<str>>,
    /// Its node; means something in its own cluster only.
    pub node: Option<Box<str>>,
}

/// Backends with the same port numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice {
    /// Family of all addresses.
    pub family: Family,
    /// Port numbers on the endpoints, sorted.
    pub ports: Vec<Port>,
    /// The endpoints, sorted.
    pub endpoints: Vec<Endpoint>,
}

/// One exported service of one cluster: a ServiceRecord whose every field is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The exporting cluster.
    pub cluster: ClusterId,
    /// The service.
    pub service: ServiceKey,
    /// Whether it has a virtual IP.
    pub kind: ImportType,
    /// When it was exported.
    pub exported_at: Timestamp,
    /// Its ports, in the order of the Service; names and (protocol, number) are unique.
    pub ports: Vec<Port>,
    /// Its families, in the order of the Service; at least one, no duplicates.
    pub families: Vec<Family>,
    /// Session affinity.
    pub affinity: Affinity,
    /// Internal traffic policy.
    pub internal_traffic_policy: TrafficPolicy,
    /// Traffic distribution.
    pub traffic_distribution: Option<Distribution>,
    /// Labels for the ServiceImport; none of them reserved.
    pub exported_labels: BTreeMap<String, String>,
    /// Annotations for the ServiceImport; none of them reserved.
    pub exported_annotations: BTreeMap<String, String>,
    /// Its endpoints.
    pub slices: Vec<Slice>,
}

impl Record {
    /// Name of its ServiceRecord.
    pub fn object_name(&self) -> String {
        record_name(self.cluster.as_str(), &self.service.namespace, &self.service.name)
    }

    /// Its ServiceRecord in `namespace`.
    pub fn to_object(&self, namespace: &str) -> ServiceRecord {
        let labels = [
            (LABEL_CLUSTER.to_owned(), self.cluster.to_string()),
            (LABEL_NAMESPACE.to_owned(), self.service.namespace.clone()),
        ];
        ServiceRecord {
            metadata: ObjectMeta {
                name: Some(self.object_name()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            spec: self.to_spec(),
            status: None,
        }
    }

    /// Keeps the endpoints that `keep` is true for, which may change them, in order.
    pub fn retain_endpoints(&mut self, mut keep: impl FnMut(&mut Endpoint) -> bool) {
        for slice in &mut self.slices {
            slice.endpoints.retain_mut(&mut keep);
            slice.endpoints.sort();
        }
    }

    fn to_spec(&self) -> ServiceRecordSpec {
        let (session_affinity, session_affinity_timeout_seconds) = match self.affinity {
            Affinity::None => (None, None),
            Affinity::ClientIp { seconds } => (Some("ClientIP".to_owned()), Some(seconds)),
        };
        ServiceRecordSpec {
            cluster_id: self.cluster.to_string(),
            namespace: self.service.namespace.clone(),
            name: self.service.name.clone(),
            kind: self.kind,
            exported_at: Time(self.exported_at),
            ports: self.ports.iter().map(Port::to_record_port).collect(),
            ip_families: self.families.iter().map(Family::to_string).collect(),
            session_affinity,
            session_affinity_timeout_seconds,
            internal_traffic_policy: Some(self.internal_traffic_policy.as_str().to_owned()),
            traffic_distribution: self.traffic_distribution.map(|distribution| distribution.as_str().to_owned()),
            exported_labels: self.exported_labels.clone(),
            exported_annotations: self.exported_annotations.clone(),
            slices: self.slices.iter().map(Slice::to_record_slice).collect(),
        }
    }
}

impl Port {
    fn to_record_port(&self) -> RecordPort {
        RecordPort {
            name: self.name.clone(),
            protocol: self.protocol.to_string(),
            app_protocol: self.app_protocol.clone(),
            port: self.number,
        }
    }
}

impl Slice {
    fn to_record_slice(&self) -> RecordSlice {
        RecordSlice {
            address_type: match self.family {
                Family::V4 => AddressType::IPv4,
                Family::V6 => AddressType::IPv6,
            },
            ports: self.ports.iter().map(Port::to_record_port).collect(),
            endpoints: self.endpoints.iter().map(Endpoint::to_record_endpoint).collect(),
        }
    }
}

impl Endpoint {
    fn to_record_endpoint(&self) -> RecordEndpoint {
        RecordEndpoint {
            addresses: self.addresses.iter().map(IpAddr::to_string).collect(),
            hostname: self.hostname.as_deref().map(str::to_owned),
            ready: self.ready,
            serving: self.serving,
            terminating: self.terminating,
            zone: self.zone.as_deref().map(str::to_owned),
            node_name: self.node.as_deref().map(str::to_owned),
        }
    }
}
