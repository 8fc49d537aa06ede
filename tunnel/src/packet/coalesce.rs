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

    /// Follows other rules from the next super-packet on.
    pub fn follow(&mut self, config: Config) {
        self.config = config;
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

    /// Whether there is a super-packet that nothing can be appended to: finish it now.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::properties::{ALL, assemble};
    use crate::packet::samples::{Sample, hex};

    /// The packets after `first` in its flow, all but the last of the first's size.
    fn flow(first: &Sample, payloads: &[&[u8]]) -> Vec<Sample> {
        let mut samples = vec![first.clone()];
        for payload in payloads {
            let last = &samples[samples.len() - 1];
            samples.push(Sample {
                id: last.id.wrapping_add(1),
                seq: last.seq.wrapping_add(last.payload.len() as u32),
                payload: payload.to_vec(),
                ..last.clone()
            });
        }
        samples
    }

    fn bytes(samples: &[Sample]) -> Vec<Vec<u8>> {
        samples.iter().map(Sample::bytes).collect()
    }

    /// Payload bytes after 20 + 20 or 20 + 8 header bytes of each frame.
    fn lengths(packets: &[Vec<u8>], config: Config) -> Vec<usize> {
        assemble(packets, config).iter().map(|(_, frame)| frame.len()).collect()
    }

    #[test]
    fn merges_tcp_over_ipv4_into_these_bytes() {
        let first = Sample { id: 0xff, seq: 0xffff_fffe, payload: b"ab".to_vec(), ..Sample::default() };
        let mut samples = flow(&first, &[b"cd", b"e"]);
        samples[2].flags = 0x18; // PSH
        let frames = assemble(&bytes(&samples), ALL);
        // Length 45 with its header checksum; PSH from the last; 1489 is the pseudo header's sum.
        let expected = "4500 002d 00ff 4000 4006 2563 0a2a0005 0a340007
                        01bb 1451 fffffffe 000007d0 5018 0200 1489 0000 6162636465";
        let header = VnetHeader {
            needs_csum: true,
            gso: Gso::TcpV4,
            ecn: false,
            hdr_len: 40,
            gso_size: 2,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(frames, [(header, hex(expected))]);
    }

    #[test]
    fn merges_udp_over_ipv6_into_these_bytes() {
        let first = Sample { v6: true, udp: true, payload: b"wx".to_vec(), ..Sample::default() };
        let frames = assemble(&bytes(&flow(&first, &[b"yz", b"1"])), ALL);
        let expected = "600abcde 000d 11 40 fd000000000000000000000000000001 fd000000000000000000000000000002
                        01bb 0035 000d fa22 7778797a31";
        let header = VnetHeader {
            needs_csum: true,
            gso: Gso::Udp,
            ecn: false,
            hdr_len: 48,
            gso_size: 2,
            csum_start: 40,
            csum_offset: 6,
        };
        assert_eq!(frames, [(header, hex(expected))]);
    }

    #[test]
    fn never_merges_across_a_difference() {
        type Change = fn(&mut Sample);
        let tcp: [(&str, Change); 10] = [
            ("ToS", |s| s.tos = 0x20),
            ("CE", |s| s.tos = 3),
            ("TTL", |s| s.ttl = 63),
            ("port", |s| s.source_port = 444),
            ("a gap", |s| s.seq += 1),
            ("a repetition", |s| s.seq -= 8),
            ("ack", |s| s.ack += 1),
            ("window", |s| s.window += 1),
            ("timestamps", |s| s.timestamps = Some((1, 3))),
            ("no options", |s| s.timestamps = None),
        ];
        let first = Sample { timestamps: Some((1, 2)), ..Sample::default() };
        for v6 in [false, true] {
            let first = Sample { v6, ..first.clone() };
            assert_eq!(assemble(&bytes(&flow(&first, &[b"continue"])), ALL).len(), 1);
            for (what, change) in tcp {
                let mut samples = flow(&first, &[b"continue"]);
                change(&mut samples[1]);
                assert_eq!(assemble(&bytes(&samples), ALL).len(), 2, "{what}");
            }
            // FIN, SYN, RST, URG, ECE, CWR: neither merged nor the beginning of anything.
            for flag in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
                let mut samples = flow(&first, &[b"continue"]);
                samples[1].flags |= flag;
                assert_eq!(assemble(&bytes(&samples), ALL).len(), 2, "flag {flag:#04x}");
                samples[0].flags |= flag;
                assert_eq!(assemble(&bytes(&samples), ALL).len(), 2, "flag {flag:#04x} in both");
            }
        }
        let udp: [(&str, Change); 4] = [
            ("ToS", |s| s.tos = 0x20),
            ("TTL", |s| s.ttl = 63),
            ("port", |s| s.source_port = 444),
            ("TCP", |s| s.udp = false),
        ];
        for (what, change) in udp {
            let mut samples = flow(&Sample { udp: true, ..Sample::default() }, &[b"continue"]);
            change(&mut samples[1]);
            assert_eq!(assemble(&bytes(&samples), ALL).len(), 2, "{what}");
        }
    }

    #[test]
    fn wants_counting_identifications_unless_fragmentation_is_forbidden() {
        for (dont_fragment, step, frames) in [(true, 0, 1), (true, 9, 1), (false, 1, 1), (false, 0, 2), (false, 2, 2)] {
            let mut samples = flow(&Sample { dont_fragment, id: 0xffff, ..Sample::default() }, &[b"continue"]);
            samples[1].id = 0xffff_u16.wrapping_add(step);
            assert_eq!(assemble(&bytes(&samples), ALL).len(), frames, "DF {dont_fragment}, step {step}");
        }
        let mut samples = flow(&Sample::default(), &[b"continue"]);
        samples[1].dont_fragment = false;
        assert_eq!(assemble(&bytes(&samples), ALL).len(), 2, "DF itself differs");
    }

    #[test]
    fn passes_on_what_is_no_plain_tcp_or_udp_packet() {
        let tcp = bytes(&flow(&Sample::default(), &[b"continue"]));
        let udp = bytes(&flow(&Sample { udp: true, ..Sample::default() }, &[b"continue"]));
        // Each change is made to both packets; the IPv4 header checksum is set right where it is not the matter.
        let changes: [(&str, &[Vec<u8>], usize, u8); 8] = [
            ("fragment", &tcp, 6, 0x20),
            ("later fragment", &tcp, 7, 1),
            ("reserved bit", &tcp, 6, 0xc0),
            ("another protocol", &tcp, 9, 47),
            ("reserved TCP bits", &tcp, 32, 0x51),
            ("a TCP header of 16 bytes", &tcp, 32, 0x40),
            ("a wrong UDP length", &udp, 25, 15),
            ("a wrong IPv4 checksum", &udp, 11, 0),
        ];
        for (what, packets, at, value) in changes {
            let mut packets = packets.to_vec();
            for packet in &mut packets {
                packet[at] = value;
                if at < 10 {
                    packet[10..12].fill(0);
                    let checksum = Sum::of(&packet[..20]).checksum();
                    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
                }
            }
            let frames = assemble(&packets, ALL);
            assert_eq!(frames.len(), 2, "{what}");
            for (frame, packet) in frames.iter().zip(&packets) {
                assert_eq!(frame.0.gso, Gso::None, "{what}");
                assert!(frame.0.needs_csum || frame.1 == *packet, "{what}");
            }
        }
        let mut no_checksum = udp.clone();
        no_checksum.iter_mut().for_each(|packet| packet[26..28].fill(0));
        let frames = assemble(&no_checksum, ALL);
        assert_eq!(frames, no_checksum.clone().map_to_frames());
        let frames = assemble(&[udp[0].clone(), no_checksum[1].clone()], ALL);
        assert_eq!(frames[1], (VnetHeader::default(), no_checksum[1].clone()), "behind one with a checksum");
    }

    trait MapToFrames {
        /// The frames of packets that pass untouched.
        fn map_to_frames(self) -> Vec<(VnetHeader, Vec<u8>)>;
    }

    impl MapToFrames for Vec<Vec<u8>> {
        fn map_to_frames(self) -> Vec<(VnetHeader, Vec<u8>)> {
            self.into_iter().map(|packet| (VnetHeader::default(), packet)).collect()
        }
    }

    #[test]
    fn closes_after_a_push_and_after_a_shorter_packet() {
        let mut pushed = flow(&Sample::default(), &[b"continue", b"continue", b"continue"]);
        pushed[1].flags = 0x18;
        assert_eq!(lengths(&bytes(&pushed), ALL), [56, 56]);
        pushed[0].flags = 0x18;
        assert_eq!(lengths(&bytes(&pushed), ALL), [48, 48, 56]);
        for udp in [false, true] {
            let header = if udp { 28 } else { 40 };
            let first = Sample { udp, ..Sample::default() };
            let shorter = bytes(&flow(&first, &[b"continue", b"short", b"continue", b"continue"]));
            assert_eq!(lengths(&shorter, ALL), [header + 21, header + 16]);
            let longer = bytes(&flow(&first, &[b"continue more", b"continue more"]));
            assert_eq!(lengths(&longer, ALL), [header + 8, header + 26]);
        }
        let acks = bytes(&flow(&Sample { payload: Vec::new(), ..Sample::default() }, &[b"", b""]));
        assert_eq!(lengths(&acks, ALL), [40, 40, 40], "acknowledgements without data");
    }

    #[test]
    fn stays_within_what_the_kernel_takes() {
        let first = Sample { udp: true, payload: b"12".to_vec(), ..Sample::default() };
        let many = bytes(&flow(&first, &[&b"12"[..]; 69]));
        assert_eq!(lengths(&many, ALL), [28 + 128, 28 + 12], "64 datagrams at most");
        let full = [7; 1380];
        let first = Sample { payload: full.to_vec(), ..Sample::default() };
        let long = bytes(&flow(&first, &[&full[..]; 49]));
        // 47 * 1380 + 40 = 64 900; one more would pass 65 535.
        assert_eq!(lengths(&long, ALL), [64_900, 3 * 1380 + 40]);
    }

    #[test]
    fn gives_single_packets_a_partial_checksum_unless_the_kernel_shall_verify() {
        let packet = Sample::default().bytes();
        let frames = assemble(std::slice::from_ref(&packet), ALL);
        let (header, frame) = &frames[0];
        assert!(header.needs_csum && header.gso == Gso::None);
        assert_eq!((header.hdr_len, header.csum_start, header.csum_offset), (40, 20, 16));
        // 0a2a + 0005 + 0a34 + 0007 + 0006 + 001c (28 bytes of TCP) = 148c.
        assert_eq!(frame[36..38], [0x14, 0x8c]);
        let kernel = Config { checksums: Checksums::Kernel, ..ALL };
        assert_eq!(assemble(std::slice::from_ref(&packet), kernel), vec![packet].map_to_frames());
    }

    #[test]
    fn leaves_wrong_checksums_for_the_kernel_when_it_verifies() {
        let verify = Config { checksums: Checksums::Verify, ..ALL };
        for udp in [false, true] {
            let mut packets = bytes(&flow(&Sample { udp, ..Sample::default() }, &[b"continue", b"continue"]));
            assert_eq!(assemble(&packets, verify).len(), 1);
            packets[1][45 - 10 * usize::from(udp)] ^= 0x10; // in the payload
            let frames = assemble(&packets, verify);
            assert_eq!(frames.len(), 3);
            assert_eq!(frames[1], (VnetHeader::default(), packets[1].clone()));
        }
    }

    #[test]
    fn merges_only_what_it_may() {
        let tcp = bytes(&flow(&Sample::default(), &[b"continue"]));
        let udp = bytes(&flow(&Sample { udp: true, ..Sample::default() }, &[b"continue"]));
        for (tcp_may, udp_may) in [(Merge::Yes, Merge::No), (Merge::No, Merge::Yes), (Merge::No, Merge::No)] {
            let config = Config { tcp: tcp_may, udp: udp_may, checksums: Checksums::Trust };
            assert_eq!(assemble(&tcp, config).len(), if tcp_may == Merge::Yes { 1 } else { 2 });
            assert_eq!(assemble(&udp, config).len(), if udp_may == Merge::Yes { 1 } else { 2 });
        }
    }
}
