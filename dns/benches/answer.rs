//! What an answer costs without sockets, and what a change of the zone costs: 100 000 names.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dns::fuzz::Offline;
use dns::{Endpoint, Name, Port, Protocol, RecordType, Service, ServiceKind, Zone, ZoneConfig};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};

const NAMES: u32 = 100_000;

fn services() -> Vec<Service> {
    let vip = |index: u32| Service {
        namespace: format!("ns-{}", index % 100),
        name: format!("svc-{}", index / 100),
        kind: ServiceKind::ClusterSetIp { ips: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + index))] },
        ports: Vec::new(),
    };
    let endpoint = |host: u8| Endpoint {
        cluster: "c1".into(),
        hostname: Some(format!("db-{host}")),
        addresses: vec![[10, 42, 0, host].into()],
        ready: true,
    };
    let headless = Service {
        namespace: "ns-0".into(),
        name: "db".into(),
        kind: ServiceKind::Headless { endpoints: (1..=20).map(endpoint).collect() },
        ports: vec![Port { name: Some("pg".into()), protocol: Protocol::Tcp, number: 5432 }],
    };
    (0..NAMES).map(vip).chain([headless]).collect()
}

fn question(name: &str, rtype: hickory_proto::rr::RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(hickory_proto::rr::Name::from_ascii(name).unwrap(), rtype));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

fn lookups(criterion: &mut Criterion) {
    let zone = Zone::build(&ZoneConfig::default(), &services());
    let mut group = criterion.benchmark_group("dns_lookup");
    let hit: Name = "svc-123.ns-45.svc.clusterset.local".parse().unwrap();
    group.bench_function("hit", |bench| bench.iter(|| zone.lookup(black_box(&hit), RecordType::A)));
    let miss: Name = "nope-123.ns-45.svc.clusterset.local".parse().unwrap();
    group.bench_function("miss", |bench| bench.iter(|| zone.lookup(black_box(&miss), RecordType::A)));
    // One name after the other: the memory of the whole zone is touched.
    let all: Vec<Name> = (0..NAMES)
        .map(|index| format!("svc-{}.ns-{}.svc.clusterset.local", index / 100, index.wrapping_mul(7919) % 100))
        .map(|name| name.parse().unwrap())
        .collect();
    let mut next = all.iter().cycle();
    group.bench_function("hit_spread", |bench| {
        bench.iter(|| zone.lookup(next.next().unwrap(), RecordType::A));
    });
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    use hickory_proto::rr::RecordType::{A, AAAA, SRV};
    let server = Offline::new(Arc::new(Zone::build(&ZoneConfig::default(), &services())), 1);
    let mut answer = Vec::new();
    let mut group = criterion.benchmark_group("dns_answer");
    for (what, name, rtype) in [
        ("address", "svc-123.ns-45.svc.clusterset.local.", A),
        ("nodata", "svc-123.ns-45.svc.clusterset.local.", AAAA),
        ("nxdomain", "nope.ns-45.svc.clusterset.local.", A),
        ("headless_20", "db.ns-0.svc.clusterset.local.", A),
        ("location_20", "_pg._tcp.db.ns-0.svc.clusterset.local.", SRV),
        ("refused", "www.example.com.", A),
    ] {
        let datagram = question(name, rtype);
        group.bench_function(what, |bench| bench.iter(|| server.answer(black_box(&datagram), &mut answer)));
    }
    group.finish();
}

fn builds(criterion: &mut Criterion) {
    let services = services();
    let mut group = criterion.benchmark_group("dns_zone");
    group.sample_size(10);
    for count in [1000, NAMES as usize] {
        group.bench_function(format!("build_{count}"), |bench| {
            bench.iter_batched(
                || (),
                |()| Zone::build(&ZoneConfig::default(), &services[..count]),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, answers, builds);
criterion_main!(benches);
