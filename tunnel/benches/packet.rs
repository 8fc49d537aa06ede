//! The packet path's pure stages, per packet of the default inner MTU. What they may cost: header and checksum 70 ns per
//! segment, matching and merging 15 to 65 ns per packet.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tunnel::config::Dscp;
use tunnel::packet::assemble::Assembler;
use tunnel::packet::checksum::Sum;
use tunnel::packet::coalesce::{Checksums, Config, Merge};
use tunnel::packet::ip::View;
use tunnel::packet::split::Segments;
use tunnel::packet::translate::{Direction, LastHit, Table, translate};
use tunnel::packet::vnet::{Gso, VnetHeader};
use tunnel::packet::{ecn, icmp, mss};

/// TCP with timestamps at an inner MTU of 1420.
const MSS: usize = 1368;
/// Segments of a full super-packet: 47 * 1368 + 52 = 64 348.
const SEGMENTS: usize = 47;
const HEADERS: usize = 52;

/// A TCP super-packet over IPv4 as the kernel hands it over.
fn super_packet(segments: usize) -> (Vec<u8>, VnetHeader) {
    let len = HEADERS + segments * MSS;
    let mut packet: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 42, 0, 5, 10, 52, 0, 7]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[32..34].copy_from_slice(&[0x80, 0x10]);
    packet[40..44].copy_from_slice(&[1, 1, 8, 10]);
    let vnet = VnetHeader {
        needs_csum: true,
        gso: Gso::TcpV4,
        ecn: false,
        hdr_len: HEADERS as u16,
        gso_size: MSS as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (packet, vnet)
}

fn packets(segments: usize) -> Vec<Vec<u8>> {
    let (mut packet, vnet) = super_packet(segments);
    let mut segments = Segments::new(&mut packet, &vnet, usize::MAX).expect("valid");
    let mut out = Vec::new();
    while let Some(segment) = segments.next() {
        out.push(segment.to_vec());
    }
    out
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let bytes = super_packet(SEGMENTS).0;
    for len in [20, 64, 1400, 8900] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &bytes[..len], |b, bytes| {
            b.iter(|| Sum::of(black_box(bytes)).checksum());
        });
    }
}

fn split(c: &mut Criterion) {
    let mut group = c.benchmark_group("split");
    let (mut packet, vnet) = super_packet(SEGMENTS);
    let header = packet[..HEADERS].to_vec();
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("TSO 47 segments", |b| {
        b.iter(|| {
            packet[..HEADERS].copy_from_slice(&header);
            let mut segments = Segments::new(black_box(&mut packet), &vnet, 1420).expect("valid");
            while let Some(segment) = segments.next() {
                black_box(segment);
            }
        });
    });
    // The same with the copy that a cipher which works in place needs, to see what is left when the cache is shared.
    let mut out = vec![0; 2048];
    group.bench_function("TSO 47 segments and a copy of each", |b| {
        b.iter(|| {
            packet[..HEADERS].copy_from_slice(&header);
            let mut segments = Segments::new(black_box(&mut packet), &vnet, 1420).expect("valid");
            while let Some(segment) = segments.next() {
                out[..segment.len()].copy_from_slice(segment);
                black_box(&out);
            }
        });
    });
    let (mut acknowledgement, vnet) = super_packet(0);
    let vnet = VnetHeader { gso: Gso::None, ..vnet };
    group.throughput(Throughput::Elements(1));
    group.bench_function("acknowledgement", |b| {
        b.iter(|| {
            let mut segments = Segments::new(black_box(&mut acknowledgement), &vnet, 1420).expect("valid");
            black_box(segments.next());
        });
    });
}

fn coalesce(c: &mut Criterion) {
    let mut group = c.benchmark_group("coalesce");
    let packets = packets(45);
    for (name, checksums) in [("trusted", Checksums::Trust), ("verified", Checksums::Verify)] {
        let mut assembler = Assembler::new(Config { tcp: Merge::Yes, udp: Merge::Yes, checksums });
        group.throughput(Throughput::Bytes(packets.iter().map(|packet| packet.len() as u64).sum()));
        group.bench_function(format!("45 packets, {name}"), |b| {
            b.iter(|| {
                for packet in &packets {
                    // Stands for the cipher, which writes each packet once.
                    assembler.room()[..packet.len()].copy_from_slice(packet);
                    assembler.push(packet.len(), |frame| {
                        black_box(frame);
                    });
                }
                assembler.flush(|frame| {
                    assert!(frame.len() > 60_000);
                });
            });
        });
    }
    let mut to = vec![0; 70_000];
    group.bench_function("45 copies alone", |b| {
        b.iter(|| {
            let mut at = 0;
            for packet in &packets {
                to[at..at + packet.len()].copy_from_slice(packet);
                at += packet.len() - HEADERS;
            }
            black_box(&mut to);
        });
    });
    let acknowledgement = &packets[0][..HEADERS];
    let mut assembler = Assembler::new(Config { tcp: Merge::Yes, udp: Merge::Yes, checksums: Checksums::Trust });
    group.throughput(Throughput::Elements(1));
    group.bench_function("acknowledgement", |b| {
        b.iter(|| {
            let room = assembler.room();
            room[..HEADERS].copy_from_slice(acknowledgement);
            room[2..4].copy_from_slice(&(HEADERS as u16).to_be_bytes());
            assembler.push(HEADERS, |frame| {
                black_box(frame);
            });
        });
    });
}

fn per_packet(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    let packet = packets(1).remove(0);
    group.bench_function("parse", |b| b.iter(|| View::parse(black_box(&packet))));
    let mut changed = packet.clone();
    group.bench_function("clamp no SYN", |b| {
        b.iter(|| mss::clamp(black_box(&mut changed), &VnetHeader::default(), 1420));
    });
    group.bench_function("ECN out and in", |b| {
        b.iter(|| {
            black_box(ecn::encapsulate(ecn::tos(black_box(&changed)), Dscp::Zero));
            ecn::decapsulate(black_box(&mut changed), ecn::Ecn::NotEct)
        });
    });
    group.bench_function("mark CE", |b| {
        b.iter(|| {
            changed[1] = 2;
            ecn::decapsulate(black_box(&mut changed), ecn::Ecn::Ce)
        });
    });
    let source = IpAddr::from([10, 42, 0, 1]);
    let mut out = [0; icmp::MAX_REPLY];
    group.bench_function("too big", |b| b.iter(|| icmp::too_big(black_box(&packet), 1400, source, &mut out)));
}

/// What a translated packet costs more: once for each packet inward, and once for each super-packet outward.
fn translation(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate");
    group.throughput(Throughput::Elements(1));
    let net = |text: String| text.parse::<ipnet::IpNet>().expect("a prefix");
    let packet = packets(1).remove(0);
    for entries in [1, 16, 1000] {
        // The packet's source is in the last prefix, 10.42.0.0/24, which stays, so that it can be translated again.
        let pair = |i: usize| {
            let [a, b] = [i >> 8, i & 255];
            let own = net("10.42.0.0/24".to_owned());
            let others = || (net(format!("10.{}.{b}.0/24", 20 + a)), net(format!("100.{}.{b}.0/24", 64 + a)));
            if i == 0 { (own, own) } else { others() }
        };
        let table = Table::build((0..entries).map(pair));
        let (mut packet, mut last) = (packet.clone(), LastHit::default());
        let mut run = |forget: bool| {
            let view = View::parse(black_box(&packet)).expect("valid");
            if forget {
                last = LastHit::default();
            }
            translate(&mut packet, &view, &VnetHeader::default(), Direction::Outward, &table, &mut last)
        };
        group.bench_function(format!("TCP, {entries} prefixes, last hit"), |b| b.iter(|| run(false)));
        group.bench_function(format!("TCP, {entries} prefixes, searched"), |b| b.iter(|| run(true)));
    }
    // An ICMP error: the dear kind.
    let table = Table::build([(net("10.42.0.0/24".to_owned()), net("10.42.0.0/24".to_owned()))]);
    let mut error = [0; icmp::MAX_REPLY];
    let length = icmp::too_big(&packet, 1400, IpAddr::from([10, 52, 0, 7]), &mut error).expect("an answer");
    let mut last = LastHit::default();
    group.bench_function("ICMP error", |b| {
        b.iter(|| {
            let packet = black_box(&mut error[..length]);
            let view = View::parse(packet).expect("valid");
            translate(packet, &view, &VnetHeader::default(), Direction::Inward, &table, &mut last)
        });
    });
}

criterion_group!(benches, checksum, split, coalesce, per_packet, translation);
criterion_main!(benches);
