//! From a name to endpoints: cluster DNS, the import, the clusterset IP and who carries it.

use std::net::{IpAddr, SocketAddr};

use controller::api::names::LABEL_SOURCE_CLUSTER;
use controller::api::{ServiceExport, ServiceImport};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;

use super::ends::Client;
use super::flow::Target;
use super::{Hop, members};
use crate::kubectl::diagnose::{Fault, dns, kube_proxy, services};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// Endpoints that are followed.
const TARGETS: usize = 16;

/// Clusters that are named where several may export a service.
const NAMED: usize = 3;

/// What a name leads to.
pub(super) struct Found {
    pub(super) hops: Vec<Hop>,
    pub(super) targets: Vec<Target>,
}

/// Follows the name of a service. `only` leaves the endpoints of one cluster.
pub(super) fn follow(
    picture: &Picture,
    from: &Client<'_>,
    service: (&str, &str),
    only: Option<&ClusterPicture>,
    port: Option<u16>,
) -> Found {
    let cluster = from.cluster;
    let here = cluster.name();
    let name = format!("{}.{}.svc.clusterset.local", service.1, service.0);
    let mut hops = vec![forwards(cluster)];
    hops.extend(exports(picture, cluster, service));
    if let Some(unseen) = cluster.imports.unseen_in(service.0) {
        hops.push(Hop::unseen(here, "import", unseen.why.clone()));
        return Found { hops, targets: Vec::new() };
    }
    hops.extend(refusals(picture, cluster, service, only));
    let Some(import) = cluster.imports.all().iter().find(|import| is_named(*import, service)) else {
        hops.push(Hop::bad(here, "import", no_import(picture, cluster, service)));
        return Found { hops, targets: Vec::new() };
    };
    hops.push(Hop::judged(here, "import", services::import_fault(cluster, import), imported(import)));
    hops.extend(answer(from, &name));
    hops.extend(carried(from, import, port));
    let targets = targets(cluster, service, only.and_then(ClusterPicture::id), port);
    if let Some(only) = only.filter(|_| targets.is_empty()) {
        let evidence = format!("no ready endpoint of {} is in the slices", only.name());
        let fault = Fault::failed(
            "ExportWithoutEndpoints",
            evidence,
            "that cluster exports nothing that is ready",
            "see the service there",
        );
        hops.push(Hop::bad(here, "endpoints", fault));
    }
    Found { hops, targets }
}

/// Whether cluster DNS forwards names of the clusterset.
fn forwards(cluster: &ClusterPicture) -> Hop {
    let ClusterPicture { configs, services, members, id, .. } = cluster;
    let unseen = configs.unseen().or(services.unseen()).or(members.unseen()).or(id.unseen());
    let (here, what) = (cluster.name(), "cluster DNS");
    match (dns::wiring(cluster), unseen) {
        (None, Some(unseen)) => Hop::unseen(here, what, unseen.why.clone()),
        (fault, _) => Hop::judged(here, what, fault, "it forwards clusterset.local to Linkspan"),
    }
}

/// Names of the clusters that have to do with a service.
pub(super) fn fars(
    picture: &Picture,
    from: &Client<'_>,
    service: (&str, &str),
    only: Option<&ClusterPicture>,
) -> Vec<String> {
    if let Some(only) = only {
        return vec![only.name().to_owned()];
    }
    let import = from.cluster.imports.all().iter().find(|import| is_named(*import, service));
    let sources = import.iter().flat_map(|import| import.status.iter().flat_map(|status| &status.clusters));
    let mut names: Vec<String> = sources.map(|source| source.cluster.clone()).collect();
    names.extend(exporters(picture, service).map(|cluster| cluster.name().to_owned()));
    names.sort();
    names.dedup();
    names
}

/// The clusters that were seen to export a service.
fn exporters<'a>(picture: &'a Picture, service: (&str, &str)) -> impl Iterator<Item = &'a ClusterPicture> {
    let exports = move |cluster: &&ClusterPicture| cluster.exports.all().iter().any(|export| is_named(export, service));
    picture.clusters.iter().filter(exports)
}

/// Why a service of clusters that export it does not come from any of them; of those whose endpoints are meant, if it is only one.
fn refusals(
    picture: &Picture,
    near: &ClusterPicture,
    service: (&str, &str),
    only: Option<&ClusterPicture>,
) -> Vec<Hop> {
    let is_meant = |far: &&ClusterPicture| only.is_none_or(|only| std::ptr::eq(only, *far));
    let has_other = only.is_none() && has_ready(near, service);
    let fars = exporters(picture, service).filter(|far| !std::ptr::eq(*far, near)).filter(is_meant);
    fars.filter(|_| !has_other).filter_map(|far| members::unused(picture, near, far)).collect()
}

fn is_named<K: kube::Resource>(object: &K, (namespace, name): (&str, &str)) -> bool {
    object.name_any() == name && object.namespace().as_deref() == Some(namespace)
}

/// What is the matter with the exports of a service, wherever they are seen.
fn exports(picture: &Picture, near: &ClusterPicture, service: (&str, &str)) -> Vec<Hop> {
    let mut hops = Vec::new();
    for cluster in &picture.clusters {
        let Some(export) = cluster.exports.all().iter().find(|export: &&ServiceExport| is_named(*export, service))
        else {
            continue;
        };
        let mut faults = services::export_faults(cluster, export);
        // What one of several exporters lacks, the others have.
        if has_ready(near, service) {
            faults.retain(|fault| fault.reason != "ExportWithoutEndpoints");
        }
        match faults.into_iter().next() {
            Some(fault) => hops.push(Hop::bad(cluster.name(), "export", fault)),
            None => hops.push(Hop::good(cluster.name(), "export", format!("{}/{} is exported", service.0, service.1))),
        }
    }
    hops
}

fn has_ready(cluster: &ClusterPicture, service: (&str, &str)) -> bool {
    let slices = services::import_slices(cluster, service.0, service.1);
    slices.iter().flat_map(|slice| &slice.endpoints).any(services::is_ready)
}

fn no_import(picture: &Picture, near: &ClusterPicture, service: (&str, &str)) -> Fault {
    let exported: Vec<&str> = exporters(picture, service).map(ClusterPicture::name).collect();
    let (namespace, name) = service;
    let evidence = format!("there is no ServiceImport {namespace}/{name}");
    let export = format!("`kubectl linkspan export {name} -n {namespace}`");
    let unseen = unseen_exporters(picture, near, namespace);
    match (exported.is_empty(), unseen.is_empty()) {
        (true, true) => {
            let cause = "no cluster that was seen exports this service";
            return Fault::failed("NotExported", evidence, cause, format!("export it where it runs: {export}"));
        }
        (true, false) => {
            let who = match unseen.as_slice() {
                few if few.len() <= NAMED => few.join(" or "),
                many => format!("one of {} clusters that were not seen", many.len()),
            };
            let cause = format!("if {who} exports it, this cluster has not imported it");
            let fix =
                format!("export it where it runs: {export}; name the contexts of all clusters to see whether it is");
            return Fault::failed("NotImported", evidence, cause, fix);
        }
        _ => {}
    }
    let cause = format!("{} exports it, and this cluster has not imported it", exported.join(", "));
    let fix = "see that the namespace exists here, and `kubectl linkspan diagnose broker` for both clusters";
    Fault::failed("NotImported", evidence, cause, fix)
}

/// The clusters that may export a service, for all that was seen.
fn unseen_exporters(picture: &Picture, near: &ClusterPicture, namespace: &str) -> Vec<String> {
    let blind = picture.clusters.iter().filter(|cluster| cluster.exports.unseen_in(namespace).is_some());
    let blind = blind.map(|cluster| cluster.name().to_owned());
    let others = near.others().into_iter().filter(|id| picture.by_id(id).is_none());
    others.chain(blind).collect()
}

fn imported(import: &ServiceImport) -> String {
    let clusters: Vec<&str> =
        import.status.iter().flat_map(|status| &status.clusters).map(|of| of.cluster.as_str()).collect();
    format!("of {}", clusters.join(", "))
}

/// What cluster DNS answered on the client's node.
fn answer(from: &Client<'_>, name: &str) -> Option<Hop> {
    let seen = from.cluster.inspection(from.node.as_ref()?)?;
    let found = seen.names.iter().find(|found| found.of.name == name)?;
    let addresses: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
    let good = format!("{name} is {}", addresses.join(" "));
    Some(Hop::judged(from.cluster.name(), "name", dns::answer(from.cluster, found), good))
}

/// Whether kube-proxy of the client's node carries the clusterset IP.
fn carried(from: &Client<'_>, import: &ServiceImport, port: Option<u16>) -> Option<Hop> {
    let ip: IpAddr = import.spec.ips.first()?.parse().ok()?;
    let port = port.or_else(|| import.spec.ports.first().and_then(|port| u16::try_from(port.port).ok()))?;
    let node = from.node.as_ref()?;
    let (here, what) = (from.cluster.name(), format!("kube-proxy on node {node}"));
    let Some(seen) = from.cluster.inspection(node) else {
        return Some(Hop::unseen(here, what, "the node was not asked"));
    };
    let found = seen.services.iter().find(|found| found.address == SocketAddr::new(ip, port))?;
    if found.programmed.is_none() {
        return Some(Hop::unseen(here, what, found.by.clone()));
    }
    Some(Hop::judged(
        here,
        what,
        kube_proxy::service_fault(found),
        format!("carries clusterset IP {ip} ({})", found.by),
    ))
}

/// Ready endpoints, with their ports.
pub(super) fn targets(
    cluster: &ClusterPicture,
    service: (&str, &str),
    only: Option<&str>,
    port: Option<u16>,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for slice in services::import_slices(cluster, service.0, service.1) {
        let source = slice.labels().get(LABEL_SOURCE_CLUSTER).map(String::as_str);
        if only.is_some() && source != only {
            continue;
        }
        let (port, protocol) = port_of(cluster, service, slice, port);
        for endpoint in slice.endpoints.iter().filter(|endpoint| services::is_ready(endpoint)) {
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            let target = |address| Target { address, port, protocol: protocol.clone(), probe: true };
            targets.extend(addresses.map(target).take(1));
        }
    }
    targets.truncate(TARGETS);
    targets
}

/// The port of a slice's endpoints behind a port of the service, by its name.
fn port_of(
    cluster: &ClusterPicture,
    service: (&str, &str),
    slice: &EndpointSlice,
    port: Option<u16>,
) -> (Option<u16>, String) {
    let import = cluster.imports.all().iter().find(|import| is_named(*import, service));
    let called = import.and_then(|import| {
        let mut ports = import.spec.ports.iter();
        match port {
            Some(number) => ports.find(|found| found.port == i32::from(number)),
            None => ports.next(),
        }
    });
    let mut ports = slice.ports.iter().flatten();
    let named =
        called.and_then(|called| ports.clone().find(|port| port.name.as_deref().unwrap_or_default() == called.name));
    let found = named.or_else(|| ports.next());
    let number = found.and_then(|port| u16::try_from(port.port?).ok());
    (number, found.and_then(|port| port.protocol.clone()).unwrap_or_else(|| "TCP".to_owned()))
}
