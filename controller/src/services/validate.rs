//! From a ServiceRecord, which is what some API server let through, to a [`Record`], or to the reason why it is refused.
//!
//! Nobody is trusted here: a stolen credential of one Member writes whatever its API server takes. What passes can be
//! imported without another look; what does not is refused as a whole, so that half of a service is never served. Only
//! endpoints that are not the Member's are left out one by one.

mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use refusal::Refusal;

use super::labels::{self, shorten};
use super::value::{
    Affinity, ClusterId, DEFAULT_AFFINITY_SECONDS, Distribution, Endpoint, Family, Port, Record, ServiceKey, Slice,
    TrafficPolicy, parse_protocol,
};
use super::weight::{self, MAX_WEIGHT};
use crate::api::names::{LABEL_CLUSTER, SYSTEM_NAMESPACE};
use crate::api::{AddressType, ImportType, Member, RecordEndpoint, RecordSlice, ServiceRecord, ServiceRecordSpec};

/// Ports that a service may have.
pub const MAX_PORTS: usize = 256;
/// Slices that a record may have.
pub const MAX_SLICES: usize = 256;
/// Endpoints that a record may have; with long names it has room for fewer ([`MAX_WEIGHT`]).
pub const MAX_ENDPOINTS: usize = 5_000;
/// Addresses that an endpoint may have.
pub const MAX_ADDRESSES: usize = 8;
/// Longest session affinity in seconds (`v1.MaxClientIPServiceAffinitySeconds`).
pub const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// What the holder of records allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Namespaces from which nothing is exported and into which nothing is imported.
    pub reserved_namespaces: BTreeSet<String>,
}

impl Policy {
    /// One that keeps the clusterset out of these namespaces, and of our own.
    pub fn reserving(namespaces: impl IntoIterator<Item = String>) -> Self {
        let own = SYSTEM_NAMESPACE.to_owned();
        Self { reserved_namespaces: namespaces.into_iter().chain([own]).collect() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::reserving(["kube-system", "kube-public", "kube-node-lease"].map(str::to_owned))
    }
}

/// Which addresses a Member may speak for: those of its pods.
///
/// Nobody holds prefixes of services: two Members may have the same, and one may name this cluster's pods, nodes and
/// services there. So what is in them is no endpoint; kube-proxy takes no ClusterIP for one either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberNetworks {
    /// Its cluster ID.
    pub cluster: String,
    /// Its Pod CIDRs. It holds them, or others know them by its virtual addresses.
    pub prefixes: Vec<IpNet>,
}

impl MemberNetworks {
    /// Those of `member`. What is no CIDR counts for nothing.
    pub fn of(member: &Member) -> Self {
        let prefixes = member.spec.pod_cidrs.iter().filter_map(|text| text.parse::<IpNet>().ok());
        Self { cluster: member.spec.cluster_id.clone(), prefixes: prefixes.map(|net| net.trunc()).collect() }
    }

    /// Whether `address` is one of the Member's.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }

    /// Whether all addresses of `endpoint` are the Member's.
    pub fn hold(&self, endpoint: &Endpoint) -> bool {
        self.foreign(endpoint).is_none()
    }

    fn foreign(&self, endpoint: &Endpoint) -> Option<IpAddr> {
        endpoint.addresses.iter().copied().find(|address| !self.contains(address))
    }
}

/// Checks what the Member with `networks` says in `record`, its addresses too: endpoints that are not the Member's are left
/// out of what passes, and named.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    record: &ServiceRecord,
    networks: &MemberNetworks,
    policy: &Policy,
) -> Result<(Record, Option<Foreign>), Refusal> {
    let mut checked = parse(record, &networks.cluster, policy)?;
    let foreign = check_networks(&checked, networks)?;
    if foreign.is_some() {
        checked.retain_endpoints(|endpoint| networks.hold(endpoint));
    }
    Ok((checked, foreign))
}

/// [`check`] without the Member's CIDRs, for who does not know them yet: `cluster` is the Member's ID.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(record: &ServiceRecord, cluster: &str, policy: &Policy) -> Result<Record, Refusal> {
    let spec = &record.spec;
    let cluster = check_identity(record, cluster)?;
    if spec.kind == ImportType::Unknown {
        return Err(unknown("type"));
    }
    check_names(spec, policy)?;
    check_sizes(spec)?;
    labels::check_labels(&spec.exported_labels).map_err(Refusal::InvalidLabels)?;
    labels::check_annotations(&spec.exported_annotations).map_err(Refusal::InvalidLabels)?;
    let exported = |pairs: &BTreeMap<String, String>| {
        pairs.iter().filter(|(key, _)| !labels::is_reserved(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    Ok(Record {
        cluster,
        service: ServiceKey::new(&spec.namespace, &spec.name),
        kind: spec.kind,
        exported_at: spec.exported_at.0,
        ports: parse_service_ports(spec)?,
        families: parse_families(&spec.ip_families)?,
        affinity: parse_affinity(spec)?,
        internal_traffic_policy: parse_traffic_policy(spec.internal_traffic_policy.as_deref())?,
        traffic_distribution: parse_distribution(spec.traffic_distribution.as_deref())?,
        exported_labels: exported(&spec.exported_labels),
        exported_annotations: exported(&spec.exported_annotations),
        slices: spec.slices.iter().map(parse_slice).collect::<Result<_, _>>()?,
    })
}

/// Endpoints of a record that are not its Member's, while others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: Refusal,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of its endpoints are left out: {}", self.count, self.first)
    }
}

/// Looks for endpoints of `record` that are not the Member's. They are never used, and do not take the others along: a
/// Member that loses a node loses its prefix before its records have lost the node's pods.
///
/// # Errors
/// When none of its endpoints is the Member's.
pub fn check_networks(record: &Record, networks: &MemberNetworks) -> Result<Option<Foreign>, Refusal> {
    let endpoints = || record.slices.iter().flat_map(|slice| &slice.endpoints);
    let mut foreign = endpoints().filter_map(|endpoint| networks.foreign(endpoint));
    let Some(address) = foreign.next() else { return Ok(None) };
    let first = Refusal::ForeignAddress { address, cluster: networks.cluster.clone() };
    let count = 1 + foreign.count();
    if count == endpoints().count() { Err(first) } else { Ok(Some(Foreign { count, first })) }
}

/// What kind of address this is, if it is one that no endpoint in another cluster can have.
pub fn forbidden_kind(address: &IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] => Some("unspecified"),
            [127, ..] => Some("a loopback address"),
            [169, 254, ..] => Some("a link-local address"),
            [224..=239, ..] => Some("a multicast address"),
            [240..=255, ..] => Some("a reserved address"),
            _ => None,
        },
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_loopback() => Some("a loopback address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.to_ipv4().is_some() => Some("an IPv4 address in IPv6 form"),
        IpAddr::V6(_) => None,
    }
}

fn check_identity(record: &ServiceRecord, expected: &str) -> Result<ClusterId, Refusal> {
    let spec = &record.spec;
    let label = record.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER));
    let label = label.map_or("nobody (it has no label)", String::as_str);
    if let Some(told) = [spec.cluster_id.as_str(), label].into_iter().find(|told| *told != expected) {
        return Err(Refusal::WrongCluster { expected: expected.to_owned(), told: shorten(told) });
    }
    let cluster = ClusterId::new(&spec.cluster_id)
        .map_err(|error| Refusal::InvalidName { what: "cluster ID", text: shorten(&error.0) })?;
    let name = crate::api::names::record_name(&spec.cluster_id, &spec.namespace, &spec.name);
    let told = record.metadata.name.as_deref().unwrap_or_default();
    if told != name {
        return Err(Refusal::WrongName { expected: shorten(&name), told: shorten(told) });
    }
    Ok(cluster)
}

fn check_names(spec: &ServiceRecordSpec, policy: &Policy) -> Result<(), Refusal> {
    if !labels::is_dns_label(&spec.namespace) {
        return Err(Refusal::InvalidName { what: "namespace", text: shorten(&spec.namespace) });
    }
    if policy.reserved_namespaces.contains(&spec.namespace) {
        return Err(Refusal::ReservedNamespace(spec.namespace.clone()));
    }
    if !labels::is_service_name(&spec.name) {
        return Err(Refusal::InvalidName { what: "service", text: shorten(&spec.name) });
    }
    Ok(())
}

fn check_sizes(spec: &ServiceRecordSpec) -> Result<(), Refusal> {
    let endpoints = spec.slices.iter().map(|slice| slice.endpoints.len()).sum();
    let sizes = [
        ("ports", spec.ports.len(), MAX_PORTS),
        ("slices", spec.slices.len(), MAX_SLICES),
        ("endpoints", endpoints, MAX_ENDPOINTS),
        ("bytes", weight::of(spec), MAX_WEIGHT),
    ];
    match sizes.into_iter().find(|(_, count, limit)| count > limit) {
        Some((what, count, limit)) => Err(Refusal::TooLarge { what, count, limit }),
        None => Ok(()),
    }
}

fn parse_service_ports(spec: &ServiceRecordSpec) -> Result<Vec<Port>, Refusal> {
    let ports = spec.ports.iter().map(|port| parse_port(&port.name, &port.protocol, port.port, &port.app_protocol));
    let ports: Vec<_> = ports.collect::<Result<_, _>>()?;
    check_unique_names(&ports)?;
    let mut seen = BTreeSet::new();
    match ports.iter().find(|port| !seen.insert((port.protocol, port.number))) {
        Some(port) => Err(invalid_port(port, "another port has the same number and protocol")),
        None if ports.len() > 1 && ports.iter().any(|port| port.name.is_empty()) => {
            Err(Refusal::InvalidPort { port: "``".to_owned(), problem: "only a single port may have no name" })
        }
        None => Ok(ports),
    }
}

fn parse_port(name: &str, protocol: &str, number: u16, app_protocol: &Option<String>) -> Result<Port, Refusal> {
    let invalid = |problem| Refusal::InvalidPort { port: shorten(name), problem };
    if !name.is_empty() && !labels::is_dns_label(name) {
        return Err(invalid("its name is not an RFC 1123 label"));
    }
    let protocol = parse_protocol(protocol).ok_or_else(|| invalid("its protocol is not TCP, UDP or SCTP"))?;
    if number == 0 {
        return Err(invalid("its number is 0"));
    }
    if app_protocol.as_ref().is_some_and(|text| !labels::is_qualified_name(text)) {
        return Err(invalid("its appProtocol is not a qualified name"));
    }
    Ok(Port { name: name.to_owned(), protocol, number, app_protocol: app_protocol.clone() })
}

fn check_unique_names(ports: &[Port]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match ports.iter().find(|port| !seen.insert(port.name.as_str())) {
        Some(port) => Err(invalid_port(port, "another port has the same name")),
        None => Ok(()),
    }
}

fn invalid_port(port: &Port, problem: &'static str) -> Refusal {
    Refusal::InvalidPort { port: format!("`{}` ({}/{})", port.name, port.number, port.protocol), problem }
}

fn parse_families(texts: &[String]) -> Result<Vec<Family>, Refusal> {
    let families: Option<Vec<_>> = texts.iter().map(|text| Family::parse(text)).collect();
    match families.as_deref() {
        Some([_]) | Some([Family::V4, Family::V6] | [Family::V6, Family::V4]) => Ok(families.unwrap_or_default()),
        _ => Err(Refusal::InvalidFamilies(shorten(&texts.join(", ")))),
    }
}

fn parse_affinity(spec: &ServiceRecordSpec) -> Result<Affinity, Refusal> {
    match spec.session_affinity.as_deref() {
        None | Some("None" | "") => Ok(Affinity::None),
        Some("ClientIP") => match spec.session_affinity_timeout_seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS) {
            seconds @ 1..=MAX_AFFINITY_SECONDS => Ok(Affinity::ClientIp { seconds }),
            seconds => Err(invalid("sessionAffinityTimeoutSeconds", &seconds.to_string())),
        },
        Some(other) => Err(invalid("sessionAffinity", other)),
    }
}

fn parse_traffic_policy(text: Option<&str>) -> Result<TrafficPolicy, Refusal> {
    match text {
        None | Some("Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(invalid("internalTrafficPolicy", other)),
    }
}

fn parse_distribution(text: Option<&str>) -> Result<Option<Distribution>, Refusal> {
    let parse = |text| Distribution::parse(text).ok_or_else(|| invalid("trafficDistribution", text));
    text.map(parse).transpose()
}

/// A value that another version writes and this one cannot serve.
fn unknown(field: &'static str) -> Refusal {
    Refusal::InvalidField { field, value: "read by this version of Linkspan; upgrade this cluster".to_owned() }
}

fn invalid(field: &'static str, value: &str) -> Refusal {
    Refusal::InvalidField { field, value: shorten(value) }
}

fn parse_slice(slice: &RecordSlice) -> Result<Slice, Refusal> {
    let family = match slice.address_type {
        AddressType::IPv4 => Family::V4,
        AddressType::IPv6 => Family::V6,
        AddressType::Unknown => return Err(unknown("addressType")),
    };
    if slice.ports.len() > MAX_PORTS {
        return Err(Refusal::TooLarge { what: "ports of a slice", count: slice.ports.len(), limit: MAX_PORTS });
    }
    let ports = slice.ports.iter().map(|port| parse_port(&port.name, &port.protocol, port.port, &port.app_protocol));
    let mut ports: Vec<_> = ports.collect::<Result<_, _>>()?;
    check_unique_names(&ports)?;
    ports.sort();
    let endpoints = slice.endpoints.iter().map(|endpoint| parse_endpoint(endpoint, family));
    let mut endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;
    endpoints.sort();
    Ok(Slice { family, ports, endpoints })
}

fn parse_endpoint(endpoint: &RecordEndpoint, family: Family) -> Result<Endpoint, Refusal> {
    match endpoint.addresses.len() {
        0 => return Err(Refusal::InvalidAddress { text: "``".to_owned(), family }),
        1..=MAX_ADDRESSES => {}
        count => return Err(Refusal::TooLarge { what: "addresses of an endpoint", count, limit: MAX_ADDRESSES }),
    }
    let name = |what, text: &Option<String>, legal: fn(&str) -> bool| match text {
        Some(text) if !legal(text) => Err(Refusal::InvalidName { what, text: shorten(text) }),
        Some(text) => Ok(Some(text.as_str().into())),
        None => Ok(None),
    };
    Ok(Endpoint {
        addresses: endpoint.addresses.iter().map(|text| parse_address(text, family)).collect::<Result<_, _>>()?,
        hostname: name("host name", &endpoint.hostname, labels::is_dns_label)?,
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        zone: name("zone", &endpoint.zone, labels::is_label_value)?,
        node: name("node", &endpoint.node_name, labels::is_subdomain)?,
    })
}

fn parse_address(text: &str, family: Family) -> Result<IpAddr, Refusal> {
    let address = text.parse::<IpAddr>().ok().filter(|address| Family::of(address) == family);
    let address = address.ok_or_else(|| Refusal::InvalidAddress { text: shorten(text), family })?;
    match forbidden_kind(&address) {
        Some(kind) => Err(Refusal::ForbiddenAddress { address, kind }),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests;
