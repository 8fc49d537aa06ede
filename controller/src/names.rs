//! Which addresses a name may point at, given which clusters can be reached.

use std::collections::BTreeMap;

use dns::{Service, ServiceKind};

/// Whether traffic reaches a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reachability {
    /// Its path carries traffic, or nothing is known against it.
    Reachable,
    /// Its path is known to be down.
    Unreachable,
    /// Its path has been down for so long that its endpoints are taken away.
    Lost,
}

/// The services that a zone is built from: those of all clusters, without the addresses in clusters that are down.
///
/// A cluster that `reachability` does not name is reachable; so the viewing cluster itself need not be in it.
/// Only addresses go. The service, its type and its ports stay, because they do not depend on anyone's health.
/// When nothing would be left to answer with, the last known addresses stay: an empty answer is cached, and a path
/// that looks down may be just fine from where the client is.
///
/// The result is sorted, and does not depend on the order of the input.
pub fn plan_zone(
    services: &BTreeMap<String, Vec<Service>>,
    reachability: &BTreeMap<String, Reachability>,
) -> Vec<Service> {
    let mut by_name: BTreeMap<(&str, &str), Vec<(Reachability, &Service)>> = BTreeMap::new();
    for (cluster, exports) in services {
        let reachability = reachability.get(cluster).copied().unwrap_or(Reachability::Reachable);
        for service in exports {
            by_name.entry((&service.namespace, &service.name)).or_default().push((reachability, service));
        }
    }
    let mut planned: Vec<_> = by_name.into_values().flat_map(plan_service).collect();
    planned.sort();
    planned
}

fn plan_service(exports: Vec<(Reachability, &Service)>) -> Vec<Service> {
    let is_up = |reachability| reachability == Reachability::Reachable;
    let answered = exports.iter().any(|(reachability, service)| is_up(*reachability) && has_answer(service, &exports));
    let plan = |(reachability, service): &(Reachability, &Service)| {
        if is_up(*reachability) || !answered { (*service).clone() } else { without_addresses(service) }
    };
    exports.iter().map(plan).collect()
}

/// Whether a name gets an address from this export. Where one export has a clusterset IP, headless ones do not count.
fn has_answer(service: &Service, exports: &[(Reachability, &Service)]) -> bool {
    let clusterset = exports.iter().any(|(_, export)| matches!(export.kind, ServiceKind::ClusterSetIp { .. }));
    match &service.kind {
        ServiceKind::ClusterSetIp { ips } => !ips.is_empty(),
        ServiceKind::Headless { .. } if clusterset => false,
        ServiceKind::Headless { endpoints } => {
            endpoints.iter().any(|endpoint| endpoint.ready && !endpoint.addresses.is_empty())
        }
    }
}

fn without_addresses(service: &Service) -> Service {
    let kind = match service.kind {
        ServiceKind::ClusterSetIp { .. } => ServiceKind::ClusterSetIp { ips: Vec::new() },
        ServiceKind::Headless { .. } => ServiceKind::Headless { endpoints: Vec::new() },
    };
    Service { kind, ..service.clone() }
}

#[cfg(test)]
mod tests {
    use dns::{Endpoint, Port, Protocol};

    use super::*;

    fn web(ips: &[&str]) -> Service {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let ports = vec![Port { name: Some("http".into()), protocol: Protocol::Tcp, number: 80 }];
        Service { namespace: "default".into(), name: "web".into(), kind: ServiceKind::ClusterSetIp { ips }, ports }
    }

    fn db(cluster: &str, endpoints: &[(&str, bool)]) -> Service {
        let endpoint = |(address, ready): &(&str, bool)| Endpoint {
            cluster: cluster.into(),
            hostname: None,
            addresses: vec![address.parse().unwrap()],
            ready: *ready,
        };
        let kind = ServiceKind::Headless { endpoints: endpoints.iter().map(endpoint).collect() };
        Service { namespace: "default".into(), name: "db".into(), kind, ports: Vec::new() }
    }

    fn by_cluster<T: Clone>(entries: &[(&str, T)]) -> BTreeMap<String, T> {
        entries.iter().map(|(cluster, value)| ((*cluster).to_owned(), value.clone())).collect()
    }

    #[test]
    fn all_reachable_clusters_are_named() {
        let services = by_cluster(&[("berlin", vec![web(&["10.53.0.10"])]), ("paris", vec![web(&["10.43.0.10"])])]);
        assert_eq!(plan_zone(&services, &BTreeMap::new()), [web(&["10.43.0.10"]), web(&["10.53.0.10"])]);
    }

    #[test]
    fn the_address_of_an_unreachable_cluster_goes_but_its_port_stays() {
        let services = by_cluster(&[("berlin", vec![web(&["10.53.0.10"])]), ("paris", vec![web(&["10.43.0.10"])])]);
        let planned = plan_zone(&services, &by_cluster(&[("berlin", Reachability::Unreachable)]));
        assert_eq!(planned, [web(&[]), web(&["10.43.0.10"])]);
        assert_eq!(planned[0].ports.len(), 1);
    }

    #[test]
    fn the_endpoints_of_an_unreachable_cluster_go() {
        let services = by_cluster(&[
            ("berlin", vec![db("berlin", &[("10.52.0.5", true)])]),
            ("paris", vec![db("paris", &[("10.42.0.5", true), ("10.42.0.6", false)])]),
        ]);
        let planned = plan_zone(&services, &by_cluster(&[("berlin", Reachability::Unreachable)]));
        assert_eq!(planned, [db("berlin", &[]), db("paris", &[("10.42.0.5", true), ("10.42.0.6", false)])]);
    }

    #[test]
    fn the_last_known_addresses_stay_when_all_clusters_look_down() {
        let down = Reachability::Unreachable;
        let services = by_cluster(&[("berlin", vec![web(&["10.53.0.10"])]), ("rome", vec![web(&["10.63.0.10"])])]);
        let planned = plan_zone(&services, &by_cluster(&[("berlin", down), ("rome", down)]));
        assert_eq!(planned, [web(&["10.53.0.10"]), web(&["10.63.0.10"])]);
    }

    #[test]
    fn a_reachable_cluster_without_ready_endpoint_does_not_empty_the_answer() {
        let services = by_cluster(&[
            ("berlin", vec![db("berlin", &[("10.52.0.5", true)])]),
            ("paris", vec![db("paris", &[("10.42.0.5", false)])]),
        ]);
        let planned = plan_zone(&services, &by_cluster(&[("berlin", Reachability::Unreachable)]));
        assert_eq!(planned, [db("berlin", &[("10.52.0.5", true)]), db("paris", &[("10.42.0.5", false)])]);
    }

    #[test]
    fn one_service_does_not_decide_for_another() {
        let services = by_cluster(&[
            ("berlin", vec![web(&["10.53.0.10"]), db("berlin", &[("10.52.0.5", true)])]),
            ("paris", vec![web(&["10.43.0.10"])]),
        ]);
        let planned = plan_zone(&services, &by_cluster(&[("berlin", Reachability::Unreachable)]));
        assert_eq!(planned, [db("berlin", &[("10.52.0.5", true)]), web(&[]), web(&["10.43.0.10"])]);
    }
}
