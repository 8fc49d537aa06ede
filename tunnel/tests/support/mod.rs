//! A device in a network namespace of its own, and a WireGuard peer in the test, over loopback.
//!
//! Packets that the peer sends come out of the TUN link, where the kernel of the namespace answers pings. Needs root: a
//! test that cannot make its namespace fails.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses a part; a helper that fails fails its test"
)]

pub mod mac;
pub mod pair;

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU8;
use std::process::Command;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use tunnel::config::{Dscp, Offloads, PrivateKey, PublicKey};
use tunnel::status::Status;
use tunnel::{Addresses, Config, Device, Peer, PeerKind, Translation};

/// Address of the device's link and of the peer's inner host.
pub const DEVICE: [u8; 4] = [10, 9, 1, 1];
pub const PEER: [u8; 4] = [10, 9, 2, 1];

/// Longest wait for what takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Moves this thread, and the device and programs that it starts, into a new network namespace.
pub fn enter_new_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    ip("link set lo up");
}

/// Runs `ip` in this thread's namespace.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip of iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// Runs `tc` in this thread's namespace.
pub fn tc(arguments: &str) {
    let status = Command::new("tc").args(arguments.split(' ')).status().expect("tc of iproute2");
    assert!(status.success(), "tc {arguments}");
}

/// Waits until `done` says so.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The key pair with this number; the same in every run.
pub fn key(number: u8) -> (PrivateKey, PublicKey) {
    let private = PrivateKey::from_bytes([number; 32]);
    let public = private.public_key();
    (private, public)
}

/// A device with one peer, up in this thread's namespace, with `PEER`'s network routed into it.
pub fn device(kind: PeerKind, change: impl FnOnce(&mut Config)) -> Device {
    let mut config = config(peer(2, kind));
    change(&mut config);
    let device = Device::open(config).expect("a TUN link needs root and /dev/net/tun");
    ip("address add 10.9.1.1/24 dev tun0");
    ip("link set tun0 up mtu 1420");
    ip("route replace 10.9.2.0/24 dev tun0");
    device
}

/// What a device with one peer is told.
pub fn config(peer: Peer) -> Config {
    Config {
        link: "tun0".to_owned(),
        private_key: key(1).0,
        listen_port: 0,
        vanilla_port: Some(0),
        lanes: NonZeroU8::MIN,
        mtu: 1420,
        dscp: Dscp::Zero,
        offloads: Offloads::default(),
        translation: Vec::new(),
        families_together: false,
        peers: vec![peer],
    }
}

/// The peer with key `number`, which owns 10.9.`number`.0/24.
pub fn peer(number: u8, kind: PeerKind) -> Peer {
    Peer {
        name: format!("peer-{number}"),
        public_key: key(number).1,
        preshared_key: None,
        endpoint: None,
        allowed_ips: vec![format!("10.9.{number}.0/24").parse().unwrap()],
        persistent_keepalive: None,
        kind,
        knows_us_by: Addresses::Native,
    }
}

/// 10.9.`number`.0/24, which others know as 100.64.`number`.0/24.
pub fn translation(number: u8) -> Translation {
    let net = |text: String| text.parse().unwrap();
    Translation { native: net(format!("10.9.{number}.0/24")), r#virtual: net(format!("100.64.{number}.0/24")) }
}

/// Packets that the device dropped for a reason.
pub fn drops(status: &Status, reason: &str) -> u64 {
    status.drops.iter().find(|d| d.reason == reason).expect("a known reason").count
}

/// A WireGuard peer made of boringtun's protocol and a socket.
pub struct Remote {
    pub socket: UdpSocket,
    pub tunn: Tunn,
    pub to: SocketAddr,
    buffer: Vec<u8>,
    sealed: Vec<u8>,
}

impl Remote {
    /// The peer with key `number`, that talks to `port` with sessions of `lane`.
    pub fn new(number: u8, port: u16, lane: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let secret = boringtun::x25519::StaticSecret::from([number; 32]);
        let device = boringtun::x25519::PublicKey::from(key(1).1.0);
        let tunn = Tunn::new(secret, device, None, None, 0x0700 | u32::from(lane), None);
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        Self { socket, tunn, to, buffer: vec![0; 65_536], sealed: vec![0; 65_536] }
    }

    /// Sends any bytes.
    pub fn send_raw(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).unwrap();
    }

    /// The next datagram from the device, within [`PATIENCE`].
    pub fn receive_raw(&self, buffer: &mut [u8]) -> usize {
        loop {
            match self.socket.recv_from(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => return result.expect("a datagram from the device").0,
            }
        }
    }

    /// Makes the first message of a handshake.
    pub fn call(&mut self) -> Vec<u8> {
        match self.tunn.format_handshake_initiation(&mut [0; 256], true) {
            TunnResult::WriteToNetwork(initiation) => initiation.to_vec(),
            _ => panic!("no initiation"),
        }
    }

    /// Starts and completes a handshake; returns its first message.
    pub fn connect(&mut self) -> Vec<u8> {
        let initiation = self.call();
        self.send_raw(&initiation);
        let mut message = [0; 256];
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = self.receive_raw(&mut buffer);
        self.buffer = buffer;
        let TunnResult::WriteToNetwork(keepalive) = self.tunn.decapsulate(None, &self.buffer[..length], &mut message)
        else {
            panic!("the response is not authentic");
        };
        self.socket.send_to(keepalive, self.to).unwrap();
        initiation
    }

    /// Seals an inner packet; returns the datagram.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        match self.tunn.encapsulate(packet, &mut self.sealed) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            _ => panic!("no session"),
        }
    }

    /// Sends an inner packet, without allocating.
    pub fn send(&mut self, packet: &[u8]) {
        match self.tunn.encapsulate(packet, &mut self.sealed) {
            TunnResult::WriteToNetwork(datagram) => drop(self.socket.send_to(datagram, self.to).unwrap()),
            _ => panic!("no session"),
        }
    }

    /// Answers probes until a packet of another kind comes.
    pub fn receive_data(&mut self) -> Vec<u8> {
        loop {
            let packet = self.receive().to_vec();
            if packet[6] != 253 {
                return packet;
            }
            let mut answer = packet[..64].to_vec();
            answer[4..6].copy_from_slice(&24u16.to_be_bytes());
            if std::mem::replace(&mut answer[44], 2) == 1 {
                self.send(&answer);
            }
        }
    }

    /// The next inner packet from the device, without allocating; handshakes and keepalives are handled on the way.
    pub fn receive(&mut self) -> &[u8] {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let length = self.receive_raw(&mut buffer);
            self.buffer = buffer;
            let mut again = false;
            match self.tunn.decapsulate(None, &self.buffer[..length], &mut self.sealed) {
                TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
                TunnResult::WriteToNetwork(answer) => {
                    self.socket.send_to(answer, self.to).unwrap();
                    again = true;
                }
                _ => again = true,
            }
            if !again {
                let length = match self.sealed[0] >> 4 {
                    4 => usize::from(u16::from_be_bytes([self.sealed[2], self.sealed[3]])),
                    _ => 40 + usize::from(u16::from_be_bytes([self.sealed[4], self.sealed[5]])),
                };
                return &self.sealed[..length];
            }
        }
    }
}

/// An ICMP echo request with correct checksums (RFC 792).
pub fn ping(source: [u8; 4], destination: [u8; 4], sequence: u16, size: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4(source, destination, 64).icmpv4_echo_request(7, sequence);
    let payload = vec![b'x'; size];
    let mut packet = Vec::with_capacity(builder.size(size));
    builder.write(&mut packet, &payload).unwrap();
    packet
}

/// Whether a packet is the answer to such a request.
pub fn is_pong(packet: &[u8], sequence: u16) -> bool {
    packet.len() >= 28 && packet[9] == 1 && packet[20] == 0 && packet[26..28] == sequence.to_be_bytes()
}
