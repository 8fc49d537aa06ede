//! A lane without a link, for fuzzing: what it would write to the TUN queue goes nowhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use super::deliver::Merges;
use super::passing::connect;
use super::rx::{Receive, Rx};
use super::wire::{Port, Wire};
use super::{Identity, Links, Orders, PeerOrder, Peers};
use crate::config::{Addresses, Dscp, PrivateKey};
use crate::io::poll::{Announcer, Bell};
use crate::io::tun::{Queue, Segmentation};
use crate::io::udp::{Received, UdpSocket};
use crate::packet::translate::Table;
use crate::routes::AllowedIps;
use crate::shared::{SharedLane, SharedPeer};

/// A lane with one peer, and that peer with a session.
pub(crate) struct DryLane {
    links: Links,
    peers: Peers,
    rx: Rx,
    remote: Tunn,
    source: SocketAddr,
    /// How long datagrams have waited when they come.
    age: Duration,
}

impl DryLane {
    /// Makes both ends and lets them shake hands.
    pub(crate) fn new() -> std::io::Result<Self> {
        let (own, other) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let (socket, shared) = (UdpSocket::bind(0)?, Arc::new(SharedLane::default()));
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, socket.port()?));
        let bell = Arc::new(Bell::new()?);
        let (inbox, outboxes) = connect(&[bell]).pop().unwrap_or_default();
        let wire = Wire::new(socket, None, true, shared);
        let links = Links { lane: 0, queue: Queue::nowhere()?, wire, inbox, outboxes, now: Duration::ZERO };
        let mut peers = Peers::new(0, own.clone());
        let identity =
            Identity { slot: 0, public_key: other.public_key(), preshared_key: None, port: Port::Linkspan, mtu: 1420 };
        let shared = Arc::new(SharedPeer::new(None, 1, Arc::new(Announcer::new()?.0)));
        let order =
            PeerOrder { identity, lanes: 1, shared, knows_us_by: Addresses::Virtual, persistent_keepalive: None };
        let any = ["0.0.0.0/1", "8000::/1"].map(|net| (net.parse().expect("a literal prefix"), 0));
        let pairs = [("100.64.0.0/16", "10.42.0.0/16"), ("fd64::/64", "fd42::/64")];
        let pairs = pairs.map(|(from, to)| [from, to].map(|net| net.parse().expect("a literal prefix")));
        let orders = Orders {
            routes: AllowedIps::build(any),
            outward: Table::build(pairs.map(|[foreign, native]| (native, foreign))),
            inward: Table::build(pairs.map(|[foreign, native]| (foreign, native))),
            families_together: false,
            peers: vec![order],
            dscp: Dscp::Zero,
        };
        peers.obey(Arc::new(orders), Duration::ZERO);
        let device = x25519::PublicKey::from(own.public_key().0);
        let remote = Tunn::new(other.secret(), device, None, None, 0, None);
        let merges = Merges::of(Segmentation::TcpUdp, true);
        let rx = Rx::new(Segmentation::TcpUdp, merges, Receive::Merged, false);
        let mut lane = Self { links, peers, rx, remote, source, age: Duration::ZERO };
        lane.shake_hands();
        Ok(lane)
    }

    fn shake_hands(&mut self) {
        let mut message = [0; 256];
        let TunnResult::WriteToNetwork(initiation) = self.remote.format_handshake_initiation(&mut message, true) else {
            return;
        };
        let initiation = initiation.to_vec();
        let Some(peer) = self.peers.get(0) else { return };
        let mut answer = [0; 256];
        let TunnResult::WriteToNetwork(response) = peer.tunn.decapsulate(None, &initiation, &mut answer) else {
            return;
        };
        if let TunnResult::WriteToNetwork(keepalive) = self.remote.decapsulate(None, response, &mut message) {
            let keepalive = keepalive.to_vec();
            self.datagrams(&keepalive, keepalive.len(), 0);
        }
    }

    /// Receives bytes as the socket would hand them over: datagrams of `segment` bytes with an outer ToS.
    pub(crate) fn datagrams(&mut self, bytes: &[u8], segment: usize, tos: u8) {
        let length = bytes.len().min(65_535);
        let (segment, age) = (segment.max(1), self.age);
        let received = Received { length, segment, source: self.source, local: None, tos, age };
        self.rx.feed(&bytes[..length], &received, Port::Linkspan, &mut self.links, &mut self.peers);
        self.links.wire.flush();
    }

    /// Receives inner bytes that the peer has sealed.
    pub(crate) fn sealed(&mut self, inner: &[u8], tos: u8) {
        let inner = &inner[..inner.len().min(65_000)];
        let mut datagram = vec![0; inner.len() + 256];
        if let TunnResult::WriteToNetwork(sealed) = self.remote.encapsulate(inner, &mut datagram) {
            let length = sealed.len();
            self.datagrams(&datagram[..length], length, tos);
        }
    }

    /// Inner bytes that passed all checks.
    #[cfg(test)]
    pub(crate) fn delivered(&mut self) -> u64 {
        self.peers.get(0).map_or(0, |peer| peer.shared_path().rx_bytes.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops::Reason;

    #[test]
    fn the_dry_lane_delivers_what_its_peer_seals_and_nothing_else() {
        let mut lane = DryLane::new().expect("a socket and an eventfd");
        let packet = crate::packet::samples::Sample::default().bytes();
        lane.sealed(&packet, 0);
        let delivered = lane.delivered();
        assert_eq!(delivered, packet.len() as u64);
        lane.datagrams(&packet, 20, 3);
        lane.sealed(&[0xff; 64], 3);
        assert_eq!(lane.delivered(), delivered);
    }

    #[test]
    fn a_queue_that_stays_costs_one_large_packet_whose_transport_knows_no_marks() {
        use crate::packet::samples::Sample;
        let mut lane = DryLane::new().expect("a socket and an eventfd");
        let sample = |tos, size| Sample { tos, payload: vec![7; size], ..Sample::default() }.bytes();
        let (small, large, marked) = (sample(0, 100), sample(0, 1000), sample(2, 1000));
        // A peer without probes: its round trip may be long, and so may be the queue.
        lane.age = Duration::from_millis(6);
        for ms in [0, 50, 99] {
            lane.links.now = Duration::from_millis(ms);
            lane.sealed(&large, 0);
        }
        assert_eq!(lane.delivered(), 3 * large.len() as u64);
        lane.links.now = Duration::from_millis(100);
        lane.sealed(&small, 0);
        assert_eq!(lane.delivered(), (3 * large.len() + small.len()) as u64, "too small to tell");
        let before = lane.delivered();
        lane.sealed(&large, 0);
        assert_eq!(lane.delivered(), before);
        assert_eq!(lane.links.drops().get(Reason::CongestionDrop), 1);
        lane.sealed(&large, 0);
        assert_eq!(lane.delivered(), before + large.len() as u64, "once");
        // 100 ms after the first one.
        lane.links.now = Duration::from_millis(200);
        lane.sealed(&marked, 2);
        assert_eq!(lane.delivered(), before + (large.len() + marked.len()) as u64, "it is told by a mark");
        assert_eq!(lane.links.drops().get(Reason::CongestionDrop), 1);
        // It is short again before a large one comes.
        lane.links.now = Duration::from_millis(300);
        lane.sealed(&small, 0);
        lane.age = Duration::ZERO;
        lane.sealed(&large, 0);
        assert_eq!(lane.links.drops().get(Reason::CongestionDrop), 1);
    }
}
