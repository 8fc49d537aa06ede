//! Bodies of the fuzz targets: what must hold for any bytes. A broken promise panics; a corpus is replayed by calling
//! them again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::assemble::Assembler;
use super::checksum::{Sum, pseudo_header};
use super::coalesce::{Checksums, Config, Merge};
use super::ecn::{self, Decapsulated, Ecn};
use super::ip::{Extensions, Fragment, V4_HEADER, V6_HEADER, Version, View, protocol};
use super::split::Segments;
use super::translate::{self, Direction};
use super::vnet::{self, Gso, VnetHeader};
use super::{icmp, mss};

/// A virtio header, the path's limit in two bytes, and a packet: every segment is a valid packet within the limit, and
/// the payloads are the super-packet's.
pub fn fuzz_split(data: &[u8]) {
    let Ok(vnet) = VnetHeader::parse(data) else { return };
    let Some((limit, packet)) = data[vnet::LEN..].split_first_chunk::<2>() else { return };
    let limit = usize::from(u16::from_le_bytes(*limit));
    let Some(segments) = segments(packet, &vnet, limit) else { return };
    let original = View::parse(packet).expect("it was cut, so it was parsed");
    let mut payload = Vec::new();
    for segment in &segments {
        let view = View::parse(segment).expect("a segment is a packet");
        assert_eq!(view.total_len, segment.len(), "length in the header");
        assert!(segment.len() <= limit, "a segment exceeds the limit");
        assert_eq!((view.source, view.destination, view.l4), (original.source, original.destination, original.l4));
        if vnet.gso != Gso::None {
            assert!(verifies(segment, &view), "a segment's checksum is wrong");
            payload.extend_from_slice(&segment[payload_at(segment, &view)..]);
        }
    }
    if vnet.gso == Gso::None {
        assert_eq!(segments.len(), 1);
    } else {
        assert_eq!(payload, packet[payload_at(packet, &original)..], "payloads in order");
    }
}

/// Packets of a few flows, built and damaged as the bytes say: what is merged and cut again is what was there.
pub fn fuzz_coalesce(data: &[u8]) {
    let Some((&[options, kind, payload], script)) = data.split_first_chunk::<3>() else { return };
    let merge = |bit| if options & bit == 0 { Merge::Yes } else { Merge::No };
    let checksums = [Checksums::Trust, Checksums::Verify, Checksums::Kernel][usize::from(options >> 2) % 3];
    let config = Config { tcp: merge(1), udp: merge(2), checksums };
    let packets = packets(kind, payload, script);
    let mut again: Vec<Vec<u8>> = Vec::new();
    let mut assembler = Assembler::new(config);
    let mut sink = |frame: &mut [u8]| {
        let header = VnetHeader::parse(frame).expect("an encoded header");
        let packet = &frame[vnet::LEN..];
        if header == VnetHeader::default() {
            again.push(packet.to_vec());
        } else {
            again.extend(segments(packet, &header, usize::MAX).expect("a frame can be cut"));
        }
    };
    for packet in &packets {
        let room = assembler.room();
        room[..packet.len()].copy_from_slice(packet);
        room[packet.len()..packet.len() + 16].fill(0xaa); // where a cipher has its tag
        assembler.push(packet.len(), &mut sink);
    }
    assembler.flush(&mut sink);
    assert_eq!(again.len(), packets.len(), "packets");
    for (again, packet) in again.iter().zip(&packets) {
        assert_eq!(comparable(again, checksums), comparable(packet, checksums), "a packet changed");
    }
}

/// Two bytes of MTU and a packet: answers are valid, and what changes a packet keeps its checksums right.
pub fn fuzz_icmp(data: &[u8]) {
    let Some((mtu, packet)) = data.split_first_chunk::<2>() else { return };
    let mtu = usize::from(u16::from_le_bytes(*mtu));
    let mut out = [0; icmp::MAX_REPLY];
    for source in [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let Some(len) = icmp::too_big(packet, mtu, source, &mut out) else { continue };
        let (reply, asked) = (View::parse(&out[..len]).expect("valid"), View::parse(packet).expect("answered"));
        assert_eq!((reply.source, reply.destination, reply.total_len), (source, asked.source, len));
        assert!(verifies(&out[..len], &reply), "checksum of the answer");
        assert_eq!(icmp::too_big(&out[..len], mtu, source, &mut [0; icmp::MAX_REPLY]), None, "an answer to an answer");
    }
    for outer in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
        let mut changed = packet.to_vec();
        let clamped = mss::clamp(&mut changed, &VnetHeader::default(), mtu);
        let marked = ecn::decapsulate(&mut changed, outer) == Decapsulated::Marked;
        assert_eq!(changed.len(), packet.len());
        if !clamped && !marked {
            assert_eq!(changed, packet);
        }
        if let (Ok(before), Ok(after)) = (View::parse(packet), View::parse(&changed)) {
            assert!(!verifies(packet, &before) || verifies(&changed, &after), "a right checksum became wrong");
        }
    }
}

/// A virtio header, a direction, and a packet: translation changes our address and what covers it, there and back it is
/// the identity, and it goes before or after cutting.
pub fn fuzz_translate(data: &[u8]) {
    let Ok(vnet) = VnetHeader::parse(data) else { return };
    let Some((direction, packet)) = data[vnet::LEN..].split_first() else { return };
    let direction = if direction & 1 == 0 { Direction::Outward } else { Direction::Inward };
    let [there, back] = translations(direction);
    let Ok(view) = View::parse(packet) else { return };
    let (mut changed, mut last) = (packet.to_vec(), translate::LastHit::default());
    let translated = translate::translate(&mut changed, &view, &vnet, direction, &there, &mut last);
    let mut expected = view;
    let ours = if direction == Direction::Outward { &mut expected.source } else { &mut expected.destination };
    assert_eq!(translated, there.map(*ours).is_some(), "an address of the table, and no other");
    *ours = there.map(*ours).unwrap_or(*ours);
    assert_eq!(View::parse(&changed), Ok(expected), "nothing but the address");
    if !translated {
        assert_eq!(changed, packet);
        return;
    }
    assert!(vnet.needs_csum || !verifies(packet, &view) || verifies(&changed, &expected), "a checksum became wrong");
    // What was foreign in a quoted packet before would become native by the way back.
    let mut again = changed.clone();
    translate::translate(&mut again, &expected, &vnet, direction, &back, &mut last);
    if translate::quoted_address(packet, &view, direction).is_none_or(|address| back.map(address).is_none()) {
        assert_eq!(one_zero(&again), one_zero(packet), "there and back");
    }
    let place = [usize::from(vnet.csum_start), usize::from(vnet.csum_offset)];
    let usual = Some(place) == translate::checksum_field(&view).map(|field| [view.l4, field]);
    if vnet.gso == Gso::None && vnet.needs_csum && !usual {
        return; // completed below another checksum, which covers it or not
    }
    let (Some(changed), Some(cut)) = (segments(&changed, &vnet, usize::MAX), segments(packet, &vnet, usize::MAX))
    else {
        return;
    };
    let each = cut.into_iter().map(|mut segment| {
        let view = View::parse(&segment).expect("a segment is a packet");
        translate::translate(&mut segment, &view, &VnetHeader::default(), direction, &there, &mut last);
        one_zero(&segment)
    });
    assert!(each.eq(changed.iter().map(|segment| one_zero(segment))), "cut and translated");
}

/// A table, and that of the way back.
fn translations(direction: Direction) -> [translate::Table; 2] {
    let pairs = [("10.42.0.0/16", "100.64.0.0/16"), ("10.43.0.0/16", "100.65.0.0/16"), ("fd00::/64", "fd64:1::/64")];
    let pairs = pairs.map(|(a, b)| [a, b].map(|net| net.parse::<ipnet::IpNet>().expect("a literal prefix")));
    let outward = translate::Table::build(pairs.map(|[native, foreign]| (native, foreign)));
    let inward = translate::Table::build(pairs.map(|[native, foreign]| (foreign, native)));
    if direction == Direction::Outward { [outward, inward] } else { [inward, outward] }
}

/// The packet with one form of zero: of its two, an adjusted checksum has the one that a sum gives.
fn one_zero(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet.as_chunks_mut::<2>().0.iter_mut().filter(|word| **word == [0xff, 0xff]).for_each(|word| word.fill(0));
    packet
}

/// The segments, copied; `None` when the packet cannot be cut.
fn segments(packet: &[u8], vnet: &VnetHeader, limit: usize) -> Option<Vec<Vec<u8>>> {
    let mut packet = packet.to_vec();
    let mut segments = Segments::new(&mut packet, vnet, limit).ok()?;
    let mut out = Vec::with_capacity(segments.remaining());
    while let Some(segment) = segments.next() {
        out.push(segment.to_vec());
    }
    Some(out)
}

/// Offset of the TCP or UDP payload.
fn payload_at(packet: &[u8], view: &View) -> usize {
    match view.protocol {
        protocol::TCP => view.l4 + usize::from(packet[view.l4 + 12] >> 4) * 4,
        _ => view.l4 + 8,
    }
}

/// Whether the IPv4 header's and the upper layer's checksums are right; what is not understood counts as right.
fn verifies(packet: &[u8], view: &View) -> bool {
    let packet = &packet[..view.total_len];
    let (addresses, ip_right) = match view.version {
        Version::V4 => (12..V4_HEADER, Sum::of(&packet[..view.l4]).fold() == 0xffff),
        Version::V6 => (8..V6_HEADER, true),
    };
    let l4 = &packet[view.l4..];
    let pseudo = match view.protocol {
        _ if view.fragment != Fragment::Whole || view.extensions == Extensions::Other => return ip_right,
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => pseudo_header(&packet[addresses], view.protocol, l4.len()),
        protocol::ICMP => Sum::ZERO,
        _ => return ip_right,
    };
    ip_right && pseudo.add_bytes(l4).fold() == 0xffff
}

/// The packet with what merging may change set to zero: the identification where DF makes it meaningless, and the
/// upper layer's checksum unless it was verified.
fn comparable(packet: &[u8], checksums: Checksums) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let Ok(view) = View::parse(&packet) else { return packet };
    if view.version == Version::V4 && packet[6] & 0x40 != 0 && Sum::of(&packet[..view.l4]).fold() == 0xffff {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    let field = match view.protocol {
        protocol::TCP => view.l4 + 16,
        protocol::UDP => view.l4 + 6,
        _ => return packet,
    };
    if let Some(field) = packet.get_mut(field..field + 2) {
        // TCP knows both forms of zero, and a new checksum has the one that a sum gives.
        let other_zero = view.protocol == protocol::TCP && field == [0xff, 0xff];
        if checksums != Checksums::Verify || other_zero {
            field.fill(0);
        }
    }
    packet
}

/// Packets of one flow, each as four bytes of `script` say: payload length, what to alter where, and how.
fn packets(kind: u8, payload: u8, script: &[u8]) -> Vec<Vec<u8>> {
    let (v6, udp) = (kind & 1 != 0, kind & 2 != 0);
    let l4 = if v6 { V6_HEADER } else { V4_HEADER };
    let header_len = l4 + if udp { 8 } else { 20 + usize::from(kind >> 2) % 11 * 4 };
    let mut next = vec![0; header_len];
    if v6 {
        (next[0], next[6], next[7]) = (0x60, if udp { protocol::UDP } else { protocol::TCP }, 64);
    } else {
        (next[0], next[8], next[9]) = (0x45, 64, if udp { protocol::UDP } else { protocol::TCP });
        next[6] = kind & 0x40;
    }
    if !udp {
        next[l4 + 12] = ((header_len - l4) / 4 * 16) as u8;
        next[l4 + 13] = 0x10;
    }
    let mut packets = Vec::new();
    for step in script.as_chunks::<4>().0.iter().take(256) {
        let &[length, at, xor, how] = step;
        let length = if how & 1 == 0 { usize::from(payload) } else { usize::from(length) };
        let mut packet = next.clone();
        packet.extend((0..length).map(|i| (i + packets.len()) as u8));
        let at = usize::from(at) % packet.len();
        if how & 2 != 0 {
            packet[at] ^= xor;
        }
        complete(&mut packet, v6, udp);
        if how & 4 != 0 {
            packet[at] ^= xor; // and now with wrong checksums
        }
        packets.push(packet);
        let count = |bytes: &mut [u8], by: usize| {
            let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)) + by as u64;
            let size = bytes.len();
            bytes.copy_from_slice(&value.to_be_bytes()[8 - size..]);
        };
        if !v6 {
            count(&mut next[4..6], 1);
        }
        if !udp {
            count(&mut next[l4 + 4..l4 + 8], length);
        }
    }
    packets
}

/// Sets lengths and checksums.
fn complete(packet: &mut [u8], v6: bool, udp: bool) {
    let (len, l4) = (packet.len(), if v6 { V6_HEADER } else { V4_HEADER });
    let (protocol, field) = if udp { (protocol::UDP, l4 + 6) } else { (protocol::TCP, l4 + 16) };
    if udp {
        packet[l4 + 4..l4 + 6].copy_from_slice(&((len - l4) as u16).to_be_bytes());
    }
    packet[field..field + 2].fill(0);
    let addresses = if v6 { 8..V6_HEADER } else { 12..V4_HEADER };
    let sum = pseudo_header(&packet[addresses], protocol, len - l4).add_bytes(&packet[l4..]).udp_checksum();
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    if v6 {
        packet[4..6].copy_from_slice(&((len - V6_HEADER) as u16).to_be_bytes());
    } else {
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum = Sum::of(&packet[..V4_HEADER]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::samples::Sample;

    fn sample() -> impl Strategy<Value = Sample> {
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<u8>(), 0usize..400).prop_map(
            |(v6, udp, dont_fragment, tos, len)| Sample {
                v6,
                udp,
                dont_fragment,
                tos,
                payload: vec![0x61; len],
                ..Sample::default()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_bytes_are_cut_right_or_refused(data in vec(any::<u8>(), 0..200)) {
            fuzz_split(&data);
        }

        #[test]
        fn damaged_super_packets_are_cut_right_or_refused(
            sample in sample(), gso_size in 1u16..300, limit: u16, damage in vec((0usize..80, any::<u8>()), 0..3),
        ) {
            let (packet, vnet) = sample.super_packet(gso_size);
            let mut data = vnet.encode().to_vec();
            data.extend_from_slice(&limit.to_le_bytes());
            data.extend_from_slice(&packet);
            for (at, value) in damage {
                let at = at % data.len();
                data[at] = value;
            }
            fuzz_split(&data);
        }

        #[test]
        fn flows_with_odd_packets_come_out_as_they_were(
            head: [u8; 3],
            script in vec((any::<u8>(), 0u8..70, prop_oneof![Just(0u8), Just(8), any::<u8>()], 0u8..16), 0..80),
        ) {
            let mut data = head.to_vec();
            for (length, at, xor, how) in script {
                // Three of four packets continue the flow unchanged.
                data.extend_from_slice(&[length, at, xor, if how < 12 { 0 } else { how - 11 }]);
            }
            fuzz_coalesce(&data);
        }

        #[test]
        fn any_bytes_are_answered_right_or_not_at_all(data in vec(any::<u8>(), 0..200)) {
            fuzz_icmp(&data);
        }

        #[test]
        fn damaged_packets_are_translated_right(
            sample in sample(), quoted in prop_oneof![Just(None), (0u8..16).prop_map(Some)], gso_size in 1u16..300, whole: bool,
            inward: bool, damage in vec((0usize..100, any::<u8>()), 0..3),
        ) {
            let (mut packet, mut vnet) = sample.super_packet(gso_size);
            if let Some(kind) = quoted {
                // An ICMP error to the sender of a packet.
                let mut out = [0; icmp::MAX_REPLY];
                let (to, v6) = (View::parse(&packet).expect("valid").destination, sample.v6);
                let len = icmp::too_big(&packet, 1400, to, &mut out).unwrap_or(0);
                packet = out[..len].to_vec();
                if let Some(at) = packet.get_mut(if v6 { 40 } else { 20 }).filter(|_| kind > 0) {
                    *at = kind;
                }
                vnet = VnetHeader::default();
            } else if whole {
                vnet.gso = Gso::None;
            }
            let mut data = [&vnet.encode()[..], &[u8::from(inward)], &packet].concat();
            for (at, value) in damage {
                let at = at % data.len();
                data[at] = value;
            }
            fuzz_translate(&data);
        }

        #[test]
        fn damaged_packets_are_answered_right_or_not_at_all(
            sample in sample(), syn: bool, mtu: u16, damage in vec((0usize..70, any::<u8>()), 0..3),
        ) {
            let mut data = mtu.to_le_bytes().to_vec();
            let sample = Sample { flags: if syn { 0x02 } else { 0x10 }, timestamps: syn.then_some((1, 2)), ..sample };
            data.extend_from_slice(&sample.bytes());
            for (at, value) in damage {
                let at = at % data.len();
                data[at] = value;
            }
            fuzz_icmp(&data);
        }
    }
}
