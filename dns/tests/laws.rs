//! Laws of the zone, for any services and any name: it says what a slow, literal reading of the specification says, and
//! the order in which services are told does not matter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use dns::{Answer, Endpoint, Name, Port, Protocol, RecordType, Records, Service, ServiceKind, Zone, ZoneConfig};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const ORIGIN: &str = "clusterset.local";

// === Any services, of few words so that they meet ===

fn any_address() -> impl Strategy<Value = IpAddr> {
    select(vec!["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1", "fd00::", "::1"]).prop_map(|ip| ip.parse().unwrap())
}

fn any_port() -> impl Strategy<Value = Port> {
    let name = select(vec![None, Some(""), Some("p"), Some("q"), Some("P")]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    (name, protocol, select(vec![1_u16, 2, 65_535])).prop_map(|(name, protocol, number)| Port {
        name: name.map(str::to_owned),
        protocol,
        number,
    })
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let hostname = select(vec![None, Some("h0"), Some("h1"), Some("H1"), Some("10-0-0-1")]);
    let parts = (select(vec!["c1", "c2"]), hostname, vec(any_address(), 0..3), prop::bool::weighted(0.7));
    parts.prop_map(|(cluster, hostname, addresses, ready)| Endpoint {
        cluster: cluster.to_owned(),
        hostname: hostname.map(str::to_owned),
        addresses,
        ready,
    })
}

fn any_service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        vec(any_address(), 0..3).prop_map(|ips| ServiceKind::ClusterSetIp { ips }),
        vec(any_endpoint(), 0..4).prop_map(|endpoints| ServiceKind::Headless { endpoints }),
    ];
    (select(vec!["n1", "n2"]), select(vec!["x", "y", "X", "svc", "c1"]), kind, vec(any_port(), 0..3)).prop_map(
        |(namespace, name, kind, ports)| Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind,
            ports,
        },
    )
}

fn any_question() -> impl Strategy<Value = String> {
    let words = [
        "x",
        "y",
        "n1",
        "n2",
        "svc",
        "c1",
        "c2",
        "h0",
        "h1",
        "_p",
        "_q",
        "_",
        "_tcp",
        "_udp",
        "_sctp",
        "p",
        "10-0-0-1",
        "fd00--1",
        "fd00--0",
        "0--1",
        "dns",
        "ns",
        "dns-version",
        "pod",
        "X",
        "SVC",
    ];
    let random = vec(select(words.to_vec()), 0..6).prop_map(|labels| labels.join("."));
    // Most questions have the shape of a name that may exist.
    let shaped = (
        select(vec![
            "",
            "_p._tcp.",
            "_q._udp.",
            "_p._sctp.",
            "_tcp.",
            "h0.c1.",
            "H1.c2.",
            "h1.c1.",
            "10-0-0-1.c1.",
            "c1.",
        ]),
        select(vec!["x", "y", "svc", "c1", "nope"]),
        select(vec!["n1", "n2", "n3"]),
    )
        .prop_map(|(prefix, service, namespace)| format!("{prefix}{service}.{namespace}.svc"));
    let origin = select(vec![ORIGIN, ORIGIN, ORIGIN, "ClusterSet.LOCAL", "local", "cluster.local"]);
    (prop_oneof![random, shaped], origin)
        .prop_map(|(below, origin)| if below.is_empty() { origin.to_owned() } else { format!("{below}.{origin}") })
}

const TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Srv,
    RecordType::Txt,
    RecordType::Ns,
    RecordType::Soa,
    RecordType::Any,
    RecordType::Other(65),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_zone_says_what_the_specification_says(
        services in vec(any_service(), 0..6),
        questions in vec(any_question(), 30),
    ) {
        let zone = Zone::build(&ZoneConfig::default(), &services);
        for question in questions {
            let name: Name = question.parse().unwrap();
            for rtype in [RecordType::A, RecordType::Aaaa, RecordType::Srv] {
                prop_assert_eq!(told(&zone, &name, rtype), specified(&services, &question, rtype), "{} {:?}", name, rtype);
            }
        }
    }

    #[test]
    fn the_order_of_input_does_not_matter(
        services in vec(any_service(), 0..6).prop_shuffle(),
        order in subsequence((0..6).collect::<Vec<_>>(), 6).prop_shuffle(),
    ) {
        let mut shuffled: Vec<Service> = order.iter().filter_map(|&at| services.get(at).cloned()).collect();
        for service in &mut shuffled {
            service.ports.reverse();
            match &mut service.kind {
                ServiceKind::ClusterSetIp { ips } => ips.reverse(),
                ServiceKind::Headless { endpoints } => endpoints.reverse(),
            }
        }
        let config = ZoneConfig::default();
        prop_assert_eq!(Zone::build(&config, &services), Zone::build(&config, &shuffled));
    }

    #[test]
    fn a_name_exists_for_every_type_or_for_none(services in vec(any_service(), 0..6), question in any_question()) {
        let zone = Zone::build(&ZoneConfig::default(), &services);
        let name: Name = question.parse().unwrap();
        let absent = TYPES.map(|rtype| zone.lookup(&name, rtype) == Answer::NxDomain);
        prop_assert!(absent.iter().all(|is| *is == absent[0]), "{} {:?}", name, absent);
        let refused = TYPES.map(|rtype| zone.lookup(&name, rtype) == Answer::Refused);
        prop_assert!(refused.iter().all(|is| *is == refused[0]), "{} {:?}", name, refused);
    }

    #[test]
    fn every_location_leads_to_an_address(services in vec(any_service(), 0..6), question in any_question()) {
        let zone = Zone::build(&ZoneConfig::default(), &services);
        if let Answer::Records(Records::Srv(locations)) = zone.lookup(&question.parse().unwrap(), RecordType::Srv) {
            prop_assert!(!locations.is_empty());
            for srv in locations {
                let (v4, v6) = zone.addresses(&srv.target);
                prop_assert!(!v4.is_empty() || !v6.is_empty(), "{}", srv.target);
                prop_assert!((1..=100).contains(&srv.weight));
            }
        }
    }

    #[test]
    fn any_text_makes_a_zone(
        texts in vec(any::<String>(), 4),
        ips in vec(any::<IpAddr>(), 0..3),
        number in any::<u16>(),
        question in "[a-zA-Z0-9_-]{1,63}(\\.[a-z]{1,63}){0,2}",
    ) {
        let endpoint = Endpoint {
            cluster: texts[2].clone(),
            hostname: Some(texts[3].clone()),
            addresses: ips.clone(),
            ready: true,
        };
        let ports = vec![Port { name: Some(texts[3].clone()), protocol: Protocol::Tcp, number }];
        let kinds = [ServiceKind::ClusterSetIp { ips }, ServiceKind::Headless { endpoints: vec![endpoint] }];
        for kind in kinds {
            let service =
                Service { namespace: texts[0].clone(), name: texts[1].clone(), kind, ports: ports.clone() };
            let zone = Zone::build(&ZoneConfig::default(), &[service]);
            let name: Name = format!("{question}.{ORIGIN}").parse().unwrap();
            let _answer = zone.lookup(&name, RecordType::A);
            prop_assert_eq!(zone.lookup(&question.parse().unwrap(), RecordType::A), Answer::Refused);
        }
    }
}

/// What the zone says, in the form of [`specified`].
fn told(zone: &Zone, name: &Name, rtype: RecordType) -> String {
    let texts: BTreeSet<String> = match zone.lookup(name, rtype) {
        Answer::Refused => return "refused".into(),
        Answer::NxDomain => return "nxdomain".into(),
        Answer::NoData => return "nodata".into(),
        Answer::Records(Records::A(v4)) => v4.iter().map(ToString::to_string).collect(),
        Answer::Records(Records::Aaaa(v6)) => v6.iter().map(ToString::to_string).collect(),
        Answer::Records(Records::Srv(srv)) => srv.iter().map(|srv| format!("{} {}", srv.port, srv.target)).collect(),
        Answer::Records(other) => panic!("{rtype:?} answered by {other:?}"),
    };
    Vec::from_iter(texts).join(", ")
}

// === The specification, read literally: filters over the list of services, no index, no sharing ===

fn specified(services: &[Service], question: &str, rtype: RecordType) -> String {
    let question = question.to_lowercase();
    let Some(below) = question.strip_suffix(ORIGIN).filter(|below| below.is_empty() || below.ends_with('.')) else {
        return "refused".into();
    };
    let labels: Vec<&str> = below.split_terminator('.').collect();
    match labels[..] {
        [] | ["svc"] | ["dns-version"] | ["dns"] | ["ns", "dns"] => "nodata".into(),
        [namespace, "svc"] if services.iter().any(|service| service.namespace == namespace) => "nodata".into(),
        [ref front @ .., service, namespace, "svc"] => {
            let group: Vec<&Service> = services
                .iter()
                .filter(|other| other.namespace == namespace && other.name.to_lowercase() == service)
                .collect();
            in_service(&group, front, &format!("{service}.{namespace}.svc.{ORIGIN}."), rtype)
        }
        _ => "nxdomain".into(),
    }
}

fn in_service(group: &[&Service], front: &[&str], own: &str, rtype: RecordType) -> String {
    let vip = group.iter().any(|service| matches!(service.kind, ServiceKind::ClusterSetIp { .. }));
    let ips: BTreeSet<IpAddr> = group
        .iter()
        .flat_map(|service| match &service.kind {
            ServiceKind::ClusterSetIp { ips } => ips.clone(),
            ServiceKind::Headless { .. } => vec![],
        })
        .collect();
    // (name of the host below the service, address) of every ready endpoint
    let hosts: BTreeSet<(String, IpAddr)> =
        group.iter().filter(|_| !vip).flat_map(|service| hosts_of(service)).collect();
    if group.is_empty() || (!vip && hosts.is_empty()) {
        return "nxdomain".into();
    }
    // (label of the port, label of the protocol, number, target): an endpoint has the ports of its own export
    let mut ports: Vec<(String, &str, u16, String)> = Vec::new();
    for service in group {
        let targets: Vec<String> = match vip {
            true => ips.iter().map(|_| own.to_owned()).collect(),
            false => hosts_of(service).into_iter().map(|(host, _)| format!("{host}.{own}")).collect(),
        };
        for port in service.ports.iter().filter(|port| port.name.as_deref().is_some_and(|name| !name.is_empty())) {
            let protocol = match port.protocol {
                Protocol::Tcp => "_tcp",
                Protocol::Udp => "_udp",
                Protocol::Sctp => "_sctp",
            };
            let name = format!("_{}", port.name.as_deref().unwrap().to_lowercase());
            ports.extend(targets.iter().map(|target| (name.clone(), protocol, port.number, target.clone())));
        }
    }
    let addresses = |all: BTreeSet<IpAddr>| match rtype {
        RecordType::A => all.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect(),
        RecordType::Aaaa => all.iter().filter(|ip| ip.is_ipv6()).map(ToString::to_string).collect(),
        _ => BTreeSet::new(),
    };
    let locations = |asked: &dyn Fn(&str, &str) -> bool| -> BTreeSet<String> {
        let asked = ports.iter().filter(|(name, protocol, _, _)| rtype == RecordType::Srv && asked(name, protocol));
        asked.map(|(_, _, number, target)| format!("{number} {target}")).collect()
    };
    let records: BTreeSet<String> = match front {
        [] if rtype == RecordType::Srv => locations(&|_, _| true),
        [] if vip => addresses(ips),
        [] => addresses(hosts.iter().map(|(_, ip)| *ip).collect()),
        [protocol] if ports.iter().any(|(_, other, _, _)| other == protocol) => BTreeSet::new(),
        [name, protocol] if ports.iter().any(|(port, other, _, _)| port == name && other == protocol) => {
            locations(&|port, other| port == *name && other == *protocol)
        }
        [host, cluster] if hosts.iter().any(|(other, _)| *other == format!("{host}.{cluster}")) => {
            let matching = hosts.iter().filter(|(other, _)| *other == format!("{host}.{cluster}"));
            addresses(matching.map(|(_, ip)| *ip).collect())
        }
        _ => return "nxdomain".into(),
    };
    if records.is_empty() { "nodata".into() } else { Vec::from_iter(records).join(", ") }
}

/// Name of the host below the service, and address, of every ready endpoint of one export.
fn hosts_of(service: &Service) -> Vec<(String, IpAddr)> {
    let ServiceKind::Headless { endpoints } = &service.kind else { return Vec::new() };
    let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
    let hosts = ready.flat_map(|endpoint| {
        endpoint.addresses.iter().map(|ip| {
            let host = endpoint.hostname.clone().unwrap_or_else(|| literal(ip)).to_lowercase();
            (format!("{host}.{}", endpoint.cluster), *ip)
        })
    });
    hosts.collect()
}

/// The names of the addresses in [`any_address`], written by hand.
fn literal(ip: &IpAddr) -> String {
    match ip.to_string().as_str() {
        "10.0.0.1" => "10-0-0-1",
        "10.0.0.2" => "10-0-0-2",
        "10.0.1.1" => "10-0-1-1",
        "fd00::1" => "fd00--1",
        "fd00::" => "fd00--0",
        "::1" => "0--1",
        other => panic!("no name for {other}"),
    }
    .to_owned()
}
