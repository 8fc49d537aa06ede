//! The packet path allocates nothing once a session is up. Alone in its binary: the count is of the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

mod support;
use support::pair::{End, Pair};
use support::{DEVICE, PEER, Remote, device, enter_new_namespace, eventually, is_pong, ping};
use tunnel::{Addresses, Config, Device, PeerKind};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn ten_thousand_packets_cost_no_allocation() {
    enter_new_namespace();
    exchange_without_allocation(DEVICE, |_| {});
    // Datagrams then come and go many in one call, and not merged.
    support::ip("link delete tun0");
    exchange_without_allocation(DEVICE, |config| {
        config.offloads.udp_gro = false;
        config.offloads.udp_gso = false;
    });
    // With addresses translated each way.
    support::ip("link delete tun0");
    exchange_without_allocation([100, 64, 1, 1], |config| {
        config.translation = (0..8).map(support::translation).collect();
        config.peers[0].knows_us_by = Addresses::Virtual;
    });
    assert_none("for streams each way", || allocations_of_streams(|_, _| {}));
    let without_offloads = |_, config: &mut Config| {
        config.offloads.udp_gso = false;
        config.offloads.udp_gro = false;
        config.offloads.tun_tso = false;
    };
    assert_none("for streams each way, unmerged", || allocations_of_streams(without_offloads));
}

/// None, at the second time at least: once, the harness tells of a test that takes more than a minute.
fn assert_none(what: &str, mut allocations: impl FnMut() -> usize) {
    let first = allocations();
    assert!(first == 0 || allocations() == 0, "{first} {what}");
}

fn exchange_without_allocation(called: [u8; 4], change: impl FnOnce(&mut Config)) {
    let device = device(PeerKind::Vanilla, change);
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    let requests = [ping(PEER, called, 1, 56), ping(PEER, called, 2, 1300)];
    let mut exchange = |rounds: usize| {
        for round in 0..rounds {
            let request = round % 2;
            remote.send(&requests[request]);
            assert!(is_pong(remote.receive(), request as u16 + 1));
        }
    };
    exchange(100);
    assert_none("for 5 000 packets each way", || {
        let region = Region::new(ALLOCATOR);
        exchange(5_000);
        let change = region.change();
        change.allocations + change.reallocations
    });
}

/// Streams each way.
const STREAMS: usize = 8;
/// Bytes of each.
const STREAM: usize = 2 << 20;
const BURSTS: usize = 20;
/// Datagrams of a burst, more than a lane reads in one turn.
const BURST: usize = 150;

/// Both devices are in this process, and so are counted both, with two lanes each; the kernel cuts and merges for them.
fn allocations_of_streams(change: impl Fn(End, &mut Config) + Sync) -> usize {
    let pair = Pair::new([2, 2], change);
    eventually("a session on each lane", || {
        let status = pair.near.status();
        status.peers[0].lanes.iter().all(|lane| lane.handshake_age.is_some())
    });
    let ways = [End::Near, End::Far].into_iter().flat_map(|caller| [caller; STREAMS]);
    let mut streams: Vec<_> = ways.map(|caller| pair.connect(caller)).collect();
    let burst = UdpSocket::bind((IpAddr::from(DEVICE), 0)).unwrap();
    let sink = pair.on(End::Far, || UdpSocket::bind((IpAddr::from(PEER), 0)).unwrap());
    burst.connect(sink.local_addr().unwrap()).unwrap();
    let step = Barrier::new(2 * streams.len() + 1);
    std::thread::scope(|scope| {
        for [called, caller] in &mut streams {
            scope.spawn(|| twice(&step, || receive(called)));
            scope.spawn(|| twice(&step, || send(caller)));
        }
        // Once, so that whatever is made on first use is there.
        step.wait();
        (0..BURSTS).for_each(|_| send_burst(&burst));
        step.wait();
        let before = [&pair.near, &pair.far].map(carried);
        let region = Region::new(ALLOCATOR);
        step.wait();
        (0..BURSTS).for_each(|_| send_burst(&burst));
        step.wait();
        let change = region.change();
        for (before, after) in before.iter().zip([&pair.near, &pair.far].map(carried)) {
            assert!(before.iter().zip(after).all(|(before, after)| *before < after), "a lane had nothing to do");
        }
        change.allocations + change.reallocations
    })
}

/// Does it between two steps, two times. One that fails takes part in the steps nevertheless, or the others would wait.
fn twice(step: &Barrier, mut work: impl FnMut()) {
    let mut failure = None;
    for _ in 0..2 {
        step.wait();
        failure = failure.or(catch_unwind(AssertUnwindSafe(&mut work)).err());
        step.wait();
    }
    if let Some(failure) = failure {
        resume_unwind(failure);
    }
}

fn send(stream: &mut TcpStream) {
    let chunk = [7; 65_536];
    (0..STREAM / chunk.len()).for_each(|_| stream.write_all(&chunk).unwrap());
}

fn receive(stream: &mut TcpStream) {
    let mut chunk = [0; 65_536];
    (0..STREAM / chunk.len()).for_each(|_| stream.read_exact(&mut chunk).unwrap());
}

fn send_burst(socket: &UdpSocket) {
    let datagram = [7; 1300];
    for number in 0..BURST {
        socket.send(&datagram[..[64, 1300, 1300, 500][number % 4]]).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(5));
}

/// Bytes that each lane of a device has sent.
fn carried(device: &Device) -> [u64; 2] {
    let status = device.status();
    [0, 1].map(|lane| status.peers[0].lanes[lane].tx_bytes)
}
