//! The pure decision for one service: from what the API server holds to what is to be written.

mod imports;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use self::imports::plan_import;
use super::action::{Action, Failure, ObjectRef};
use super::conditions::{Truth, Verdict, are_told, conditions};
use super::derived::DerivedService;
use super::events::news;
use super::merge::{Conflict, Export, merge};
use super::reach::Exporter;
use super::record::{LocalExport, LocalService, Outcome, Site, record};
use super::slices::ImportedSlice;
use super::validate::{MemberNetworks, Refusal, check_networks};
use super::value::{ClusterId, Family, Record, ServiceKey, Slice};
use super::version::ServerVersion;
use crate::api::names::{LABEL_MANAGED_BY, MANAGED_BY, SYSTEM_NAMESPACE};
use crate::api::{ServiceExport, ServiceExportSpec, ServiceExportStatus, ServiceImport};
use crate::members::View;
use crate::names::Reachability;

/// Condition of a cluster's own ServiceRecord: the broker has it. Written by who mirrors records to the broker.
pub const ACCEPTED: &str = "Accepted";
/// Condition of a ServiceExport: other clusters can have it.
const READY: &str = "Ready";
/// Condition of a ServiceExport: exports disagree.
const CONFLICT: &str = "Conflict";

/// All that is known about one service.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// Its name.
    pub key: &'a ServiceKey,
    /// This cluster.
    pub site: Site<'a>,
    /// Whether it is in a clusterset.
    pub membership: Membership,
    /// Families of its service addresses.
    pub families: &'a [Family],
    /// The namespace.
    pub namespace: Namespace,
    /// The export, unless it is being deleted.
    pub export: Option<&'a SeenExport>,
    /// The Service.
    pub service: Option<&'a LocalService>,
    /// The Service's own slices.
    pub native_slices: Vec<&'a Slice>,
    /// The records of all clusters, its own too.
    pub records: Vec<&'a SeenRecord>,
    /// What each Member may say; records of others do not count.
    pub members: &'a BTreeMap<String, Exporter>,
    /// By which addresses this cluster knows their pods; those that are not in it by their own.
    pub views: &'a BTreeMap<String, View>,
    /// The import.
    pub import: Option<&'a ServiceImport>,
    /// Our derived Services; one as a rule.
    pub derived: Vec<&'a SeenDerived>,
    /// Whether somebody else's Service has the name of ours.
    pub derived_name_taken: bool,
    /// Our imported slices.
    pub slices: Vec<&'a SeenSlice>,
    /// Which clusters can be reached.
    pub reachability: &'a BTreeMap<String, Reachability>,
    /// The version of the API server.
    pub server: ServerVersion,
    /// What failed the last time, and is tried again.
    pub failures: &'a [Failure],
}

/// Whether this cluster is in a clusterset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It is: it has a credential for the broker.
    Joined,
    /// It has not joined, leaves or has left: nothing is exported or imported, and nothing of ours stays.
    Outside,
}

/// The state of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// It does not exist: nothing is imported.
    Absent,
    /// It goes: everything in it goes by itself, and nothing new is taken.
    Terminating,
    /// It is there.
    Active,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenExport {
    /// What it says.
    pub local: LocalExport,
    /// Its generation.
    pub generation: Option<i64>,
    /// Its conditions, also those of others.
    pub conditions: Vec<Condition>,
}

/// A ServiceRecord.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenRecord {
    /// Whose it is.
    pub cluster: String,
    /// The object.
    pub object: ObjectRef,
    /// What it says, its addresses unchecked, or why it is refused.
    pub content: Result<Record, Refusal>,
    /// The condition [`ACCEPTED`].
    pub accepted: Option<Condition>,
}

/// A derived Service of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenDerived {
    /// The object.
    pub object: ObjectRef,
    /// What it says.
    pub content: DerivedService,
    /// Its addresses.
    pub ips: Vec<std::net::IpAddr>,
}

/// An imported slice of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenSlice {
    /// The object.
    pub object: ObjectRef,
    /// What it says.
    pub content: ImportedSlice,
}

/// Decides. Total and deterministic; the order of inputs does not matter.
///
/// # Guarantees
/// Applying the plan, or any beginning of it and then a new plan, leads to a state whose plan is empty. Nothing is named
/// that is not ours, save the import and the conditions of the export. A name points at nothing before its slices
/// stand, and slices go after it.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let outcome = observed
        .export
        .map(|export| record(observed.site, observed.key, &export.local, observed.service, &observed.native_slices));
    let joined = observed.membership == Membership::Joined;
    let own = outcome.as_ref().and_then(|outcome| outcome.record.as_ref()).filter(|_| joined);
    let Exports { counted, partly, refused } = if joined { exports(observed, own) } else { Exports::default() };
    let merged = merge(&counted);
    let mut actions = Vec::new();
    plan_record(observed, own, &mut actions);
    if observed.namespace == Namespace::Active {
        let counted = counted.iter().map(|export| export.record);
        let known = counted.map(|record| as_known(record, partly.get(&record.cluster), observed.views));
        let known: Vec<_> = known.collect();
        let records: Vec<_> = known.iter().map(Cow::as_ref).collect();
        let kept = || own_import(observed).and_then(|_| merge(&refused));
        match (&merged, merged.is_none().then(kept).flatten()) {
            (Some(merged), _) => plan_import(observed, merged, &records, now, &mut actions),
            (None, Some(kept)) => plan_import(observed, &kept, &[], now, &mut actions),
            (None, None) => plan_removal(observed, &mut actions),
        }
    }
    if let (Some(export), Some(outcome)) = (observed.export, &outcome) {
        let conflicts = merged.as_ref().map_or(&[][..], |merged| &merged.conflicts);
        plan_export(observed, export, outcome, conflicts, now, &mut actions);
    }
    actions
}

/// The exports of a service.
#[derive(Debug, Default)]
struct Exports<'a> {
    /// Our own as it is now, and those of Members that speak for their own addresses.
    counted: Vec<Export<'a>>,
    /// The addresses of those of whose endpoints only some are their Member's.
    partly: BTreeMap<&'a ClusterId, &'a MemberNetworks>,
    /// Those that are refused, by whoever copied them or by what is known here of their Member. They have neither a vote
    /// nor endpoints. But when no others are left, what was imported stays, with its address: a Member may lose a prefix
    /// for a moment.
    refused: Vec<Export<'a>>,
}

fn exports<'a>(observed: &'a Observed<'_>, own: Option<&'a Record>) -> Exports<'a> {
    let cluster = observed.site.cluster.as_str();
    let joined_at = |cluster: &str| observed.members.get(cluster).and_then(|exporter| exporter.joined_at);
    let mut exports = Exports::default();
    exports.counted.extend(own.map(|record| Export::new(record, joined_at(cluster))));
    let mut clusters = BTreeSet::new();
    for seen in observed.records.iter().filter(|seen| seen.cluster != cluster) {
        let (Ok(record), Some(exporter)) = (&seen.content, observed.members.get(&seen.cluster)) else { continue };
        if !clusters.insert(&record.cluster) {
            continue;
        }
        let refused = seen.accepted.as_ref().is_some_and(|accepted| accepted.status == "False");
        let networks = exporter.networks.as_ref().filter(|_| !refused);
        let checked = networks.and_then(|networks| Some((networks, check_networks(record, networks).ok()?)));
        if let Some((networks, Some(_))) = checked {
            exports.partly.insert(&record.cluster, networks);
        }
        let to = if checked.is_some() { &mut exports.counted } else { &mut exports.refused };
        to.push(Export::new(record, exporter.joined_at));
    }
    exports
}

/// A record with its endpoints as this cluster knows them. Those that it does not know are left out: they are outside of
/// `networks`, the Member's, or their node has come just now, and has no virtual addresses yet.
fn as_known<'a>(
    record: &'a Record,
    networks: Option<&&MemberNetworks>,
    views: &BTreeMap<String, View>,
) -> Cow<'a, Record> {
    let mut known = Cow::Borrowed(record);
    if let Some(networks) = networks {
        known.to_mut().retain_endpoints(|endpoint| networks.hold(endpoint));
    }
    if let Some(table) = views.get(record.cluster.as_str()).and_then(View::table) {
        known.to_mut().retain_endpoints(|endpoint| {
            endpoint.addresses = endpoint.addresses.iter().filter_map(|address| table.map(*address)).collect();
            !endpoint.addresses.is_empty()
        });
    }
    known
}

fn own_record<'a>(observed: &'a Observed<'_>) -> Option<&'a SeenRecord> {
    observed.records.iter().copied().find(|seen| seen.cluster == observed.site.cluster.as_str())
}

fn plan_record(observed: &Observed<'_>, own: Option<&Record>, actions: &mut Vec<Action>) {
    let seen = own_record(observed);
    match (own, seen) {
        (Some(own), Some(seen)) if seen.content.as_ref() == Ok(own) => {}
        (Some(own), _) => actions.push(Action::ApplyRecord(Box::new(own.to_object(SYSTEM_NAMESPACE)))),
        (None, Some(seen)) => actions.push(Action::DeleteRecord(seen.object.clone())),
        (None, None) => {}
    }
}

/// Why the first write of those that `of` is true for failed the last time.
fn failure<'a>(observed: &Observed<'a>, of: impl Fn(&Action) -> bool) -> Option<&'a str> {
    observed.failures.iter().filter(|failure| of(&failure.action)).find_map(|failure| failure.told.as_deref())
}

/// The import, unless it is somebody else's.
fn own_import<'a>(observed: &Observed<'a>) -> Option<&'a ServiceImport> {
    observed.import.filter(|import| {
        let labels = import.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(LABEL_MANAGED_BY)).is_some_and(|by| by == MANAGED_BY)
    })
}

/// Nobody exports it.
fn plan_removal(observed: &Observed<'_>, actions: &mut Vec<Action>) {
    let import = own_import(observed);
    actions.extend(import.map(|import| Action::DeleteImport(ObjectRef::of(&import.metadata))));
    delete_slices(observed, |_| true, actions);
    delete_derived(observed, |_| true, actions);
}

fn delete_slices(observed: &Observed<'_>, stale: impl Fn(&str) -> bool, actions: &mut Vec<Action>) {
    let stale = observed.slices.iter().filter(|slice| stale(&slice.object.name));
    let stale: BTreeSet<_> = stale.map(|slice| slice.object.clone()).collect();
    actions.extend(stale.into_iter().map(Action::DeleteSlice));
}

fn delete_derived(observed: &Observed<'_>, stale: impl Fn(&str) -> bool, actions: &mut Vec<Action>) {
    let stale = observed.derived.iter().filter(|derived| stale(&derived.object.name));
    let stale: BTreeSet<_> = stale.map(|derived| derived.object.clone()).collect();
    actions.extend(stale.into_iter().map(Action::DeleteDerived));
}

fn plan_export(
    observed: &Observed<'_>,
    export: &SeenExport,
    outcome: &Outcome,
    conflicts: &[Conflict],
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let conflicts = if outcome.record.is_some() { conflicts } else { &[] };
    let verdicts = [outcome.valid.clone(), ready(observed, outcome), conflict(conflicts)];
    let wanted = conditions(&export.conditions, &verdicts, export.generation, now);
    if !are_told(&export.conditions, &wanted) {
        let news = news(&export.conditions, &wanted);
        let (metadata, spec) = (name_of(observed.key), ServiceExportSpec::default());
        let status = Some(ServiceExportStatus { conditions: wanted });
        actions.push(Action::ApplyExportStatus(Box::new(ServiceExport { metadata, spec, status }), news));
    }
}

fn ready(observed: &Observed<'_>, outcome: &Outcome) -> Verdict {
    if outcome.record.is_none() {
        return Verdict::new(READY, Truth::False, "Pending", "there is nothing to export");
    }
    if observed.membership == Membership::Outside {
        return Verdict::new(READY, Truth::False, "Pending", "this cluster is in no clusterset; see `linkspan join`");
    }
    if let Some(failure) = failure(observed, |action| matches!(action, Action::ApplyRecord(_))) {
        return Verdict::new(READY, Truth::False, "Failed", failure);
    }
    match own_record(observed).and_then(|seen| seen.accepted.as_ref()) {
        Some(accepted) if accepted.status == "True" => Verdict::new(READY, Truth::True, "Exported", &outcome.left_out),
        Some(accepted) if accepted.status == "False" => {
            Verdict::new(READY, Truth::False, "Failed", accepted.message.clone())
        }
        _ => Verdict::new(READY, Truth::False, "Pending", "the broker does not have it yet"),
    }
}

fn conflict(conflicts: &[Conflict]) -> Verdict {
    if conflicts.is_empty() {
        return Verdict::new(CONFLICT, Truth::False, "NoConflicts", "");
    }
    let reasons: Vec<_> = conflicts.iter().map(|conflict| conflict.reason.to_string()).collect();
    let messages: Vec<_> = conflicts.iter().map(|conflict| conflict.message.as_str()).collect();
    Verdict::new(CONFLICT, Truth::True, &reasons.join(","), messages.join(" "))
}

fn name_of(key: &ServiceKey) -> ObjectMeta {
    ObjectMeta { name: Some(key.name.clone()), namespace: Some(key.namespace.clone()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests;
