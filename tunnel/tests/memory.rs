//! A flood costs no memory. Alone in its binary: what is measured is the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use tunnel::PeerKind;

mod support;
use support::{DEVICE, PATIENCE, PEER, Remote, device, enter_new_namespace, eventually, is_pong, peer, ping};

#[test]
fn a_flood_of_random_datagrams_changes_nothing() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |config| config.peers.push(peer(3, PeerKind::Vanilla)));
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    let before = resident();
    let mut random = StdRng::seed_from_u64(1);
    let mut datagram = [0; 1500];
    for _ in 0..50_000 {
        let length = random.next_u32() as usize % 1500;
        random.fill_bytes(&mut datagram[..length.min(64)]);
        datagram[0] = (random.next_u32() % 5) as u8;
        datagram[1..4].fill(0);
        remote.send_raw(&datagram[..length]);
    }
    remote.send_raw(&[4; 65_000]);
    // On a busy machine it still has some of them before it, and no room for more.
    eventually("it has caught up", || {
        let all = || device.status().drops.iter().map(|drop| drop.count).sum::<u64>();
        let before = all();
        std::thread::sleep(std::time::Duration::from_millis(200));
        all() == before
    });
    remote.socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    eventually("an answer", || {
        remote.send(&ping(PEER, DEVICE, 99, 56));
        remote.socket.peek(&mut [0]).is_ok()
    });
    remote.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_pong(remote.receive(), 99));
    let grown = resident().saturating_sub(before);
    // What was sent would be 37 MB.
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
}

/// Resident memory of this process in bytes (proc(5), `statm`).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
