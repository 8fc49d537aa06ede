//! From ServiceImports and their EndpointSlices to the services that a zone is made of (KEP-1645, multi-cluster DNS).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dns::{Endpoint, Port, Protocol, Service, ServiceKind};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::slices::ImportedSlice;
use super::value::{ServiceKey, parse_protocol};
use crate::api::{ImportPort, ImportType, ServiceImport};
use crate::names::{Reachability, plan_zone};

/// Endpoints by cluster and the names of their ports.
type Headless = BTreeMap<(String, BTreeSet<(String, Protocol)>), Vec<Endpoint>>;

/// The services that names shall exist for, sorted; the order of inputs does not matter.
///
/// `slices` may hold slices of others, which do not count. An import in a namespace that `namespaces` does not hold has
/// no name. Headless services are answered with the endpoints of clusters that can be reached, as long as that leaves
/// any (see [`plan_zone`]). Their ports are those that their slices have, with the numbers of the import.
pub fn zone<'a>(
    imports: impl IntoIterator<Item = &'a ServiceImport>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    namespaces: &BTreeSet<String>,
    reachability: &BTreeMap<String, Reachability>,
) -> Vec<Service> {
    let mut endpoints: BTreeMap<ServiceKey, Headless> = BTreeMap::new();
    for slice in slices.into_iter().filter_map(ImportedSlice::of) {
        // Only headless services have names for endpoints.
        if slice.kind == ImportType::Headless {
            let of_service = endpoints.entry(slice.service.clone()).or_default();
            let ports = slice.ports.iter().map(|port| (port.name.clone(), port.protocol)).collect();
            of_service.entry((slice.cluster.to_string(), ports)).or_default().extend(translate(slice));
        }
    }
    // By cluster; the clusterset IP is this cluster's own, whatever its name.
    let mut services: BTreeMap<String, Vec<Service>> = BTreeMap::new();
    for import in imports {
        let Some(key) = key(import).filter(|key| namespaces.contains(&key.namespace)) else { continue };
        let service = |kind, ports| Service { namespace: key.namespace.clone(), name: key.name.clone(), kind, ports };
        let ports = || import.spec.ports.iter().filter_map(port);
        match import.spec.kind {
            ImportType::ClusterSetIP => {
                let ips = import.spec.ips.iter().filter_map(|text| text.parse::<IpAddr>().ok()).collect();
                services
                    .entry(String::new())
                    .or_default()
                    .push(service(ServiceKind::ClusterSetIp { ips }, ports().collect()));
            }
            ImportType::Headless => {
                for ((cluster, own), endpoints) in endpoints.remove(&key).unwrap_or_default() {
                    // Exports need not have the same ports, and the import has those of all.
                    let ports =
                        ports().filter(|port| own.contains(&(port.name.clone().unwrap_or_default(), port.protocol)));
                    let headless = service(ServiceKind::Headless { endpoints }, ports.collect());
                    services.entry(cluster).or_default().push(headless);
                }
            }
            // The controller writes it anew, in a type that both know, when it is of this version, too.
            ImportType::Unknown => {}
        }
    }
    plan_zone(&services, reachability)
}

fn key(import: &ServiceImport) -> Option<ServiceKey> {
    Some(ServiceKey::new(import.metadata.namespace.clone()?, import.metadata.name.clone()?))
}

fn port(port: &ImportPort) -> Option<Port> {
    Some(Port {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: port.protocol.as_deref().map_or(Some(Protocol::Tcp), parse_protocol)?,
        number: u16::try_from(port.port).ok().filter(|number| *number > 0)?,
    })
}

fn translate(slice: ImportedSlice) -> impl Iterator<Item = Endpoint> {
    let cluster = slice.cluster.to_string();
    slice.endpoints.into_iter().map(move |endpoint| Endpoint {
        cluster: cluster.clone(),
        hostname: endpoint.hostname.map(String::from),
        addresses: endpoint.addresses.into_vec(),
        ready: endpoint.ready.unwrap_or(true),
    })
}

#[cfg(test)]
mod tests;
