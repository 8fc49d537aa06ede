//! Bytes from nowhere, from liars and from the past.

use std::num::NonZeroU8;

use tunnel::{Device, PeerKind};

use crate::support::{
    DEVICE, PEER, Remote, device, drops, enter_new_namespace, eventually, is_pong, key, mac, peer, ping,
};

fn start() -> (Device, Remote) {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |config| config.peers.push(peer(3, PeerKind::Vanilla)));
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    (device, remote)
}

fn assert_still_answers(remote: &mut Remote) {
    remote.send(&ping(PEER, DEVICE, 99, 56));
    assert!(is_pong(remote.receive(), 99));
}

fn assert_dropped(device: &Device, reason: &str, count: u64) {
    eventually(reason, || drops(&device.status(), reason) >= count);
    assert_eq!(drops(&device.status(), reason), count, "{reason}");
}

#[test]
fn a_replayed_packet_is_dropped_once_for_each_copy() {
    let (device, mut remote) = start();
    let datagram = remote.seal(&ping(PEER, DEVICE, 1, 56));
    for _ in 0..4 {
        remote.send_raw(&datagram);
    }
    assert!(is_pong(remote.receive(), 1));
    assert_dropped(&device, "replayed", 3);
    assert_still_answers(&mut remote);
}

#[test]
fn a_source_outside_the_allowed_ips_is_dropped_even_if_another_peer_owns_it() {
    let (device, mut remote) = start();
    remote.send(&ping([192, 0, 2, 1], DEVICE, 1, 56));
    remote.send(&ping([10, 9, 3, 1], DEVICE, 2, 56));
    assert_dropped(&device, "spoofed-source", 2);
    assert_still_answers(&mut remote);
}

#[test]
fn damaged_and_foreign_messages_are_dropped_by_reason() {
    let (device, mut remote) = start();
    let good = remote.seal(&ping(PEER, DEVICE, 1, 56));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    remote.send_raw(&damaged);
    assert_dropped(&device, "unauthentic", 1);
    let mut foreign = good.clone();
    foreign[6] = 77; // a slot that no peer has
    remote.send_raw(&foreign);
    assert_dropped(&device, "unknown-session", 1);
    let mut other_lane = good.clone();
    other_lane[5] = 9;
    remote.send_raw(&other_lane);
    assert_dropped(&device, "wrong-lane", 1);
    for cut in [&good[..0], &good[..1], &good[..31], &[4, 1, 0, 0, 0, 0, 0, 0][..], &[9; 40][..]] {
        remote.send_raw(cut);
    }
    assert_dropped(&device, "not-wireguard", 5);
    assert_still_answers(&mut remote);
}

#[test]
fn a_handshake_from_an_unknown_key_is_not_answered() {
    let (device, mut remote) = start();
    let mut stranger = Remote::new(66, device.status().vanilla_port.unwrap(), 0);
    let mut message = [0; 256];
    let boringtun::noise::TunnResult::WriteToNetwork(initiation) =
        stranger.tunn.format_handshake_initiation(&mut message, true)
    else {
        panic!("no initiation");
    };
    stranger.send_raw(initiation);
    assert_dropped(&device, "unknown-peer", 1);
    stranger.socket.set_nonblocking(true).unwrap();
    assert!(stranger.socket.recv_from(&mut [0; 256]).is_err(), "an answer");
    assert_still_answers(&mut remote);
}

#[test]
fn a_call_that_somebody_has_caught_moves_nobody_and_is_answered_once_on_whichever_lane() {
    enter_new_namespace();
    let two = NonZeroU8::new(2).unwrap();
    let device = device(PeerKind::Linkspan { lanes: two }, |config| config.lanes = two);
    let port = device.status().listen_port;
    let (mut remote, eve) = (Remote::new(2, port, 0), Remote::new(66, port, 0));
    let endpoint = || device.status().peers[0].endpoint;
    let known = Some(remote.socket.local_addr().unwrap());
    let mut call = remote.connect();
    eventually("its first packet tells where it is", || endpoint() == known);
    let signed = call.clone();
    mac::sign(&mut call, &key(1).1);
    assert_eq!(call, signed, "as the peer has signed it");
    // The lane is in nothing that the peer proves.
    call[5] = 1;
    mac::sign(&mut call, &key(1).1);
    eve.send_raw(&call);
    assert_dropped(&device, "replayed", 1);
    // One that has never arrived.
    let call = remote.call();
    eve.send_raw(&call);
    let mut answer = [0; 256];
    let length = eve.receive_raw(&mut answer);
    assert_eq!((answer[0], length), (2, 92), "the answer goes to who has called");
    // It is done with that once it has seen something else.
    eve.send_raw(&[0; 40]);
    assert_dropped(&device, "not-wireguard", 1);
    assert_eq!(endpoint(), known);
    remote.send(&ping(PEER, DEVICE, 1, 56));
    eventually("the session goes on", || device.status().peers[0].lanes[0].rx_bytes == 84);
    assert_eq!((endpoint(), drops(&device.status(), "replayed")), (known, 1));
}

#[test]
fn inner_bytes_that_are_no_packet_are_dropped() {
    let (device, mut remote) = start();
    for inner in [&[0x45; 10][..], &[0x45; 60], &[0x60; 20], &[0x10; 80], &[0xff]] {
        remote.send(inner);
    }
    eventually("all counted", || {
        let status = device.status();
        drops(&status, "malformed-inner") + drops(&status, "spoofed-source") == 5
    });
    assert_still_answers(&mut remote);
}
