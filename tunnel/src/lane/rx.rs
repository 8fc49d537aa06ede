//! From the peers to the TUN queue: receive, authenticate, check, merge, write.

mod handshakes;

use std::net::IpAddr;
use std::time::Duration;

use boringtun::noise::TunnResult;
use boringtun::noise::errors::WireGuardError;

use super::deliver::{Assemblers, Delivery, Merges};
use super::peer::LanePeer;
use super::queue::Queue;
use super::tx::Progress;
use super::wire::Port;
use super::{COOKIE, DATA, INITIATION, Links, Peers, RESPONSE};
use crate::drops::Reason;
use crate::io::tun::Segmentation;
use crate::io::udp::{MAX_RECEIVES, Received, lacks_call};
use crate::packet::ecn::{self, Decapsulated, Ecn};
use crate::packet::mss;
use crate::packet::vnet::VnetHeader;
use crate::probe;
use crate::routes::{LastHit, Slot};
use handshakes::{answer, flush_waiting, initiation};

/// Receives (each up to 64 KB, or one datagram) before the other direction has its turn.
const BURST: usize = 4;
/// What one receive can bring: 64 KB in merged datagrams.
const BUFFER: usize = 65_536;
/// Header and tag of a data message, which is a keepalive then (WireGuard paper, section 5.4.6).
const SHORTEST_DATA: usize = 32;

/// Packets from this size on are of those that fill the queue; answers and first packets of others are smaller.
const TELLING: usize = 512;

/// How datagrams come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// Merged by the kernel (`UDP_GRO`), many in one receive.
    Merged,
    /// One by one, many in one call (`recvmmsg`).
    Many,
    /// One in one call: what every kernel and every sandbox has.
    Single,
}

/// State of the inward direction.
#[derive(Debug)]
pub(crate) struct Rx {
    receive: Receive,
    /// Room for one receive, or for [`MAX_RECEIVES`] of the same size; pages that are never written cost no memory.
    buffer: Box<[u8]>,
    assemblers: Assemblers,
    delivery: Delivery,
    last: LastHit,
    /// The queues in the lane's sockets, by [`Port`].
    queues: [Queue; 2],
    /// That queue is too long, and the next large packet from it shall tell its sender.
    tell: [bool; 2],
}

/// What became of one datagram.
enum Outcome {
    /// The message did its work.
    Done,
    /// It was dropped.
    Dropped(Reason),
}

impl Rx {
    pub(crate) fn new(segmentation: Segmentation, merges: Merges, receive: Receive, vanilla: bool) -> Self {
        let receives = if receive == Receive::Many { MAX_RECEIVES } else { 1 };
        let mut rx = Self {
            receive,
            buffer: vec![0; BUFFER * receives].into_boxed_slice(),
            assemblers: Assemblers::new(merges),
            delivery: Delivery::new(segmentation),
            last: LastHit::default(),
            queues: Default::default(),
            tell: [false; 2],
        };
        rx.serve_vanilla(vanilla);
        rx
    }

    /// Makes room for frames from vanilla peers, or gives it back.
    pub(crate) fn serve_vanilla(&mut self, vanilla: bool) {
        self.assemblers.serve_vanilla(vanilla);
    }

    /// Forgets cached routes and translations.
    pub(crate) fn routes_changed(&mut self) {
        self.last.clear();
        self.delivery.routes_changed();
    }

    /// Receives up to a burst from one of the lane's sockets.
    pub(crate) fn run(&mut self, port: Port, links: &mut Links, peers: &mut Peers) -> Progress {
        let progress = match self.receive {
            Receive::Many => self.run_many(port, links, peers),
            Receive::Merged | Receive::Single => self.run_each(port, links, peers),
        };
        if progress == Progress::Dry {
            self.queues[port as usize].emptied();
            self.tell[port as usize] = false;
        }
        progress
    }

    fn run_each(&mut self, port: Port, links: &mut Links, peers: &mut Peers) -> Progress {
        let mut progress = Progress::More;
        for _ in 0..BURST {
            let Ok(received) = links.wire.socket(port).receive(&mut self.buffer) else {
                progress = Progress::Dry;
                break;
            };
            let buffer = std::mem::take(&mut self.buffer);
            self.take(&buffer[..received.length], &received, port, links, peers);
            self.buffer = buffer;
        }
        self.flush(port, links, peers);
        progress
    }

    /// Receives datagrams that the kernel has not merged; those of one call may leave as one merged packet.
    fn run_many(&mut self, port: Port, links: &mut Links, peers: &mut Peers) -> Progress {
        let mut all = [Received::NOTHING; MAX_RECEIVES];
        let count = match links.wire.socket(port).receive_each(&mut self.buffer, BUFFER, &mut all) {
            Ok(count) => count,
            Err(error) if lacks_call(&error) => {
                tracing::warn!(%error, lane = links.lane, "datagrams are received one by one: no recvmmsg");
                self.receive = Receive::Single;
                return Progress::More;
            }
            Err(_) => return Progress::Dry,
        };
        let buffer = std::mem::take(&mut self.buffer);
        for (received, bytes) in all[..count].iter().zip(buffer.chunks_exact(BUFFER)) {
            self.take(&bytes[..received.length], received, port, links, peers);
        }
        self.buffer = buffer;
        self.flush(port, links, peers);
        if count < MAX_RECEIVES { Progress::Dry } else { Progress::More }
    }

    /// Handles what one receive has brought.
    pub(crate) fn feed(&mut self, bytes: &[u8], received: &Received, port: Port, links: &mut Links, peers: &mut Peers) {
        self.take(bytes, received, port, links, peers);
        self.flush(port, links, peers);
    }

    fn take(&mut self, bytes: &[u8], received: &Received, port: Port, links: &mut Links, peers: &mut Peers) {
        // Once the queue is short again, it is nobody's fault any more.
        let (queue, tell) = (&mut self.queues[port as usize], &mut self.tell[port as usize]);
        *tell = queue.judge(received.age, links.now) || *tell && queue.is_long();
        if bytes.is_empty() {
            links.drops().count(Reason::NotWireGuard);
        }
        for datagram in bytes.chunks(received.segment) {
            if let Outcome::Dropped(reason) = self.datagram(datagram, received, port, links, peers) {
                links.drops().count(reason);
            }
        }
    }

    /// Writes what has been merged.
    fn flush(&mut self, port: Port, links: &Links, peers: &Peers) {
        let inward = &peers.orders.inward;
        self.assemblers.of(port).flush(|frame| self.delivery.deliver(frame, inward, links));
        if let Some(kind) = self.delivery.take_refused() {
            tracing::warn!(
                lane = links.lane,
                ?kind,
                "the kernel refuses merged packets; they are passed on one by one"
            );
            self.assemblers.stop_merging(kind);
        }
    }

    fn datagram(
        &mut self,
        datagram: &[u8],
        from: &Received,
        port: Port,
        links: &mut Links,
        peers: &mut Peers,
    ) -> Outcome {
        match (datagram.first_chunk::<4>(), datagram.len()) {
            (Some([DATA, 0, 0, 0]), SHORTEST_DATA..) => self.data(datagram, from, port, links, peers),
            (Some([INITIATION, 0, 0, 0]), 148) => initiation(datagram, from, port, links, peers),
            (Some([RESPONSE, 0, 0, 0]), 92) => answer(datagram, receiver(&datagram[8..12]), from, port, links, peers),
            (Some([COOKIE, 0, 0, 0]), 64) => answer(datagram, receiver(&datagram[4..8]), from, port, links, peers),
            _ => Outcome::Dropped(Reason::NotWireGuard),
        }
    }

    fn data(&mut self, datagram: &[u8], from: &Received, port: Port, links: &mut Links, peers: &mut Peers) -> Outcome {
        let (slot, lane) = receiver(&datagram[4..8]);
        if lane != links.lane {
            return Outcome::Dropped(Reason::WrongLane);
        }
        let now = links.now;
        let Some(peer) = peers.get(slot).filter(|peer| peer.port == port) else {
            return Outcome::Dropped(Reason::UnknownSession);
        };
        peer.freshen(now, &mut links.wire);
        let mtu = peer.path.mtu();
        let outcome = match peer.tunn.decapsulate(None, datagram, self.assemblers.of(port).room()) {
            TunnResult::WriteToTunnelV4(packet, source) => {
                inner(packet, source.into(), from.tos, mtu, &mut self.tell[port as usize])
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                inner(packet, source.into(), from.tos, mtu, &mut self.tell[port as usize])
            }
            TunnResult::Err(error) => Inner::Refused(refusal(&error)),
            _ => Inner::Nothing,
        };
        if let Inner::Refused(reason) = outcome {
            return Outcome::Dropped(reason);
        }
        peer.roam(from, &links.wire);
        peer.rx_packets += 1;
        self.queues[port as usize].hear(&mut peer.in_queue, peer.path.rtt().map(|(time, _)| time));
        if !peer.has_session() {
            peer.session_made(now);
            links.wire.replan = true;
            flush_waiting(peer, links);
        }
        match outcome {
            Inner::Packet { length, source } => self.inner(length, source, slot, port, links, peers),
            Inner::Probe(message) => {
                on_probe(message, now, peer, links);
                Outcome::Done
            }
            Inner::Congested => Outcome::Dropped(Reason::CongestionDrop),
            _ => {
                peer.see_session(now);
                Outcome::Done
            }
        }
    }

    /// Checks the source of an inner packet that lies in the assembler's room, and hands it on.
    fn inner(
        &mut self,
        length: usize,
        source: IpAddr,
        slot: Slot,
        port: Port,
        links: &mut Links,
        peers: &mut Peers,
    ) -> Outcome {
        if self.last.lookup(&peers.orders.routes, source) != Some(slot) {
            return Outcome::Dropped(Reason::SpoofedSource);
        }
        if let Some(peer) = peers.get(slot) {
            peer.received(length);
        }
        let inward = &peers.orders.inward;
        self.assemblers.of(port).push(length, |frame| self.delivery.deliver(frame, inward, links));
        Outcome::Done
    }
}

/// What a data message held.
enum Inner {
    Packet { length: usize, source: IpAddr },
    Probe(probe::Message),
    Congested,
    Nothing,
    Refused(Reason),
}

/// Looks at a decrypted packet and makes it fit for delivery. One that shall `tell` its sender of congestion is marked or
/// dropped as if the path had marked it.
#[inline]
fn inner(packet: &mut [u8], source: IpAddr, outer_tos: u8, mtu: u16, tell: &mut bool) -> Inner {
    if probe::is_probe(packet) {
        return probe::read(packet).map_or(Inner::Nothing, Inner::Probe);
    }
    mss::clamp(packet, &VnetHeader::default(), usize::from(mtu));
    let tells = *tell && packet.len() >= TELLING;
    *tell &= !tells;
    let outer = if tells { Ecn::Ce } else { Ecn::of_tos(outer_tos) };
    if ecn::decapsulate(packet, outer) == Decapsulated::Drop {
        return Inner::Congested;
    }
    Inner::Packet { length: packet.len(), source }
}

fn on_probe(message: probe::Message, now: Duration, peer: &mut LanePeer, links: &mut Links) {
    match message.kind {
        probe::Kind::Request => {
            let mut buffer = [0; probe::LENGTH];
            let answer =
                probe::Message { kind: probe::Kind::Answer, sequence: message.sequence, packets: peer.rx_packets };
            let packet = probe::write(&mut buffer, answer, probe::LENGTH);
            // Alone, as the request.
            links.wire.flush();
            links.wire.seal(peer, packet, 0);
            links.wire.flush();
        }
        probe::Kind::Answer => peer.answered(message, now, &links.wire),
    }
}

/// The peer's slot and the lane that a receiver index names.
#[inline]
fn receiver(index: &[u8]) -> (Slot, u8) {
    (u16::from_le_bytes([index[2], index[3]]), index[1])
}

fn refusal(error: &WireGuardError) -> Reason {
    match error {
        WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter | WireGuardError::WrongTai64nTimestamp => {
            Reason::Replayed
        }
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => Reason::UnknownSession,
        WireGuardError::InvalidPacket => Reason::MalformedInner,
        _ => Reason::Unauthentic,
    }
}
