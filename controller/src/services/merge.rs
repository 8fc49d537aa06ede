//! One service out of the records of all clusters that export it (KEP-1645, "Constraints and Conflict Resolution").
//!
//! The oldest export wins, equal ages are told apart by cluster ID. Ports are united, families are intersected, all
//! other properties are the oldest's. Whoever disagrees with the result makes a conflict, which is told on all exports.
//!
//! How old an export is says its own cluster. It is believed as far as its Member has been there at all: nothing is older
//! than its Member, by the broker's clock, so that nobody wins by a date of long ago.
//!
//! Decided here, where the KEP leaves it open:
//! - `ipFamilies`: those that reach all backends, in the order of the oldest: the intersection, from oldest to newest.
//!   A cluster that would leave nothing is passed over, and makes an `IPFamilyConflict`.
//! - When the oldest export goes, everything is computed anew from the rest. The result is a function of the exports
//!   there are, never of those that were, so all clusters come to the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::jiff::Timestamp;

use super::validate::MAX_PORTS;
use super::value::{Affinity, ClusterId, Distribution, Family, Port, Record, ServiceKey, TrafficPolicy};
use crate::api::ImportType;

/// Ports that a message names.
const SHOWN_PORTS: usize = 8;

/// A service of the clusterset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Namespace and name.
    pub service: ServiceKey,
    /// Whether it has a virtual IP.
    pub kind: ImportType,
    /// The union of all ports; names and (protocol, number) are unique.
    pub ports: Vec<Port>,
    /// The families, at least one.
    pub families: Vec<Family>,
    /// Session affinity.
    pub affinity: Affinity,
    /// Internal traffic policy.
    pub internal_traffic_policy: TrafficPolicy,
    /// Traffic distribution.
    pub traffic_distribution: Option<Distribution>,
    /// Labels for the ServiceImport.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the ServiceImport.
    pub annotations: BTreeMap<String, String>,
    /// The exporting clusters, sorted.
    pub clusters: Vec<ClusterId>,
    /// On what they disagree.
    pub conflicts: Vec<Conflict>,
}

/// A record that counts, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// What is exported.
    pub record: &'a Record,
    /// Since when, as far as that is believed.
    pub since: Timestamp,
}

impl<'a> Export<'a> {
    /// `record` of a Member that joined then; of one of which that is not known, it is believed as it is.
    pub fn new(record: &'a Record, joined_at: Option<Timestamp>) -> Self {
        let since = joined_at.map_or(record.exported_at, |joined| joined.max(record.exported_at));
        Self { record, since }
    }
}

/// Something on which exports disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// On what.
    pub reason: ConflictReason,
    /// What is used, whose it is, and how many disagree.
    pub message: String,
}

/// The standard reasons of the condition `Conflict`, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the API's own")]
pub enum ConflictReason {
    PortConflict,
    TypeConflict,
    SessionAffinityConflict,
    SessionAffinityConfigConflict,
    InternalTrafficPolicyConflict,
    TrafficDistributionConflict,
    IPFamilyConflict,
    LabelsConflict,
    AnnotationsConflict,
}

impl fmt::Display for ConflictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Merges the exports of one service, in any order, one for each cluster. Nothing comes of none.
pub fn merge(exports: &[Export<'_>]) -> Option<Merged> {
    let mut exports = exports.to_vec();
    exports.sort_by(|a, b| (a.since, &a.record.cluster).cmp(&(b.since, &b.record.cluster)));
    let records: Vec<_> = exports.iter().map(|export| export.record).collect();
    let oldest = *records.first()?;
    let mut judge = Judge { records: &records, oldest, conflicts: Vec::new() };
    let ports = judge.ports();
    let affinity = |record: &Record| match record.affinity {
        Affinity::None => "None",
        Affinity::ClientIp { .. } => "ClientIP",
    };
    judge.oldest_wins(ConflictReason::TypeConflict, "type", |record| record.kind, |kind| format!("{kind:?}"));
    judge.oldest_wins(ConflictReason::SessionAffinityConflict, "session affinity", affinity, |text| text.to_string());
    judge.affinity_config();
    judge.oldest_wins(
        ConflictReason::InternalTrafficPolicyConflict,
        "internal traffic policy",
        |record| record.internal_traffic_policy,
        |policy| policy.as_str().to_owned(),
    );
    judge.oldest_wins(
        ConflictReason::TrafficDistributionConflict,
        "traffic distribution",
        |record| record.traffic_distribution,
        |distribution| distribution.map_or("none", Distribution::as_str).to_owned(),
    );
    let families = judge.families();
    judge.oldest_map(ConflictReason::LabelsConflict, "exported labels", |record| &record.exported_labels);
    judge
        .oldest_map(ConflictReason::AnnotationsConflict, "exported annotations", |record| &record.exported_annotations);
    let conflicts = judge.conflicts;
    let mut clusters: Vec<_> = records.iter().map(|record| record.cluster.clone()).collect();
    clusters.sort();
    Some(Merged {
        service: oldest.service.clone(),
        kind: oldest.kind,
        ports,
        families,
        affinity: oldest.affinity,
        internal_traffic_policy: oldest.internal_traffic_policy,
        traffic_distribution: oldest.traffic_distribution,
        labels: oldest.exported_labels.clone(),
        annotations: oldest.exported_annotations.clone(),
        clusters,
        conflicts,
    })
}

/// Compares the exports with the oldest.
struct Judge<'a> {
    /// From oldest to newest.
    records: &'a [&'a Record],
    oldest: &'a Record,
    conflicts: Vec<Conflict>,
}

impl<'a> Judge<'a> {
    /// The union, oldest first: a name stays with its first number, and a number with its first name.
    fn ports(&mut self) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::with_capacity(self.oldest.ports.len());
        for port in self.records.iter().flat_map(|record| &record.ports) {
            let taken = |taken: &Port| {
                taken.name == port.name || (taken.protocol, taken.number) == (port.protocol, port.number)
            };
            if !ports.iter().any(taken) && ports.len() < MAX_PORTS {
                ports.push(port.clone());
            }
        }
        let set = |record: &'a Record| record.ports.iter().collect::<BTreeSet<_>>();
        let oldest = self.oldest;
        // Sets are made where the order differs at least.
        let differ = self.count(|record| record.ports != oldest.ports && set(record) != set(oldest));
        self.tell(differ, ConflictReason::PortConflict, |judge| {
            let (list, cluster) = (show_ports(&ports), &judge.oldest.cluster);
            format!("Conflicting ports. Using \"{list}\", where \"{cluster}\" has the oldest service export.")
        });
        ports
    }

    /// The families that reach all backends.
    fn families(&mut self) -> Vec<Family> {
        let mut families = self.oldest.families.clone();
        let mut differ = 0;
        for record in self.records {
            let common: Vec<_> = families.iter().copied().filter(|family| record.families.contains(family)).collect();
            if common.is_empty() {
                differ += 1;
            } else {
                families = common;
            }
        }
        self.tell(differ, ConflictReason::IPFamilyConflict, |judge| {
            let list: Vec<_> = families.iter().map(|family| family.as_str()).collect();
            judge.using("IP families", &list.join(","))
        });
        families
    }

    /// Timeouts are compared where there is affinity at all.
    fn affinity_config(&mut self) {
        let Affinity::ClientIp { seconds } = self.oldest.affinity else { return };
        let differ = self.count(|record| match record.affinity {
            Affinity::None => false,
            Affinity::ClientIp { seconds: other } => other != seconds,
        });
        let message = |judge: &Self| judge.using("session affinity config", &format!("{seconds}s"));
        self.tell(differ, ConflictReason::SessionAffinityConfigConflict, message);
    }

    fn oldest_wins<T: PartialEq>(
        &mut self,
        reason: ConflictReason,
        field: &str,
        get: impl Fn(&Record) -> T,
        show: impl Fn(&T) -> String,
    ) {
        let value = get(self.oldest);
        let differ = self.count(|record| get(record) != value);
        self.tell(differ, reason, |judge| judge.using(field, &show(&value)));
    }

    /// Labels and annotations are neither united nor named: there may be many.
    fn oldest_map(
        &mut self,
        reason: ConflictReason,
        field: &str,
        get: impl for<'r> Fn(&'r Record) -> &'r BTreeMap<String, String>,
    ) {
        let oldest = self.oldest;
        let value = get(oldest);
        let differ = self.count(|record| get(record) != value);
        let cluster = &oldest.cluster;
        let message =
            |_: &Self| format!("Conflicting {field}. Using those of the oldest service export in \"{cluster}\".");
        self.tell(differ, reason, message);
    }

    fn count(&self, differs: impl Fn(&'a Record) -> bool) -> usize {
        self.records.iter().filter(|record| differs(record)).count()
    }

    /// The KEP's own wording.
    fn using(&self, field: &str, value: &str) -> String {
        let cluster = &self.oldest.cluster;
        format!("Conflicting {field}. Using \"{value}\" from oldest service export in \"{cluster}\".")
    }

    fn tell(&mut self, differ: usize, reason: ConflictReason, message: impl FnOnce(&Self) -> String) {
        if differ > 0 {
            let message = format!("{} {differ}/{} clusters disagree.", message(self), self.records.len());
            self.conflicts.push(Conflict { reason, message });
        }
    }
}

fn show_ports(ports: &[Port]) -> String {
    let mut list: Vec<_> = ports.iter().take(SHOWN_PORTS).map(show_port).collect();
    if ports.len() > SHOWN_PORTS {
        list.push(format!("{} more", ports.len() - SHOWN_PORTS));
    }
    list.join(", ")
}

fn show_port(port: &Port) -> String {
    let app_protocol = port.app_protocol.as_deref().map(|text| format!(" {text}")).unwrap_or_default();
    let space = if port.name.is_empty() { "" } else { " " };
    format!("{}{space}{}/{}{app_protocol}", port.name, port.number, port.protocol)
}

#[cfg(test)]
mod tests;
