//! The import of one service: its derived Service, its slices and its object.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;

use super::super::action::{Action, Trim};
use super::super::conditions::{are_told, conditions};
use super::super::derived::{DerivedService, derived_name};
use super::super::import::{Derived, DesiredImport, Import, Local, Mending, import};
use super::super::merge::Merged;
use super::super::slices::ImportedSlice;
use super::super::value::{Family, Record};
use super::{Observed, SeenDerived, delete_derived, delete_slices, failure, name_of};
use crate::api::ServiceImport;

pub(super) fn plan_import(
    observed: &Observed<'_>,
    merged: &Merged,
    records: &[&Record],
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let name = derived_name(observed.key);
    let derived = observed.derived.iter().copied().find(|derived| derived.object.name == name);
    let kept = ips_to_keep(observed);
    let local = Local {
        cluster: observed.site.cluster,
        families: observed.families,
        derived: match derived {
            Some(derived) => Derived::Ours(&derived.ips),
            None if observed.derived_name_taken => Derived::Foreign,
            // It is lost, and asked for again: its addresses stay told.
            None if !kept.is_empty() => Derived::Ours(&kept),
            None => Derived::Absent,
        },
        reachability: observed.reachability,
        server: observed.server,
        failure: failure(observed, |action| matches!(action, Action::ApplyDerived(_) | Action::ApplySlice(_))),
    };
    let slices: Vec<_> = observed.slices.iter().map(|slice| &slice.content).collect();
    let Import { import: desired, derived: service, missing, slices } = import(merged, records, local, &slices);
    let wanted = service.as_ref().and_then(|service| plan_derived(service, derived, &missing, &kept));
    actions.extend(wanted.map(|service| Action::ApplyDerived(Box::new(service))));
    let stands = |slice: &&ImportedSlice| observed.slices.iter().any(|seen| seen.content.says_the_same(slice));
    let missing = slices.iter().filter(|slice| !stands(slice));
    actions.extend(missing.map(|slice| Action::ApplySlice(Box::new(slice.to_object()))));
    plan_import_object(observed, &desired, now, actions);
    let wanted: BTreeSet<_> = slices.iter().map(|slice| slice.name.as_str()).collect();
    delete_slices(observed, |name| !wanted.contains(name), actions);
    delete_derived(observed, |object| service.is_none() || object != name, actions);
}

/// The derived Service, where it is not what it shall be. A lost one asks for the addresses that it had, `kept`. The API
/// server gives one that is there no address of a family that the cluster has got since, unless it is asked for it.
fn plan_derived(
    service: &DerivedService,
    seen: Option<&SeenDerived>,
    missing: &[Family],
    kept: &[IpAddr],
) -> Option<Service> {
    match seen {
        None => Some(service.to_object(kept, &[])),
        Some(seen) if !missing.is_empty() && !seen.ips.is_empty() => {
            let families: Vec<_> = seen.ips.iter().map(Family::of).chain(missing.iter().copied()).collect();
            Some(service.to_object(&seen.ips, &families))
        }
        Some(seen) => (seen.content != *service).then(|| service.to_object(&[], &[])),
    }
}

fn plan_import_object(observed: &Observed<'_>, desired: &DesiredImport, now: Timestamp, actions: &mut Vec<Action>) {
    let apply = || Action::ApplyImport(Box::new(desired.to_object()));
    let Some(import) = observed.import else { return actions.push(apply()) };
    let refused = failure(observed, |action| matches!(action, Action::ApplyImport(_) | Action::TrimImport(_)));
    match desired.mending(import) {
        Mending::None => {}
        Mending::Trim(extras) => actions.push(Action::TrimImport(Box::new(Trim::new(&import.metadata, extras)))),
        Mending::Apply => {
            actions.push(apply());
            // Its status follows when its generation is known; but one that cannot be written has a status, too.
            if refused.is_none() {
                return;
            }
        }
    }
    let told = import.status.clone().unwrap_or_default();
    let ready = desired.ready_as(import, refused);
    let wanted = desired.status(conditions(&told.conditions, &[ready], import.metadata.generation, now));
    let same = told.endpoint_slice_objects == wanted.endpoint_slice_objects
        && told.clusters == wanted.clusters
        && are_told(&told.conditions, &wanted.conditions);
    if !same {
        let metadata = name_of(observed.key);
        let status = Some(wanted);
        actions.push(Action::ApplyImportStatus(Box::new(ServiceImport {
            metadata,
            spec: desired.spec.clone(),
            status,
        })));
    }
}

/// The addresses that a lost derived Service had, primary family first: the import still tells them, but for one of a
/// family that its exports do not have. The API server gives another one of that.
fn ips_to_keep(observed: &Observed<'_>) -> Vec<IpAddr> {
    let told = observed.import.into_iter().flat_map(|import| &import.spec.ips);
    let told: Vec<IpAddr> = told.filter_map(|text| text.parse().ok()).collect();
    let of = |family: &Family| told.iter().copied().find(|ip| Family::of(ip) == *family);
    observed.families.iter().filter_map(of).collect()
}
