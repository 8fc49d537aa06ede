//! Lanes, probes and configuration changes.

use std::io::Read as _;
use std::num::NonZeroU8;
use std::time::Duration;

use tunnel::PeerKind;
use tunnel::status::PeerState;

use crate::support::pair::{End, Pair};
use crate::support::{
    DEVICE, PATIENCE, PEER, Remote, device, enter_new_namespace, eventually, ip, is_pong, peer, ping, tc,
};

const TWO: PeerKind = PeerKind::Linkspan { lanes: NonZeroU8::new(2).unwrap() };

#[test]
fn each_lane_has_its_own_session_on_one_port() {
    enter_new_namespace();
    let device = device(TWO, |config| config.lanes = NonZeroU8::new(2).unwrap());
    let port = device.status().listen_port;
    for lane in [1, 0] {
        let mut remote = Remote::new(2, port, lane);
        remote.connect();
        remote.send(&ping(PEER, DEVICE, 5, 56));
        eventually("its session and its packet", || {
            let path = device.status().peers[0].lanes[usize::from(lane)].clone();
            path.handshake_age.is_some() && path.rx_bytes == 84
        });
    }
    assert_eq!(device.status().lanes, 2);
}

#[test]
fn probes_measure_the_path_and_their_silence_brings_the_peer_down() {
    enter_new_namespace();
    let device = device(PeerKind::Linkspan { lanes: NonZeroU8::MIN }, |_| {});
    let mut remote = Remote::new(2, device.status().listen_port, 0);
    remote.connect();
    let mut sequence = 0;
    // Probes are answered in passing, and some of them too late on a busy machine.
    eventually("up, and measured", || {
        sequence += 1;
        remote.send(&ping(PEER, DEVICE, sequence, 56));
        assert!(is_pong(&remote.receive_data(), sequence));
        let peer = device.status().peers[0].clone();
        peer.state == PeerState::Up && peer.lanes[0].rtt.is_some() && peer.lanes[0].jitter.is_some()
    });
    // Nobody reads the probes any more. What was told before is read too, and does not do.
    let mut changes = device.changes().unwrap();
    changes.set_nonblocking(false).unwrap();
    changes.set_read_timeout(Some(PATIENCE)).unwrap();
    while device.status().peers[0].state != PeerState::Down {
        changes.read_exact(&mut [0]).expect("the device tells of the change");
    }
    assert!(device.status().peers[0].reason.contains("no answer"), "{}", device.status().peers[0].reason);
}

#[test]
fn a_new_peer_joins_without_touching_the_sessions_of_others() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Vanilla, |c| config = Some(c.clone()));
    let mut config = config.unwrap();
    let port = device.status().vanilla_port.unwrap();
    let mut remote = Remote::new(2, port, 0);
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
    config.peers.insert(0, peer(3, PeerKind::Vanilla));
    device.configure(config.clone()).unwrap();
    let mut new = Remote::new(3, port, 0);
    new.connect();
    crate::support::ip("route add 10.9.3.0/24 dev tun0");
    new.send(&ping([10, 9, 3, 1], DEVICE, 2, 56));
    assert!(is_pong(new.receive(), 2));
    remote.send(&ping(PEER, DEVICE, 3, 56));
    assert!(is_pong(remote.receive(), 3), "the old session still works");
    config.peers.remove(0);
    device.configure(config).unwrap();
    new.send(&ping([10, 9, 3, 1], DEVICE, 4, 56));
    eventually("the removed peer is unknown", || crate::support::drops(&device.status(), "unknown-session") >= 1);
}

#[test]
fn the_first_vanilla_peer_comes_and_the_last_one_goes_without_touching_other_sessions() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Linkspan { lanes: NonZeroU8::MIN }, |c| {
        c.vanilla_port = None;
        config = Some(c.clone());
    });
    let without = config.unwrap();
    let mut remote = Remote::new(2, device.status().listen_port, 0);
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(&remote.receive_data(), 1));
    crate::support::ip("route add 10.9.3.0/24 dev tun0");
    let mut sequence = 1;
    for _ in 0..2 {
        let mut with = without.clone();
        with.vanilla_port = Some(0);
        with.peers.push(peer(3, PeerKind::Vanilla));
        device.configure(with).unwrap();
        let port = device.status().vanilla_port.expect("an open port");
        let mut vanilla = Remote::new(3, port, 0);
        vanilla.connect();
        sequence += 1;
        vanilla.send(&ping([10, 9, 3, 1], DEVICE, sequence, 1300));
        assert!(is_pong(vanilla.receive(), sequence));
        remote.send(&ping(PEER, DEVICE, sequence, 56));
        assert!(is_pong(&remote.receive_data(), sequence), "the old session still works");
        device.configure(without.clone()).unwrap();
        assert_eq!(device.status().vanilla_port, None);
        eventually("the port is free", || std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok());
    }
    remote.send(&ping(PEER, DEVICE, 99, 56));
    assert!(is_pong(&remote.receive_data(), 99));
}

#[test]
fn a_vanilla_port_that_is_taken_changes_nothing() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Linkspan { lanes: NonZeroU8::MIN }, |c| {
        c.vanilla_port = None;
        config = Some(c.clone());
    });
    let mut remote = Remote::new(2, device.status().listen_port, 0);
    remote.connect();
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut with = config.unwrap();
    with.vanilla_port = Some(taken.local_addr().unwrap().port());
    with.peers.push(peer(3, PeerKind::Vanilla));
    let error = device.configure(with.clone()).expect_err("taken").to_string();
    assert!(error.contains("another program uses the port"), "{error}");
    assert_eq!(device.status().peers.len(), 1);
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(&remote.receive_data(), 1), "the session goes on");
    drop(taken);
    // A process that another test is starting may still have the port, until it becomes its program.
    eventually("a free port", || device.configure(with.clone()).is_ok());
    assert_eq!(device.status().peers.len(), 2);
}

#[test]
fn a_link_that_somebody_deletes_is_made_anew() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Vanilla, |c| config = Some(c.clone()));
    let config = config.unwrap();
    crate::support::ip("link delete tun0");
    eventually("a new link", || {
        device.configure(config.clone()).unwrap();
        std::process::Command::new("ip").args(["link", "show", "tun0"]).output().unwrap().status.success()
    });
    for setting in ["address add 10.9.1.1/24 dev tun0", "link set tun0 up mtu 1420", "route add 10.9.2.0/24 dev tun0"] {
        crate::support::ip(setting);
    }
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
}

#[test]
fn a_burst_of_unmerged_datagrams_comes_through_whole_and_in_order() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |config| config.offloads.udp_gro = false);
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    // More than two calls take, of sizes that end and begin merged packets; strangers' among them.
    let sizes = [56, 1300, 1300, 1, 0, 1392];
    let burst: Vec<_> =
        (0..90u16).map(|n| remote.seal(&ping(PEER, DEVICE, n, sizes[usize::from(n) % sizes.len()]))).collect();
    for (n, datagram) in burst.iter().enumerate() {
        remote.send_raw(datagram);
        if n % 30 == 29 {
            remote.send_raw(&[4, 0, 0, 0]);
        }
    }
    for sequence in 0..90 {
        assert!(is_pong(remote.receive(), sequence), "{sequence}");
    }
    // The last of them came behind the last ping.
    eventually("strangers are counted", || crate::support::drops(&device.status(), "not-wireguard") == 3);
}

#[test]
fn a_port_that_another_device_still_has_is_not_shared() {
    enter_new_namespace();
    let first = device(TWO, |config| config.lanes = NonZeroU8::new(2).unwrap());
    let port = first.status().listen_port;
    let mut config = None;
    let open = |config: &tunnel::Config| tunnel::Device::open(config.clone());
    first.close();
    crate::support::ip("address del 10.9.1.1/24 dev tun0");
    let second = device(TWO, |c| {
        c.listen_port = port;
        c.lanes = NonZeroU8::new(2).unwrap();
        config = Some(c.clone());
    });
    let error = open(&config.unwrap()).expect_err("held");
    assert!(error.is_held(), "{error}");
    // Its group is as it was: each lane still gets its own.
    for lane in [0, 1] {
        Remote::new(2, second.status().listen_port, lane).connect();
    }
}

#[test]
fn a_gateway_that_moves_in_the_middle_of_streams_keeps_them_on_all_its_lanes() {
    let pair = Pair::new([2, 2], |_, _| {});
    eventually("a session on each lane", || {
        pair.near.status().peers[0].lanes.iter().all(|lane| lane.handshake_age.is_some())
    });
    for (moves, link, from, to) in
        [(End::Near, "eth0", "192.0.2.1", "192.0.2.3"), (End::Far, "eth1", "192.0.2.2", "192.0.2.4")]
    {
        // So slow that the streams last for more than a second.
        pair.on(moves, || tc(&format!("qdisc add dev {link} root tbf rate 200mbit burst 256kb limit 100000000")));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pair.transfer(moves, 8 << 20));
            }
            std::thread::sleep(Duration::from_millis(300));
            pair.on(moves, || {
                ip(&format!("address del {from}/24 dev {link}"));
                ip(&format!("address add {to}/24 dev {link}"));
            });
        });
        let other = if moves == End::Near { &pair.far } else { &pair.near };
        let endpoint = || other.status().peers[0].endpoint.map(|endpoint| endpoint.ip().to_string());
        eventually("the other end follows", || endpoint().as_deref() == Some(to));
        pair.transfer(End::Near, 1 << 20);
        pair.transfer(End::Far, 1 << 20);
    }
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Vanilla, |c| config = Some(c.clone()));
    let good = config.unwrap();
    let refused = |change: &dyn Fn(&mut tunnel::Config)| {
        let mut bad = good.clone();
        change(&mut bad);
        device.configure(bad).expect_err("refused").to_string()
    };
    assert!(refused(&|c| c.mtu = 100).contains("MTU 100"));
    assert!(refused(&|c| c.lanes = NonZeroU8::new(17).unwrap()).contains("17 lanes"));
    assert!(refused(&|c| c.peers.push(c.peers[0].clone())).contains("same public key"));
    assert!(refused(&|c| c.vanilla_port = None).contains("no vanilla port"));
    assert!(refused(&|c| c.peers[0].public_key = c.private_key.public_key()).contains("own public key"));
    assert_eq!(device.status().peers.len(), 1, "and the device goes on as before");
}
