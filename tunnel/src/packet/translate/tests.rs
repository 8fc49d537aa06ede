//! What is translated must equal, byte for byte, what `etherparse` builds with the other address in the first place.

use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, PacketBuilder, icmpv4, icmpv6};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::packet::properties::split;
use crate::packet::samples::Sample;
use crate::packet::vnet::Gso;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// 10.42/16 and 10.43/16 become 100.64/16 and 100.65/16; fd42::/64 becomes fd64:1::/64.
fn outward() -> Table {
    let pairs = [("10.42.0.0/16", "100.64.0.0/16"), ("10.43.0.0/16", "100.65.0.0/16"), ("fd42::/64", "fd64:1::/64")];
    Table::build(pairs.map(|(native, foreign)| (net(native), net(foreign))))
}

fn inward() -> Table {
    let pairs = [("100.64.0.0/16", "10.42.0.0/16"), ("100.65.0.0/16", "10.43.0.0/16"), ("fd64:1::/64", "fd42::/64")];
    Table::build(pairs.map(|(foreign, native)| (net(foreign), net(native))))
}

/// What an upper layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upper {
    Tcp,
    Udp,
    UdpWithoutChecksum,
    Echo,
    Sctp,
    Gre,
}

/// What an ICMP error quotes, and how many bytes of it.
#[derive(Debug, Clone, Copy)]
enum Message {
    Plain(Upper),
    /// An error of one of four kinds, which quotes this and so many bytes of it.
    Error(Upper, u8, usize),
}

/// What stands between IP header and upper layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// IPv4: a no-operation option; IPv6: hop-by-hop options.
    Options,
    FirstFragment,
    LaterFragment,
}

/// A packet from `from` to `to`; when it is an error, it quotes one from `to` to `from`.
fn build(from: IpAddr, to: IpAddr, message: Message, before: Before, payload: &[u8]) -> Vec<u8> {
    let (next, upper) = match message {
        Message::Plain(upper) => (number(upper, from.is_ipv6()), upper_layer(from, to, upper, payload)),
        Message::Error(quoted, kind, cut) => {
            let mut quote = build(to, from, Message::Plain(quoted), Before::Nothing, payload);
            let header = if from.is_ipv6() { 40 } else { 20 };
            // Nobody cuts a word in two.
            quote.truncate((cut & !1).max(header));
            (if from.is_ipv6() { 58 } else { 1 }, error(from, to, kind, &quote))
        }
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(0, 64, IpNumber(next), from.octets(), to.octets()).expect("fits");
            if before == Before::Options {
                header.options = [1, 1, 1, 0].into();
            }
            header.more_fragments = before == Before::FirstFragment;
            header.fragment_offset =
                etherparse::IpFragOffset::try_new(u16::from(before == Before::LaterFragment) * 185).expect("fits");
            header.set_payload_len(upper.len()).expect("fits");
            header.header_checksum = header.calc_header_checksum();
            [header.to_bytes().as_slice(), &upper].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (kind, extension): (u8, &[u8]) = match before {
                Before::Nothing => (next, &[]),
                Before::Options => (0, &[next, 0, 1, 4, 0, 0, 0, 0]),
                Before::FirstFragment => (44, &[next, 0, 0, 1, 0, 0, 0, 7]),
                Before::LaterFragment => (44, &[next, 0, 0x05, 0xc8, 0, 0, 0, 7]),
            };
            let mut out = [0x60, 0, 0, 0, 0, 0, kind, 64];
            out[4..6].copy_from_slice(&((extension.len() + upper.len()) as u16).to_be_bytes());
            [&out[..], &from.octets(), &to.octets(), extension, &upper].concat()
        }
        _ => panic!("one family"),
    }
}

fn number(upper: Upper, v6: bool) -> u8 {
    match upper {
        Upper::Tcp => 6,
        Upper::Udp | Upper::UdpWithoutChecksum => 17,
        Upper::Echo if v6 => 58,
        Upper::Echo => 1,
        Upper::Sctp => 132,
        Upper::Gre => 47,
    }
}

/// The bytes behind the IP header that `etherparse` writes.
fn behind_ip(
    from: IpAddr,
    to: IpAddr,
    write: impl FnOnce(etherparse::PacketBuilderStep<IpOf>, &mut Vec<u8>),
) -> Vec<u8> {
    let builder = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("one family"),
    };
    let mut out = Vec::new();
    write(builder, &mut out);
    out.split_off(if from.is_ipv6() { 40 } else { 20 })
}

type IpOf = etherparse::IpHeaders;

fn upper_layer(from: IpAddr, to: IpAddr, upper: Upper, payload: &[u8]) -> Vec<u8> {
    let mut bytes = behind_ip(from, to, |builder, out| {
        match upper {
            Upper::Tcp => builder.tcp(443, 5201, 7, 512).ack(9).write(out, payload),
            Upper::Udp | Upper::UdpWithoutChecksum => builder.udp(4000, 53).write(out, payload),
            Upper::Echo if from.is_ipv6() => builder.icmpv6_echo_request(3, 4).write(out, payload),
            Upper::Echo => builder.icmpv4_echo_request(3, 4).write(out, payload),
            Upper::Sctp => return builder.write(out, IpNumber::SCTP, payload).expect("fits"),
            Upper::Gre => return builder.write(out, IpNumber::GRE, payload).expect("fits"),
        }
        .expect("fits");
    });
    if upper == Upper::UdpWithoutChecksum {
        bytes[6..8].fill(0);
    }
    bytes
}

fn error(from: IpAddr, to: IpAddr, kind: u8, quote: &[u8]) -> Vec<u8> {
    behind_ip(from, to, |builder, out| {
        if from.is_ipv6() {
            let kind = match kind % 4 {
                0 => Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port),
                1 => Icmpv6Type::PacketTooBig { mtu: 1300 },
                2 => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
                _ => Icmpv6Type::Unknown { type_u8: 4, code_u8: 0, bytes5to8: [0, 0, 0, 6] },
            };
            builder.icmpv6(kind).write(out, quote).expect("fits");
        } else {
            let kind = match kind % 4 {
                0 => Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port),
                1 => {
                    let header = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1300 };
                    Icmpv4Type::DestinationUnreachable(header)
                }
                2 => Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
                _ => Icmpv4Type::Unknown { type_u8: 12, code_u8: 0, bytes5to8: [20, 0, 0, 0] },
            };
            builder.icmpv4(kind).write(out, quote).expect("fits");
        }
    })
}

fn translated(packet: &[u8], direction: Direction, table: &Table) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet).expect("valid");
    assert!(translate(&mut packet, &view, &VnetHeader::default(), direction, table, &mut LastHit::default()));
    packet
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn an_address_keeps_its_host_bits_and_maps_back() {
    let (outward, inward) = (outward(), inward());
    for (native, foreign) in [
        ("10.42.0.0", "100.64.0.0"),
        ("10.42.255.255", "100.64.255.255"),
        ("10.43.1.2", "100.65.1.2"),
        ("fd42::1:2:3:4", "fd64:1::1:2:3:4"),
    ] {
        assert_eq!(outward.map(address(native)), Some(address(foreign)));
        assert_eq!(inward.map(address(foreign)), Some(address(native)));
    }
    for other in ["10.41.255.255", "10.44.0.0", "0.0.0.0", "255.255.255.255", "fd42:0:0:1::", "fd41::1", "::"] {
        assert_eq!(outward.map(address(other)), None, "{other}");
    }
    assert!(!outward.is_empty() && outward.has(Version::V6) && Table::default().is_empty());
    let odd = Table::build([(net("10.0.0.0/8"), net("100.64.0.0/16")), (net("10.0.0.0/8"), net("fd00::/8"))]);
    assert!(odd.is_empty(), "lengths and families must be equal");
}

#[test]
fn a_table_of_a_thousand_prefixes_finds_each_and_none_between() {
    let pair = |i: u32| {
        let prefix = |base: u32| IpNet::new(Ipv4Addr::from_bits(base + (i << 9)).into(), 24).expect("a prefix");
        (prefix(0x0a00_0000), prefix(0x6440_0000))
    };
    // In an order that is not theirs.
    let table = Table::build((0..1000).map(|i| pair(i * 7 % 1000)));
    for i in 0..1000 {
        let (native, foreign) = pair(i);
        let host = |net: IpNet, host: u32| match net.addr() {
            IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() + host)),
            v6 => v6,
        };
        assert_eq!(table.map(host(native, 77)), Some(host(foreign, 77)));
        assert_eq!(table.map(host(native, 256)), None, "the gap behind {native}");
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_and_none_becomes_zero() {
    let [from, to, foreign] = ["10.42.0.5", "10.52.0.7", "100.64.0.5"].map(address);
    let plain = |from, upper, payload: &[u8]| build(from, to, Message::Plain(upper), Before::Nothing, payload);
    let packet = plain(from, Upper::UdpWithoutChecksum, b"abc");
    assert_eq!(translated(&packet, Direction::Outward, &outward())[26..28], [0, 0]);
    // A payload of two bytes takes any sum to any other: this one makes the new checksum 0, which is sent as ffff.
    let sum = u16::from_be_bytes(plain(foreign, Upper::Udp, &[0, 0])[26..28].try_into().expect("two"));
    let packet = plain(from, Upper::Udp, &sum.to_be_bytes());
    assert_eq!(translated(&packet, Direction::Outward, &outward())[26..28], [0xff, 0xff]);
    // And back from there.
    let back = translated(&translated(&packet, Direction::Outward, &outward()), Direction::Outward, &inward());
    assert_eq!(back, packet);
}

#[test]
fn a_partial_checksum_stays_partial() {
    for (udp, field) in [(false, 36), (true, 26)] {
        let (mut packet, vnet) = Sample { udp, ..Sample::default() }.super_packet(1000);
        let vnet = VnetHeader { gso: Gso::None, ..vnet };
        // The pseudo header's sum by hand: 0a2a + 0005 + 0a34 + 0007 = 146a, with protocol and length.
        let (protocol, length) = if udp { (17, 16) } else { (6, 28) };
        packet[field..field + 2].copy_from_slice(&(0x146a_u16 + protocol + length).to_be_bytes());
        let view = View::parse(&packet).expect("valid");
        assert!(translate(&mut packet, &view, &vnet, Direction::Outward, &outward(), &mut LastHit::default()));
        // 6440 + 0005 + 0a34 + 0007 = 6e80.
        assert_eq!(packet[field..field + 2], (0x6e80_u16 + protocol + length).to_be_bytes());
    }
}

#[test]
fn what_follows_a_quoted_packet_is_not_taken_for_it() {
    // Time exceeded with extensions (RFC 4884): 128 bytes of the packet, all of them headers, then an object. Were it
    // taken for the rest of the packet, its bytes 16 and 17 would be the checksum of TCP.
    let [from, foreign, to] = ["fd42::5", "fd64:1::5", "fd77::7"].map(address);
    let object = [0x20, 0, 0, 0, 0, 16, 1, 1, 0, 0, 0x11, 1, 0, 0, 0x22, 2, 0xab, 0xcd, 0x33, 3];
    let message = |from: IpAddr| {
        let mut quote = build(to, from, Message::Plain(Upper::Tcp), Before::Nothing, &[0x61; 300]);
        // Destination options of 88 bytes: 8 * (10 + 1).
        quote[6] = 60;
        quote.truncate(40);
        quote.extend_from_slice(&[6, 10]);
        quote.resize(128, 0);
        quote.extend_from_slice(&object);
        let kind = Icmpv6Type::Unknown { type_u8: 3, code_u8: 0, bytes5to8: [16, 0, 0, 0] };
        let mut packet = build(from, to, Message::Plain(Upper::Echo), Before::Nothing, &quote);
        packet.truncate(40);
        packet.extend(behind_ip(from, to, |builder, out| builder.icmpv6(kind).write(out, &quote).expect("fits")));
        packet
    };
    assert_eq!(translated(&message(from), Direction::Outward, &outward()), message(foreign));
}

#[test]
fn other_addresses_leave_the_packet_alone() {
    let (packet, vnet) = Sample::default().super_packet(1000);
    let view = View::parse(&packet).expect("valid");
    let mut last = LastHit::default();
    for (direction, table) in
        [(Direction::Inward, inward()), (Direction::Inward, outward()), (Direction::Outward, inward())]
    {
        let mut changed = packet.clone();
        assert!(!translate(&mut changed, &view, &vnet, direction, &table, &mut last));
        assert_eq!(changed, packet);
    }
}

fn upper() -> impl Strategy<Value = Upper> {
    use Upper::*;
    prop::sample::select(vec![Tcp, Udp, UdpWithoutChecksum, Echo, Sctp, Gre])
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        upper().prop_map(Message::Plain),
        (upper(), any::<u8>(), prop_oneof![Just(usize::MAX), 0usize..100])
            .prop_map(|(upper, kind, cut)| Message::Error(upper, kind, cut)),
    ]
}

fn before() -> impl Strategy<Value = Before> {
    use Before::*;
    prop::sample::select(vec![Nothing, Nothing, Options, FirstFragment, LaterFragment])
}

/// Our address, natively and as others know it, and another cluster's.
fn addresses() -> impl Strategy<Value = [IpAddr; 3]> {
    prop_oneof![
        (any::<u16>(), any::<bool>(), any::<u32>()).prop_map(|(host, services, other)| {
            let at = |net: [u8; 2]| IpAddr::from([net[0], net[1] + u8::from(services), (host >> 8) as u8, host as u8]);
            // Another cluster's address is in neither block of ours.
            [at([10, 42]), at([100, 64]), IpAddr::from(Ipv4Addr::from_bits(other >> 4 | 0xb000_0000))]
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(host, other)| {
            let at = |net: u128| IpAddr::from(Ipv6Addr::from_bits(net << 96 | u128::from(host)));
            [at(0xfd42_0000), at(0xfd64_0001), IpAddr::from(Ipv6Addr::from_bits(0xfd77 << 112 | u128::from(other)))]
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_translated_is_what_the_other_address_would_have_sent(
        [native, foreign, other] in addresses(), message in message(), before in before(), payload in vec(any::<u8>(), 0..80),
    ) {
        // A later fragment holds any bytes; these must not be taken for a header.
        let outgoing = build(native, other, message, before, &payload);
        let mut expected = build(foreign, other, message, before, &payload);
        if before == Before::LaterFragment {
            let header = expected.len() - (outgoing.len() - View::parse(&outgoing).expect("valid").l4);
            let start = View::parse(&outgoing).expect("valid").l4;
            expected[header..].copy_from_slice(&outgoing[start..]);
        }
        prop_assert_eq!(&translated(&outgoing, Direction::Outward, &outward()), &expected);
        prop_assert_eq!(translated(&expected, Direction::Outward, &inward()), outgoing);

        let mut incoming = build(other, foreign, message, before, &payload);
        let expected = build(other, native, message, before, &payload);
        if before == Before::LaterFragment {
            let start = View::parse(&incoming).expect("valid").l4;
            incoming[start..].copy_from_slice(&expected[start..]);
        }
        prop_assert_eq!(&translated(&incoming, Direction::Inward, &inward()), &expected);
        prop_assert_eq!(translated(&expected, Direction::Inward, &outward()), incoming);
    }

    #[test]
    fn to_translate_and_to_cut_go_in_any_order(
        v6: bool, udp: bool, gso_size in 1u16..300, payload in vec(any::<u8>(), 1..2000), timestamps: Option<(u32, u32)>,
    ) {
        let timestamps = timestamps.filter(|_| !udp);
        let (packet, vnet) = Sample { v6, udp, payload, timestamps, ..Sample::default() }.super_packet(gso_size);
        // The samples' IPv6 addresses are fd00::1 and fd00::2.
        let table = Table::build([(net("10.42.0.0/16"), net("100.64.0.0/16")), (net("fd00::/64"), net("fd64:1::/64"))]);
        let (mut first, mut last) = (packet.clone(), LastHit::default());
        let view = View::parse(&packet).expect("valid");
        prop_assert!(translate(&mut first, &view, &vnet, Direction::Outward, &table, &mut last));
        let then_cut = split(&first, &vnet, usize::MAX);
        let cut = split(&packet, &vnet, usize::MAX);
        let cut_first: Vec<_> = cut.iter().map(|segment| translated(segment, Direction::Outward, &table)).collect();
        prop_assert_eq!(then_cut, cut_first);
    }
}
