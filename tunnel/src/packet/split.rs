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
    resized: bool,
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
    /// ([`Segments::resized`] tells). A packet with a partial checksum gets it completed in place.
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
        segments.mss = view.total_len;
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
            resized: false,
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
        let mut resized = false;
        let payload = packet.len() - header_len;
        let largest = header_len + mss.min(payload);
        if largest > max {
            if kind != Kind::Tcp || max <= header_len {
                return Err(SplitError::TooBig { size: largest, limit: max });
            }
            mss = max - header_len;
            resized = true;
        }
        let mut segments = Self::empty(packet, view.version);
        segments.kind = kind;
        segments.left = payload.div_ceil(mss).max(1);
        segments.at = header_len;
        segments.mss = mss;
        segments.resized = resized;
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

    /// Whether the segments are smaller than the kernel asked for, because the path carries no larger ones.
    #[inline]
    pub fn resized(&self) -> bool {
        self.resized
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
