//! Exports and imports: what their conditions say, and whether anything stands behind them.

use controller::api::names::{LABEL_SERVICE_NAME, LABEL_SLICE_SERVICE, LABEL_SOURCE_CLUSTER};
use controller::api::{ServiceExport, ServiceImport};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::{Check, Fault, Finding};
use crate::kubectl::picture::{ClusterPicture, Picture};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for export in cluster.exports.all() {
        findings.extend(check_export(cluster, export));
    }
    for import in cluster.imports.all() {
        findings.extend(check_import(cluster, import));
    }
    findings
}

fn check_export(cluster: &ClusterPicture, export: &ServiceExport) -> Vec<Finding> {
    let (namespace, name) = (export.namespace().unwrap_or_default(), export.name_any());
    let object = format!("serviceexport/{namespace}/{name}");
    let faults = export_faults(cluster, export);
    if faults.is_empty() {
        let good =
            |(ready, _)| Finding::good(Check::Services, cluster, object, format!("exported, {ready} ready endpoints"));
        return own_endpoints(cluster, &namespace, &name).map(good).into_iter().collect();
    }
    faults.into_iter().map(|fault| Finding::bad(Check::Services, cluster, &object, fault)).collect()
}

/// What is the matter with an export.
pub(crate) fn export_faults(cluster: &ClusterPicture, export: &ServiceExport) -> Vec<Fault> {
    let (namespace, name) = (export.namespace().unwrap_or_default(), export.name_any());
    let mut faults = Vec::new();
    let conditions = export.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if let Some(valid) = find(conditions, "Valid", "False") {
        let cause = "the service cannot be exported";
        faults.push(Fault::failed(
            "ExportInvalid",
            told(valid),
            cause,
            "the message says what is wrong with the Service",
        ));
    } else if let Some(ready) = find(conditions, "Ready", "False") {
        let cause = "the other clusters do not have it yet";
        faults.push(Fault::failed("ExportNotReady", told(ready), cause, "see `kubectl linkspan diagnose broker`"));
    } else if conditions.is_empty() {
        let cause = "the controller has not seen this export";
        faults.push(Fault::failed(
            "ExportNotReady",
            "it has no conditions",
            cause,
            "see that linkspan-controller runs",
        ));
    }
    if let Some(conflict) = find(conditions, "Conflict", "True") {
        let cause = "clusters export this service in different forms; the oldest export wins, and this is what differs";
        let fix = "make the Services alike in all clusters that export it";
        faults.push(Fault::failed("ExportConflict", told(conflict), cause, fix));
    }
    if find(conditions, "Valid", "False").is_none()
        && let Some((0, all)) = own_endpoints(cluster, &namespace, &name)
    {
        let evidence = format!("Service {namespace}/{name} has {all} endpoints, none of them ready");
        let cause =
            "nothing stands behind this export, so that clients of other clusters are refused or sent elsewhere";
        let fix = format!(
            "see the pods that the selector of Service {name} means: `kubectl get pods,endpointslices -n {namespace}`"
        );
        faults.push(Fault::failed("ExportWithoutEndpoints", evidence, cause, fix));
    }
    faults
}

/// Ready and all endpoints that a Service has in its own cluster; nothing where nobody could look.
fn own_endpoints(cluster: &ClusterPicture, namespace: &str, name: &str) -> Option<(usize, usize)> {
    let of_service = |slice: &&EndpointSlice| {
        let labels = slice.labels();
        slice.namespace().as_deref() == Some(namespace)
            && labels.get(LABEL_SLICE_SERVICE).is_some_and(|service| service == name)
            && !labels.contains_key(LABEL_SOURCE_CLUSTER)
    };
    if cluster.slices.unseen_in(namespace).is_some() {
        return None;
    }
    let slices: Vec<&EndpointSlice> = cluster.slices.all().iter().filter(of_service).collect();
    let endpoints = || slices.iter().flat_map(|slice| &slice.endpoints);
    Some((endpoints().filter(|endpoint| is_ready(endpoint)).count(), endpoints().count()))
}

/// Whether an endpoint takes new connections; nothing said means yes (`discovery.k8s.io/v1`).
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// The slices of an imported service, of all clusters.
pub(crate) fn import_slices<'a>(cluster: &'a ClusterPicture, namespace: &str, name: &str) -> Vec<&'a EndpointSlice> {
    let of_service = |slice: &&EndpointSlice| {
        let labels = slice.labels();
        slice.namespace().as_deref() == Some(namespace)
            && labels.get(LABEL_SERVICE_NAME).is_some_and(|service| service == name)
            && labels.contains_key(LABEL_SOURCE_CLUSTER)
    };
    cluster.slices.all().iter().filter(of_service).collect()
}

/// Nothing where nobody could see whether it has endpoints.
fn check_import(cluster: &ClusterPicture, import: &ServiceImport) -> Option<Finding> {
    let (namespace, name) = (import.namespace().unwrap_or_default(), import.name_any());
    let object = format!("serviceimport/{namespace}/{name}");
    match import_fault(cluster, import) {
        Some(fault) => Some(Finding::bad(Check::Services, cluster, object, fault)),
        None => {
            cluster.slices.seen()?;
            let slices = import_slices(cluster, &namespace, &name);
            let ready = slices.iter().flat_map(|slice| &slice.endpoints).filter(|endpoint| is_ready(endpoint)).count();
            Some(Finding::good(Check::Services, cluster, object, format!("{ready} ready endpoints")))
        }
    }
}

/// What is the matter with an import.
pub(crate) fn import_fault(cluster: &ClusterPicture, import: &ServiceImport) -> Option<Fault> {
    let (namespace, name) = (import.namespace().unwrap_or_default(), import.name_any());
    let conditions = import.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if let Some(ready) = find(conditions, "Ready", "False") {
        let cause = "this service cannot be reached here yet";
        return Some(Fault::failed("ImportNotReady", told(ready), cause, "the message says what it waits for"));
    }
    if cluster.slices.unseen_in(&namespace).is_some() {
        return None;
    }
    let slices = import_slices(cluster, &namespace, &name);
    let all: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
    if slices.iter().flat_map(|slice| &slice.endpoints).any(is_ready) {
        return None;
    }
    let mut clusters: Vec<&str> =
        import.status.iter().flat_map(|status| &status.clusters).map(|of| of.cluster.as_str()).collect();
    clusters.sort_unstable();
    let evidence = format!("{all} endpoints of {}, none of them ready", clusters.join(", "));
    let cause = "no exporting cluster has a ready endpoint, or the paths to those that have are down";
    let fix = "see the pods behind it in the exporting clusters, and `kubectl linkspan diagnose connections`";
    Some(Fault::failed("ImportWithoutEndpoints", evidence, cause, fix))
}

fn find<'a>(conditions: &'a [Condition], kind: &str, status: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)
}

fn told(condition: &Condition) -> String {
    if condition.message.is_empty() {
        condition.reason.clone()
    } else {
        format!("{}: {}", condition.reason, condition.message)
    }
}
