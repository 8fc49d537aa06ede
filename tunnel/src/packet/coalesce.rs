//! Merges decrypted packets of one flow into a super-packet that crosses the kernel's stack once: the reverse of
//! [`super::split`], by the rules of the kernel's GRO (`net/ipv4/tcp_offload.c`, `udp_offload.c`).
//!
//! # Trust
//! A super-packet carries no upper-layer checksum: the kernel computes new ones where they are needed. A packet that
//! was already damaged when the peer sealed it would thereby become valid. Kernel WireGuard makes the same choice
//! (`CHECKSUM_UNNECESSARY` in its `receive.c`); [`Checksums::Verify`] is there for peers that are not trusted so far.

use super::checksum::{Sum, pseudo_header};
use super::headers::{Kind, Layout, MAX_HEADER, TCP_CHECKSUM, UDP_CHECKSUM, parse, verifies, word};
use super::ip::{V4_HEADER, V6_HEADER, Version};
use super::vnet::{Gso, VnetHeader};

/// Most datagrams of a UDP super-packet (`UDP_MAX_SEGMENTS` of `linux/udp.h` before 6.9); `virtio_net_hdr_to_skb`
/// refuses more.
const MAX_DATAGRAMS: usize = 64;
/// Most bytes of a super-packet: its length must fit the IP header's field.
const MAX_LEN: usize = 65535;

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// Whether packets of a protocol may be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Merge them.
    Yes,
    /// Pass each one on its own.
    No,
}

/// Who answers for the inner upper-layer checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// The peer: a packet from it is taken as undamaged, since the cipher has authenticated it.
    Trust,
    /// We: each TCP or UDP checksum is verified (30 ns for 1400 bytes); a wrong one is left for the kernel to find.
    Verify,
    /// The kernel: single packets keep their checksums. Needed, with [`Merge::No`], on a queue without virtio headers.
    Kernel,
}

/// What a [`Coalescer`] may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Merging of TCP (`TUN_F_TSO4` and `TUN_F_TSO6`).
    pub tcp: Merge,
    /// Merging of UDP (`TUN_F_USO4` and `TUN_F_USO6`, Linux 6.2).
    pub udp: Merge,
    /// Inner checksums.
    pub checksums: Checksums,
}

/// What became of an offered packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first of a new super-packet. Its headers stay where they are.
    Start,
    /// Its payload now belongs to the super-packet. The caller puts back what its headers overwrote.
    Append,
    /// It does not fit, and nothing has changed: finish and write the super-packet, then offer the packet again.
    Flush,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Takes more packets.
    Open,
    /// Holds a packet or super-packet that nothing may follow.
    Closed,
}

/// Joins packets whose payloads the caller has placed one behind the other. Holds no packet, only what the next one
/// must look like.
///
/// For each packet: decrypt it so that it begins [`Coalescer::expected_header_len`] bytes before the end of the
/// super-packet (save those bytes first), [`Coalescer::offer`] it, and obey the [`Verdict`].
/// [`super::assemble::Assembler`] does this bookkeeping.
#[derive(Debug)]
pub struct Coalescer {
    config: Config,
    state: State,
    kind: Kind,
    version: Version,
    l4: usize,
    header_len: usize,
    /// Bytes of the super-packet.
    len: usize,
    /// Payload bytes of the first packet.
    gso_size: usize,
    packets: usize,
    /// Whether IPv4 identifications must count up (they need not when DF is set: RFC 6864).
    ids_count: bool,
    next_id: u16,
    next_seq: u32,
    /// Whether the last packet had PSH.
    push: bool,
    /// The headers that the next packet must have, under its [`Layout`].
    expected: [u8; MAX_HEADER],
}

impl Coalescer {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Empty,
            kind: Kind::Opaque,
            version: Version::V4,
            l4: 0,
            header_len: 0,
            len: 0,
            gso_size: 0,
            packets: 0,
            ids_count: false,
            next_id: 0,
            next_seq: 0,
            push: false,
            expected: [0; MAX_HEADER],
        }
    }

    /// Bytes before the end of the super-packet at which the next packet should begin, so that its payload follows the
    /// super-packet's if it belongs to it: at most 100. 0 when nothing can be appended.
    #[inline]
    pub fn expected_header_len(&self) -> usize {
        match self.state {
            State::Open => self.header_len,
            State::Empty | State::Closed => 0,
        }
    }

    /// Bytes of the super-packet, 0 when there is none.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no super-packet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether there is a super-packet that nothing can be appended to: write it now.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Packets in the super-packet.
    #[inline]
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// Decides about `packet`, a decrypted packet without padding behind it.
    #[inline]
    pub fn offer(&mut self, packet: &[u8]) -> Verdict {
        match self.state {
            State::Empty => {
                self.start(packet);
                Verdict::Start
            }
            State::Open if self.fits(packet) => {
                self.append(packet);
                Verdict::Append
            }
            State::Open | State::Closed => Verdict::Flush,
        }
    }

    fn start(&mut self, packet: &[u8]) {
        self.state = State::Closed;
        self.kind = Kind::Opaque;
        self.len = packet.len();
        self.packets = 1;
        self.push = false;
        let Some(p) = parse(packet) else { return };
        if p.total_len != packet.len()
            || (self.config.checksums == Checksums::Verify && !verifies(packet, p.version, p.kind))
        {
            return;
        }
        self.kind = p.kind;
        self.version = p.version;
        self.l4 = p.l4;
        self.header_len = p.header_len;
        self.gso_size = packet.len() - p.header_len;
        if self.gso_size == 0 || !self.may_merge(packet) {
            return;
        }
        self.expected[..p.header_len].copy_from_slice(&packet[..p.header_len]);
        if p.version == Version::V4 {
            self.ids_count = packet[6] & 0x40 == 0;
            self.next_id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(1);
        }
        if p.kind == Kind::Tcp {
            let at = p.l4 + 4;
            let seq = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
            self.next_seq = seq.wrapping_add(self.gso_size as u32);
            self.expected[at..at + 4].copy_from_slice(&self.next_seq.to_be_bytes());
        }
        self.state = State::Open;
    }

    /// Whether the first packet's flags allow others to follow.
    fn may_merge(&self, packet: &[u8]) -> bool {
        let valid_ip = match self.version {
            // Reserved bit, MF and offset are zero: checked by `parse`.
            Version::V4 => Sum::of(&packet[..V4_HEADER]).fold() == 0xffff,
            Version::V6 => true,
        };
        match self.kind {
            // ACK alone, with the reserved bits zero; a first packet with PSH is a whole message of its own.
            Kind::Tcp => {
                self.config.tcp == Merge::Yes
                    && packet[self.l4 + 12] & 0x0f == 0
                    && packet[self.l4 + 13] == TCP_ACK
                    && valid_ip
            }
            Kind::Udp => self.config.udp == Merge::Yes && valid_ip,
            Kind::Opaque => false,
        }
    }

    /// Whether `packet` continues the super-packet.
    #[inline]
    fn fits(&self, packet: &[u8]) -> bool {
        let payload = packet.len().wrapping_sub(self.header_len);
        // The subtraction wraps for a packet shorter than the headers.
        if payload == 0 || payload > self.gso_size || self.len + payload > MAX_LEN {
            return false;
        }
        let header = &packet[..self.header_len];
        if !Layout::of(self.version, self.kind).matches(header, &self.expected) {
            return false;
        }
        let length_fits = match self.version {
            Version::V4 => word(header, 2) == packet.len(),
            Version::V6 => word(header, 4) == packet.len() - V6_HEADER,
        };
        if !length_fits {
            return false;
        }
        if self.version == Version::V4 {
            let counts = u16::from_be_bytes([header[4], header[5]]) == self.next_id;
            if (self.ids_count && !counts) || Sum::of(&header[..V4_HEADER]).fold() != 0xffff {
                return false;
            }
        }
        if self.kind == Kind::Udp {
            let l4_len = packet.len() - self.l4;
            if word(header, self.l4 + 4) != l4_len || word(header, self.l4 + UDP_CHECKSUM) == 0 {
                return false;
            }
        }
        self.config.checksums != Checksums::Verify || verifies(packet, self.version, self.kind)
    }

    #[inline]
    fn append(&mut self, packet: &[u8]) {
        let payload = packet.len() - self.header_len;
        self.len += payload;
        self.packets += 1;
        self.next_id = self.next_id.wrapping_add(1);
        let mut closes = payload < self.gso_size || self.len + 1 > MAX_LEN;
        if self.kind == Kind::Tcp {
            self.next_seq = self.next_seq.wrapping_add(payload as u32);
            self.expected[self.l4 + 4..self.l4 + 8].copy_from_slice(&self.next_seq.to_be_bytes());
            self.push = packet[self.l4 + 13] & TCP_PSH != 0;
            closes |= self.push;
        } else {
            closes |= self.packets == MAX_DATAGRAMS;
        }
        if closes {
            self.state = State::Closed;
        }
    }

    /// Patches the headers of the super-packet, which begins at the start of `buf`, gives the virtio header to write
    /// before its [`Coalescer::len`] bytes, and becomes empty.
    pub fn finish(&mut self, buf: &mut [u8]) -> VnetHeader {
        let (len, packets) = (self.len, self.packets);
        self.state = State::Empty;
        self.len = 0;
        self.packets = 0;
        let partial = packets > 1 || (packets == 1 && self.config.checksums != Checksums::Kernel);
        let Some(packet) = buf.get_mut(..len).filter(|_| partial && self.kind != Kind::Opaque) else {
            return VnetHeader::default();
        };
        if packets > 1 {
            self.patch_lengths(packet);
        }
        let addresses = match self.version {
            Version::V4 => 12..V4_HEADER,
            Version::V6 => 8..V6_HEADER,
        };
        let offset = if self.kind == Kind::Tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let sum = pseudo_header(&packet[addresses], self.kind.protocol(), len - self.l4).fold();
        packet[self.l4 + offset..self.l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let gso = match (packets, self.kind, self.version) {
            (1, ..) => Gso::None,
            (_, Kind::Tcp, Version::V4) => Gso::TcpV4,
            (_, Kind::Tcp, Version::V6) => Gso::TcpV6,
            _ => Gso::Udp,
        };
        VnetHeader {
            needs_csum: true,
            gso,
            ecn: false,
            hdr_len: self.header_len as u16,
            gso_size: if gso == Gso::None { 0 } else { self.gso_size as u16 },
            csum_start: self.l4 as u16,
            csum_offset: offset as u16,
        }
    }

    fn patch_lengths(&self, packet: &mut [u8]) {
        let len = packet.len();
        match self.version {
            Version::V4 => {
                packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                packet[10..12].fill(0);
                let checksum = Sum::of(&packet[..V4_HEADER]).checksum();
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            Version::V6 => packet[4..6].copy_from_slice(&((len - V6_HEADER) as u16).to_be_bytes()),
        }
        match self.kind {
            Kind::Udp => {
                let l4_len = (len - self.l4) as u16;
                packet[self.l4 + 4..self.l4 + 6].copy_from_slice(&l4_len.to_be_bytes());
            }
            _ if self.push => packet[self.l4 + 13] |= TCP_PSH,
            _ => {}
        }
    }
}
