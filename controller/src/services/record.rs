//! From a ServiceExport, its Service and its EndpointSlices to the [`Record`] that other clusters merge, or to the
//! reason why there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use k8s_openapi::jiff::Timestamp;

use super::conditions::{Truth, Verdict};
use super::labels;
use super::validate::{self, MAX_ADDRESSES, MAX_ENDPOINTS, MAX_PORTS, MAX_SLICES, MemberNetworks, Policy};
use super::value::{
    Affinity, ClusterId, DEFAULT_AFFINITY_SECONDS, Distribution, Endpoint, Family, Port, Record, ServiceKey, Slice,
    TrafficPolicy, parse_protocol,
};
use super::weight::{self, MAX_WEIGHT};
use crate::api::names::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::api::{ImportType, ServiceExport};

/// Condition of a ServiceExport: it can be exported.
pub const VALID: &str = "Valid";
/// Endpoints that one slice of a record has.
const MAX_SLICE: usize = 1_000;

/// What an export says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalExport {
    /// Its creation.
    pub created: Timestamp,
    /// `spec.exportedLabels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations`.
    pub annotations: BTreeMap<String, String>,
}

impl LocalExport {
    /// What `export` says. One without a creation is younger than all others.
    pub fn of(export: &ServiceExport) -> Self {
        Self {
            created: export.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            labels: export.spec.exported_labels.clone(),
            annotations: export.spec.exported_annotations.clone(),
        }
    }
}

/// What an export takes from its Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalService {
    /// What it is exported as, or why it cannot be.
    pub kind: Result<ImportType, &'static str>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its families.
    pub families: Vec<Family>,
    /// Session affinity.
    pub affinity: Affinity,
    /// Internal traffic policy.
    pub internal_traffic_policy: TrafficPolicy,
    /// Traffic distribution.
    pub traffic_distribution: Option<Distribution>,
    /// Whether endpoints count as ready whatever they say.
    pub publish_not_ready: bool,
}

impl LocalService {
    /// What `service` says.
    pub fn of(service: &Service) -> Self {
        let empty = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let is_ours = service.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_MANAGED_BY));
        let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
            _ if is_ours.is_some_and(|by| by == MANAGED_BY) => Err("the Service carries a clusterset IP itself"),
            (Some("ExternalName"), _) => Err("a Service of type ExternalName has no endpoints"),
            (_, Some("None")) => Ok(ImportType::Headless),
            _ => Ok(ImportType::ClusterSetIP),
        };
        let seconds =
            spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        let families = spec.ip_families.iter().flatten().filter_map(|text| Family::parse(text));
        Self {
            kind,
            ports: spec.ports.iter().flatten().filter_map(service_port).take(MAX_PORTS).collect(),
            families: families.collect(),
            affinity: match spec.session_affinity.as_deref() {
                Some("ClientIP") => Affinity::ClientIp { seconds: seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS) },
                _ => Affinity::None,
            },
            internal_traffic_policy: match spec.internal_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            traffic_distribution: spec.traffic_distribution.as_deref().and_then(Distribution::parse),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        }
    }
}

fn service_port(port: &ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: parse_protocol(port.protocol.as_deref().unwrap_or("TCP"))?,
        number: u16::try_from(port.port).ok().filter(|number| *number > 0)?,
        app_protocol: port.app_protocol.clone(),
    })
}

/// What `slice` says, of the cluster's own or one that people made by hand. Nothing for slices of names.
pub fn local_slice(slice: &EndpointSlice) -> Option<Slice> {
    let family = Family::parse(&slice.address_type)?;
    let port = |port: &discovery::EndpointPort| {
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: parse_protocol(port.protocol.as_deref().unwrap_or("TCP"))?,
            number: u16::try_from(port.port?).ok().filter(|number| *number > 0)?,
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<_> = slice.ports.iter().flatten().filter_map(port).collect();
    ports.sort();
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| local_endpoint(endpoint, family)).collect();
    Some(Slice { family, ports, endpoints })
}

fn local_endpoint(endpoint: &discovery::Endpoint, family: Family) -> Option<Endpoint> {
    let parse = |text: &String| text.parse().ok().filter(|address| Family::of(address) == family);
    let addresses: Box<[IpAddr]> = endpoint.addresses.iter().filter_map(parse).take(MAX_ADDRESSES).collect();
    let conditions = endpoint.conditions.as_ref();
    let text =
        |text: &Option<String>, legal: fn(&str) -> bool| text.as_deref().filter(|text| legal(text)).map(Box::from);
    (!addresses.is_empty()).then(|| Endpoint {
        addresses,
        hostname: text(&endpoint.hostname, labels::is_dns_label),
        ready: conditions.and_then(|conditions| conditions.ready),
        serving: conditions.and_then(|conditions| conditions.serving),
        terminating: conditions.and_then(|conditions| conditions.terminating),
        zone: text(&endpoint.zone, labels::is_label_value),
        node: text(&endpoint.node_name, labels::is_subdomain),
    })
}

/// What this cluster is and allows.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Its ID.
    pub cluster: &'a ClusterId,
    /// Its addresses, when they are known: endpoints elsewhere cannot be reached from other clusters.
    pub networks: Option<&'a MemberNetworks>,
    /// What may be exported.
    pub policy: &'a Policy,
}

/// What comes of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record, when the export is valid.
    pub record: Option<Record>,
    /// The condition `Valid`. Where something is left out, its message says what and why.
    pub valid: Verdict,
    /// How many endpoints are left out of the record, and why; empty where none is. That others have the record says
    /// nothing of whether it has endpoints, so both are told together.
    pub left_out: String,
}

/// Makes the record of `key`. The order of slices does not matter.
///
/// # Guarantees
/// The record passes [`validate::check`] with this cluster's networks.
pub fn record(
    site: Site<'_>,
    key: &ServiceKey,
    export: &LocalExport,
    service: Option<&LocalService>,
    slices: &[&Slice],
) -> Outcome {
    let (service, kind) = match check(site, key, service) {
        Ok(checked) => checked,
        Err((reason, message)) => {
            let valid = Verdict::new(VALID, Truth::False, reason, message);
            return Outcome { record: None, valid, left_out: String::new() };
        }
    };
    let mut notes = Vec::new();
    let exported_labels = exportable(&export.labels, "label", labels::check_labels, &mut notes);
    let exported_annotations = exportable(&export.annotations, "annotation", labels::check_annotations, &mut notes);
    let mut left_out = Vec::new();
    let told = weight::ports(&service.ports) + weight::pairs(&exported_labels) + weight::pairs(&exported_annotations);
    let room = Room { endpoints: MAX_ENDPOINTS, weight: MAX_WEIGHT.saturating_sub(told) };
    let slices = group(site, service, kind, slices, room, &mut left_out);
    let left_out = left_out.join("; ");
    notes.extend(Some(left_out.clone()).filter(|note| !note.is_empty()));
    let record = Record {
        cluster: site.cluster.clone(),
        service: key.clone(),
        kind,
        exported_at: export.created,
        ports: service.ports.clone(),
        families: service.families.clone(),
        affinity: service.affinity,
        internal_traffic_policy: service.internal_traffic_policy,
        traffic_distribution: service.traffic_distribution,
        exported_labels,
        exported_annotations,
        slices,
    };
    let valid = Verdict::new(VALID, Truth::True, "Valid", notes.join("; "));
    Outcome { record: Some(record), valid, left_out }
}

fn check<'a>(
    site: Site<'_>,
    key: &ServiceKey,
    service: Option<&'a LocalService>,
) -> Result<(&'a LocalService, ImportType), (&'static str, String)> {
    if site.policy.reserved_namespaces.contains(&key.namespace) {
        return Err(("ReservedNamespace", format!("nothing is exported from namespace {}", key.namespace)));
    }
    if !labels::is_service_name(&key.name) {
        return Err(("InvalidName", "the name is not an RFC 1035 label, which other clusters require".to_owned()));
    }
    let Some(service) = service else {
        return Err(("NoService", format!("Service {key} does not exist")));
    };
    let kind = service.kind.map_err(|why| ("InvalidServiceType", why.to_owned()))?;
    if service.families.is_empty() {
        return Err(("InvalidServiceType", "the Service has no ipFamilies".to_owned()));
    }
    Ok((service, kind))
}

/// The pairs that go with the export: no reserved ones, and none at all when one of them is illegal.
fn exportable(
    pairs: &BTreeMap<String, String>,
    what: &str,
    check: impl Fn(&BTreeMap<String, String>) -> Result<(), String>,
    notes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    if let Err(problem) = check(pairs) {
        notes.push(format!("no {what} is exported: {problem}"));
        return BTreeMap::new();
    }
    let (reserved, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        pairs.iter().map(|(key, value)| (key.clone(), value.clone())).partition(|(key, _)| labels::is_reserved(key));
    notes.extend(reserved.keys().map(|key| format!("{what} {key} is reserved and not exported")));
    kept
}

/// Endpoints by family and ports, and then by addresses.
type Groups<'a> = BTreeMap<(Family, Vec<Port>), BTreeMap<&'a [IpAddr], Endpoint>>;

/// Endpoints by family and port numbers, each with those ports only that the Service has.
fn group(
    site: Site<'_>,
    service: &LocalService,
    kind: ImportType,
    slices: &[&Slice],
    room: Room,
    notes: &mut Vec<String>,
) -> Vec<Slice> {
    let known: BTreeSet<_> = service.ports.iter().map(|port| (port.name.as_str(), port.protocol)).collect();
    let mut left_out = LeftOut::default();
    let mut groups = Groups::new();
    for slice in slices.iter().filter(|slice| service.families.contains(&slice.family)) {
        let ports = slice.ports.iter().filter(|port| known.contains(&(port.name.as_str(), port.protocol)));
        let ports: Vec<_> = ports.cloned().collect();
        if ports.is_empty() && kind == ImportType::ClusterSetIP {
            continue;
        }
        let group = groups.entry((slice.family, ports)).or_default();
        for endpoint in &slice.endpoints {
            if left_out.takes(site, endpoint) {
                continue;
            }
            let mut endpoint_to_tell = endpoint.clone();
            if service.publish_not_ready {
                endpoint_to_tell.ready = Some(true);
            }
            // While endpoints move between slices they are in both: any order of slices gives the same.
            let kept = group.entry(&endpoint.addresses).or_insert_with(|| endpoint_to_tell.clone());
            if endpoint_to_tell > *kept {
                *kept = endpoint_to_tell;
            }
        }
    }
    left_out.tell(site.cluster, notes);
    chunk(groups, room, notes)
}

/// What a record has room for.
struct Room {
    endpoints: usize,
    weight: usize,
}

impl Room {
    /// Whether there is room for one more endpoint that weighs so much; it is taken then.
    fn take(&mut self, weight: usize) -> bool {
        let fits = self.endpoints > 0 && weight <= self.weight;
        if fits {
            self.endpoints -= 1;
            self.weight -= weight;
        }
        fits
    }
}

fn chunk(groups: Groups<'_>, mut room: Room, notes: &mut Vec<String>) -> Vec<Slice> {
    let mut dropped = 0;
    let mut slices: Vec<Slice> = Vec::new();
    for ((family, ports), endpoints) in groups {
        let begun = slices.len();
        for endpoint in endpoints.into_values() {
            let may_begin = slices.len() < MAX_SLICES;
            let open = slices[begun..].last_mut().filter(|slice| slice.endpoints.len() < MAX_SLICE);
            let weight = weight::endpoint(&endpoint);
            match open {
                Some(slice) if room.take(weight) => slice.endpoints.push(endpoint),
                None if may_begin && room.take(weight + weight::slice(&ports)) => {
                    slices.push(Slice { family, ports: ports.clone(), endpoints: vec![endpoint] });
                }
                _ => dropped += 1,
            }
        }
    }
    if dropped > 0 {
        notes.push(format!(
            "{dropped} endpoints are too many and not exported: a record has {MAX_ENDPOINTS} at most, and {MAX_WEIGHT} bytes"
        ));
    }
    slices
}

/// Endpoints that other clusters would refuse.
#[derive(Default)]
struct LeftOut {
    count: usize,
    first: Option<(IpAddr, &'static str)>,
    /// How many others there are.
    kept: usize,
}

/// What is wrong with an address that others cannot reach, as most are of pods of the host network.
const ELSEWHERE: &str = "not in a Pod CIDR";

impl LeftOut {
    fn takes(&mut self, site: Site<'_>, endpoint: &Endpoint) -> bool {
        let foreign = |address: &IpAddr| site.networks.is_some_and(|networks| !networks.contains(address));
        let problem =
            |address: &IpAddr| validate::forbidden_kind(address).or_else(|| foreign(address).then_some(ELSEWHERE));
        let found = endpoint.addresses.iter().find_map(|address| Some((*address, problem(address)?)));
        *if found.is_some() { &mut self.count } else { &mut self.kept } += 1;
        // The least, so that the order of slices does not matter.
        self.first = self.first.into_iter().chain(found).min();
        found.is_some()
    }

    fn tell(&self, cluster: &ClusterId, notes: &mut Vec<String>) {
        let Some((address, problem)) = self.first else { return };
        let (count, total, of) = (self.count, self.count + self.kept, cluster);
        let hint = match problem {
            ELSEWHERE => ", as that of a pod with hostNetwork: other clusters do not reach addresses of nodes",
            _ => "",
        };
        notes.push(format!("{count} of {total} endpoints are not exported: {address} is {problem} of {of}{hint}"));
    }
}

#[cfg(test)]
mod tests;
