//! Addresses that others know by virtual ones.

use std::process::{Command, Stdio};

use etherparse::{Icmpv4Slice, Ipv4HeaderSlice};
use tunnel::{Addresses, Config, PeerKind};

use crate::support::{DEVICE, PEER, Remote, device, drops, enter_new_namespace, eventually, ip, ping, translation};

/// What the peer calls the device.
const VIRTUAL: [u8; 4] = [100, 64, 1, 1];

fn known_by_virtual(config: &mut Config) {
    config.translation = vec![translation(1)];
    config.peers[0].knows_us_by = Addresses::Virtual;
}

/// The addresses of an ICMP packet whose checksums are right.
fn judge(packet: &[u8]) -> [[u8; 4]; 2] {
    let ip = Ipv4HeaderSlice::from_slice(packet).unwrap();
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    let icmp = Icmpv4Slice::from_slice(&packet[20..]).unwrap();
    assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
    [ip.source(), ip.destination()]
}

#[test]
fn a_peer_reaches_and_is_reached_by_virtual_addresses() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, known_by_virtual);
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    remote.send(&ping(PEER, VIRTUAL, 1, 56));
    assert_eq!(judge(remote.receive()), [VIRTUAL, PEER], "the reply bears the address that was called");
    // A connection that the device's host begins.
    let mut kernel = Command::new("ping").args(["-c1", "-W1", "10.9.2.1"]).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(judge(remote.receive()), [VIRTUAL, PEER]);
    kernel.wait().unwrap();
    // It is counted after it was sent.
    eventually("counted", || device.status().translated.outward >= 2);
    let status = device.status();
    assert_eq!((status.translated.outward, status.translated.inward), (2, 1));
    assert_eq!(status.translation, [translation(1)]);
}

#[test]
fn a_source_without_a_virtual_address_goes_nowhere() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, known_by_virtual);
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    ip("address add 192.0.2.9/32 dev lo");
    Command::new("ping").args(["-c1", "-W1", "-I", "192.0.2.9", "10.9.2.1"]).stdout(Stdio::null()).status().unwrap();
    eventually("dropped", || drops(&device.status(), "no-virtual-source") == 1);
    remote.send(&ping(PEER, VIRTUAL, 7, 56));
    assert_eq!(judge(remote.receive()), [VIRTUAL, PEER], "nothing came before it");
}

#[test]
fn who_is_too_big_is_told_by_its_own_address() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, known_by_virtual);
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    // The link would carry what the path does not.
    ip("link set tun0 mtu 1500");
    let output = Command::new("ping").args(["-c1", "-W60", "-M", "do", "-s", "1450", "10.9.2.1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("From 10.9.2.1 icmp_seq=1 Frag needed and DF set (mtu = 1420)"), "{said}");
    // It is counted after the answer.
    eventually("counted", || drops(&device.status(), "too-big") >= 1);
    assert_eq!(drops(&device.status(), "too-big"), 1);
}

#[test]
fn a_peer_that_learns_the_other_address_keeps_its_session() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Vanilla, |made| config = Some(made.clone()));
    let mut config = config.unwrap();
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    for (addresses, called) in [(Addresses::Native, DEVICE), (Addresses::Virtual, VIRTUAL), (Addresses::Native, DEVICE)]
    {
        config.translation = vec![translation(1)];
        config.peers[0].knows_us_by = addresses;
        device.configure(config.clone()).unwrap();
        // Without a new handshake.
        remote.send(&ping(PEER, called, 1, 56));
        assert_eq!(judge(remote.receive()), [called, PEER], "{addresses:?}");
    }
}

#[test]
fn prefixes_that_cannot_be_translated_are_refused() {
    enter_new_namespace();
    let mut config = None;
    let device = device(PeerKind::Vanilla, |made| config = Some(made.clone()));
    let mut config = config.unwrap();
    let mut refused = |pairs: &[(&str, &str)]| {
        let net = |text: &str| text.parse().unwrap();
        let pair =
            |(native, foreign): &(&str, &str)| tunnel::Translation { native: net(native), r#virtual: net(foreign) };
        config.translation = pairs.iter().map(pair).collect();
        device.configure(config.clone()).expect_err("refused").to_string()
    };
    assert_eq!(
        refused(&[("10.42.0.0/16", "100.64.0.0/24")]),
        "tunnel configuration: 10.42.0.0/16 cannot be known as 100.64.0.0/24: family and length must be equal"
    );
    assert!(refused(&[("10.42.0.0/16", "fd64::/16")]).ends_with("family and length must be equal"));
    assert_eq!(
        refused(&[("10.42.0.0/16", "100.64.0.0/16"), ("10.42.7.0/24", "100.65.0.0/24")]),
        "tunnel configuration: translated prefixes 10.42.0.0/16 and 10.42.7.0/24 overlap"
    );
    assert!(
        refused(&[("10.42.0.0/16", "100.64.0.0/16"), ("10.43.0.0/16", "100.64.0.0/16")])
            .ends_with("100.64.0.0/16 and 100.64.0.0/16 overlap")
    );
}
