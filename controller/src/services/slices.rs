//! Imported EndpointSlices: the endpoints of one cluster each, as this cluster may reach them (KEP-1645,
//! "EndpointSlice").

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{
    Endpoint as SliceEndpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use kube::api::ObjectMeta;

use super::derived::{derived_name, hash, port_names};
use super::merge::Merged;
use super::record::local_slice;
use super::value::{ClusterId, Distribution, Endpoint, Family, Port, Record, ServiceKey};
use crate::api::ImportType;
use crate::api::names::{
    LABEL_MANAGED_BY, LABEL_SERVICE_NAME, LABEL_SLICE_MANAGED_BY, LABEL_SLICE_SERVICE, LABEL_SOURCE_CLUSTER, MANAGED_BY,
};

/// Endpoints that a slice has at most, as with Kubernetes' own controller (`--max-endpoints-per-slice`).
pub const MAX_ENDPOINTS: usize = 100;
/// How many characters of the hash of its ports are in a slice's name.
const HASH_CHARACTERS: usize = 6;
/// What ends the names of no node and no zone: such a domain never is (RFC 6761).
const NOWHERE: &str = ".invalid";
/// Longest name of a zone: it is the value of a label.
const MAX_ZONE: usize = 63;

/// What the endpoints of a slice say about who should use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hints {
    /// Nothing.
    None,
    /// Clients in the endpoint's zone; of one without, no client.
    Zone,
    /// Clients on the endpoint's node, else in its zone; of one without, no client.
    Node,
    /// Something that we never say.
    Foreign,
}

/// An imported EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedSlice {
    /// Its name.
    pub name: String,
    /// The service.
    pub service: ServiceKey,
    /// The cluster that all its endpoints are in.
    pub cluster: ClusterId,
    /// Whether it belongs to the derived Service.
    pub kind: ImportType,
    /// Family of its addresses.
    pub family: Family,
    /// Its ports, sorted, named as on the derived Service.
    pub ports: Vec<Port>,
    /// Its hints.
    pub hints: Hints,
    /// Its endpoints, sorted.
    pub endpoints: Vec<Endpoint>,
}

impl ImportedSlice {
    /// Its object.
    pub fn to_object(&self) -> EndpointSlice {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut labels = BTreeMap::from([
            pair(LABEL_SERVICE_NAME, &self.service.name),
            pair(LABEL_SOURCE_CLUSTER, self.cluster.as_str()),
            pair(LABEL_SLICE_MANAGED_BY, MANAGED_BY),
            pair(LABEL_MANAGED_BY, MANAGED_BY),
        ]);
        if self.kind == ImportType::ClusterSetIP {
            labels.insert(LABEL_SLICE_SERVICE.to_owned(), derived_name(&self.service));
        }
        let port = |port: &Port| EndpointPort {
            name: Some(port.name.clone()),
            protocol: Some(port.protocol.to_string()),
            port: Some(port.number.into()),
            app_protocol: port.app_protocol.clone(),
        };
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.service.namespace.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            address_type: self.family.as_str().to_owned(),
            ports: Some(self.ports.iter().map(port).collect()),
            endpoints: self.endpoints.iter().map(|endpoint| self.to_endpoint(endpoint)).collect(),
        }
    }

    fn to_endpoint(&self, endpoint: &Endpoint) -> SliceEndpoint {
        SliceEndpoint {
            addresses: endpoint.addresses.iter().map(IpAddr::to_string).collect(),
            conditions: Some(EndpointConditions {
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
            }),
            hints: hints(endpoint, &self.cluster, self.hints),
            hostname: endpoint.hostname.as_deref().map(str::to_owned),
            node_name: endpoint.node.as_deref().map(str::to_owned),
            zone: endpoint.zone.as_deref().map(str::to_owned),
            ..SliceEndpoint::default()
        }
    }

    /// What `object` says, when it is one of ours.
    pub fn of(object: &EndpointSlice) -> Option<Self> {
        let labels = object.metadata.labels.as_ref()?;
        if labels.get(LABEL_SLICE_MANAGED_BY)? != MANAGED_BY {
            return None;
        }
        let service = ServiceKey::new(object.metadata.namespace.clone()?, labels.get(LABEL_SERVICE_NAME)?);
        let kind = match labels.get(LABEL_SLICE_SERVICE) {
            Some(_) => ImportType::ClusterSetIP,
            None => ImportType::Headless,
        };
        let slice = local_slice(object)?;
        let cluster = ClusterId::new(labels.get(LABEL_SOURCE_CLUSTER)?).ok()?;
        let all = [Hints::None, Hints::Zone, Hints::Node];
        let said = |said: &Hints| {
            let pairs = slice.endpoints.iter().zip(&object.endpoints);
            let same = |ours: Option<EndpointHints>, theirs: &Option<EndpointHints>| ours == *theirs;
            pairs.into_iter().all(|(endpoint, theirs)| same(hints(endpoint, &cluster, *said), &theirs.hints))
        };
        Some(Self {
            name: object.metadata.name.clone()?,
            service,
            kind,
            family: slice.family,
            ports: slice.ports,
            hints: all.into_iter().find(said).unwrap_or(Hints::Foreign),
            cluster,
            endpoints: slice.endpoints,
        })
    }

    /// Whether two slices say the same. Where there is no endpoint, all hints are alike.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.service == other.service
            && self.cluster == other.cluster
            && self.kind == other.kind
            && self.family == other.family
            && self.ports == other.ports
            && self.endpoints == other.endpoints
            && self.hints != Hints::Foreign
            && other.hints != Hints::Foreign
            && (self.hints == other.hints || self.endpoints.is_empty())
    }

    /// Its place among the slices with the same [`prefix`].
    fn place(&self) -> Option<(&str, usize)> {
        let (prefix, place) = self.name.rsplit_once('-')?;
        Some((prefix, place.parse().ok()?))
    }
}

/// Says the endpoint's own zone, and its node where that is asked for (KEP-3015).
///
/// kube-proxy minds zones, or nodes, only where every ready endpoint names one (`topologyModeFromHints` of
/// pkg/proxy/topology.go). So an endpoint of which it is not known, as the node of a remote one, names one that is nowhere.
fn hints(endpoint: &Endpoint, cluster: &ClusterId, hints: Hints) -> Option<EndpointHints> {
    let known = |name: &Option<Box<str>>| name.as_deref().filter(|name| !name.is_empty()).map(str::to_owned);
    let or_nowhere = |name| known(name).unwrap_or_else(|| nowhere(cluster));
    let for_zones = || Some(vec![ForZone { name: or_nowhere(&endpoint.zone) }]);
    let for_nodes = || Some(vec![ForNode { name: or_nowhere(&endpoint.node) }]);
    match hints {
        Hints::None | Hints::Foreign => None,
        Hints::Zone => Some(EndpointHints { for_zones: for_zones(), for_nodes: None }),
        Hints::Node => Some(EndpointHints { for_zones: for_zones(), for_nodes: for_nodes() }),
    }
}

/// The name of a node and of a zone that there is not. It tells people whose endpoints they are.
fn nowhere(cluster: &ClusterId) -> String {
    let id = cluster.as_str();
    let id = &id[..id.len().min(MAX_ZONE - NOWHERE.len())];
    format!("{}{NOWHERE}", id.trim_end_matches('-'))
}

/// The slices of `merged` in this cluster: of every record, those endpoints that are of an imported family and have at
/// least one of the merged ports.
///
/// `observed` are the slices that there are: an endpoint stays in the slice where it is, so that a change of one
/// endpoint is a change of one slice.
pub(super) fn slices(
    merged: &Merged,
    families: &[Family],
    local: &ClusterId,
    records: &[(&Record, Usable)],
    observed: &[&ImportedSlice],
) -> Vec<ImportedSlice> {
    let names = port_names(&merged.ports);
    let hints = match merged.traffic_distribution {
        None => Hints::None,
        Some(Distribution::PreferClose | Distribution::PreferSameZone) => Hints::Zone,
        Some(Distribution::PreferSameNode) => Hints::Node,
    };
    let derived = derived_name(&merged.service);
    let mut slices = Vec::new();
    for (record, usable) in records {
        for ((family, ports), endpoints) in group(merged, &names, families, record) {
            let endpoints = endpoints.into_values().map(|endpoint| as_seen_here(endpoint, record, local, *usable));
            let prefix = prefix(&derived, &record.cluster, family, &ports);
            for (place, endpoints) in assign(&prefix, endpoints.collect(), observed) {
                slices.push(ImportedSlice {
                    name: format!("{prefix}-{place}"),
                    service: merged.service.clone(),
                    cluster: record.cluster.clone(),
                    kind: merged.kind,
                    family,
                    ports: ports.clone(),
                    hints,
                    endpoints,
                });
            }
        }
    }
    slices
}

/// Whether the endpoints of a cluster may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usable {
    Yes,
    /// Its path is down.
    No,
}

/// Whether a record has an endpoint that may be used, path aside.
pub(super) fn has_ready(merged: &Merged, families: &[Family], record: &Record) -> bool {
    let groups = group(merged, &port_names(&merged.ports), families, record);
    groups.values().flat_map(BTreeMap::values).any(|endpoint| endpoint.ready.unwrap_or(true))
}

type Groups<'a> = BTreeMap<(Family, Vec<Port>), BTreeMap<&'a [IpAddr], &'a Endpoint>>;

/// Endpoints by family and ports. Ports that lost a conflict are left out, and those that won under another name have
/// the name of the winner.
fn group<'a>(merged: &Merged, names: &[String], families: &[Family], record: &'a Record) -> Groups<'a> {
    let mut groups = Groups::new();
    for slice in record.slices.iter().filter(|slice| families.contains(&slice.family)) {
        let mut ports: Vec<_> = merged
            .ports
            .iter()
            .zip(names)
            .filter_map(|(port, name)| {
                let own = record.ports.iter().find(|own| (own.protocol, own.number) == (port.protocol, port.number))?;
                let target = slice
                    .ports
                    .iter()
                    .find(|target| (target.name.as_str(), target.protocol) == (own.name.as_str(), own.protocol))?;
                Some(Port { name: name.clone(), ..target.clone() })
            })
            .collect();
        ports.sort();
        // A headless service may have no ports at all.
        let portless = merged.kind == ImportType::Headless && record.ports.is_empty();
        if ports.is_empty() && !portless {
            continue;
        }
        let group = groups.entry((slice.family, ports)).or_default();
        group.extend(slice.endpoints.iter().map(|endpoint| (&*endpoint.addresses, endpoint)));
    }
    groups
}

fn as_seen_here(endpoint: &Endpoint, record: &Record, local: &ClusterId, usable: Usable) -> Endpoint {
    let mut seen = endpoint.clone();
    if record.cluster != *local {
        seen.node = None;
    }
    if usable == Usable::No {
        seen.ready = Some(false);
        seen.serving = Some(false);
    }
    seen
}

/// What all slices of one cluster, family and set of ports begin their names with.
fn prefix(derived: &str, cluster: &ClusterId, family: Family, ports: &[Port]) -> String {
    let text: String = ports.iter().map(|port| format!("{}/{}/{};", port.name, port.protocol, port.number)).collect();
    let family = match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    };
    format!("{derived}-{cluster}-{family}-{}", hash(&text, HASH_CHARACTERS))
}

/// Deals `endpoints` out to as few slices as there can be, moving as few as there can be.
fn assign(prefix: &str, mut endpoints: Vec<Endpoint>, observed: &[&ImportedSlice]) -> BTreeMap<usize, Vec<Endpoint>> {
    let places = observed.iter().filter_map(|slice| match slice.place() {
        Some((of, place)) if of == prefix => Some((place, *slice)),
        _ => None,
    });
    let mut home = BTreeMap::new();
    for (place, slice) in places {
        for endpoint in &slice.endpoints {
            home.entry(endpoint.addresses.clone()).or_insert(place);
        }
    }
    endpoints.sort();
    let (settled, mut homeless): (Vec<_>, Vec<_>) =
        endpoints.into_iter().partition(|endpoint| home.contains_key(&endpoint.addresses));
    let mut dealt: BTreeMap<usize, Vec<Endpoint>> = BTreeMap::new();
    let total = settled.len() + homeless.len();
    for endpoint in settled {
        let slice = dealt.entry(home[&endpoint.addresses]).or_default();
        if slice.len() < MAX_ENDPOINTS { slice.push(endpoint) } else { homeless.push(endpoint) }
    }
    // The emptiest are given up while the others have room for all.
    while dealt.len() > total.div_ceil(MAX_ENDPOINTS) {
        let emptiest = dealt.iter().min_by_key(|(place, slice)| (slice.len(), std::cmp::Reverse(**place)));
        let Some(place) = emptiest.map(|(place, _)| *place) else { break };
        homeless.extend(dealt.remove(&place).unwrap_or_default());
    }
    homeless.sort();
    fill(&mut dealt, homeless);
    for slice in dealt.values_mut() {
        slice.sort();
    }
    dealt
}

fn fill(dealt: &mut BTreeMap<usize, Vec<Endpoint>>, homeless: Vec<Endpoint>) {
    let mut homeless = homeless.into_iter().peekable();
    for slice in dealt.values_mut() {
        while slice.len() < MAX_ENDPOINTS
            && let Some(endpoint) = homeless.next()
        {
            slice.push(endpoint);
        }
    }
    let used: BTreeSet<_> = dealt.keys().copied().collect();
    let mut free = (0..).filter(|place| !used.contains(place));
    while homeless.peek().is_some() {
        let Some(place) = free.next() else { break };
        dealt.insert(place, homeless.by_ref().take(MAX_ENDPOINTS).collect());
    }
}

#[cfg(test)]
mod tests;
