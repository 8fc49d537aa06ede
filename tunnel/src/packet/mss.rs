//! Clamps the maximum segment size that TCP announces, so that no segment has to be cut or refused later.

use super::checksum::{Sum, update};
use super::ip::{Fragment, V4_HEADER, V6_HEADER, Version, View, protocol};
use super::vnet::VnetHeader;

const TCP_HEADER: usize = 20;
const TCP_SYN: u8 = 0x02;
const TCP_CHECKSUM: usize = 16;
/// Kinds of options (RFC 9293, section 3.2).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LEN: u8 = 4;

/// Lowers the MSS option of a TCP SYN (or SYN-ACK) in `packet` to what fits `mtu` bytes of IP packet: less 40 for IPv4
/// and 60 for IPv6 (RFC 6691, section 2). Anything else stays as it is, a SYN without the option too: its default is
/// smaller than any MTU here. Tells whether it changed anything.
///
/// `vnet` is the virtio header that the packet came with, the default for a decrypted packet: a partial checksum does
/// not cover the option and must stay.
#[inline]
pub fn clamp(packet: &mut [u8], vnet: &VnetHeader, mtu: usize) -> bool {
    may_be_syn(packet) && clamp_syn(packet, vnet, mtu).is_some()
}

/// A few comparisons that let nearly all packets pass.
#[inline]
fn may_be_syn(packet: &[u8]) -> bool {
    let Some(&[first, .., v6_next, _, _, v4_protocol]) = packet.first_chunk::<10>() else { return false };
    let l4 = match first >> 4 {
        4 if v4_protocol == protocol::TCP => usize::from(first & 0x0f) * 4,
        6 if v6_next == protocol::TCP => V6_HEADER,
        6 => return v6_next != protocol::UDP && v6_next != protocol::ICMPV6, // perhaps behind extensions
        _ => return false,
    };
    packet.get(l4 + 13).is_some_and(|flags| flags & TCP_SYN != 0)
}

#[cold]
fn clamp_syn(packet: &mut [u8], vnet: &VnetHeader, mtu: usize) -> Option<()> {
    let view = View::parse(packet).ok()?;
    if view.protocol != protocol::TCP || view.fragment != Fragment::Whole {
        return None;
    }
    let headers = TCP_HEADER + if view.version == Version::V4 { V4_HEADER } else { V6_HEADER };
    let limit = mtu.checked_sub(headers).filter(|limit| *limit > 0)?.min(usize::from(u16::MAX)) as u16;
    let tcp = packet.get_mut(view.l4..view.total_len)?;
    if tcp.len() < TCP_HEADER || tcp[13] & TCP_SYN == 0 {
        return None;
    }
    let header_len = usize::from(tcp[12] >> 4) * 4;
    let header = tcp.get_mut(..header_len)?;
    let at = find_mss(header)?;
    if u16::from_be_bytes([header[at], header[at + 1]]) <= limit {
        return None;
    }
    // The option may stand at an odd offset; sums are over whole words of the header, which has an even length.
    let words = at & !1..(at + 3) & !1;
    let old = Sum::of(&header[words.clone()]);
    header[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    if !vnet.needs_csum {
        let new = Sum::of(&header[words]);
        let checksum = u16::from_be_bytes([header[TCP_CHECKSUM], header[TCP_CHECKSUM + 1]]);
        let checksum = update(checksum, old, new);
        header[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    Some(())
}

/// Offset of the option's value in a TCP header, if it is there whole.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    loop {
        match header.get(at..)? {
            [OPTION_END, ..] | [] => return None,
            [OPTION_NOP, ..] => at += 1,
            [OPTION_MSS, OPTION_MSS_LEN, _, _, ..] => return Some(at + 2),
            [_, len, ..] if *len >= 2 => at += usize::from(*len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::packet::samples::judge;

    fn syn(v6: bool, flags: &str, options: &[u8]) -> Vec<u8> {
        let builder = if v6 {
            PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            PacketBuilder::ipv4([10, 42, 0, 5], [10, 52, 0, 7], 64)
        };
        let mut tcp = builder.tcp(1025, 443, 7, 64240).options_raw(options).expect("fits");
        if flags.contains('S') {
            tcp = tcp.syn();
        }
        if flags.contains('A') {
            tcp = tcp.ack(1);
        }
        let mut out = Vec::new();
        tcp.write(&mut out, &[]).expect("fits");
        out
    }

    /// MSS 1460 (05b4), SACK permitted, timestamps, NOP, window scale 7: what Linux sends.
    const LINUX: [u8; 20] = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn lowers_the_option_to_the_mtu_less_both_headers() {
        for (v6, at, expected) in [(false, 42, [0x05, 0x64]), (true, 62, [0x05, 0x50])] {
            for flags in ["S", "SA"] {
                let mut packet = syn(v6, flags, &LINUX);
                assert!(clamp(&mut packet, &VnetHeader::default(), 1420));
                assert_eq!(packet[at..at + 2], expected, "1420 - 40 = 1380, 1420 - 60 = 1360");
                judge(&packet);
                assert!(!clamp(&mut packet, &VnetHeader::default(), 1420), "a second time changes nothing");
            }
        }
    }

    #[test]
    fn finds_the_option_at_an_odd_offset() {
        let mut packet = syn(false, "S", &[1, 2, 4, 0x05, 0xb4, 1, 1, 0]);
        assert!(clamp(&mut packet, &VnetHeader::default(), 1000));
        assert_eq!(packet[43..45], [0x03, 0xc0], "960");
        judge(&packet);
    }

    #[test]
    fn leaves_a_partial_checksum_alone() {
        let mut packet = syn(false, "S", &LINUX);
        let vnet = VnetHeader { needs_csum: true, csum_start: 20, csum_offset: 16, ..VnetHeader::default() };
        packet[36..38].copy_from_slice(&[0x12, 0x34]);
        assert!(clamp(&mut packet, &vnet, 1420));
        assert_eq!(packet[36..38], [0x12, 0x34]);
        assert_eq!(packet[42..44], [0x05, 0x64]);
    }

    #[test]
    fn changes_nothing_else() {
        let small = [2, 4, 0x02, 0x18]; // 536
        let cut_off = [1, 1, 2, 4]; // the value would stand behind the header
        let endless = [3, 0, 2, 4, 0xff, 0xff, 0, 0]; // an option of length 0
        let ended = [0, 0, 0, 0, 2, 4, 0xff, 0xff]; // after the end of options
        for (flags, options) in
            [("A", &LINUX[..]), ("S", &small), ("S", &cut_off), ("S", &endless), ("S", &ended), ("S", &[])]
        {
            for v6 in [false, true] {
                let mut packet = syn(v6, flags, options);
                let before = packet.clone();
                assert!(!clamp(&mut packet, &VnetHeader::default(), 1420), "{flags} {options:?}");
                assert_eq!(packet, before);
            }
        }
        let mut packet = syn(false, "S", &LINUX);
        packet[6] = 0x20; // more fragments
        assert!(!clamp(&mut packet, &VnetHeader::default(), 1420));
    }
}
