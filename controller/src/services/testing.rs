//! Records for tests, in few words.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::PartialObjectMeta;
use serde_json::json;

use super::index::Object;
use super::value::*;
use crate::api::ImportType;
use crate::api::names::{LABEL_MANAGED_BY, MANAGED_BY};
use dns::Protocol;

/// The service `shop/web`, exported by `cluster` at second `age`, with no ports and no endpoints.
pub fn record(cluster: &str, age: i64) -> Record {
    Record {
        cluster: ClusterId::new(cluster).unwrap(),
        service: ServiceKey::new("shop", "web"),
        kind: ImportType::ClusterSetIP,
        exported_at: Timestamp::from_second(age).unwrap(),
        ports: Vec::new(),
        families: vec![Family::V4],
        affinity: Affinity::None,
        internal_traffic_policy: TrafficPolicy::Cluster,
        traffic_distribution: None,
        exported_labels: Default::default(),
        exported_annotations: Default::default(),
        slices: Vec::new(),
    }
}

/// `name number/protocol`, or `number/protocol` for a port without name.
pub fn port(text: &str) -> Port {
    let (name, rest) = text.split_once(' ').unwrap_or(("", text));
    let (number, protocol) = rest.split_once('/').unwrap();
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("{other}"),
    };
    Port { name: name.to_owned(), protocol, number: number.parse().unwrap(), app_protocol: None }
}

/// [`port`] of each text.
pub fn ports(texts: &[&str]) -> Vec<Port> {
    texts.iter().map(|text| port(text)).collect()
}

/// An endpoint with one address that is ready.
pub fn endpoint(address: &str) -> Endpoint {
    Endpoint {
        addresses: [address.parse().unwrap()].into(),
        hostname: None,
        ready: Some(true),
        serving: Some(true),
        terminating: Some(false),
        zone: None,
        node: None,
    }
}

/// A slice of ready endpoints.
pub fn slice(port_texts: &[&str], addresses: &[&str]) -> Slice {
    let endpoints: Vec<_> = addresses.iter().map(|address| endpoint(address)).collect();
    let family = endpoints.first().map_or(Family::V4, |endpoint| Family::of(&endpoint.addresses[0]));
    Slice { family, ports: ports(port_texts), endpoints }
}

/// The Secret with the credential of a cluster, with these annotations.
pub fn credential(annotations: &[&str]) -> PartialObjectMeta<Secret> {
    let annotations: serde_json::Map<_, _> = annotations.iter().map(|key| (key.to_string(), json!("true"))).collect();
    let meta = json!({ "namespace": "linkspan-system", "name": "linkspan-broker", "annotations": annotations });
    serde_json::from_value(json!({ "metadata": meta })).unwrap()
}

/// Whether an object bears our mark.
pub fn is_ours(object: &Object) -> bool {
    let labels = object.metadata().labels.iter().flatten();
    labels.into_iter().any(|(key, value)| key == LABEL_MANAGED_BY && value == MANAGED_BY)
}
