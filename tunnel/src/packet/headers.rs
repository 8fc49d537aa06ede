//! Which packets' headers can be merged, and what neighbours of one flow must have in common.

use super::checksum::pseudo_header;
use super::ip::{V4_HEADER, V6_HEADER, Version, protocol};

/// Most bytes of headers of a packet that can be merged: IPv6 and the longest TCP header.
pub const MAX_HEADER: usize = V6_HEADER + 60;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = 6;
const UDP_HEADER: usize = 8;
const TCP_PSH: u8 = 0x08;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    /// Passed on untouched.
    Opaque,
}

impl Kind {
    /// Its protocol number; [`Kind::Opaque`] has none that matters.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp | Self::Opaque => protocol::UDP,
        }
    }
}

/// One header layout that can be merged: which bits of the next packet's headers must equal the template's.
///
/// Zero bits are what differs between neighbours (lengths, identification, checksums, PSH) and is checked by hand.
pub struct Layout([u8; MAX_HEADER]);

static V4_TCP: Layout = Layout::new(&[2, 3, 4, 5, 10, 11, 36, 37], Some(33));
static V4_UDP: Layout = Layout::new(&[2, 3, 4, 5, 10, 11, 24, 25, 26, 27], None);
static V6_TCP: Layout = Layout::new(&[4, 5, 56, 57], Some(53));
static V6_UDP: Layout = Layout::new(&[4, 5, 44, 45, 46, 47], None);

impl Layout {
    const fn new(free: &[usize], tcp_flags: Option<usize>) -> Self {
        let mut mask = [0xff; MAX_HEADER];
        let mut i = 0;
        while i < free.len() {
            mask[free[i]] = 0;
            i += 1;
        }
        if let Some(flags) = tcp_flags {
            mask[flags] = !TCP_PSH;
        }
        Self(mask)
    }

    /// The layout of packets of this kind.
    #[inline]
    pub fn of(version: Version, kind: Kind) -> &'static Self {
        match (version, kind) {
            (Version::V4, Kind::Tcp) => &V4_TCP,
            (Version::V4, _) => &V4_UDP,
            (Version::V6, Kind::Tcp) => &V6_TCP,
            (Version::V6, _) => &V6_UDP,
        }
    }

    /// Whether `header`, a multiple of 4 bytes, equals `expected` in all bits that neighbours share.
    #[inline]
    pub fn matches(&self, header: &[u8], expected: &[u8; MAX_HEADER]) -> bool {
        let (header, _) = header.as_chunks::<4>();
        let (expected, _) = expected.as_chunks::<4>();
        let (mask, _) = self.0.as_chunks::<4>();
        let mut differ = 0;
        for ((h, e), m) in header.iter().zip(expected).zip(mask) {
            differ |= (u32::from_ne_bytes(*h) ^ u32::from_ne_bytes(*e)) & u32::from_ne_bytes(*m);
        }
        differ == 0
    }
}

/// A packet's headers, when they are of a kind that can be merged or at least be given a partial checksum.
pub struct Parsed {
    pub kind: Kind,
    pub version: Version,
    pub l4: usize,
    /// Bytes of all headers.
    pub header_len: usize,
    /// Bytes of the packet by its own header.
    pub total_len: usize,
}

#[inline]
pub fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Parses a whole TCP or UDP packet without IP options, extension headers or fragmentation; UDP with a checksum.
pub fn parse(packet: &[u8]) -> Option<Parsed> {
    let (version, l4, protocol, total_len) = match packet.first()? >> 4 {
        4 => {
            let h = packet.first_chunk::<V4_HEADER>()?;
            // No options; reserved bit, MF and offset zero (DF may be set).
            if h[0] != 0x45 || u16::from_be_bytes([h[6], h[7]]) & !0x4000 != 0 {
                return None;
            }
            (Version::V4, V4_HEADER, h[9], word(h, 2))
        }
        6 => {
            let h = packet.first_chunk::<V6_HEADER>()?;
            (Version::V6, V6_HEADER, h[6], V6_HEADER + word(h, 4))
        }
        _ => return None,
    };
    let transport = packet.get(l4..total_len)?;
    let (kind, header_len) = match protocol {
        protocol::TCP => {
            let header_len = usize::from(transport.get(12)? >> 4) * 4;
            if header_len < 20 {
                return None;
            }
            (Kind::Tcp, header_len)
        }
        protocol::UDP => {
            let header = transport.first_chunk::<UDP_HEADER>()?;
            if word(header, 4) != transport.len() || word(header, UDP_CHECKSUM) == 0 {
                return None;
            }
            (Kind::Udp, UDP_HEADER)
        }
        _ => return None,
    };
    (header_len <= transport.len()).then_some(Parsed { kind, version, l4, header_len: l4 + header_len, total_len })
}

/// Whether the TCP or UDP checksum of `packet`, which has been parsed, is right.
#[inline]
pub fn verifies(packet: &[u8], version: Version, kind: Kind) -> bool {
    let (addresses, l4) = match version {
        Version::V4 => (12..V4_HEADER, V4_HEADER),
        Version::V6 => (8..V6_HEADER, V6_HEADER),
    };
    pseudo_header(&packet[addresses], kind.protocol(), packet.len() - l4).add_bytes(&packet[l4..]).fold() == 0xffff
}
