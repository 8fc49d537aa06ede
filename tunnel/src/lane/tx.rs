//! From the TUN queue to the peers: read, route, cut, seal, send.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::peer::LanePeer;
use super::wire::Wire;
use super::{Links, Orders, Peers};
use crate::config::Addresses;
use crate::drops::Reason;
use crate::io::tun::Segmentation;
use crate::packet::ip::{Version, View};
use crate::packet::split::{Segments, SplitError};
use crate::packet::translate::{self, Direction};
use crate::packet::vnet::{self, Gso, VnetHeader};
use crate::packet::{ecn, icmp, mss};
use crate::routes::LastHit;

/// Packets that are read before the other direction has its turn: as many as one segmented send holds.
const BURST: usize = crate::io::udp::MAX_SEGMENTS;
/// Bytes that are read before the other direction has its turn, so that super-packets do not make it wait: about four.
const BURST_BYTES: usize = 4 * 65_536;
/// A super-packet is at most 64 KB (`IP_MAX_MTU`), behind its virtio header.
const BUFFER: usize = 65_536 + vnet::LEN;
/// Between ICMP answers of one lane (RFC 1812, section 4.3.2.8, and RFC 4443, section 2.4(f), ask for a limit).
const ANSWER_GAP: Duration = Duration::from_micros(100);
/// What every IPv6 link carries (RFC 8200, section 5).
const LEAST_V6: u16 = 1280;

/// State of the outward direction.
#[derive(Debug)]
pub(crate) struct Tx {
    buffer: Box<[u8]>,
    answer: Box<[u8; icmp::MAX_REPLY]>,
    framed_answer: Box<[u8]>,
    next_answer: Duration,
    last: LastHit,
    translated: translate::LastHit,
    segmentation: Segmentation,
}

/// Whether a direction has more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It ran dry.
    Dry,
    /// It ended at its burst limit.
    More,
}

impl Tx {
    pub(crate) fn new(segmentation: Segmentation) -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            answer: Box::new([0; icmp::MAX_REPLY]),
            framed_answer: vec![0; vnet::LEN + icmp::MAX_REPLY].into_boxed_slice(),
            next_answer: Duration::ZERO,
            last: LastHit::default(),
            translated: translate::LastHit::default(),
            segmentation,
        }
    }

    /// Forgets cached routes and translations.
    pub(crate) fn routes_changed(&mut self) {
        self.last.clear();
        self.translated.clear();
    }

    /// Bytes of virtio header on the queue.
    fn header(&self) -> usize {
        if self.segmentation == Segmentation::None { 0 } else { vnet::LEN }
    }

    /// Reads and sends up to a burst of packets from the queue.
    pub(crate) fn run(&mut self, links: &mut Links, peers: &mut Peers) -> Progress {
        let mut bytes = 0;
        for _ in 0..BURST {
            // What is read now could not leave.
            if links.wire.full().is_some() {
                return Progress::Dry;
            }
            let length = match links.queue.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) => {
                    // Anything but an empty queue says that the link is gone. The owner makes a new one.
                    let empty = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
                    if !empty {
                        links.wire.shared.lost.store(true, Ordering::Release);
                    }
                    return Progress::Dry;
                }
            };
            self.handle(length, links, peers);
            bytes += length;
            if bytes >= BURST_BYTES {
                break;
            }
        }
        Progress::More
    }

    /// Sends packets that other lanes read for peers of this one.
    pub(crate) fn run_inbox(&mut self, links: &mut Links, peers: &mut Peers) -> Progress {
        let mut bytes = 0;
        for _ in 0..BURST {
            if links.wire.full().is_some() {
                return Progress::Dry;
            }
            let Some(length) = links.inbox.take(&mut self.buffer) else { return Progress::Dry };
            self.handle(length, links, peers);
            bytes += length;
            if bytes >= BURST_BYTES {
                break;
            }
        }
        Progress::More
    }

    /// Handles one packet in the first `length` bytes of the buffer.
    fn handle(&mut self, length: usize, links: &mut Links, peers: &mut Peers) {
        let header = self.header();
        let (vnet, packet) = self.buffer[..length.min(BUFFER)].split_at_mut(header.min(length));
        let parsed = if header == 0 { Ok(VnetHeader::default()) } else { VnetHeader::parse(vnet) };
        let (Ok(vnet), Ok(view)) = (parsed, View::parse(packet)) else {
            links.drops().count(Reason::MalformedInner);
            return;
        };
        let Some(slot) = self.last.lookup(&peers.orders.routes, view.destination) else {
            return self.drop(Reason::NoPeer, length, &vnet, links);
        };
        let lane = peers.lane_of(slot);
        if lane != links.lane {
            return self.pass(lane, length, &vnet, links);
        }
        let now = links.now;
        let (orders, Some(peer)) = peers.with_orders(slot) else {
            return self.drop(Reason::NoPeer, length, &vnet, links);
        };
        peer.wanted();
        peer.freshen(now, &mut links.wire);
        peer.follow_endpoint(&links.wire);
        if peer.should_use_lane_0() {
            return self.pass(0, length, &vnet, links);
        }
        if peer.knows_us_by == Addresses::Virtual && !self.translate(length, &vnet, &view, orders, links) {
            return self.drop(Reason::NoVirtualSource, length, &vnet, links);
        }
        self.send(length, &vnet, &view, orders, peer, links);
    }

    /// Gives the packet in the buffer the source by which the peer knows its sender; false when there is none.
    fn translate(&mut self, length: usize, vnet: &VnetHeader, view: &View, orders: &Orders, links: &Links) -> bool {
        let (header, table) = (self.header(), &orders.outward);
        let packet = &mut self.buffer[header..length];
        if !translate::translate(packet, view, vnet, Direction::Outward, table, &mut self.translated) {
            return !orders.families_together && !table.has(view.version);
        }
        links.wire.shared.translated.outward.add(1);
        true
    }

    /// Hands the packet in the buffer to the lane that has the session.
    fn pass(&mut self, lane: u8, length: usize, vnet: &VnetHeader, links: &mut Links) {
        if !links.outboxes.pass(lane, &self.buffer[..length]) {
            self.drop(Reason::InboxFull, length, vnet, links);
        }
    }

    /// Counts the packet in the buffer as dropped; a super-packet as the packets that it stands for.
    #[cold]
    fn drop(&mut self, reason: Reason, length: usize, vnet: &VnetHeader, links: &Links) {
        let header = self.header();
        let packet = &mut self.buffer[header..length];
        let packets = Segments::new(packet, vnet, usize::MAX).map_or(1, |segments| segments.remaining());
        links.drops().count_all(reason, packets as u64);
    }

    fn send(
        &mut self,
        length: usize,
        vnet: &VnetHeader,
        view: &View,
        orders: &Orders,
        peer: &mut LanePeer,
        links: &mut Links,
    ) {
        let (header, tos) = (self.header(), ecn::encapsulate(view.tos, orders.dscp));
        let packet = &mut self.buffer[header..length];
        let mtu = peer.path.mtu();
        let (most, told) = limits(view.version, vnet.gso, mtu);
        mss::clamp(packet, vnet, usize::from(mtu));
        let failed = match seal_all(packet, vnet, usize::from(most), tos, peer, &mut links.wire) {
            Ok(asked) => {
                if asked > usize::from(told) {
                    self.tell_too_big(length, told, view.destination, orders, links);
                }
                return;
            }
            Err(failed) => failed,
        };
        match failed {
            SplitError::TooBig { .. } if self.tell_too_big(length, told, view.destination, orders, links) => {
                self.drop(Reason::TooBig, length, vnet, links);
            }
            // Nobody could be told (IPv4 without DF, multicast): the outer packet is fragmented instead.
            SplitError::TooBig { .. } => {
                let packet = &mut self.buffer[header..length];
                if seal_all(packet, vnet, usize::MAX, tos, peer, &mut links.wire).is_err() {
                    links.drops().count(Reason::Unsplittable);
                }
            }
            _ => links.drops().count(Reason::Unsplittable),
        }
    }

    /// Tells the sender of the packet in the buffer that the path carries `mtu` bytes; returns whether it may be told.
    /// The answer bears the destination's address: the one that the sender's filters surely let in. What it is made from
    /// may be translated already, so that it is itself translated like an error from the peer.
    fn tell_too_big(&mut self, length: usize, mtu: u16, destination: IpAddr, orders: &Orders, links: &Links) -> bool {
        let header = self.header();
        let packet = &self.buffer[header..length];
        let Some(answer) = icmp::too_big(packet, usize::from(mtu), destination, &mut self.answer) else {
            return false;
        };
        if links.now >= self.next_answer {
            self.next_answer = links.now + ANSWER_GAP;
            if let Ok(view) = View::parse(&self.answer[..answer]) {
                let (reply, last) = (&mut self.answer[..answer], &mut translate::LastHit::default());
                translate::translate(reply, &view, &VnetHeader::default(), Direction::Inward, &orders.inward, last);
            }
            let frame = &mut self.framed_answer[..header + answer];
            frame[header..].copy_from_slice(&self.answer[..answer]);
            // A full queue loses the answer, as any router may.
            let _ = links.queue.write(frame);
        }
        true
    }
}

/// Bytes of the largest packet that goes over a path of `mtu`, and what the sender of a larger one is told.
///
/// Less than every link carries is believed by no sender of IPv6 (RFC 8201, section 4), so that such packets leave whole, and
/// what they are sealed in is fragmented (RFC 2473, section 7.1). What is cut here anyway may as well be cut to size.
fn limits(version: Version, gso: Gso, mtu: u16) -> (u16, u16) {
    let told = if version == Version::V6 { mtu.max(LEAST_V6) } else { mtu };
    let is_cut = matches!(gso, Gso::TcpV4 | Gso::TcpV6);
    (if is_cut { mtu } else { told }, told)
}

/// Seals a packet, cut as its virtio header asks; returns the bytes of the largest packet that it asked for.
fn seal_all(
    packet: &mut [u8],
    vnet: &VnetHeader,
    max: usize,
    tos: u8,
    peer: &mut LanePeer,
    wire: &mut Wire,
) -> Result<usize, SplitError> {
    let mut segments = Segments::new(packet, vnet, max)?;
    let asked = segments.asked();
    while let Some(segment) = segments.next() {
        wire.seal(peer, segment, tos);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_has_what_every_link_carries_and_only_what_is_cut_anyway_is_cut_smaller() {
        for gso in [Gso::None, Gso::Udp] {
            assert_eq!(limits(Version::V6, gso, 900), (1280, 1280));
            assert_eq!(limits(Version::V6, gso, 1400), (1400, 1400));
            assert_eq!(limits(Version::V4, gso, 900), (900, 900));
        }
        assert_eq!(limits(Version::V6, Gso::TcpV6, 900), (900, 1280));
        assert_eq!(limits(Version::V6, Gso::TcpV6, 1400), (1400, 1400));
        assert_eq!(limits(Version::V4, Gso::TcpV4, 900), (900, 900));
    }
}
