//! Sessions: who calls, roaming, floods of handshakes, restarts.

use std::num::NonZeroU16;
use std::process::{Command, Stdio};

use boringtun::noise::TunnResult;
use tunnel::status::PeerState;
use tunnel::{Config, PeerKind};

use crate::support::{DEVICE, PEER, Remote, device, drops, enter_new_namespace, eventually, ip, is_pong, ping};

/// Pings the peer's inner host from the namespace; the peer must answer.
fn ping_from_kernel() -> std::process::Child {
    Command::new("ping").args(["-c1", "-W60", "10.9.2.1"]).stdout(Stdio::null()).spawn().expect("ping of iputils-ping")
}

/// Turns an echo request that the device has sent into its reply.
fn pong(request: &[u8]) -> Vec<u8> {
    let (source, destination) = (request[12..16].try_into().unwrap(), request[16..20].try_into().unwrap());
    let (id, sequence) =
        (u16::from_be_bytes([request[24], request[25]]), u16::from_be_bytes([request[26], request[27]]));
    let builder = etherparse::PacketBuilder::ipv4(destination, source, 64).icmpv4_echo_reply(id, sequence);
    let mut packet = Vec::new();
    builder.write(&mut packet, &request[28..]).unwrap();
    packet
}

#[test]
fn the_device_calls_a_peer_with_an_endpoint_and_keeps_the_first_packet() {
    enter_new_namespace();
    let mut remote = Remote::new(2, 0, 0);
    let endpoint = remote.socket.local_addr().unwrap();
    let device = device(PeerKind::Vanilla, |config| config.peers[0].endpoint = Some(endpoint));
    remote.to.set_port(device.status().vanilla_port.unwrap());
    let mut ping = ping_from_kernel();
    let reply = pong(remote.receive());
    remote.send(&reply);
    assert!(ping.wait().unwrap().success());
    eventually("up", || device.status().peers[0].state == PeerState::Up);
}

#[test]
fn a_peer_that_moves_is_followed_with_its_first_packet() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |_| {});
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
    let moved = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
    moved.set_read_timeout(remote.socket.read_timeout().unwrap()).unwrap();
    remote.socket = moved;
    remote.send(&ping(PEER, DEVICE, 2, 56));
    assert!(is_pong(remote.receive(), 2), "the answer comes to the new address");
    let moved = Some(remote.socket.local_addr().unwrap());
    eventually("it is told", || device.status().peers[0].endpoint == moved);
}

/// A peer whose firewall lets answers in only from the address that it has called.
fn strict(port: u16, own: &str, called: &str) -> Remote {
    let mut remote = Remote::new(2, port, 0);
    let own: std::net::IpAddr = own.parse().unwrap();
    remote.to.set_ip(called.parse().unwrap());
    let timeout = remote.socket.read_timeout().unwrap();
    remote.socket = std::net::UdpSocket::bind((own, 0)).unwrap();
    remote.socket.set_read_timeout(timeout).unwrap();
    remote.socket.connect(remote.to).unwrap();
    remote
}

#[test]
fn answers_come_from_whichever_address_the_peer_has_called() {
    enter_new_namespace();
    // Towards an address on the loopback link, the kernel would choose that address itself.
    ip("address add 192.0.2.1/32 dev lo");
    ip("address add 192.0.2.2/32 dev lo");
    ip("address add fd00::1/128 dev lo nodad");
    ip("address add fd00::2/128 dev lo nodad");
    for udp_gso in [true, false] {
        let device = device(PeerKind::Vanilla, |config| config.offloads.udp_gso = udp_gso);
        let port = device.status().vanilla_port.unwrap();
        for (sequence, called) in (1..).zip(["192.0.2.2", "fd00::2", "192.0.2.1", "fd00::1"]) {
            let own = if called.contains(':') { "fd00::1" } else { "192.0.2.1" };
            let mut remote = strict(port, own, called);
            remote.connect();
            remote.send(&ping(PEER, DEVICE, sequence, 1300));
            assert!(is_pong(remote.receive(), sequence), "{called}");
        }
        device.close();
        ip("link delete tun0");
    }
}

#[test]
fn an_address_that_goes_while_a_peer_uses_it_is_given_up() {
    enter_new_namespace();
    ip("address add 192.0.2.1/32 dev lo");
    ip("address add 192.0.2.2/32 dev lo");
    let device = device(PeerKind::Vanilla, |_| {});
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.to.set_ip([192, 0, 2, 2].into());
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
    ip("address del 192.0.2.2/32 dev lo");
    let mut ping = ping_from_kernel();
    let reply = pong(remote.receive());
    remote.to.set_ip([192, 0, 2, 1].into());
    remote.send(&reply);
    assert!(ping.wait().unwrap().success());
    assert_eq!(drops(&device.status(), "send-failed"), 0);
}

#[test]
fn a_forged_packet_from_elsewhere_moves_nobody() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |_| {});
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
    let mut forged = remote.seal(&ping(PEER, DEVICE, 2, 56));
    *forged.last_mut().unwrap() ^= 1;
    std::net::UdpSocket::bind("127.0.0.3:0").unwrap().send_to(&forged, remote.to).unwrap();
    eventually("dropped", || drops(&device.status(), "unauthentic") == 1);
    assert_eq!(device.status().peers[0].endpoint, Some(remote.socket.local_addr().unwrap()));
}

#[test]
fn a_flood_of_handshakes_is_met_with_cookies_and_a_peer_with_a_cookie_gets_in() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |_| {});
    let port = device.status().vanilla_port.unwrap();
    let mut flood = Remote::new(66, port, 0);
    let mut message = [0; 256];
    // A busy machine may send them too slowly to be one.
    eventually("cookies", || {
        for _ in 0..400 {
            if let TunnResult::WriteToNetwork(initiation) = flood.tunn.format_handshake_initiation(&mut message, true) {
                flood.socket.send_to(initiation, flood.to).unwrap();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        drops(&device.status(), "rate-limited") > 0
    });
    let mut remote = Remote::new(2, port, 0);
    // The first try may cost a cookie; the second carries it.
    for _ in 0..2 {
        let TunnResult::WriteToNetwork(initiation) = remote.tunn.format_handshake_initiation(&mut message, true) else {
            panic!("no initiation");
        };
        remote.socket.send_to(initiation, remote.to).unwrap();
        let mut answer = [0; 256];
        let length = remote.receive_raw(&mut answer);
        let mut reply = [0; 256];
        if let TunnResult::WriteToNetwork(keepalive) = remote.tunn.decapsulate(None, &answer[..length], &mut reply) {
            remote.socket.send_to(keepalive, remote.to).unwrap();
            break;
        }
        assert_eq!(answer[0], 3, "a cookie reply");
    }
    remote.send(&ping(PEER, DEVICE, 1, 56));
    assert!(is_pong(remote.receive(), 1));
}

#[test]
fn persistent_keepalives_go_out_without_traffic() {
    enter_new_namespace();
    let device = device(PeerKind::Vanilla, |config| config.peers[0].persistent_keepalive = NonZeroU16::new(1));
    let mut remote = Remote::new(2, device.status().vanilla_port.unwrap(), 0);
    remote.connect();
    let mut datagram = [0; 256];
    for _ in 0..2 {
        let length = remote.receive_raw(&mut datagram);
        assert_eq!((datagram[0], length), (4, 32), "an empty data message");
    }
}

#[test]
fn a_restarted_device_adopts_its_link_and_calls_at_once() {
    enter_new_namespace();
    let mut remote = Remote::new(2, 0, 0);
    let endpoint = remote.socket.local_addr().unwrap();
    let with_endpoint = |config: &mut Config| config.peers[0].endpoint = Some(endpoint);
    let first = device(PeerKind::Vanilla, with_endpoint);
    first.close();
    ip("link show tun0");
    ip("address del 10.9.1.1/24 dev tun0");
    let second = device(PeerKind::Vanilla, with_endpoint);
    remote.to.set_port(second.status().vanilla_port.unwrap());
    let mut ping = ping_from_kernel();
    let reply = pong(remote.receive());
    remote.send(&reply);
    assert!(ping.wait().unwrap().success());
}
