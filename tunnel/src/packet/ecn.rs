//! Explicit congestion notification through the tunnel: RFC 6040, normal mode; and the outer DSCP.

use super::checksum::update_word;
use crate::config::Dscp;

/// Outer DSCP bits of the ToS or traffic class byte; the others are ECN (RFC 2474, RFC 3168).
const DSCP_MASK: u8 = 0xfc;

/// The ECN field (RFC 3168, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ecn {
    /// 00: the transport does not understand ECN.
    NotEct,
    /// 01: ECN-capable; L4S (RFC 9331) uses it.
    Ect1,
    /// 10: ECN-capable.
    Ect0,
    /// 11: congestion experienced.
    Ce,
}

impl Ecn {
    /// The field of a ToS or traffic class byte.
    #[inline]
    pub const fn of_tos(tos: u8) -> Self {
        match tos & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits.
    #[inline]
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// What becomes of a packet that left the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decapsulated {
    /// Its ECN field stays.
    Kept,
    /// Its ECN field was changed, and the IPv4 header checksum with it.
    Marked,
    /// To be dropped: it met congestion, and its transport would not understand a mark.
    Drop,
}

/// The ToS or traffic class byte of a packet; 0 for bytes that are no IP packet.
#[inline]
pub fn tos(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// The outer ToS or traffic class byte for a packet with the inner byte `tos`: its ECN field is copied (RFC 6040,
/// section 4.1, normal mode), its DSCP as configured.
#[inline]
pub const fn encapsulate(tos: u8, dscp: Dscp) -> u8 {
    match dscp {
        Dscp::Zero => tos & !DSCP_MASK,
        Dscp::Copy => tos,
    }
}

/// The ECN field that a packet leaves the tunnel with (RFC 6040, figure 4); `None` drops it.
#[inline]
pub const fn combine(inner: Ecn, outer: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Some(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
        (inner, _) => Some(inner),
    }
}

/// Carries the outer ECN field over to the decrypted `packet`. Before it is offered for merging: packets with
/// different marks are never merged.
#[inline]
pub fn decapsulate(packet: &mut [u8], outer: Ecn) -> Decapsulated {
    if matches!(outer, Ecn::NotEct | Ecn::Ect0) {
        return Decapsulated::Kept; // the two columns of figure 4 that change nothing
    }
    let inner = Ecn::of_tos(tos(packet));
    match combine(inner, outer) {
        None => Decapsulated::Drop,
        Some(result) if result == inner => Decapsulated::Kept,
        Some(result) => mark(packet, result),
    }
}

#[cold]
fn mark(packet: &mut [u8], ecn: Ecn) -> Decapsulated {
    match packet {
        [0x40..=0x4f, tos, _, _, _, _, _, _, _, _, c0, c1, ..] => {
            let old = u16::from(*tos);
            *tos = *tos & DSCP_MASK | ecn.bits();
            // The high byte of the first word, version and header length, is the same before and after.
            [*c0, *c1] = update_word(u16::from_be_bytes([*c0, *c1]), old, u16::from(*tos)).to_be_bytes();
            Decapsulated::Marked
        }
        [0x60..=0x6f, second, ..] => {
            *second = *second & 0xcf | ecn.bits() << 4;
            Decapsulated::Marked
        }
        _ => Decapsulated::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{Sample, judge};

    #[test]
    fn combines_all_pairs_as_figure_4_of_rfc_6040() {
        use Ecn::*;
        let outer = [NotEct, Ect0, Ect1, Ce];
        let table = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(combine(inner, outer), expected, "inner {inner:?}, outer {outer:?}");
                for v6 in [false, true] {
                    let dscp = 0b101110 << 2;
                    let mut packet = Sample { v6, tos: dscp | inner.bits(), ..Sample::default() }.bytes();
                    let verdict = decapsulate(&mut packet, outer);
                    match expected {
                        None => assert_eq!(verdict, Decapsulated::Drop),
                        Some(ecn) => {
                            let marked = if ecn == inner { Decapsulated::Kept } else { Decapsulated::Marked };
                            assert_eq!(verdict, marked, "inner {inner:?}, outer {outer:?}");
                            // Built afresh with the expected field, the packet has the same bytes, checksum too.
                            let fresh = Sample { v6, tos: dscp | ecn.bits(), ..Sample::default() }.bytes();
                            assert_eq!(packet, fresh);
                            judge(&packet);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn copies_the_mark_and_only_if_asked_the_class() {
        // EF (46) with CE.
        assert_eq!(encapsulate(0xbb, Dscp::Zero), 0x03);
        assert_eq!(encapsulate(0xbb, Dscp::Copy), 0xbb);
        assert_eq!(encapsulate(0xb8, Dscp::Zero), 0x00);
    }

    #[test]
    fn reads_the_class_of_both_versions() {
        assert_eq!(tos(&[0x45, 0xbb, 0, 0]), 0xbb);
        assert_eq!(tos(&[0x6b, 0xb0, 0, 0]), 0xbb);
        assert_eq!(tos(&[0x6b]), 0);
        assert_eq!(tos(&[]), 0);
        assert_eq!(Ecn::of_tos(0xb9), Ecn::Ect1);
        assert_eq!(Ecn::of_tos(0xba), Ecn::Ect0);
    }

    #[test]
    fn leaves_bytes_that_are_no_packet_alone() {
        for bytes in [&mut [][..], &mut [0x45], &mut [0x00, 0x02, 0x00]] {
            let before = bytes.to_vec();
            assert_ne!(decapsulate(bytes, Ecn::Ect1), Decapsulated::Marked);
            assert_eq!(bytes, before);
        }
    }
}
