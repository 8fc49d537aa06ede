//! A minimal view of an IP packet: where it goes, where its upper layer starts, and whether it is whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Bytes of an IPv4 header without options (RFC 791).
pub const V4_HEADER: usize = 20;
/// Bytes of the fixed IPv6 header (RFC 8200).
pub const V6_HEADER: usize = 40;

/// More extension headers than any real packet has; ends the walk over forged chains.
const MAX_EXTENSIONS: usize = 8;

/// The IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Which part of a datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its beginning, with the upper-layer header.
    First,
    /// A later part: what stands at the upper layer's place is payload.
    Later,
}

/// IPv4 options or IPv6 extension headers between the fixed header and the upper layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// None.
    None,
    /// IPv4 options, or IPv6 hop-by-hop and destination options only.
    Options,
    /// Any other: fragment, routing, authentication; or a chain that was not walked to its end.
    Other,
}

/// What the packet path needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// IP version.
    pub version: Version,
    /// Bytes of the whole packet by its own header, never more than were given.
    pub total_len: usize,
    /// Upper-layer protocol; for IPv6 the last next-header value that was reached.
    pub protocol: u8,
    /// Offset of the upper-layer header, at most `total_len`.
    pub l4: usize,
    /// Fragmentation.
    pub fragment: Fragment,
    /// What stands between the fixed header and `l4`.
    pub extensions: Extensions,
    /// The ToS or traffic class byte: DSCP and ECN.
    pub tos: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
}

/// Bytes that are no IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    /// Fewer bytes than the fixed header has.
    #[error("IP packet has {0} bytes, fewer than its header")]
    Short(usize),
    /// Neither 4 nor 6.
    #[error("IP packet has version {0} instead of 4 or 6")]
    Version(u8),
    /// An IPv4 header length below 20 or beyond the packet.
    #[error("IPv4 header length {0} is below 20 or beyond the packet")]
    HeaderLength(usize),
    /// A total length below the header's or beyond the bytes given.
    #[error("IP packet says it has {said} bytes, but {have} were given")]
    TotalLength {
        /// By the packet's header.
        said: usize,
        /// Really there.
        have: usize,
    },
}

impl View {
    /// Parses the headers of `bytes`; bytes after the packet's own length are allowed.
    ///
    /// # Errors
    /// [`IpError`] when the fixed header is not that of an IP packet in `bytes`. A damaged IPv6 extension chain is no
    /// error, because forwarding does not need it: `protocol` then names the extension at `l4`.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, IpError> {
        parse(bytes, End::Whole)
    }

    /// Parses the headers of a packet that an ICMP error quotes: it may end anywhere behind its IP header, and
    /// `total_len` counts the bytes that are there.
    ///
    /// # Errors
    /// As [`View::parse`], when the IP header itself is cut off or wrong.
    pub fn parse_quoted(bytes: &[u8]) -> Result<Self, IpError> {
        parse(bytes, End::CutOff)
    }
}

/// Whether a packet must be there to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    CutOff,
}

impl End {
    /// Bytes of the packet that are there; its header says how many it has.
    #[inline]
    fn judge(self, said: usize, have: usize) -> Result<usize, IpError> {
        match self {
            Self::Whole if said > have => Err(IpError::TotalLength { said, have }),
            _ => Ok(said.min(have)),
        }
    }
}

#[inline]
fn parse(bytes: &[u8], end: End) -> Result<View, IpError> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_v4(bytes, end),
        Some(6) => parse_v6(bytes, end),
        Some(version) => Err(IpError::Version(version)),
        None => Err(IpError::Short(0)),
    }
}

#[inline]
fn parse_v4(bytes: &[u8], end: End) -> Result<View, IpError> {
    let h = bytes.first_chunk::<V4_HEADER>().ok_or(IpError::Short(bytes.len()))?;
    let header_len = usize::from(h[0] & 0x0f) * 4;
    if header_len < V4_HEADER || header_len > bytes.len() {
        return Err(IpError::HeaderLength(header_len));
    }
    let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
    if total_len < header_len {
        return Err(IpError::TotalLength { said: total_len, have: bytes.len() });
    }
    let total_len = end.judge(total_len, bytes.len())?;
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    Ok(View {
        version: Version::V4,
        total_len,
        protocol: h[9],
        l4: header_len,
        fragment: match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        },
        extensions: if header_len == V4_HEADER { Extensions::None } else { Extensions::Options },
        tos: h[1],
        source: IpAddr::V4(Ipv4Addr::new(h[12], h[13], h[14], h[15])),
        destination: IpAddr::V4(Ipv4Addr::new(h[16], h[17], h[18], h[19])),
    })
}

#[inline]
fn parse_v6(bytes: &[u8], end: End) -> Result<View, IpError> {
    let h = bytes.first_chunk::<V6_HEADER>().ok_or(IpError::Short(bytes.len()))?;
    let total_len = end.judge(V6_HEADER + usize::from(u16::from_be_bytes([h[4], h[5]])), bytes.len())?;
    let mut source = [0; 16];
    source.copy_from_slice(&h[8..24]);
    let mut destination = [0; 16];
    destination.copy_from_slice(&h[24..40]);
    let mut view = View {
        version: Version::V6,
        total_len,
        protocol: h[6],
        l4: V6_HEADER,
        fragment: Fragment::Whole,
        extensions: Extensions::None,
        tos: h[0] << 4 | h[1] >> 4,
        source: IpAddr::V6(Ipv6Addr::from(source)),
        destination: IpAddr::V6(Ipv6Addr::from(destination)),
    };
    if is_extension(view.protocol) {
        walk_extensions(&mut view, &bytes[..total_len]);
    }
    Ok(view)
}

#[inline]
fn is_extension(next: u8) -> bool {
    use protocol::*;
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AH | DESTINATION_OPTIONS)
}

/// Moves `view` past the extension headers that it can walk (RFC 8200, section 4). Stops before one that is cut off.
#[cold]
fn walk_extensions(view: &mut View, packet: &[u8]) {
    view.extensions = Extensions::Options;
    for _ in 0..MAX_EXTENSIONS {
        let Some(&[next, len, high, low]) = packet.get(view.l4..).and_then(|rest| rest.first_chunk::<4>()) else {
            break;
        };
        let size = match view.protocol {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => 8 + usize::from(len) * 8,
            protocol::ROUTING => 8 + usize::from(len) * 8,
            protocol::AH => 8 + usize::from(len) * 4,
            protocol::FRAGMENT => 8,
            _ => return,
        };
        if view.l4 + size > packet.len() {
            break;
        }
        match view.protocol {
            protocol::FRAGMENT => {
                view.extensions = Extensions::Other;
                let offset_and_flags = u16::from_be_bytes([high, low]);
                view.fragment = match (offset_and_flags >> 3, offset_and_flags & 1) {
                    (0, 0) => Fragment::Whole, // an atomic fragment, RFC 6946
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
            }
            protocol::ROUTING | protocol::AH => view.extensions = Extensions::Other,
            _ => {}
        }
        view.l4 += size;
        view.protocol = next;
        if view.fragment == Fragment::Later {
            return;
        }
    }
    if is_extension(view.protocol) {
        view.extensions = Extensions::Other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::hex;

    #[test]
    fn reads_an_ipv4_header() {
        let packet = hex("4db8 001c 1234 4000 40 11 0000 0a2a0005 0a340007 00000000 00000000 00000000 00000000 0000");
        // The header length 13 * 4 = 52 is beyond the packet.
        assert_eq!(View::parse(&packet), Err(IpError::HeaderLength(52)));
        let packet = hex("46b8 001c 1234 2000 40 11 0000 0a2a0005 0a340007 01010101 1122 3344 eeee");
        let view = View::parse(&packet).expect("valid");
        assert_eq!(
            view,
            View {
                version: Version::V4,
                total_len: 28,
                protocol: 17,
                l4: 24,
                fragment: Fragment::First,
                extensions: Extensions::Options,
                tos: 0xb8,
                source: "10.42.0.5".parse().expect("valid"),
                destination: "10.52.0.7".parse().expect("valid"),
            }
        );
    }

    #[test]
    fn reads_an_ipv6_header_behind_extensions() {
        let addresses = "fd000000000000000000000000000001 fd000000000000000000000000000002";
        let parse = |len: &str, next: &str, rest: &str| {
            let packet = hex(&format!("6b8abcde {len} {next} 40 {addresses} {rest}"));
            let view = View::parse(&packet).expect("valid");
            assert_eq!((view.version, view.tos, view.total_len), (Version::V6, 0xb8, packet.len()));
            assert_eq!(view.source, "fd00::1".parse::<IpAddr>().expect("valid"));
            assert_eq!(view.destination, "fd00::2".parse::<IpAddr>().expect("valid"));
            (view.protocol, view.l4, view.fragment, view.extensions)
        };
        use Fragment::*;
        assert_eq!(parse("0004", "06", "01020304"), (6, 40, Whole, Extensions::None));
        // Hop-by-hop of 16 bytes, then destination options of 8, then TCP.
        let chain = "3c01010c00000000 0000000000000000 0600010400000000 01020304";
        assert_eq!(parse("001c", "00", chain), (6, 64, Whole, Extensions::Options));
        // Routing, then authentication of 4 * 4 + 8 bytes, then UDP.
        let chain = "3300000000000000 1104000000000000 0000000000000000 0000000000000000 01020304";
        assert_eq!(parse("0024", "2b", chain), (17, 72, Whole, Extensions::Other));
        // Fragments: the first, a later one (whose payload is not walked), and an atomic one.
        assert_eq!(parse("000a", "2c", "0600 0001 00000000 0102"), (6, 48, First, Extensions::Other));
        assert_eq!(parse("000a", "2c", "3c00 0008 00000000 0102"), (60, 48, Later, Extensions::Other));
        assert_eq!(parse("000a", "2c", "0600 0000 00000000 0102"), (6, 48, Whole, Extensions::Other));
        // A chain that is cut off names the extension at its end.
        assert_eq!(parse("0008", "00", "3c02000000000000"), (0, 40, Whole, Extensions::Other));
        assert_eq!(parse("0002", "00", "0600"), (0, 40, Whole, Extensions::Other));
    }

    #[test]
    fn ends_an_endless_chain() {
        let mut packet = hex("60000000 0400 3c 40");
        packet.resize(40, 0);
        for _ in 0..128 {
            packet.extend_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0]);
        }
        let view = View::parse(&packet).expect("valid");
        assert_eq!((view.protocol, view.l4, view.extensions), (60, 40 + 8 * 8, Extensions::Other));
    }

    #[test]
    fn a_quoted_packet_may_end_behind_its_header() {
        let v4 = hex("4500 0100 0000 0000 40 06 0000 0a2a0005 0a340007 01bb 1451 00000001");
        assert_eq!(View::parse(&v4), Err(IpError::TotalLength { said: 256, have: 28 }));
        let view = View::parse_quoted(&v4).expect("its header is whole");
        assert_eq!((view.total_len, view.l4, view.protocol), (28, 20, 6));
        assert_eq!(View::parse_quoted(&v4[..19]), Err(IpError::Short(19)));
        // Hop-by-hop options of 8 bytes, then TCP of which 4 bytes are there.
        let v6 = hex(
            "60000000 0400 00 40 fd000000000000000000000000000001 fd000000000000000000000000000002 0600010400000000 01bb1451",
        );
        let view = View::parse_quoted(&v6).expect("its header is whole");
        assert_eq!((view.total_len, view.l4, view.protocol), (52, 48, 6));
    }

    #[test]
    fn refuses_what_is_no_ip_packet() {
        let mut v4 = hex("4500 0014 0000 0000 40 11 0000 0a2a0005 0a340007");
        assert!(View::parse(&v4).is_ok());
        assert_eq!(View::parse(&[]), Err(IpError::Short(0)));
        assert_eq!(View::parse(&v4[..19]), Err(IpError::Short(19)));
        assert_eq!(View::parse(&[0x60; 39]), Err(IpError::Short(39)));
        assert_eq!(View::parse(&[0x50; 40]), Err(IpError::Version(5)));
        v4[3] = 19;
        assert_eq!(View::parse(&v4), Err(IpError::TotalLength { said: 19, have: 20 }));
        v4[3] = 21;
        assert_eq!(View::parse(&v4), Err(IpError::TotalLength { said: 21, have: 20 }));
        v4[0] = 0x44;
        assert_eq!(View::parse(&v4), Err(IpError::HeaderLength(16)));
        let mut v6 = vec![0x60; 40];
        v6[4..6].copy_from_slice(&[0, 1]);
        assert_eq!(View::parse(&v6), Err(IpError::TotalLength { said: 41, have: 40 }));
    }
}
