//! The packet path allocates nothing once a session is up. Alone in its binary: the count is of the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

mod support;
use support::{DEVICE, PEER, Remote, device, enter_new_namespace, is_pong, ping};
use tunnel::{Addresses, Config, PeerKind};

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
    let region = Region::new(ALLOCATOR);
    exchange(5_000);
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "for 5 000 packets each way");
}
