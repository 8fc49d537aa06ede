//! What the stages that are no packet work cost by themselves: the cipher, the table of allowed IPs, the zone. Splitting
//! and coalescing are measured by the benchmark `packet` of the crate `tunnel`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tunnel::routes::{AllowedIps, LastHit};

/// Inner bytes of a full packet.
const PACKET: usize = 1420;

criterion_group!(stages, seal_and_open, lookup, answer);
criterion_main!(stages);

fn seal_and_open(criterion: &mut Criterion) {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("the key has 32 bytes"));
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut group = criterion.benchmark_group("cipher");
    group.throughput(Throughput::Bytes(PACKET as u64));
    let mut packet = vec![0x5a; PACKET];
    group.bench_function("seal", |bencher| {
        bencher.iter(|| black_box(key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut packet)));
    });
    let mut sealed = vec![0x5a; PACKET];
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).expect("a packet is short");
    let mut work = sealed.clone();
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            work.copy_from_slice(&sealed); // 1 to 2 % of what is measured
            black_box(key.open_in_place(nonce(), Aad::empty(), &mut work).expect("it was sealed so").len())
        });
    });
}

/// 500 peers must cost what two cost.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    for (peers, prefixes) in [(2_u32, 4_u32), (500, 5_000)] {
        let table = AllowedIps::build((0..prefixes).map(|number| (prefix(number), (number % peers) as u16)));
        let addresses: Vec<_> = (0..1024_u32).map(|number| inside(prefix(number * 7919 % prefixes))).collect();
        let mut next = addresses.iter().cycle();
        group.bench_function(format!("{peers} peers, {prefixes} prefixes, any order"), |bencher| {
            bencher.iter(|| {
                table.lookup(black_box(*next.next().expect("it has no end"))).expect("every address has a peer")
            });
        });
        let mut last = LastHit::default();
        group.bench_function(format!("{peers} peers, {prefixes} prefixes, one flow"), |bencher| {
            bencher.iter(|| last.lookup(&table, black_box(addresses[0])).expect("every address has a peer"));
        });
    }
}

/// A question for one of 10 000 services, from its bytes' name to the records; hickory's coding is not in it.
fn answer(criterion: &mut Criterion) {
    let services: Vec<_> = (0..10_000_u32)
        .map(|number| dns::Service {
            namespace: "default".to_owned(),
            name: format!("web-{number}"),
            kind: dns::ServiceKind::ClusterSetIp { ips: vec![IpAddr::V4(Ipv4Addr::from(0x0a2b_0000 + number))] },
            ports: vec![dns::Port { name: Some("http".to_owned()), protocol: dns::Protocol::Tcp, number: 80 }],
        })
        .collect();
    let zone = dns::Zone::build(&dns::ZoneConfig::default(), &services);
    let name = |number| format!("web-{number}.default.svc.clusterset.local").parse().expect("a name");
    let names: Vec<dns::Name> = (0..1024_u32).map(|number| name(number * 7919 % 10_000)).collect();
    let mut next = names.iter().cycle();
    let mut group = criterion.benchmark_group("names");
    group.throughput(Throughput::Elements(1));
    group.bench_function("10 000 services, A", |bencher| {
        bencher.iter(|| {
            let name = next.next().expect("it has no end");
            black_box(matches!(zone.lookup(name, dns::RecordType::A), dns::Answer::Records(_)))
        });
    });
}

/// The `number`th /24 of 10.0.0.0/8.
fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from(0x0a00_0000 + (number << 8));
    IpNet::V4(Ipv4Net::new(address, 24).expect("24 is a prefix length"))
}

fn inside(prefix: IpNet) -> IpAddr {
    prefix.hosts().nth(9).expect("a /24 has 254 hosts")
}
