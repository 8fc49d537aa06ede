//! What this cluster makes of a merged service: the ServiceImport, the derived Service and the EndpointSlices.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::api::ObjectMeta;
use serde_json::{Map, Value};

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
    /// Families of the service of which the derived Service that is there has no address.
    pub missing: Vec<Family>,
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

/// How a ServiceImport comes to say what it shall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mending {
    /// It does.
    None,
    /// It is applied.
    Apply,
    /// It says all that, and more, which whoever applies it cannot take out: others own it, too.
    Trim(Extras),
}

/// What a ServiceImport says and ours does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Fields of its spec.
    pub spec: Vec<String>,
    /// Keys of annotations that are Linkspan's to set.
    pub annotations: Vec<String>,
}

impl Extras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.spec.is_empty() && self.annotations.is_empty()
    }
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
    let missing = if derived.is_some() { without(&families, &ips) } else { Vec::new() };
    let ready = ready(merged, local, &families, &ips);
    let slices = if families.is_empty() || (has_vip && derived.is_none()) {
        Vec::new()
    } else {
        slices::slices(here, &families, local.cluster, &usable(merged, records, local, &families), observed)
    };
    let told = told_families(merged, &families, &ips);
    let import = DesiredImport {
        service: merged.service.clone(),
        labels: labels(merged),
        annotations: annotations(merged, derived.is_some()),
        spec: spec(merged, &told, &ips),
        clusters: merged.clusters.iter().map(|cluster| ClusterStatus { cluster: cluster.to_string() }).collect(),
        ready,
    };
    Import { import, derived, missing, slices }
}

/// `merged` as this cluster's API server takes it. The ServiceImport tells what was merged all the same.
fn as_served(merged: &Merged, server: ServerVersion) -> Cow<'_, Merged> {
    let traffic_distribution = server.serve(merged.traffic_distribution);
    if traffic_distribution == merged.traffic_distribution {
        return Cow::Borrowed(merged);
    }
    Cow::Owned(Merged { traffic_distribution, ..merged.clone() })
}

/// The address of each family that has one, in their order. A new Service has all of them at once; one that is older than
/// a family of its cluster gets that one's later.
fn pick_ips(families: &[Family], derived: Derived<'_>) -> Vec<IpAddr> {
    let Derived::Ours(ips) = derived else { return Vec::new() };
    let pick = |family: &Family| ips.iter().copied().find(|ip| Family::of(ip) == *family);
    families.iter().filter_map(pick).collect()
}

/// Those of `families` that none of `ips` is of.
fn without(families: &[Family], ips: &[IpAddr]) -> Vec<Family> {
    families.iter().copied().filter(|family| ips.iter().all(|ip| Family::of(ip) != *family)).collect()
}

/// The families that the import tells: those of its addresses, else those that it shall have, else those of the service. A
/// family has to be told even where it is of no use.
fn told_families(merged: &Merged, families: &[Family], ips: &[IpAddr]) -> Vec<Family> {
    match (ips.is_empty(), families.is_empty()) {
        (false, _) => ips.iter().map(Family::of).collect(),
        (true, false) => families.to_vec(),
        (true, true) => merged.families.clone(),
    }
}

fn ready(merged: &Merged, local: Local<'_>, families: &[Family], ips: &[IpAddr]) -> Verdict {
    let list = |families: &[Family]| families.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(",");
    if families.is_empty() {
        let (service, cluster) = (list(&merged.families), list(local.families));
        let message = format!("The service has {service} only, the cluster {cluster} only.");
        return Verdict::new(READY, Truth::False, "IPFamilyNotSupported", message);
    }
    let name = derived_name(&merged.service);
    if merged.kind == ImportType::Headless {
        return Verdict::new(READY, Truth::True, "Ready", local.failure.unwrap_or_default());
    }
    if !ips.is_empty() {
        let missing = without(families, ips);
        let partly = || match missing.is_empty() {
            true => String::new(),
            false => format!("Service {name} has no address of {} yet.", list(&missing)),
        };
        return Verdict::new(READY, Truth::True, "Ready", local.failure.map_or_else(partly, str::to_owned));
    }
    let message = match local.derived {
        Derived::Foreign => format!("Service {name} exists and was not made by Linkspan."),
        Derived::Absent => match local.failure {
            Some(failure) => failure.to_owned(),
            None => format!("Service {name} has yet to be made."),
        },
        Derived::Ours(_) => format!("Service {name} has no address of {}.", list(families)),
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

    /// What has to be done for `object` to say all of it, and nothing that it does not say.
    pub fn mending(&self, object: &ServiceImport) -> Mending {
        let extras = self.extras(object);
        let is_set = (object.spec == self.spec || self.is_set_in(&object.spec))
            && holds(object.metadata.labels.as_ref(), &self.labels)
            && holds(object.metadata.annotations.as_ref(), &self.annotations)
            // With it go labels and annotations that are not exported any more: only applying takes out those.
            && !self.is_stale(ANNOTATION_EXPORTED, object);
        match (is_set, extras.is_empty()) {
            (false, _) => Mending::Apply,
            (true, true) => Mending::None,
            (true, false) => Mending::Trim(extras),
        }
    }

    /// Whether `spec` has every field that it sets.
    fn is_set_in(&self, spec: &ServiceImportSpec) -> bool {
        let there = fields(spec);
        fields(&self.spec).iter().all(|(field, value)| there.get(field) == Some(value))
    }

    /// What `object` says and it leaves unset.
    fn extras(&self, object: &ServiceImport) -> Extras {
        let spec = if object.spec == self.spec {
            Vec::new()
        } else {
            let ours = fields(&self.spec);
            fields(&object.spec).into_iter().map(|(field, _)| field).filter(|field| !ours.contains_key(field)).collect()
        };
        let annotations = [ANNOTATION_DERIVED_SERVICE].into_iter().filter(|key| self.is_stale(key, object));
        Extras { spec, annotations: annotations.map(str::to_owned).collect() }
    }

    /// Whether `object` has an annotation that is Linkspan's to set, and it has not.
    fn is_stale(&self, key: &str, object: &ServiceImport) -> bool {
        let there = object.metadata.annotations.as_ref();
        !self.annotations.contains_key(key) && there.is_some_and(|there| there.contains_key(key))
    }

    /// The condition `Ready` of `object`, which cannot be written where it is `refused`: it is as good as the addresses that
    /// it has.
    pub fn ready_as(&self, object: &ServiceImport, refused: Option<&str>) -> Verdict {
        let Verdict { kind, status, .. } = self.ready;
        let Some(refused) = refused.filter(|_| status == Truth::True) else { return self.ready.clone() };
        if object.spec.ips.is_empty() && !self.spec.ips.is_empty() {
            return Verdict::new(kind, Truth::False, "Pending", refused);
        }
        Verdict { message: refused.to_owned(), ..self.ready.clone() }
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

fn holds(pairs: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| pairs.and_then(|pairs| pairs.get(key)) == Some(value))
}

/// The fields that a spec sets, as the API server has them.
fn fields(spec: &ServiceImportSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
