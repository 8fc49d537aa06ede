//! Cuts a super-packet that the kernel left whole (TSO, USO) into the packets that it stands for.
//!
//! No payload is copied: the header of each segment is rebuilt directly before its payload, on top of the end of the
//! payload before it. The caller has sealed that one into its send buffer by then, and the borrow checker sees to it:
//! a segment lives only until the next call.

use std::ops::Range;

use super::checksum::{Sum, pseudo_header};
use super::ip::{Extensions, Fragment, IpError, V4_HEADER, V6_HEADER, Version, View, protocol};
use super::vnet::{Gso, VnetHeader};

/// Most bytes of IP and TCP headers in a super-packet: 60 + 60, the largest IPv4 and TCP headers.
pub const MAX_HEADER: usize = 120;

/// Offset of the flags' byte in a TCP header, and its bits (RFC 9293, section 3.1; RFC 3168, section 6.1).
const TCP_FLAGS: usize = 13;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;
const TCP_CHECKSUM: usize = 16;
const TCP_HEADER: usize = 20;
const UDP_CHECKSUM: usize = 6;
const UDP_HEADER: usize = 8;

/// Why a packet cannot be cut; it is dropped and counted, except for [`SplitError::TooBig`], which is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Not an IP packet.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// The kernel's segmentation type does not fit the packet: another version or protocol, or a fragment.
    #[error("segmentation type does not match the packet's version and protocol")]
    Mismatch,
    /// Headers that cannot be repeated per segment: cut off, too long, or IPv6 extensions other than options.
    #[error("headers of the super-packet are cut off, longer than 120 bytes or of an unknown layout")]
    Layout,
    /// The kernel asks for segments of 0 bytes.
    #[error("segment size of the super-packet is 0")]
    SegmentSize,
    /// The checksum's place lies outside the packet, or not where the protocol has it.
    #[error("checksum at {start} + {offset} is not where the packet has one")]
    Checksum {
        /// `csum_start` of the virtio header.
        start: u16,
        /// `csum_offset` of the virtio header.
        offset: u16,
    },
    /// A packet, or a datagram of a USO super-packet, is larger than the path carries, and only TCP may be cut
    /// smaller. Answer with [`super::icmp::too_big`].
    #[error("packet of {size} bytes exceeds the path's {limit}")]
    TooBig {
        /// Bytes of the largest IP packet that would be sent.
        size: usize,
        /// Bytes of the largest IP packet that the path carries.
        limit: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One packet, sent as it stands.
    Whole,
    Tcp,
    Udp,
}

/// The segments of one packet from the TUN queue, in order. A lending iterator: see [`Segments::next`].
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    kind: Kind,
    version: Version,
    /// Segments still to come.
    left: usize,
    /// Where the next payload begins (for [`Kind::Whole`]: the packet, 0).
    at: usize,
    /// Payload bytes per segment.
    mss: usize,
    /// Bytes of the largest IP packet that the kernel asked for.
    asked: usize,
    /// The headers of the super-packet with all that differs between segments, checksums too, set to zero.
    header: [u8; MAX_HEADER],
    header_len: usize,
    l4: usize,
    /// IPv4 identification of the next segment.
    id: u16,
    /// TCP sequence number of the next segment.
    seq: u32,
    /// TCP flags of the super-packet.
    flags: u8,
    /// Sum of the IPv4 header in `header`.
    ip_sum: Sum,
    /// Sum of the pseudo header without its length and of the upper-layer header in `header`.
    l4_sum: Sum,
}

impl<'a> Segments<'a> {
    /// Prepares to cut `packet`, which begins with its IP header and came with `vnet`.
    ///
    /// A TCP super-packet is cut so that no segment exceeds `max_segment` bytes of IP packet, even if the kernel asked
    /// for larger ones: each is a valid packet, which relieves the flow until it has learnt the path MTU
    /// ([`Segments::asked`] tells). A packet with a partial checksum gets it completed in place.
    ///
    /// # Errors
    /// [`SplitError`]; nothing in `packet` has changed then. [`SplitError::TooBig`] for anything but a TCP super-packet
    /// that exceeds `max_segment`: a datagram has no smaller form. Pass `usize::MAX` to send it regardless.
    #[inline]
    pub fn new(packet: &'a mut [u8], vnet: &VnetHeader, max_segment: usize) -> Result<Self, SplitError> {
        let view = View::parse(packet)?;
        match vnet.gso {
            Gso::None => Self::whole(packet, &view, vnet, max_segment),
            _ => Self::cut(packet, &view, vnet, max_segment),
        }
    }

    fn whole(packet: &'a mut [u8], view: &View, vnet: &VnetHeader, max: usize) -> Result<Self, SplitError> {
        if view.total_len > max {
            return Err(SplitError::TooBig { size: view.total_len, limit: max });
        }
        let packet = &mut packet[..view.total_len];
        if vnet.needs_csum {
            complete(packet, view.l4, vnet)?;
        }
        let mut segments = Self::empty(packet, view.version);
        (segments.mss, segments.asked) = (view.total_len, view.total_len);
        segments.left = 1;
        Ok(segments)
    }

    fn empty(packet: &'a mut [u8], version: Version) -> Self {
        Self {
            packet,
            kind: Kind::Whole,
            version,
            left: 0,
            at: 0,
            mss: 0,
            asked: 0,
            header: [0; MAX_HEADER],
            header_len: 0,
            l4: 0,
            id: 0,
            seq: 0,
            flags: 0,
            ip_sum: Sum::ZERO,
            l4_sum: Sum::ZERO,
        }
    }

    fn cut(packet: &'a mut [u8], view: &View, vnet: &VnetHeader, max: usize) -> Result<Self, SplitError> {
        let (kind, header_len) = check_super_packet(packet, view, vnet)?;
        let mut mss = usize::from(vnet.gso_size);
        let payload = packet.len() - header_len;
        let largest = header_len + mss.min(payload);
        if largest > max {
            if kind != Kind::Tcp || max <= header_len {
                return Err(SplitError::TooBig { size: largest, limit: max });
            }
            mss = max - header_len;
        }
        let mut segments = Self::empty(packet, view.version);
        segments.kind = kind;
        segments.left = payload.div_ceil(mss).max(1);
        segments.at = header_len;
        segments.mss = mss;
        segments.asked = largest;
        segments.header_len = header_len;
        segments.l4 = view.l4;
        segments.take_header(view.protocol);
        Ok(segments)
    }

    /// Saves the headers as a template, and the sums of all that the segments share.
    fn take_header(&mut self, protocol: u8) {
        let (packet, l4) = (&*self.packet, self.l4);
        let h = &mut self.header[..self.header_len];
        h.copy_from_slice(&packet[..self.header_len]);
        let addresses = match self.version {
            Version::V4 => {
                self.id = u16::from_be_bytes([h[4], h[5]]);
                h[2..6].fill(0);
                h[10..12].fill(0);
                self.ip_sum = Sum::of(&h[..l4]);
                12..V4_HEADER
            }
            Version::V6 => {
                h[4..6].fill(0);
                8..V6_HEADER
            }
        };
        if self.kind == Kind::Tcp {
            self.seq = u32::from_be_bytes([h[l4 + 4], h[l4 + 5], h[l4 + 6], h[l4 + 7]]);
            self.flags = h[l4 + TCP_FLAGS];
            h[l4 + 4..l4 + 8].fill(0);
            h[l4 + TCP_FLAGS] = 0;
            h[l4 + TCP_CHECKSUM..l4 + TCP_CHECKSUM + 2].fill(0);
        } else {
            h[l4 + 4..l4 + 8].fill(0);
        }
        self.l4_sum = pseudo_header(&h[addresses], protocol, 0).add_bytes(&h[l4..]);
    }

    /// How many segments are still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.left
    }

    /// Bytes of every IP packet but the last, which may be shorter.
    #[inline]
    pub fn segment_len(&self) -> usize {
        match self.kind {
            Kind::Whole => self.mss,
            _ => self.header_len + self.mss.min(self.packet.len() - self.header_len),
        }
    }

    /// Bytes of the largest IP packet that the kernel asked for: more than [`Segments::segment_len`] where the path carries
    /// no larger ones.
    #[inline]
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// The next packet, complete with lengths and checksums. It overwrites the end of the one before.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an Iterator cannot lend from itself")]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.kind == Kind::Whole {
            return Some(self.packet);
        }
        let first = self.at == self.header_len;
        let start = self.at - self.header_len;
        let end = self.packet.len().min(self.at + self.mss);
        let segment = self.at..end;
        self.at = end;
        self.build(start..end, segment, first);
        Some(&self.packet[start..end])
    }

    /// Writes the header of the segment with the payload `payload` at the beginning of `whole`.
    #[inline]
    fn build(&mut self, whole: Range<usize>, payload: Range<usize>, first: bool) {
        let payload_len = payload.len();
        let l4_len = self.header_len - self.l4 + payload_len;
        let sum = self.l4_sum.add_bytes(&self.packet[payload]).add_long(l4_len as u32);
        let total_len = whole.len();
        let header = &mut self.packet[whole][..self.header_len];
        header.copy_from_slice(&self.header[..self.header_len]);
        let (ip, l4) = header.split_at_mut(self.l4);
        match self.version {
            Version::V4 => {
                let checksum = self.ip_sum.add_word(total_len as u16).add_word(self.id).checksum();
                ip[2..4].copy_from_slice(&(total_len as u16).to_be_bytes());
                ip[4..6].copy_from_slice(&self.id.to_be_bytes());
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                self.id = self.id.wrapping_add(1);
            }
            Version::V6 => ip[4..6].copy_from_slice(&((total_len - V6_HEADER) as u16).to_be_bytes()),
        }
        if self.kind == Kind::Tcp {
            let mut flags = self.flags;
            if self.left != 0 {
                flags &= !(TCP_FIN | TCP_PSH);
            }
            if !first {
                flags &= !TCP_CWR;
            }
            let checksum = sum.add_long(self.seq).add_word(u16::from(flags)).checksum();
            l4[4..8].copy_from_slice(&self.seq.to_be_bytes());
            l4[TCP_FLAGS] = flags;
            l4[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
            self.seq = self.seq.wrapping_add(payload_len as u32);
        } else {
            let checksum = sum.add_word(l4_len as u16).udp_checksum();
            l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            l4[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// Whether `vnet` fits `packet`; gives the kind of segments and the bytes of all headers.
fn check_super_packet(packet: &[u8], view: &View, vnet: &VnetHeader) -> Result<(Kind, usize), SplitError> {
    let kind = match (vnet.gso, view.version, view.protocol) {
        (Gso::TcpV4, Version::V4, protocol::TCP) | (Gso::TcpV6, Version::V6, protocol::TCP) => Kind::Tcp,
        (Gso::Udp, _, protocol::UDP) => Kind::Udp,
        _ => return Err(SplitError::Mismatch),
    };
    if view.fragment != Fragment::Whole || view.total_len != packet.len() {
        return Err(SplitError::Mismatch);
    }
    // A routing header changes the destination in the pseudo header, and authentication covers the segment.
    if view.extensions == Extensions::Other {
        return Err(SplitError::Layout);
    }
    if vnet.gso_size == 0 {
        return Err(SplitError::SegmentSize);
    }
    let (l4_len, checksum) = match kind {
        Kind::Tcp => {
            let l4_len = packet.get(view.l4 + 12).map_or(0, |byte| usize::from(byte >> 4) * 4);
            if l4_len < TCP_HEADER {
                return Err(SplitError::Layout);
            }
            (l4_len, TCP_CHECKSUM)
        }
        _ => (UDP_HEADER, UDP_CHECKSUM),
    };
    let header_len = view.l4 + l4_len;
    if header_len > MAX_HEADER || header_len > packet.len() {
        return Err(SplitError::Layout);
    }
    let place = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
    if vnet.needs_csum && place != (view.l4, checksum) {
        return Err(SplitError::Checksum { start: vnet.csum_start, offset: vnet.csum_offset });
    }
    Ok((kind, header_len))
}

/// Completes a partial checksum, whose field holds the pseudo header's sum (`skb_checksum_help` in the kernel).
fn complete(packet: &mut [u8], l4: usize, vnet: &VnetHeader) -> Result<(), SplitError> {
    let start = usize::from(vnet.csum_start);
    let field = start + usize::from(vnet.csum_offset);
    if start < l4 || field + 2 > packet.len() {
        return Err(SplitError::Checksum { start: vnet.csum_start, offset: vnet.csum_offset });
    }
    let sum = Sum::of(&packet[start..]);
    // UDP alone has its checksum at offset 6, and none but UDP minds which zero it gets.
    let checksum = if usize::from(vnet.csum_offset) == UDP_CHECKSUM { sum.udp_checksum() } else { sum.checksum() };
    packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::properties::split;
    use crate::packet::samples::{Sample, hex, judge};

    /// TCP over IPv4 from 10.42.0.5:443 to 10.52.0.7:5201 with CWR, PSH, ACK and FIN, just before the sequence number wraps.
    fn tcp_v4() -> (Vec<u8>, VnetHeader) {
        Sample { id: 0xff, seq: 0xffff_fffe, flags: 0x99, payload: b"abcde".to_vec(), ..Sample::default() }
            .super_packet(2)
    }

    #[test]
    fn cuts_tcp_over_ipv4_into_these_bytes() {
        let (packet, vnet) = tcp_v4();
        let expected = [
            // CWR and ACK; PSH and FIN wait for the last.
            "4500 002a 00ff 4000 4006 2566 0a2a0005 0a340007
             01bb 1451 fffffffe 000007d0 5090 0200 19ac 0000 6162",
            "4500 002a 0100 4000 4006 2565 0a2a0005 0a340007
             01bb 1451 00000000 000007d0 5010 0200 1829 0000 6364",
            "4500 0029 0101 4000 4006 2565 0a2a0005 0a340007
             01bb 1451 00000002 000007d0 5019 0200 1683 0000 65",
        ];
        assert_eq!(split(&packet, &vnet, usize::MAX), expected.map(hex));
    }

    #[test]
    fn cuts_udp_over_ipv6_into_these_bytes() {
        let sample = Sample { v6: true, udp: true, payload: b"wxyz1".to_vec(), ..Sample::default() };
        let (packet, vnet) = sample.super_packet(2);
        let addresses = "fd000000000000000000000000000001 fd000000000000000000000000000002";
        let expected =
            [("000a", "8c6d", "7778"), ("000a", "8a6b", "797a"), ("0009", "d2e7", "31")].map(|(len, sum, payload)| {
                hex(&format!("600abcde {len} 11 40 {addresses} 01bb 0035 {len} {sum} {payload}"))
            });
        assert_eq!(split(&packet, &vnet, usize::MAX), expected);
    }

    #[test]
    fn completes_a_partial_checksum_and_cuts_off_what_follows_the_packet() {
        for (v6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
            let sample = Sample { v6, udp, payload: b"odd".to_vec(), ..Sample::default() };
            let complete = sample.bytes();
            let (mut packet, mut vnet) = sample.super_packet(0);
            vnet.gso = Gso::None;
            let field = usize::from(vnet.csum_start + vnet.csum_offset);
            let l4_len = packet.len() - usize::from(vnet.csum_start);
            let addresses = if v6 { 8..40 } else { 12..20 };
            let partial = pseudo_header(&packet[addresses], if udp { 17 } else { 6 }, l4_len).fold();
            packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
            packet.extend_from_slice(&[0xee; 3]);
            assert_eq!(split(&packet, &vnet, usize::MAX), std::slice::from_ref(&complete));
            // Nothing to complete: the packet comes out as it is, right or wrong.
            assert_eq!(split(&packet, &VnetHeader::default(), usize::MAX), [packet[..complete.len()].to_vec()]);
        }
    }

    #[test]
    fn writes_a_udp_checksum_of_zero_as_ffff() {
        // A datagram whose payload is the checksum that it would have with a payload of zero sums to ffff.
        let zero = Sample { udp: true, payload: vec![0, 0], ..Sample::default() }.bytes();
        let sum = [zero[26], zero[27]];
        let sample = Sample { udp: true, payload: [sum, sum].concat(), ..Sample::default() };
        let (packet, vnet) = sample.super_packet(2);
        for segment in split(&packet, &vnet, usize::MAX) {
            assert_eq!(segment[26..28], [0xff, 0xff]);
            judge(&segment);
        }
    }

    #[test]
    fn cuts_tcp_smaller_when_the_path_demands_it() {
        let (mut packet, vnet) = Sample { payload: vec![7; 3000], ..Sample::default() }.super_packet(1460);
        let lengths = |max| split(&packet, &vnet, max).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(1500), [1500, 1500, 120]);
        assert_eq!(lengths(1420), [1420, 1420, 280]);
        assert_eq!(lengths(1300), [1300, 1300, 520]);
        let segments = Segments::new(&mut packet, &vnet, 1500).expect("valid");
        assert_eq!((segments.remaining(), segments.segment_len(), segments.asked()), (3, 1500, 1500));
        let segments = Segments::new(&mut packet, &vnet, 1499).expect("valid");
        assert_eq!((segments.remaining(), segments.segment_len(), segments.asked()), (3, 1499, 1500));
    }

    #[test]
    fn reports_what_no_smaller_packets_can_carry() {
        let (packet, vnet) = Sample { udp: true, payload: vec![7; 3000], ..Sample::default() }.super_packet(1400);
        let single = VnetHeader::default();
        let tcp = Sample { payload: vec![7; 1400], ..Sample::default() };
        for (mut packet, vnet, max, size) in [
            (packet, vnet, 1427, 1428),
            (tcp.bytes(), single, 1439, 1440),
            (tcp.bytes(), tcp.super_packet(1000).1, 40, 1040),
        ] {
            let before = packet.clone();
            let error = Segments::new(&mut packet, &vnet, max).expect_err("too big");
            assert_eq!(error, SplitError::TooBig { size, limit: max });
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn refuses_super_packets_that_do_not_fit_their_virtio_header() {
        let (packet, vnet) = tcp_v4();
        let error = |change: &dyn Fn(&mut Vec<u8>, &mut VnetHeader)| {
            let (mut packet, mut vnet) = (packet.clone(), vnet);
            change(&mut packet, &mut vnet);
            Segments::new(&mut packet, &vnet, usize::MAX).expect_err("refused")
        };
        assert_eq!(error(&|_, vnet| vnet.gso = Gso::TcpV6), SplitError::Mismatch);
        assert_eq!(error(&|_, vnet| vnet.gso = Gso::Udp), SplitError::Mismatch);
        assert_eq!(error(&|packet, _| packet[9] = 17), SplitError::Mismatch);
        assert_eq!(error(&|packet, _| packet[6] = 0x20), SplitError::Mismatch, "a fragment");
        assert_eq!(error(&|packet, _| packet.push(0)), SplitError::Mismatch, "bytes behind the packet");
        assert_eq!(error(&|_, vnet| vnet.gso_size = 0), SplitError::SegmentSize);
        assert_eq!(error(&|packet, _| packet[32] = 0x40), SplitError::Layout, "a TCP header of 16 bytes");
        assert_eq!(error(&|packet, _| packet[32] = 0xf0), SplitError::Layout, "a TCP header beyond the packet");
        assert_eq!(error(&|_, vnet| vnet.csum_start = 24), SplitError::Checksum { start: 24, offset: 16 });
        assert_eq!(error(&|_, vnet| vnet.csum_offset = 6), SplitError::Checksum { start: 20, offset: 6 });
        let whole = |_: &mut Vec<u8>, vnet: &mut VnetHeader| (vnet.gso, vnet.csum_offset) = (Gso::None, u16::MAX);
        assert_eq!(error(&whole), SplitError::Checksum { start: 20, offset: u16::MAX });
        let inside_ip = |_: &mut Vec<u8>, vnet: &mut VnetHeader| (vnet.gso, vnet.csum_start) = (Gso::None, 0);
        assert_eq!(error(&inside_ip), SplitError::Checksum { start: 0, offset: 16 });
        assert_eq!(error(&|packet, _| packet.truncate(19)), SplitError::Ip(IpError::Short(19)));
    }

    #[test]
    fn repeats_ipv6_options_and_refuses_other_extensions() {
        let (packet, mut vnet) = Sample { v6: true, payload: b"abc".to_vec(), ..Sample::default() }.super_packet(2);
        vnet.csum_start += 8;
        let with_extension = |kind: u8| {
            let mut out = packet[..40].to_vec();
            (out[5], out[6]) = (packet[5] + 8, kind);
            out.extend_from_slice(&[6, 0, 1, 4, 0, 0, 0, 0]); // then TCP; 8 bytes; PadN
            out.extend_from_slice(&packet[40..]);
            out
        };
        for kind in [0, 60] {
            let segments = split(&with_extension(kind), &vnet, usize::MAX);
            assert_eq!(segments.iter().map(|segment| judge(segment).payload).collect::<Vec<_>>(), [&b"ab"[..], b"c"]);
        }
        for kind in [43, 51] {
            let mut packet = with_extension(kind);
            assert_eq!(Segments::new(&mut packet, &vnet, usize::MAX).expect_err("refused"), SplitError::Layout);
        }
        let mut fragment = with_extension(44);
        fragment[42] = 0xff;
        assert_eq!(Segments::new(&mut fragment, &vnet, usize::MAX).expect_err("refused"), SplitError::Mismatch);
    }
}
