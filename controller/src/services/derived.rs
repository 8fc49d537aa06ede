//! The derived Service: its ClusterIP is the clusterset IP, so any kube-proxy carries it (KEP-1645, "ClusterSetIP").
//!
//! It asks for an address of every family of the cluster, whatever the exports have. So its addresses last while
//! exports come and go, and the ServiceImport names those that are of use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use data_encoding::BASE32HEX_NOPAD;
use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::merge::Merged;
use super::record::LocalService;
use super::value::{Affinity, Distribution, Family, Port, ServiceKey, TrafficPolicy};
use crate::api::names::{LABEL_MANAGED_BY, LABEL_SERVICE_NAME, MANAGED_BY};

/// How many characters of the hash are in the name (mcs-api's own controllers).
const HASH_CHARACTERS: usize = 10;

/// Name of the derived Service of `service`, as mcs-api and Cilium make it.
pub fn derived_name(service: &ServiceKey) -> String {
    format!("derived-{}", hash(&service.to_string(), HASH_CHARACTERS))
}

/// The first `characters` of a hash of `text`, fit for names.
pub(super) fn hash(text: &str, characters: usize) -> String {
    // Ten bytes are sixteen characters, more than anyone asks for.
    let mut hash = BASE32HEX_NOPAD.encode(&Sha256::digest(text)[..10]);
    hash.make_ascii_lowercase();
    hash.truncate(characters);
    hash
}

/// The derived Service, as far as it is ours to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedService {
    /// The service that it carries.
    pub service: ServiceKey,
    /// Its ports; names as in the slices.
    pub ports: Vec<Port>,
    /// Session affinity.
    pub affinity: Affinity,
    /// Internal traffic policy.
    pub internal_traffic_policy: TrafficPolicy,
    /// Traffic distribution.
    pub traffic_distribution: Option<Distribution>,
}

impl DerivedService {
    /// The one that carries `merged`.
    pub fn new(merged: &Merged) -> Self {
        let names = port_names(&merged.ports);
        let ports = merged.ports.iter().zip(names).map(|(port, name)| Port { name, ..port.clone() });
        Self {
            service: merged.service.clone(),
            ports: ports.collect(),
            affinity: merged.affinity,
            internal_traffic_policy: merged.internal_traffic_policy,
            traffic_distribution: merged.traffic_distribution,
        }
    }

    /// Its object. `ips` are asked for, primary family first, when it is made anew; without any, it gets new ones. Of
    /// `families` beyond those it gets new ones in any case; without any, of all that the cluster has when it is made.
    pub fn to_object(&self, ips: &[IpAddr], families: &[Family]) -> Service {
        let texts = || ips.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        let (session_affinity, session_affinity_config) = affinity_fields(self.affinity);
        let spec = ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: texts().into_iter().next(),
            cluster_ips: (!ips.is_empty()).then(texts),
            ip_families: (!families.is_empty()).then(|| families.iter().map(Family::to_string).collect()),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ports: Some(self.ports.iter().map(to_service_port).collect()),
            session_affinity: Some(session_affinity),
            session_affinity_config,
            internal_traffic_policy: Some(self.internal_traffic_policy.as_str().to_owned()),
            traffic_distribution: self.traffic_distribution.map(|distribution| distribution.as_str().to_owned()),
            ..ServiceSpec::default()
        };
        let labels = [
            (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
            (LABEL_SERVICE_NAME.to_owned(), self.service.name.clone()),
        ];
        Service {
            metadata: ObjectMeta {
                name: Some(derived_name(&self.service)),
                namespace: Some(self.service.namespace.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }

    /// What `object` says, with its addresses, when it is one of ours.
    pub fn of(object: &Service) -> Option<(Self, Vec<IpAddr>)> {
        let labels = object.metadata.labels.as_ref()?;
        if labels.get(LABEL_MANAGED_BY)? != MANAGED_BY {
            return None;
        }
        let service = ServiceKey::new(object.metadata.namespace.clone()?, labels.get(LABEL_SERVICE_NAME)?);
        let LocalService { ports, affinity, internal_traffic_policy, traffic_distribution, .. } =
            LocalService::of(object);
        let texts = object.spec.as_ref().and_then(|spec| spec.cluster_ips.as_ref());
        let ips = texts.into_iter().flatten().filter_map(|text| text.parse().ok()).collect();
        Some((Self { service, ports, affinity, internal_traffic_policy, traffic_distribution }, ips))
    }
}

/// The names of `ports` on the derived Service and its slices. Exports may each have a single port without a name, but
/// a Service with several ports must name all of them.
pub(super) fn port_names(ports: &[Port]) -> Vec<String> {
    let taken: BTreeSet<_> = ports.iter().map(|port| port.name.as_str()).collect();
    let name = |port: &Port| {
        if !port.name.is_empty() || ports.len() == 1 {
            return port.name.clone();
        }
        let mut name = format!("{}-{}", port.protocol.to_string().to_ascii_lowercase(), port.number);
        while taken.contains(name.as_str()) {
            name.push('x');
        }
        name
    };
    ports.iter().map(name).collect()
}

/// Session affinity as Services and ServiceImports have it.
pub(super) fn affinity_fields(affinity: Affinity) -> (String, Option<SessionAffinityConfig>) {
    match affinity {
        Affinity::None => ("None".to_owned(), None),
        Affinity::ClientIp { seconds } => {
            let client_ip = Some(ClientIPConfig { timeout_seconds: Some(seconds) });
            ("ClientIP".to_owned(), Some(SessionAffinityConfig { client_ip }))
        }
    }
}

fn to_service_port(port: &Port) -> ServicePort {
    ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: Some(port.protocol.to_string()),
        port: port.number.into(),
        app_protocol: port.app_protocol.clone(),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{Export, merge};
    use super::super::testing::{ports, record};
    use super::*;
    use crate::services::Record;

    #[test]
    fn the_name_is_that_of_mcs_api() {
        // printf 'default/web' | sha256sum | xxd -r -p | basenc --base32hex | head -c 10
        assert_eq!(derived_name(&ServiceKey::new("default", "web")), "derived-gapqrqeg1j");
    }

    #[test]
    fn an_object_written_and_read_again_says_the_same() {
        let record = Record {
            ports: ports(&["http 80/TCP", "dns 53/UDP"]),
            affinity: Affinity::ClientIp { seconds: 30 },
            internal_traffic_policy: TrafficPolicy::Local,
            traffic_distribution: Some(Distribution::PreferClose),
            ..record("c1", 0)
        };
        let derived = DerivedService::new(&merge(&[Export::new(&record, None)]).unwrap());
        let ips = ["10.43.0.7".parse().unwrap(), "fd43::7".parse().unwrap()];
        assert_eq!(DerivedService::of(&derived.to_object(&ips, &[])), Some((derived, ips.to_vec())));
    }

    #[test]
    fn services_of_others_are_not_read() {
        assert_eq!(DerivedService::of(&Service::default()), None);
    }

    #[test]
    fn row_32_a_port_without_name_gets_one_among_several_only() {
        assert_eq!(port_names(&ports(&["80/TCP"])), [""]);
        assert_eq!(port_names(&ports(&["80/TCP", "a 81/TCP", "tcp-80 82/TCP"])), ["tcp-80x", "a", "tcp-80"]);
    }
}
