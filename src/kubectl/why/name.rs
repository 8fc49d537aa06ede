//! From a name to endpoints: cluster DNS, the import, the clusterset IP and who carries it.

use std::net::{IpAddr, SocketAddr};

use controller::api::names::LABEL_SOURCE_CLUSTER;
use controller::api::{ImportType, ServiceExport, ServiceImport};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use kube::ResourceExt as _;

use super::ends::{Called, Client};
use super::flow::Target;
use super::{Hop, members};
use crate::kubectl::diagnose::{Fault, dns, kube_proxy, services};
use crate::kubectl::picture::facts::on_host_network;
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

/// Follows the name of a service.
pub(super) fn follow(picture: &Picture, from: &Client<'_>, service: &Called<'_>, port: Option<u16>) -> Found {
    let cluster = from.cluster;
    let here = cluster.name();
    let mut hops = Vec::new();
    if service.by_name {
        hops.push(forwards(cluster));
        hops.extend(own_resolver(from));
    }
    hops.extend(exports(picture, cluster, service));
    if let Some(unseen) = cluster.imports.unseen_in(&service.namespace) {
        hops.push(Hop::unseen(here, "import", unseen.why.clone()));
        return Found { hops, targets: Vec::new() };
    }
    hops.extend(refusals(picture, cluster, service));
    let Some(import) = service.among(cluster.imports.all()) else {
        hops.push(Hop::bad(here, "import", no_import(picture, cluster, service)));
        return Found { hops, targets: Vec::new() };
    };
    hops.push(Hop::judged(here, "import", services::import_fault(cluster, import), imported(import)));
    hops.extend(answer(from, &service.dns_name()).filter(|_| service.by_name));
    if let Some(fault) = port.and_then(|port| no_port(import, port)) {
        hops.push(Hop::bad(here, "port", fault));
        return Found { hops, targets: Vec::new() };
    }
    hops.extend(carried(from, import, port));
    if let Some(unseen) = cluster.slices.unseen_in(&service.namespace) {
        hops.push(Hop::unseen(here, "endpoints", unseen.why.clone()));
        return Found { hops, targets: Vec::new() };
    }
    let targets = targets(from, service, port);
    hops.extend(service.only().filter(|_| targets.is_empty()).map(|only| nothing_of(here, service, only)));
    Found { hops, targets }
}

/// Of the cluster whose endpoints alone are meant, none is ready.
fn nothing_of(here: &str, service: &Called<'_>, only: &str) -> Hop {
    let which = match &service.host {
        Some(host) => format!("no ready endpoint of {only} with the host name {}", host.name),
        None => format!("no ready endpoint of {only}"),
    };
    let cause = "that cluster exports nothing of it that is ready";
    let fault =
        Fault::failed("ExportWithoutEndpoints", format!("{which} is in the slices"), cause, "see the service there");
    Hop::bad(here, "endpoints", fault)
}

/// A port that a clusterset IP does not have. Pods behind headless services are called by whatever port they listen on.
fn no_port(import: &ServiceImport, port: u16) -> Option<Fault> {
    let ports = &import.spec.ports;
    if import.spec.kind != ImportType::ClusterSetIP || ports.iter().any(|found| found.port == i32::from(port)) {
        return None;
    }
    let has: Vec<String> = ports.iter().map(|found| found.port.to_string()).collect();
    let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    let cause = "nobody answers on a port that the service does not have".to_owned();
    let fix = "call one of these, or add the port to the Service in the clusters that export it";
    Some(Fault::failed("NoSuchPort", format!("port {port} is asked for, and the service has {has}"), cause, fix))
}

/// Who does not ask cluster DNS: nodes, and pods that have their node's resolver or one of their own.
fn own_resolver(from: &Client<'_>) -> Option<Hop> {
    let here = from.cluster.name();
    let server = from.cluster.dns_server().map(|server| server.ip());
    let warned = |evidence: String, fix: &str| {
        let cause = "it knows names of the clusterset only if its resolver forwards them to cluster DNS";
        Some(Hop::bad(here, "resolver", Fault::warning("OwnResolver", evidence, cause, fix)))
    };
    let Some(pod) = from.pod else {
        let fix = "call the clusterset IP, or let the node's resolver forward clusterset.local to cluster DNS";
        return warned("a node asks the servers of its own /etc/resolv.conf".to_owned(), fix);
    };
    let spec = pod.spec.as_ref()?;
    match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if on_host_network(pod) => {
            let evidence = "with hostNetwork, dnsPolicy ClusterFirst means the resolver of the node".to_owned();
            warned(evidence, "set dnsPolicy: ClusterFirstWithHostNet")
        }
        "Default" => {
            warned("dnsPolicy Default means the resolver of the node".to_owned(), "set dnsPolicy: ClusterFirst")
        }
        "None" => {
            let servers = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten());
            let servers: Vec<&str> = servers.map(String::as_str).collect();
            if servers.iter().any(|text| text.parse().ok() == server) {
                return None;
            }
            warned(format!("dnsPolicy None, and it asks {}", servers.join(", ")), "name cluster DNS in dnsConfig")
        }
        _ => None,
    }
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
pub(super) fn fars(picture: &Picture, from: &Client<'_>, service: &Called<'_>) -> Vec<String> {
    if let Some(only) = service.cluster {
        return vec![only.name().to_owned()];
    }
    let import = service.among(from.cluster.imports.all());
    let sources = import.iter().flat_map(|import| import.status.iter().flat_map(|status| &status.clusters));
    let mut names: Vec<String> = sources.map(|source| source.cluster.clone()).collect();
    names.extend(exporters(picture, service).map(|(cluster, _)| cluster.name().to_owned()));
    names.sort();
    names.dedup();
    names
}

/// The clusters that were seen to export a service, with their exports.
fn exporters<'a>(
    picture: &'a Picture,
    service: &Called<'_>,
) -> impl Iterator<Item = (&'a ClusterPicture, &'a ServiceExport)> {
    picture.clusters.iter().filter_map(|cluster| {
        let export = service.among(cluster.exports.all())?;
        Some((cluster, export))
    })
}

/// Whether endpoints of a cluster are meant.
fn is_meant(service: &Called<'_>, cluster: &ClusterPicture) -> bool {
    match service.only() {
        Some(only) => cluster.id() == Some(only),
        None => service.cluster.is_none_or(|only| std::ptr::eq(only, cluster)),
    }
}

/// Why a service of clusters that export it does not come from any of them; of those whose endpoints are meant, if it is only one.
fn refusals(picture: &Picture, near: &ClusterPicture, service: &Called<'_>) -> Vec<Hop> {
    let has_other = service.only().is_none() && sources_ready(near, service).next().is_some();
    let fars = exporters(picture, service).map(|(far, _)| far).filter(|far| !std::ptr::eq(*far, near));
    let meant = fars.filter(|far| is_meant(service, far) && !has_other);
    meant.filter_map(|far| members::unused(picture, near, far)).collect()
}

/// What is the matter with the exports of a service, wherever they are seen.
fn exports(picture: &Picture, near: &ClusterPicture, service: &Called<'_>) -> Vec<Hop> {
    let mut hops = Vec::new();
    for (cluster, export) in exporters(picture, service).filter(|(cluster, _)| is_meant(service, cluster)) {
        let mut faults = services::export_faults(cluster, export);
        // What one of several exporters lacks, the others have.
        let others = || sources_ready(near, service).any(|source| Some(source) != cluster.id());
        if service.only().is_none() && others() {
            faults.iter_mut().filter(|fault| fault.reason != "ExportConflict").for_each(Fault::soften);
        }
        faults.sort_by_key(|fault| fault.state);
        match faults.into_iter().next() {
            Some(fault) => hops.push(Hop::bad(cluster.name(), "export", fault)),
            None => {
                let good = format!("{}/{} is exported", service.namespace, service.name);
                hops.push(Hop::good(cluster.name(), "export", good));
            }
        }
    }
    hops
}

/// The clusters of which the client's one has ready endpoints.
fn sources_ready<'a>(near: &'a ClusterPicture, service: &Called<'_>) -> impl Iterator<Item = &'a str> {
    let slices = services::import_slices(near, &service.namespace, &service.name).into_iter();
    let ready = slices.filter(|slice| slice.endpoints.iter().any(services::is_ready));
    ready.filter_map(|slice| slice.labels().get(LABEL_SOURCE_CLUSTER).map(String::as_str))
}

fn no_import(picture: &Picture, near: &ClusterPicture, service: &Called<'_>) -> Fault {
    let exported: Vec<&str> = exporters(picture, service).map(|(cluster, _)| cluster.name()).collect();
    let Called { namespace, name, .. } = service;
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
    let good = match addresses.as_slice() {
        [] => format!("{name} has no address, as it has no ready endpoint"),
        some => format!("{name} is {}", some.join(" ")),
    };
    Some(Hop::judged(from.cluster.name(), "name", dns::answer(from.cluster, found), good))
}

/// Whether kube-proxy of the client's node carries the clusterset IP.
fn carried(from: &Client<'_>, import: &ServiceImport, port: Option<u16>) -> Option<Hop> {
    let at = vip(import, port)?;
    let node = from.node.as_ref()?;
    let (here, what) = (from.cluster.name(), format!("kube-proxy on node {node}"));
    let Some(seen) = from.cluster.inspection(node) else {
        return Some(Hop::unseen(here, what, "the node was not asked"));
    };
    let Some(found) = seen.services.iter().find(|found| found.address == at) else {
        return Some(Hop::unseen(here, what, format!("it did not tell whether it carries {at}")));
    };
    if found.programmed.is_none() {
        return Some(Hop::unseen(here, what, found.by.clone()));
    }
    let good = format!("carries clusterset IP {} ({})", at.ip(), found.by);
    Some(Hop::judged(here, what, kube_proxy::service_fault(found), good))
}

/// The clusterset IP of an import, with the port that is called: the first one where none was given.
pub(super) fn vip(import: &ServiceImport, port: Option<u16>) -> Option<SocketAddr> {
    let ip = import.spec.ips.first()?.parse().ok()?;
    let first = || import.spec.ports.first().and_then(|port| u16::try_from(port.port).ok());
    Some(SocketAddr::new(ip, port.or_else(first)?))
}

/// Ready endpoints, with their ports: those of a family that the client has.
pub(super) fn targets(from: &Client<'_>, service: &Called<'_>, port: Option<u16>) -> Vec<Target> {
    let cluster = from.cluster;
    let mut targets = Vec::new();
    let host = service.host.as_ref().map(|host| host.name.as_str());
    for slice in services::import_slices(cluster, &service.namespace, &service.name) {
        let source = slice.labels().get(LABEL_SOURCE_CLUSTER).map(String::as_str);
        if service.only().is_some_and(|only| source != Some(only)) {
            continue;
        }
        let (port, protocol) = port_of(cluster, service, slice, port);
        let meant = slice.endpoints.iter().filter(|endpoint| host.is_none() || endpoint.hostname.as_deref() == host);
        for endpoint in meant.filter(|endpoint| services::is_ready(endpoint)) {
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            let addresses = addresses.filter(|address| from.address_to(*address).is_some());
            let target = |address| Target { address, port, protocol: protocol.clone(), probe: true };
            targets.extend(addresses.map(target).take(1));
        }
    }
    targets.truncate(TARGETS);
    targets
}

/// The port of a slice's endpoints behind a port of the service, by its name. A headless service has none before it.
fn port_of(
    cluster: &ClusterPicture,
    service: &Called<'_>,
    slice: &EndpointSlice,
    port: Option<u16>,
) -> (Option<u16>, String) {
    let import = service.among(cluster.imports.all());
    let mut ports = slice.ports.iter().flatten();
    let is_headless = import.is_some_and(|import| import.spec.kind == ImportType::Headless);
    let protocol_of =
        |port: Option<&EndpointPort>| port.and_then(|port| port.protocol.clone()).unwrap_or_else(|| "TCP".to_owned());
    if let Some(number) = port.filter(|_| is_headless) {
        return (Some(number), protocol_of(ports.find(|port| port.port == Some(number.into()))));
    }
    let called = import.and_then(|import| {
        let mut ports = import.spec.ports.iter();
        match port {
            Some(number) => ports.find(|found| found.port == i32::from(number)),
            None => ports.next(),
        }
    });
    let named =
        called.and_then(|called| ports.clone().find(|port| port.name.as_deref().unwrap_or_default() == called.name));
    let found = named.or_else(|| ports.next());
    (found.and_then(|port| u16::try_from(port.port?).ok()), protocol_of(found))
}
