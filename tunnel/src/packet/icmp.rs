//! Answers to packets that are too big for the path: ICMPv4 "fragmentation needed" (RFC 792, RFC 1191) and ICMPv6
//! "packet too big" (RFC 4443, section 3.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{Sum, pseudo_header};
use super::ip::{Fragment, V4_HEADER, V6_HEADER, Version, View, protocol};

/// Most bytes of an answer: a whole packet of the least IPv6 MTU (RFC 4443, section 2.4(c)).
pub const MAX_REPLY: usize = 1280;

/// Most bytes of an ICMPv4 answer (RFC 1812, section 4.3.2.3).
const MAX_REPLY_V4: usize = 576;
const ICMP_HEADER: usize = 8;
const HOPS: u8 = 64;
/// Internetwork control: the class of ICMP errors (RFC 1812, section 4.3.2.5).
const TOS: u8 = 0xc0;
const V4_UNREACHABLE: u8 = 3;
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V6_TOO_BIG: u8 = 2;
const V6_REDIRECT: u8 = 137;

/// Writes to `out` the answer to `packet`, which exceeds the `mtu` bytes that its path carries, and gives its bytes.
///
/// `source` is the address that answers; where the gateway has none of its own, the packet's destination serves: a
/// host that filters by reverse path accepts it. The answer is to be written to the TUN queue. The caller limits how
/// many it sends. For a super-packet, give its first segment, or the super-packet before it is cut.
///
/// `None` when no answer may be sent (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4(e)): to an ICMP error, to a
/// fragment other than the first, from or to an address that is not one host's, to an IPv4 packet that may be
/// fragmented; or when `source` is of the other version.
pub fn too_big(packet: &[u8], mtu: usize, source: IpAddr, out: &mut [u8; MAX_REPLY]) -> Option<usize> {
    let view = View::parse(packet).ok()?;
    let packet = &packet[..view.total_len];
    if view.fragment == Fragment::Later || is_error(packet, &view) {
        return None;
    }
    if !is_host(view.source) || !is_host(view.destination) {
        return None;
    }
    match (source, view.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let may_be_fragmented = packet[6] & 0x40 == 0;
            if may_be_fragmented { None } else { Some(reply_v4(packet, mtu, from, to, out)) }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(reply_v6(packet, mtu, from, to, out)),
        _ => None,
    }
}

/// Whether the packet is an ICMP error, or an ICMP message too short to tell.
fn is_error(packet: &[u8], view: &View) -> bool {
    let kind = packet.get(view.l4).copied();
    match (view.version, view.protocol) {
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2).
        (Version::V4, protocol::ICMP) => matches!(kind, None | Some(3 | 4 | 5 | 11 | 12)),
        (Version::V6, protocol::ICMPV6) => kind.is_none_or(|kind| kind < 128 || kind == V6_REDIRECT),
        _ => false,
    }
}

/// Whether the address is one host's: neither unspecified, loopback, multicast, broadcast nor reserved.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && v4.octets()[0] != 0 && v4.octets()[0] < 224,
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

fn reply_v4(packet: &[u8], mtu: usize, from: Ipv4Addr, to: Ipv4Addr, out: &mut [u8; MAX_REPLY]) -> usize {
    let quote = packet.len().min(MAX_REPLY_V4 - V4_HEADER - ICMP_HEADER);
    let len = V4_HEADER + ICMP_HEADER + quote;
    let (ip, icmp) = out[..len].split_at_mut(V4_HEADER);
    ip.fill(0);
    ip[0] = 0x45;
    ip[1] = TOS;
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    ip[6] = 0x40; // do not fragment: then the identification may be 0 (RFC 6864, section 4.1)
    ip[8] = HOPS;
    ip[9] = protocol::ICMP;
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = Sum::of(ip).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mtu = mtu.min(usize::from(u16::MAX)) as u16;
    icmp[..ICMP_HEADER].fill(0);
    icmp[0] = V4_UNREACHABLE;
    icmp[1] = V4_FRAGMENTATION_NEEDED;
    icmp[6..8].copy_from_slice(&mtu.to_be_bytes());
    icmp[ICMP_HEADER..].copy_from_slice(&packet[..quote]);
    let checksum = Sum::of(icmp).checksum();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    len
}

fn reply_v6(packet: &[u8], mtu: usize, from: Ipv6Addr, to: Ipv6Addr, out: &mut [u8; MAX_REPLY]) -> usize {
    let quote = packet.len().min(MAX_REPLY - V6_HEADER - ICMP_HEADER);
    let icmp_len = ICMP_HEADER + quote;
    let (ip, icmp) = out[..V6_HEADER + icmp_len].split_at_mut(V6_HEADER);
    ip.fill(0);
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(icmp_len as u16).to_be_bytes());
    ip[6] = protocol::ICMPV6;
    ip[7] = HOPS;
    ip[8..24].copy_from_slice(&from.octets());
    ip[24..40].copy_from_slice(&to.octets());
    icmp[..ICMP_HEADER].fill(0);
    icmp[0] = V6_TOO_BIG;
    icmp[4..8].copy_from_slice(&(mtu.min(u32::MAX as usize) as u32).to_be_bytes());
    icmp[ICMP_HEADER..].copy_from_slice(&packet[..quote]);
    let checksum = pseudo_header(&ip[8..V6_HEADER], protocol::ICMPV6, icmp_len).add_bytes(icmp).checksum();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    V6_HEADER + icmp_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::Sample;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 0, 1));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xff));

    fn answer(packet: &[u8], mtu: usize, source: IpAddr) -> Option<Vec<u8>> {
        let mut out = [0xee; MAX_REPLY];
        too_big(packet, mtu, source, &mut out).map(|len| out[..len].to_vec())
    }

    #[test]
    fn answers_ipv4_as_rfc_1191_lays_it_out() {
        let packet = Sample { payload: vec![0x61; 1460], ..Sample::default() }.bytes();
        let reply = answer(&packet, 1420, V4).expect("an answer");
        // 45 c0, length 576 = 0x0240, DF, TTL 64, ICMP, from 10.42.0.1 to the sender 10.42.0.5. The checksum by hand:
        // 45c0 + 0240 + 4000 + 4001 + 0a2a + 0001 + 0a2a + 0005 = dc5b, complemented 23a4.
        let ip = [0x45, 0xc0, 0x02, 0x40, 0, 0, 0x40, 0, 64, 1, 0x23, 0xa4, 10, 42, 0, 1, 10, 42, 0, 5];
        assert_eq!(reply[..20], ip);
        assert_eq!(reply[20..22], [3, 4]);
        assert_eq!(reply[24..28], [0, 0, 0x05, 0x8c], "unused, then the MTU 1420");
        assert_eq!(reply.len(), 576);
        assert_eq!(reply[28..], packet[..548]);
        let icmp = etherparse::Icmpv4Slice::from_slice(&reply[20..]).expect("ICMP");
        assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
    }

    #[test]
    fn answers_ipv6_as_rfc_4443_lays_it_out() {
        let packet = Sample { v6: true, payload: vec![0x61; 1440], ..Sample::default() }.bytes();
        let reply = answer(&packet, 1420, V6).expect("an answer");
        assert_eq!(reply.len(), 1280);
        assert_eq!(reply[..8], [0x60, 0, 0, 0, 0x04, 0xd8, 58, 64], "payload length 1240");
        assert_eq!(reply[8..24], packet_address(0xff));
        assert_eq!(reply[24..40], packet[8..24], "to the sender");
        assert_eq!(reply[40..42], [2, 0]);
        assert_eq!(reply[44..48], [0, 0, 0x05, 0x8c]);
        assert_eq!(reply[48..], packet[..1232]);
        let icmp = etherparse::Icmpv6Slice::from_slice(&reply[40..]).expect("ICMPv6");
        assert!(icmp.is_checksum_valid(packet_address(0xff), packet_address(1)));
    }

    fn packet_address(last: u8) -> [u8; 16] {
        [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
    }

    #[test]
    fn quotes_a_short_packet_whole() {
        let packet = Sample { udp: true, ..Sample::default() }.bytes();
        assert_eq!(answer(&packet, 68, V4).expect("an answer")[28..], packet);
    }

    #[test]
    fn keeps_silent_where_the_rfcs_say_so() {
        let v4 = Sample::default().bytes();
        let v6 = Sample { v6: true, ..Sample::default() }.bytes();
        assert!(answer(&v4, 1400, V4).is_some() && answer(&v6, 1400, V6).is_some());
        assert_eq!(answer(&v4, 1400, V6), None, "an answer from the other version");
        assert_eq!(answer(&Sample { dont_fragment: false, ..Sample::default() }.bytes(), 1400, V4), None);

        let with = |from: &[u8], changes: &[(usize, u8)]| {
            let mut packet = from.to_vec();
            for (at, value) in changes {
                packet[*at] = *value;
            }
            packet
        };
        let later_fragment = with(&v4, &[(7, 1)]);
        let multicast = with(&v4, &[(16, 224)]);
        let from_broadcast = with(&v4, &[(12, 255), (13, 255), (14, 255), (15, 255)]);
        let from_nowhere = with(&v4, &[(12, 0)]);
        for packet in [&later_fragment, &multicast, &from_broadcast, &from_nowhere] {
            assert_eq!(answer(packet, 1400, V4), None, "{packet:02x?}");
        }
        for (kind, answered) in [(0, true), (8, true), (3, false), (4, false), (5, false), (11, false), (12, false)] {
            let icmp = with(&v4, &[(9, 1), (20, kind)]);
            assert_eq!(answer(&icmp, 1400, V4).is_some(), answered, "ICMP type {kind}");
        }
        assert_eq!(answer(&with(&v6, &[(24, 0xff)]), 1400, V6), None, "multicast");
        for (kind, answered) in [(128, true), (129, true), (1, false), (2, false), (127, false), (137, false)] {
            let icmp = with(&v6, &[(6, 58), (40, kind)]);
            assert_eq!(answer(&icmp, 1400, V6).is_some(), answered, "ICMPv6 type {kind}");
        }
        assert_eq!(answer(&[0x45, 0], 1400, V4), None);
    }
}
