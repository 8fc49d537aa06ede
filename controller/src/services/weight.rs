//! What a ServiceRecord weighs: about its bytes as JSON, counted by rules that the broker's policy has, too.
//!
//! `deploy/broker/policy-ownership.yaml` counts by the same numbers; what weighs too much is left out where it is exported,
//! and refused by the broker and by every importer. etcd takes 1.5 MiB for an object with its metadata.

use std::collections::BTreeMap;

use crate::api::{RecordEndpoint, RecordPort, RecordSlice, ServiceRecordSpec};

use super::value::{Endpoint, Port};

/// What a record may weigh.
pub const MAX_WEIGHT: usize = 1_000_000;
/// A slice without what is in it.
const SLICE: usize = 64;
/// A port without its texts. It is more than its bytes: ports are what most objects are made of in memory.
const PORT: usize = 256;
/// An endpoint without its texts, all fields set.
const ENDPOINT: usize = 112;
/// An address where there are several.
const ADDRESS: usize = 48;
/// A pair of a map without its texts.
const PAIR: usize = 6;

/// What a record of this spec weighs.
pub fn of(spec: &ServiceRecordSpec) -> usize {
    let slices = spec.slices.iter().map(|slice| {
        let endpoints: usize = slice.endpoints.iter().map(of_record_endpoint).sum();
        of_record_slice(slice) + endpoints
    });
    let ports = spec.ports.iter().map(of_record_port);
    ports.chain(slices).sum::<usize>() + pairs(&spec.exported_labels) + pairs(&spec.exported_annotations)
}

/// What pairs of texts weigh.
pub(super) fn pairs(pairs: &BTreeMap<String, String>) -> usize {
    pairs.iter().map(|(key, value)| PAIR + key.len() + value.len()).sum()
}

/// What the ports of a Service weigh.
pub(super) fn ports(ports: &[Port]) -> usize {
    ports.iter().map(|port| of_port(&port.name, port.app_protocol.as_deref())).sum()
}

/// What a slice with these ports weighs without endpoints.
pub(super) fn slice(with: &[Port]) -> usize {
    SLICE + ports(with)
}

/// What an endpoint weighs.
pub(super) fn endpoint(endpoint: &Endpoint) -> usize {
    let addresses = match &*endpoint.addresses {
        [one] => one.to_string().len(),
        several => ADDRESS * several.len(),
    };
    let texts = [&endpoint.hostname, &endpoint.zone, &endpoint.node];
    ENDPOINT + addresses + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
}

fn of_record_slice(slice: &RecordSlice) -> usize {
    SLICE + slice.ports.iter().map(of_record_port).sum::<usize>()
}

fn of_record_port(port: &RecordPort) -> usize {
    of_port(&port.name, port.app_protocol.as_deref())
}

fn of_port(name: &str, app_protocol: Option<&str>) -> usize {
    PORT + name.len() + app_protocol.map_or(0, str::len)
}

fn of_record_endpoint(endpoint: &RecordEndpoint) -> usize {
    let addresses = match endpoint.addresses.as_slice() {
        [one] => one.len(),
        several => ADDRESS * several.len(),
    };
    let texts = [&endpoint.hostname, &endpoint.zone, &endpoint.node_name];
    ENDPOINT + addresses + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(changes: serde_json::Value) -> ServiceRecordSpec {
        let mut spec = json!({
            "clusterID": "c1", "namespace": "shop", "name": "web", "type": "ClusterSetIP",
            "exportedAt": "2026-07-01T08:00:00Z",
        });
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_record_weighs_what_its_parts_do() {
        let weight = |changes| of(&spec(changes));
        assert_eq!(weight(json!({})), 0);
        assert_eq!(weight(json!({ "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }] })), 260);
        assert_eq!(weight(json!({ "exportedLabels": { "team": "blue" }, "exportedAnnotations": { "a": "bc" } })), 23);
        let slice = json!({
            "addressType": "IPv4", "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "appProtocol": "h2c" }],
            "endpoints": [
                { "addresses": ["10.1.0.1"], "hostname": "web-0", "zone": "z1", "nodeName": "n1" },
                { "addresses": ["10.1.0.2", "10.1.0.3"] },
            ],
        });
        // The slice 64, its port 256 + 4 + 3, endpoints 112 + 8 + 5 + 2 + 2 and 112 + 2 * 48.
        assert_eq!(weight(json!({ "slices": [slice] })), 64 + 263 + 129 + 208);
    }

    #[test]
    fn a_record_has_no_more_bytes_than_it_weighs() {
        let endpoint = json!({
            "addresses": ["fd00:1111:2222:3333:4444:5555:6666:7777"], "hostname": "h".repeat(63), "ready": false,
            "serving": false, "terminating": false, "zone": "z".repeat(63), "nodeName": "n".repeat(253),
        });
        let port =
            json!({ "name": "p".repeat(63), "protocol": "SCTP", "appProtocol": "a".repeat(317), "port": 65_535 });
        let many = json!({ "addresses": vec!["fd00:1111:2222:3333:4444:5555:6666:7777"; 8] });
        let full = spec(json!({
            "ports": [port], "exportedLabels": { "a": "b" }, "exportedAnnotations": { "a": "b" },
            "slices": [{ "addressType": "IPv6", "ports": [port], "endpoints": [endpoint, many] }],
        }));
        // What a record has without all of these, its cluster, its names and so on, is little.
        let bytes = serde_json::to_vec(&full).unwrap().len() - serde_json::to_vec(&spec(json!({}))).unwrap().len();
        assert!(bytes <= of(&full), "{bytes} bytes, {}", of(&full));
    }
}
