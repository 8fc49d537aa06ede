//! Offloads: each can be switched off, and traffic goes on without it.

use tunnel::PeerKind;
use tunnel::config::Offloads;
use tunnel::status::Status;

use crate::support::pair::{End, Pair};
use crate::support::{DEVICE, PEER, Remote, device, enter_new_namespace, eventually, ip, is_pong, ping};

const NONE: Offloads = Offloads { tun_tso: false, tun_uso: false, udp_gso: false, udp_gro: false, steering: false };
const ALL: [(&str, Offloads); 6] = {
    let all = Offloads { tun_tso: true, tun_uso: true, udp_gso: true, udp_gro: true, steering: true };
    [
        ("tun-tso", Offloads { tun_tso: false, ..all }),
        ("tun-uso", Offloads { tun_uso: false, ..all }),
        ("udp-gso", Offloads { udp_gso: false, ..all }),
        ("udp-gro", Offloads { udp_gro: false, ..all }),
        ("steering", Offloads { steering: false, ..all }),
        ("udp-gso", NONE),
    ]
};

fn assert_off(status: &Status, name: &str) {
    let rung = status.offloads.iter().find(|rung| rung.name == name).unwrap();
    assert!(!rung.active && rung.reason == "switched off in the configuration", "{rung:?}");
}

#[test]
fn every_offload_can_be_switched_off_towards_a_vanilla_peer() {
    enter_new_namespace();
    for (off, offloads) in ALL {
        let device = device(PeerKind::Vanilla, |config| config.offloads = offloads);
        let status = device.status();
        assert_off(&status, off);
        let mut remote = Remote::new(2, status.vanilla_port.unwrap(), 0);
        remote.connect();
        remote.send(&ping(PEER, DEVICE, 1, 1300));
        assert!(is_pong(remote.receive(), 1), "without {off}");
        device.close();
        ip("link delete tun0");
    }
}

#[test]
fn tcp_moves_megabytes_both_ways_whatever_either_end_has_switched_off() {
    for (off, offloads) in ALL {
        for without in [&[End::Near][..], &[End::Far], &[End::Near, End::Far]] {
            let pair = Pair::new([2, 2], |end, config| {
                if without.contains(&end) {
                    config.offloads = offloads;
                }
            });
            for end in without {
                let status = if *end == End::Near { pair.near.status() } else { pair.far.status() };
                assert_off(&status, off);
            }
            for from in [End::Near, End::Far] {
                pair.transfer(from, 4 << 20);
            }
        }
    }
}

#[test]
fn without_steering_one_lane_does_what_two_would() {
    let pair = Pair::new([2, 2], |end, config| config.offloads.steering = end == End::Far);
    let (near, far) = (pair.near.status(), pair.far.status());
    // The far end runs two, of which the near end never calls the second.
    assert_eq!((near.lanes, far.lanes), (1, 2));
    assert_off(&near, "steering");
    assert_eq!(near.peers[0].lanes.len(), 1);
    pair.transfer(End::Near, 1 << 20);
    pair.transfer(End::Far, 1 << 20);
    // What came last may not be counted yet.
    eventually("the first lane has carried it all", || {
        let first = pair.far.status().peers[0].lanes[0].clone();
        first.rx_bytes > 1 << 20 && first.tx_bytes > 1 << 20
    });
    let far = pair.far.status();
    let [_, second] = far.peers[0].lanes.as_slice() else { panic!("{far:?}") };
    assert_eq!((second.rx_bytes, second.tx_bytes), (0, 0), "{second:?}");
}
