//! What this cluster makes of a merged service: the ServiceImport, the derived Service and the EndpointSlices.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::api::ObjectMeta;

use super::conditions::{Truth, Verdict};
use super::derived::{DerivedService, affinity_fields, derived_name, hash};
use super::merge::Merged;
use super::slices::{self, ImportedSlice, Usable};
use super::value::{ClusterId, Family, Port, Record, ServiceKey};
use super::version::ServerVersion;
use crate::api::names::{ANNOTATION_DERIVED_SERVICE, LABEL_MANAGED_BY, MANAGED_BY};
use crate::api::{
    ClusterStatus, EndpointSliceObjects, ImportPort, ImportType, ServiceImport, ServiceImportSpec, ServiceImportStatus,
};
use crate::names::Reachability;

/// Condition of a ServiceImport: it can be used.
pub const READY: &str = "Ready";
/// Annotation with a hash of the keys of all exported labels and annotations, so that a key that is no longer exported
/// is noticed.
pub const ANNOTATION_EXPORTED: &str = "linkspan.dev/exported-keys";
/// How many characters of that hash there are.
const HASH_CHARACTERS: usize = 12;

/// What this cluster has.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// Its ID.
    pub cluster: &'a ClusterId,
    /// The families of its service addresses.
    pub families: &'a [Family],
    /// What stands under the name of the derived Service.
    pub derived: Derived<'a>,
    /// Which clusters can be reached; one that is not in it can.
    pub reachability: &'a BTreeMap<String, Reachability>,
    /// The version of its API server.
    pub server: ServerVersion,
    /// A write to the derived Service or an EndpointSlice that failed the last time, and why.
    pub failure: Option<&'a str>,
}

/// What stands under the name of a derived Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derived<'a> {
    /// Nothing.
    Absent,
    /// The derived Service, with its addresses.
    Ours(&'a [IpAddr]),
    /// A Service that is not ours, and is left alone.
    Foreign,
}

/// What there shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The ServiceImport.
    pub import: DesiredImport,
    /// The derived Service, when the service has a virtual IP here.
    pub derived: Option<DerivedService>,
    /// The EndpointSlices.
    pub slices: Vec<ImportedSlice>,
}

/// The ServiceImport, as far as it is ours to say.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredImport {
    /// The service.
    pub service: ServiceKey,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its spec.
    pub spec: ServiceImportSpec,
    /// The exporting clusters, sorted.
    pub clusters: Vec<ClusterStatus>,
    /// The condition `Ready`.
    pub ready: Verdict,
}

/// Makes the import of `merged` out of its `records`, in any order.
///
/// `observed` are the EndpointSlices that there are.
pub fn import(merged: &Merged, records: &[&Record], local: Local<'_>, observed: &[&ImportedSlice]) -> Import {
    let here = &*as_served(merged, local.server);
    let families: Vec<_> = merged.families.iter().copied().filter(|family| local.families.contains(family)).collect();
    let has_vip = merged.kind == ImportType::ClusterSetIP && !families.is_empty();
    let derived = (has_vip && local.derived != Derived::Foreign).then(|| DerivedService::new(here));
    let ips = if derived.is_some() { pick_ips(&families, local.derived) } else { Vec::new() };
    let ready = ready(merged, local, &families, &ips);
    let slices = if families.is_empty() || (has_vip && derived.is_none()) {
        Vec::new()
    } else {
        slices::slices(here, &families, local.cluster, &usable(merged, records, local, &families), observed)
    };
    // A family has to be told even where it is of no use.
    let told = if families.is_empty() { &merged.families } else { &families };
    let import = DesiredImport {
        service: merged.service.clone(),
        labels: labels(merged),
        annotations: annotations(merged, derived.is_some()),
        spec: spec(merged, told, &ips),
        clusters: merged.clusters.iter().map(|cluster| ClusterStatus { cluster: cluster.to_string() }).collect(),
        ready,
    };
    Import { import, derived, slices }
}

/// `merged` as this cluster's API server takes it. The ServiceImport tells what was merged all the same.
fn as_served(merged: &Merged, server: ServerVersion) -> Cow<'_, Merged> {
    let traffic_distribution = server.serve(merged.traffic_distribution);
    if traffic_distribution == merged.traffic_distribution {
        return Cow::Borrowed(merged);
    }
    Cow::Owned(Merged { traffic_distribution, ..merged.clone() })
}

/// The address of each family, in their order; all of them or none.
fn pick_ips(families: &[Family], derived: Derived<'_>) -> Vec<IpAddr> {
    let Derived::Ours(ips) = derived else { return Vec::new() };
    let pick = |family: &Family| ips.iter().copied().find(|ip| Family::of(ip) == *family);
    families.iter().map(pick).collect::<Option<_>>().unwrap_or_default()
}

fn ready(merged: &Merged, local: Local<'_>, families: &[Family], ips: &[IpAddr]) -> Verdict {
    let list = |families: &[Family]| families.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(",");
    if families.is_empty() {
        let (service, cluster) = (list(&merged.families), list(local.families));
        let message = format!("The service has {service} only, the cluster {cluster} only.");
        return Verdict::new(READY, Truth::False, "IPFamilyNotSupported", message);
    }
    if merged.kind == ImportType::Headless || !ips.is_empty() {
        return Verdict::new(READY, Truth::True, "Ready", local.failure.unwrap_or_default());
    }
    let name = derived_name(&merged.service);
    let message = match local.derived {
        Derived::Foreign => format!("Service {name} exists and was not made by Linkspan."),
        Derived::Absent => match local.failure {
            Some(failure) => failure.to_owned(),
            None => format!("Service {name} has yet to be made."),
        },
        Derived::Ours(_) => format!("Service {name} has no address of each of {}.", list(families)),
    };
    Verdict::new(READY, Truth::False, "Pending", message)
}

/// Which records may be used; those of clusters that are lost are left out. When none would be left that has anything to offer, the last known state stays: a path
/// that looks down may be just fine, and nobody is served better by nothing.
fn usable<'a>(
    merged: &Merged,
    records: &[&'a Record],
    local: Local<'_>,
    families: &[Family],
) -> Vec<(&'a Record, Usable)> {
    let path = |record: &Record| match local.reachability.get(record.cluster.as_str()) {
        Some(path) if record.cluster != *local.cluster => *path,
        _ => Reachability::Reachable,
    };
    let is_up = |record: &Record| path(record) == Reachability::Reachable;
    let mut records: Vec<_> = records.iter().copied().filter(|record| path(record) != Reachability::Lost).collect();
    records.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    let all_up = records.iter().all(|record| is_up(record));
    let served = all_up || records.iter().any(|record| is_up(record) && slices::has_ready(merged, families, record));
    let judge = |record: &'a Record| (record, if is_up(record) || !served { Usable::Yes } else { Usable::No });
    records.into_iter().map(judge).collect()
}

fn labels(merged: &Merged) -> BTreeMap<String, String> {
    let mut labels = merged.labels.clone();
    labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
    labels
}

fn annotations(merged: &Merged, has_derived: bool) -> BTreeMap<String, String> {
    let mut annotations = merged.annotations.clone();
    if !merged.labels.is_empty() || !merged.annotations.is_empty() {
        let keys = merged.labels.keys().map(|key| format!("l {key}\n"));
        let keys: String = keys.chain(merged.annotations.keys().map(|key| format!("a {key}\n"))).collect();
        annotations.insert(ANNOTATION_EXPORTED.to_owned(), hash(&keys, HASH_CHARACTERS));
    }
    if has_derived {
        annotations.insert(ANNOTATION_DERIVED_SERVICE.to_owned(), derived_name(&merged.service));
    }
    annotations
}

fn spec(merged: &Merged, families: &[Family], ips: &[IpAddr]) -> ServiceImportSpec {
    let (session_affinity, session_affinity_config) = affinity_fields(merged.affinity);
    let has_vip = merged.kind == ImportType::ClusterSetIP;
    ServiceImportSpec {
        ports: merged.ports.iter().map(to_import_port).collect(),
        ips: ips.iter().map(IpAddr::to_string).collect(),
        kind: merged.kind,
        // Nothing decides between endpoints of a headless service.
        session_affinity: has_vip.then_some(session_affinity),
        session_affinity_config: session_affinity_config.filter(|_| has_vip),
        ip_families: families.iter().map(Family::to_string).collect(),
        internal_traffic_policy: Some(merged.internal_traffic_policy.as_str().to_owned()),
        traffic_distribution: merged.traffic_distribution.map(|distribution| distribution.as_str().to_owned()),
    }
}

fn to_import_port(port: &Port) -> ImportPort {
    ImportPort {
        name: port.name.clone(),
        protocol: Some(port.protocol.to_string()),
        app_protocol: port.app_protocol.clone(),
        port: port.number.into(),
    }
}

impl DesiredImport {
    /// Its object, without status.
    pub fn to_object(&self) -> ServiceImport {
        ServiceImport {
            metadata: ObjectMeta {
                name: Some(self.service.name.clone()),
                namespace: Some(self.service.namespace.clone()),
                labels: Some(self.labels.clone()),
                annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
                ..ObjectMeta::default()
            },
            spec: self.spec.clone(),
            status: None,
        }
    }

    /// Whether `object` says all of it, and nothing that it no longer says.
    pub fn is_told_by(&self, object: &ServiceImport) -> bool {
        let holds = |pairs: &Option<BTreeMap<String, String>>, wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| pairs.as_ref().and_then(|pairs| pairs.get(key)) == Some(value))
        };
        let annotations = object.metadata.annotations.as_ref();
        let stale = |key: &str| {
            !self.annotations.contains_key(key) && annotations.is_some_and(|annotations| annotations.contains_key(key))
        };
        object.spec == self.spec
            && holds(&object.metadata.labels, &self.labels)
            && holds(&object.metadata.annotations, &self.annotations)
            && !stale(ANNOTATION_EXPORTED)
            && !stale(ANNOTATION_DERIVED_SERVICE)
    }

    /// Its status, with what the condition becomes.
    pub fn status(
        &self,
        conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    ) -> ServiceImportStatus {
        ServiceImportStatus {
            endpoint_slice_objects: Some(EndpointSliceObjects::Present),
            clusters: self.clusters.clone(),
            conditions,
        }
    }
}

#[cfg(test)]
mod tests;
