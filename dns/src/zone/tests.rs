//! The names of `specification.md`, rule by rule, without a wire. `row_NN` is the row of the multi-cluster checklist.

use super::*;
use crate::service::{Endpoint, Port, Protocol, ServiceKind};

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: (!name.is_empty()).then(|| name.to_owned()), protocol, number }
}

fn cluster_set_ip(name: &str, ips: &[&str], ports: Vec<Port>) -> Service {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Service { namespace: "demo".into(), name: name.into(), kind: ServiceKind::ClusterSetIp { ips }, ports }
}

fn headless(name: &str, endpoints: Vec<Endpoint>, ports: Vec<Port>) -> Service {
    Service { namespace: "demo".into(), name: name.into(), kind: ServiceKind::Headless { endpoints }, ports }
}

fn endpoint(cluster: &str, hostname: &str, addresses: &[&str]) -> Endpoint {
    Endpoint {
        cluster: cluster.into(),
        hostname: (!hostname.is_empty()).then(|| hostname.to_owned()),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        ready: true,
    }
}

fn not_ready(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: false, ..endpoint }
}

/// The zone of these services with all defaults.
fn zone(services: &[Service]) -> Zone {
    Zone::build(&ZoneConfig::default(), services)
}

/// The answer as text: records in the zone's order, or `nodata`, `nxdomain`, `refused`.
fn ask(zone: &Zone, name: &str, rtype: RecordType) -> String {
    let srv = |srv: &Srv| format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target);
    let lines: Vec<String> = match zone.lookup(&name.parse().unwrap(), rtype) {
        Answer::NoData => return "nodata".into(),
        Answer::NxDomain => return "nxdomain".into(),
        Answer::Refused => return "refused".into(),
        Answer::Records(Records::A(v4)) => v4.iter().map(ToString::to_string).collect(),
        Answer::Records(Records::Aaaa(v6)) => v6.iter().map(ToString::to_string).collect(),
        Answer::Records(Records::Srv(records)) => records.iter().map(srv).collect(),
        Answer::Records(Records::Txt(text)) => vec![text.into()],
        Answer::Records(Records::Ns(name)) => vec![name.to_string()],
        Answer::Records(Records::Soa(soa)) => vec![format!("{} {} {}", soa.mname, soa.rname, soa.minimum)],
        Answer::Records(Records::Any) => vec!["any".into()],
    };
    lines.join(", ")
}

const ALL_TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Srv,
    RecordType::Txt,
    RecordType::Ns,
    RecordType::Soa,
    RecordType::Any,
    RecordType::Other(15),
];

#[test]
fn row_83_a_and_aaaa_of_a_clusterset_ip() {
    let zone = zone(&[
        cluster_set_ip("dual", &["10.43.0.2", "10.43.0.1", "fd00:43::1", "10.43.0.1"], vec![]),
        cluster_set_ip("four", &["10.43.0.9"], vec![]),
    ]);
    assert_eq!(ask(&zone, "dual.demo.svc.clusterset.local", RecordType::A), "10.43.0.1, 10.43.0.2");
    assert_eq!(ask(&zone, "dual.demo.svc.clusterset.local", RecordType::Aaaa), "fd00:43::1");
    assert_eq!(ask(&zone, "four.demo.svc.clusterset.local", RecordType::A), "10.43.0.9");
    assert_eq!(ask(&zone, "four.demo.svc.clusterset.local", RecordType::Aaaa), "nodata");
}

#[test]
fn row_84_srv_of_named_ports() {
    let ports = vec![port("tcp", Protocol::Tcp, 42), port("udp", Protocol::Udp, 42), port("s", Protocol::Sctp, 9)];
    let zone = zone(&[cluster_set_ip("hello", &["10.43.0.1"], ports)]);
    let target = "hello.demo.svc.clusterset.local.";
    let ask = |name: &str| ask(&zone, name, RecordType::Srv);
    assert_eq!(ask("_tcp._tcp.hello.demo.svc.clusterset.local"), format!("0 100 42 {target}"));
    assert_eq!(ask("_udp._udp.hello.demo.svc.clusterset.local"), format!("0 100 42 {target}"));
    assert_eq!(ask("_s._sctp.hello.demo.svc.clusterset.local"), format!("0 100 9 {target}"));
    // The name and the protocol must both match.
    assert_eq!(ask("_tcp._udp.hello.demo.svc.clusterset.local"), "nxdomain");
    assert_eq!(ask("_other._tcp.hello.demo.svc.clusterset.local"), "nxdomain");
}

#[test]
fn row_84_a_service_without_an_ip_has_no_location() {
    let zone = zone(&[cluster_set_ip("pending", &[], vec![port("http", Protocol::Tcp, 80)])]);
    assert_eq!(ask(&zone, "pending.demo.svc.clusterset.local", RecordType::A), "nodata");
    assert_eq!(ask(&zone, "pending.demo.svc.clusterset.local", RecordType::Srv), "nodata");
    assert_eq!(ask(&zone, "_http._tcp.pending.demo.svc.clusterset.local", RecordType::Srv), "nxdomain");
}

#[test]
fn row_85_bare_name_srv_has_each_number_once() {
    let same = vec![port("tcp", Protocol::Tcp, 42), port("udp", Protocol::Udp, 42)];
    let two = vec![port("http", Protocol::Tcp, 80), port("admin", Protocol::Tcp, 9000)];
    let zone = zone(&[cluster_set_ip("same", &["10.43.0.1"], same), cluster_set_ip("two", &["10.43.0.2"], two)]);
    assert_eq!(
        ask(&zone, "same.demo.svc.clusterset.local", RecordType::Srv),
        "0 100 42 same.demo.svc.clusterset.local."
    );
    assert_eq!(
        ask(&zone, "two.demo.svc.clusterset.local", RecordType::Srv),
        "0 50 80 two.demo.svc.clusterset.local., 0 50 9000 two.demo.svc.clusterset.local."
    );
}

#[test]
fn row_86_an_unnamed_port_has_no_srv() {
    let zone = zone(&[cluster_set_ip("plain", &["10.43.0.1"], vec![port("", Protocol::Tcp, 80)])]);
    assert_eq!(ask(&zone, "plain.demo.svc.clusterset.local", RecordType::Srv), "nodata");
    assert_eq!(ask(&zone, "_._tcp.plain.demo.svc.clusterset.local", RecordType::Srv), "nxdomain");
    assert_eq!(ask(&zone, "_tcp.plain.demo.svc.clusterset.local", RecordType::Srv), "nxdomain");
}

#[test]
fn row_87_a_cluster_id_before_the_service_is_absent() {
    let zone = zone(&[
        cluster_set_ip("vip", &["10.43.0.1"], vec![]),
        headless("db", vec![endpoint("c1", "db-0", &["10.42.0.5"])], vec![]),
    ]);
    for name in ["c1.vip.demo.svc.clusterset.local", "c1.db.demo.svc.clusterset.local"] {
        for rtype in ALL_TYPES {
            assert_eq!(ask(&zone, name, rtype), "nxdomain", "{name} {rtype:?}");
        }
    }
    // A clusterset IP has no host names either.
    assert_eq!(ask(&zone, "db-0.c1.vip.demo.svc.clusterset.local", RecordType::A), "nxdomain");
}

#[test]
fn row_88_headless_has_all_ready_addresses_of_all_clusters() {
    let zone = zone(&[headless(
        "db",
        vec![
            endpoint("c1", "db-0", &["10.42.0.5", "fd00:42::5"]),
            endpoint("c2", "db-0", &["10.52.0.5", "fd00:52::5"]),
            endpoint("c2", "", &["10.52.0.6"]),
            not_ready(endpoint("c1", "db-1", &["10.42.0.6", "fd00:42::6"])),
        ],
        vec![],
    )]);
    assert_eq!(ask(&zone, "db.demo.svc.clusterset.local", RecordType::A), "10.42.0.5, 10.52.0.5, 10.52.0.6");
    assert_eq!(ask(&zone, "db.demo.svc.clusterset.local", RecordType::Aaaa), "fd00:42::5, fd00:52::5");
}

#[test]
fn row_89_headless_without_a_ready_endpoint_does_not_exist() {
    let ports = vec![port("pg", Protocol::Tcp, 5432)];
    let zone = zone(&[
        headless("none", vec![], ports.clone()),
        headless("waiting", vec![not_ready(endpoint("c1", "w-0", &["10.42.0.5"]))], ports),
    ]);
    for name in ["none", "waiting", "_pg._tcp.none", "_tcp.none", "w-0.c1.waiting"] {
        let name = format!("{name}.demo.svc.clusterset.local");
        for rtype in ALL_TYPES {
            assert_eq!(ask(&zone, &name, rtype), "nxdomain", "{name} {rtype:?}");
        }
    }
    assert_eq!(ask(&zone, "demo.svc.clusterset.local", RecordType::A), "nodata");
}

#[test]
fn row_90_host_names_are_per_cluster() {
    let zone = zone(&[headless(
        "hello-ss",
        vec![
            endpoint("c1", "hello-ss-0", &["10.42.0.5"]),
            endpoint("c1", "hello-ss-0", &["fd00:42::5"]),
            endpoint("c2", "hello-ss-0", &["10.52.0.5"]),
            not_ready(endpoint("c1", "hello-ss-1", &["10.42.0.6"])),
        ],
        vec![],
    )]);
    let ask = |host: &str, rtype| ask(&zone, &format!("{host}.hello-ss.demo.svc.clusterset.local"), rtype);
    assert_eq!(ask("hello-ss-0.c1", RecordType::A), "10.42.0.5");
    assert_eq!(ask("hello-ss-0.c1", RecordType::Aaaa), "fd00:42::5");
    assert_eq!(ask("hello-ss-0.c2", RecordType::A), "10.52.0.5");
    assert_eq!(ask("hello-ss-0.c2", RecordType::Aaaa), "nodata");
    assert_eq!(ask("hello-ss-0.c3", RecordType::A), "nxdomain");
    assert_eq!(ask("hello-ss-1.c1", RecordType::A), "nxdomain");
    assert_eq!(ask("hello-ss-0", RecordType::A), "nxdomain");
}

#[test]
fn row_91_an_endpoint_without_a_host_name_is_named_by_its_addresses() {
    let addresses = ["10.1.2.3", "fd00:10::5", "fd00::", "::1", "::ffff:1.2.3.4"];
    let zone = zone(&[headless("hello", vec![endpoint("c1", "", &addresses)], vec![port("p", Protocol::Tcp, 1)])]);
    for (label, rtype, address) in [
        ("10-1-2-3", RecordType::A, "10.1.2.3"),
        ("fd00-10--5", RecordType::Aaaa, "fd00:10::5"),
        ("fd00--0", RecordType::Aaaa, "fd00::"),
        ("0--1", RecordType::Aaaa, "::1"),
        ("0--ffff-1-2-3-4", RecordType::Aaaa, "::ffff:1.2.3.4"),
    ] {
        let name = format!("{label}.c1.hello.demo.svc.clusterset.local");
        assert_eq!(ask(&zone, &name, rtype), address, "{name}");
        let srv = ask(&zone, "_p._tcp.hello.demo.svc.clusterset.local", RecordType::Srv);
        assert!(srv.contains(&format!("0 20 1 {name}.")), "{name} in {srv}");
    }
}

#[test]
fn row_92_headless_srv_is_endpoints_times_ports() {
    let endpoints = vec![
        endpoint("c1", "db-0", &["10.42.0.5"]),
        endpoint("c1", "", &["10.42.0.6"]),
        endpoint("c2", "db-0", &["10.52.0.5"]),
    ];
    let ports =
        vec![port("pg", Protocol::Tcp, 5432), port("stats", Protocol::Udp, 5432), port("web", Protocol::Tcp, 80)];
    let zone = zone(&[headless("db", endpoints, ports)]);
    let at = |port: u16, weight: u16| {
        let hosts = ["10-42-0-6.c1", "db-0.c1", "db-0.c2"];
        hosts.map(|host| format!("0 {weight} {port} {host}.db.demo.svc.clusterset.local.")).join(", ")
    };
    assert_eq!(ask(&zone, "_pg._tcp.db.demo.svc.clusterset.local", RecordType::Srv), at(5432, 33));
    assert_eq!(ask(&zone, "_stats._udp.db.demo.svc.clusterset.local", RecordType::Srv), at(5432, 33));
    // Two distinct numbers at three targets.
    assert_eq!(
        ask(&zone, "db.demo.svc.clusterset.local", RecordType::Srv),
        format!("{}, {}", at(80, 16), at(5432, 16))
    );
}

#[test]
fn row_92_an_endpoint_has_the_ports_of_its_own_export() {
    let (pg, metrics) = (port("pg", Protocol::Tcp, 5432), port("metrics", Protocol::Tcp, 9187));
    let zone = zone(&[
        headless("db", vec![endpoint("c1", "db-0", &["10.42.0.5"])], vec![pg.clone()]),
        headless("db", vec![endpoint("c2", "db-0", &["10.52.0.5"])], vec![pg, metrics]),
        // Nobody has this port now, so it is no name.
        headless("db", vec![not_ready(endpoint("c3", "db-0", &["10.62.0.5"]))], vec![port("old", Protocol::Udp, 1)]),
    ]);
    let ask = |name: &str| ask(&zone, &format!("{name}db.demo.svc.clusterset.local"), RecordType::Srv);
    let at = |cluster: &str, weight: u16, port: u16| {
        format!("0 {weight} {port} db-0.{cluster}.db.demo.svc.clusterset.local.")
    };
    assert_eq!(ask("_pg._tcp."), [at("c1", 50, 5432), at("c2", 50, 5432)].join(", "));
    assert_eq!(ask("_metrics._tcp."), at("c2", 100, 9187));
    assert_eq!(ask(""), [at("c1", 33, 5432), at("c2", 33, 5432), at("c2", 33, 9187)].join(", "));
    assert_eq!(ask("_old._udp."), "nxdomain");
}

#[test]
fn row_92_a_host_in_two_exports_has_the_ports_of_both_and_each_location_once() {
    let (pg, metrics) = (port("pg", Protocol::Tcp, 5432), port("metrics", Protocol::Tcp, 9187));
    let zone = zone(&[
        headless("db", vec![endpoint("c1", "db-0", &["10.42.0.5"])], vec![pg.clone(), metrics]),
        headless("db", vec![endpoint("c1", "DB-0", &["fd00:42::5"])], vec![pg]),
    ]);
    let ask = |name: &str| ask(&zone, &format!("{name}db.demo.svc.clusterset.local"), RecordType::Srv);
    assert_eq!(ask("_pg._tcp."), "0 100 5432 db-0.c1.db.demo.svc.clusterset.local.");
    assert_eq!(ask("_metrics._tcp."), "0 100 9187 db-0.c1.db.demo.svc.clusterset.local.");
}

#[test]
fn row_93_dns_version() {
    let zone = zone(&[]);
    assert_eq!(ask(&zone, "dns-version.clusterset.local", RecordType::Txt), "1.0.0");
    assert_eq!(ask(&zone, "dns-version.clusterset.local", RecordType::A), "nodata");
}

#[test]
fn row_95_a_namespace_without_services_has_no_data_and_one_that_is_not_there_no_name() {
    let config = ZoneConfig { namespaces: vec!["Empty".into(), "demo".into(), "-".into()], ..ZoneConfig::default() };
    let zone = Zone::build(&config, &[cluster_set_ip("hello", &["10.43.0.42"], vec![])]);
    for (name, answer) in [
        ("empty.svc.clusterset.local", "nodata"),
        ("demo.svc.clusterset.local", "nodata"),
        ("absent.svc.clusterset.local", "nxdomain"),
        ("hello.empty.svc.clusterset.local", "nxdomain"),
        ("hello.demo.svc.clusterset.local", "10.43.0.42"),
    ] {
        assert_eq!(ask(&zone, name, RecordType::A), answer, "{name}");
    }
    let skipped: Vec<_> = zone.skipped().iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
}

#[test]
fn row_95_nxdomain_and_nodata_are_told_apart() {
    let ports = vec![port("http", Protocol::Tcp, 80)];
    let zone = zone(&[cluster_set_ip("web", &["10.43.0.1"], ports)]);
    let types = [RecordType::A, RecordType::Aaaa, RecordType::Txt, RecordType::Other(15)];
    for name in ["", "svc.", "demo.svc.", "_tcp.web.demo.svc.", "_http._tcp.web.demo.svc.", "dns.", "ns.dns."] {
        for rtype in types {
            assert_eq!(ask(&zone, &format!("{name}clusterset.local"), rtype), "nodata", "{name} {rtype:?}");
        }
    }
    for name in [
        "nope.",
        "pod.",
        "other.svc.",
        "nope.demo.svc.",
        "x.web.demo.svc.",
        "x.y.web.demo.svc.",
        "x.y.z.web.demo.svc.",
        "x._http._tcp.web.demo.svc.",
        "_udp.web.demo.svc.",
        "x.svc.",
        "web.svc.",
    ] {
        for rtype in ALL_TYPES {
            assert_eq!(ask(&zone, &format!("{name}clusterset.local"), rtype), "nxdomain", "{name} {rtype:?}");
        }
    }
}

#[test]
fn the_apex_has_soa_and_ns() {
    let server_addresses = vec!["10.43.0.10".parse().unwrap(), "fd00::53".parse().unwrap()];
    let zone = Zone::build(&ZoneConfig { server_addresses, ..ZoneConfig::default() }, &[]);
    assert_eq!(
        ask(&zone, "clusterset.local", RecordType::Soa),
        "ns.dns.clusterset.local. hostmaster.clusterset.local. 5"
    );
    assert_eq!(ask(&zone, "clusterset.local", RecordType::Ns), "ns.dns.clusterset.local.");
    assert_eq!(ask(&zone, "ns.dns.clusterset.local", RecordType::A), "10.43.0.10");
    assert_eq!(ask(&zone, "ns.dns.clusterset.local", RecordType::Aaaa), "fd00::53");
    assert_eq!(ask(&zone, "clusterset.local", RecordType::Any), "any");
    assert_eq!(ask(&zone, "svc.clusterset.local", RecordType::Any), "nodata");
}

#[test]
fn row_98_ttls_stay_in_their_range() {
    let with = |ttl, negative_ttl| {
        let zone = Zone::build(&ZoneConfig { ttl, negative_ttl, ..ZoneConfig::default() }, &[]);
        (zone.ttl(), zone.soa().minimum)
    };
    assert_eq!(with(5, 5), (5, 5));
    assert_eq!(with(1, 0), (1, 0));
    assert_eq!(with(0, 30), (1, 5));
    assert_eq!(with(u32::MAX, u32::MAX), (86_400, 5));
}

#[test]
fn row_101_only_svc_is_served_below_the_origin() {
    let zone = zone(&[cluster_set_ip("web", &["10.43.0.1"], vec![])]);
    assert_eq!(ask(&zone, "web.demo.pod.clusterset.local", RecordType::A), "nxdomain");
    assert_eq!(ask(&zone, "10-43-0-1.demo.pod.clusterset.local", RecordType::A), "nxdomain");
    assert_eq!(ask(&zone, "web.demo.svc.extra.clusterset.local", RecordType::A), "nxdomain");
}

#[test]
fn row_102_names_outside_the_zone_are_not_ours() {
    let zone = zone(&[cluster_set_ip("web", &["10.43.0.1"], vec![])]);
    let ptr = RecordType::Other(12);
    for name in
        ["1.0.43.10.in-addr.arpa", "local", ".", "web.demo.svc.cluster.local", "xclusterset.local", "example.com"]
    {
        assert_eq!(ask(&zone, name, ptr), "refused", "{name}");
        assert_eq!(ask(&zone, name, RecordType::A), "refused", "{name}");
    }
}

#[test]
fn another_origin_is_served_alike() {
    let config = ZoneConfig { origin: "Mesh.Example".parse().unwrap(), ..ZoneConfig::default() };
    let zone = Zone::build(&config, &[cluster_set_ip("web", &["10.43.0.1"], vec![port("http", Protocol::Tcp, 80)])]);
    assert_eq!(ask(&zone, "web.demo.svc.mesh.example", RecordType::A), "10.43.0.1");
    assert_eq!(ask(&zone, "web.demo.svc.mesh.example", RecordType::Srv), "0 100 80 web.demo.svc.mesh.example.");
    assert_eq!(ask(&zone, "web.demo.svc.clusterset.local", RecordType::A), "refused");
}

#[test]
fn exports_of_several_clusters_are_one_service() {
    let zone = zone(&[
        cluster_set_ip("web", &["10.43.0.1"], vec![port("http", Protocol::Tcp, 80)]),
        cluster_set_ip("WEB", &["10.53.0.1"], vec![port("HTTP", Protocol::Tcp, 80), port("admin", Protocol::Tcp, 81)]),
        headless("web", vec![endpoint("c3", "h", &["10.62.0.1"])], vec![]),
    ]);
    assert_eq!(ask(&zone, "web.demo.svc.clusterset.local", RecordType::A), "10.43.0.1, 10.53.0.1");
    assert_eq!(
        ask(&zone, "_http._tcp.web.demo.svc.clusterset.local", RecordType::Srv),
        "0 100 80 web.demo.svc.clusterset.local."
    );
    assert_eq!(
        ask(&zone, "_admin._tcp.web.demo.svc.clusterset.local", RecordType::Srv),
        "0 100 81 web.demo.svc.clusterset.local."
    );
    assert_eq!(ask(&zone, "h.c3.web.demo.svc.clusterset.local", RecordType::A), "nxdomain");
    let told: Vec<String> = zone.skipped().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["service demo/web: headless endpoints beside a clusterset IP, which wins"]);
}

#[test]
fn illegal_names_are_skipped_and_told() {
    let long = "a".repeat(64);
    let services = vec![
        cluster_set_ip(
            "web",
            &["10.43.0.1"],
            vec![port(&long[1..], Protocol::Tcp, 80), port("a_b", Protocol::Tcp, 81)],
        ),
        cluster_set_ip(&long, &["10.43.0.2"], vec![]),
        cluster_set_ip("a.b", &["10.43.0.3"], vec![]),
        cluster_set_ip("-a", &["10.43.0.4"], vec![]),
        cluster_set_ip("", &["10.43.0.5"], vec![]),
        headless("db", vec![endpoint("c1", "_x", &["10.42.0.5"]), endpoint("c.1", "ok", &["10.42.0.6"])], vec![]),
    ];
    let zone = zone(&services);
    assert_eq!(ask(&zone, "web.demo.svc.clusterset.local", RecordType::A), "10.43.0.1");
    assert_eq!(ask(&zone, "web.demo.svc.clusterset.local", RecordType::Srv), "nodata");
    // Addresses stay; the host whose own name is illegal is named by its address, the cluster that is none has no
    // hosts.
    assert_eq!(ask(&zone, "db.demo.svc.clusterset.local", RecordType::A), "10.42.0.5, 10.42.0.6");
    assert_eq!(ask(&zone, "10-42-0-5.c1.db.demo.svc.clusterset.local", RecordType::A), "10.42.0.5");
    let told: Vec<String> = zone.skipped().iter().map(ToString::to_string).collect();
    let port_name = &long[1..];
    assert_eq!(
        told,
        [
            "service demo/: name is empty".to_owned(),
            "service demo/-a: name starts or ends with `-`".to_owned(),
            "service demo/a.b: name has a character other than a letter, a digit or `-`".to_owned(),
            format!("service demo/{long}: name has more than 63 bytes"),
            "service demo/db: cluster ID `c.1` has a character other than a letter, a digit or `-`".to_owned(),
            "service demo/db: host name `_x` has a character other than a letter, a digit or `-`, its addresses are its names"
                .to_owned(),
            "service demo/web: name of port `a_b` has a character other than a letter, a digit or `-`".to_owned(),
            format!("service demo/web: name of port `{port_name}` has more than 62 bytes"),
        ]
    );
}

#[test]
fn names_over_255_bytes_are_skipped_and_the_service_stays() {
    let label = "a".repeat(63);
    let origin = format!("{}.{}", "o".repeat(40), "z".repeat(20));
    let mut service =
        headless(&label, vec![endpoint(&label, &label, &["10.42.0.5"])], vec![port("p", Protocol::Tcp, 1)]);
    service.namespace = "b".repeat(63);
    let config = ZoneConfig { origin: origin.parse().unwrap(), ..ZoneConfig::default() };
    let zone = Zone::build(&config, &[service]);
    let name = format!("{label}.{}.svc.{origin}", "b".repeat(63));
    assert_eq!(ask(&zone, &name, RecordType::A), "10.42.0.5");
    assert_eq!(ask(&zone, &name, RecordType::Srv), "nodata");
    assert_eq!(zone.skipped().len(), 1);
    assert!(zone.skipped()[0].why.ends_with("is longer than 255 bytes"), "{}", zone.skipped()[0]);
}

#[test]
fn an_origin_of_255_bytes_still_makes_a_zone() {
    let label = "a".repeat(63);
    let origin = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let config = ZoneConfig { origin: origin.parse().unwrap(), ..ZoneConfig::default() };
    let zone = Zone::build(&config, &[cluster_set_ip("web", &["10.43.0.1"], vec![])]);
    assert_eq!(ask(&zone, &origin, RecordType::Ns), format!("{origin}."));
    assert_eq!(zone.skipped().len(), 1);
}
