//! More than a link or a lane takes: it waits where senders feel it, and what is lost is counted.

use std::net::UdpSocket;
use std::num::NonZeroU8;
use std::process::{Command, Stdio};

use tunnel::{Device, PeerKind};

use crate::support::pair::{End, Pair};
use crate::support::{DEVICE, PEER, Remote, device, drops, enter_new_namespace, eventually, ping, tc};

/// Datagrams of the kernel's into the tunnel, as fast as it takes them.
fn flood(datagrams: usize) {
    let socket = UdpSocket::bind("10.9.1.1:0").unwrap();
    for _ in 0..datagrams {
        // The kernel's word that nobody listens there is not of interest.
        let _ = socket.send_to(&[7; 1300], "10.9.2.1:9");
    }
}

/// Whether any of some pings, over a second, is answered.
fn answers() -> bool {
    let ping = Command::new("ping").args(["-c6", "-i0.2", "-W60", "10.9.2.1"]).stdout(Stdio::null()).status();
    ping.expect("ping of iputils-ping").success()
}

fn lost(device: &Device, reason: &str) -> u64 {
    drops(&device.status(), reason)
}

#[test]
fn a_link_slower_than_its_senders_makes_them_wait_and_loses_nothing_of_what_is_sealed() {
    for offloads in [true, false] {
        let pair = Pair::new([1, 1], |_, config| config.offloads.udp_gso = offloads);
        // The queue of the link holds more than a send buffer, which so is what fills up.
        tc("qdisc add dev eth0 root tbf rate 200mbit burst 256kb limit 100000000");
        pair.transfer(End::Near, 16 << 20);
        assert_eq!(lost(&pair.near, "send-failed"), 0);
        // Nobody makes datagrams wait: what is too much is lost before it is sealed, and counted there. On a busy machine
        // more may have to be sent until it is.
        eventually("an overflow", || {
            flood(40_000);
            lost(&pair.near, "link-overflow") > 0
        });
        assert!(answers(), "and the lane goes on");
        assert_eq!(lost(&pair.near, "send-failed"), 0);
        pair.transfer(End::Near, 1 << 20);
        pair.transfer(End::Far, 1 << 20);
    }
}

#[test]
fn packets_that_no_handshake_can_free_are_counted() {
    enter_new_namespace();
    // Nobody answers there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let device = device(PeerKind::Vanilla, |config| config.peers[0].endpoint = Some(silent.local_addr().unwrap()));
    flood(300);
    eventually("300 less 256 are counted", || lost(&device, "queue-overflow") == 44);
}

#[test]
fn datagrams_that_a_lane_does_not_take_in_time_are_counted() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |_| {});
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    // To find that a large one is damaged takes longer than to send it.
    let mut datagram = remote.seal(&ping(PEER, DEVICE, 1, 60_000));
    *datagram.last_mut().unwrap() ^= 1;
    eventually("an overflow", || {
        (0..200).for_each(|_| remote.send_raw(&datagram));
        lost(&device, "receive-overflow") > 0
    });
    eventually("what it took in time", || lost(&device, "unauthentic") > 0);
}

#[test]
fn a_queue_that_stays_before_a_lane_is_told_to_its_sender() {
    enter_new_namespace();
    let device = device(PeerKind::Linkspan { lanes: NonZeroU8::MIN }, |_| {});
    let mut remote = Remote::new(2, device.status().listen_port, 0);
    remote.connect();
    // The path is short, as probes tell: so must the queue be.
    eventually("the round trip is known", || {
        remote.send(&ping(PEER, DEVICE, 1, 56));
        remote.receive_data();
        device.status().peers[0].lanes[0].rtt.is_some()
    });
    // To open a large packet and to hand it on takes longer than to send it. Nobody waits for this answer.
    let builder = etherparse::PacketBuilder::ipv4(PEER, DEVICE, 64).icmpv4_echo_reply(7, 7);
    let mut packet = Vec::new();
    builder.write(&mut packet, &[7; 60_000]).unwrap();
    eventually("a sender is told", || {
        let sealed: Vec<_> = (0..400).map(|_| remote.seal(&packet)).collect();
        sealed.iter().for_each(|datagram| remote.send_raw(datagram));
        lost(&device, "congestion-drop") > 0
    });
}
