//! Packets for tests, built and judged by `etherparse` rather than by the code under test.

use std::net::IpAddr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};

use super::vnet::{Gso, VnetHeader};

/// One packet or super-packet, described.
#[derive(Debug, Clone)]
pub struct Sample {
    pub v6: bool,
    pub udp: bool,
    pub tos: u8,
    pub ttl: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub source_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// The flags' byte: CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit.
    pub flags: u8,
    pub timestamps: Option<(u32, u32)>,
    pub payload: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            v6: false,
            udp: false,
            tos: 0,
            ttl: 64,
            id: 0x1234,
            dont_fragment: true,
            source_port: 443,
            seq: 1_000,
            ack: 2_000,
            window: 512,
            flags: 0x10,
            timestamps: None,
            payload: b"payload!".to_vec(),
        }
    }
}

impl Sample {
    /// The packet, complete with checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let ip = if self.v6 {
            let mut header = etherparse::Ipv6Header {
                traffic_class: self.tos,
                flow_label: etherparse::Ipv6FlowLabel::try_new(0xabcde).expect("20 bits"),
                hop_limit: self.ttl,
                ..Default::default()
            };
            header.source = "fd00::1".parse::<std::net::Ipv6Addr>().expect("valid").octets();
            header.destination = "fd00::2".parse::<std::net::Ipv6Addr>().expect("valid").octets();
            etherparse::IpHeaders::Ipv6(header, Default::default())
        } else {
            let mut header =
                etherparse::Ipv4Header::new(0, self.ttl, etherparse::IpNumber::TCP, [10, 42, 0, 5], [10, 52, 0, 7])
                    .expect("fits");
            header.dscp = etherparse::IpDscp::try_new(self.tos >> 2).expect("6 bits");
            header.ecn = etherparse::IpEcn::try_new(self.tos & 3).expect("2 bits");
            header.identification = self.id;
            header.dont_fragment = self.dont_fragment;
            etherparse::IpHeaders::Ipv4(header, Default::default())
        };
        let builder = PacketBuilder::ip(ip);
        if self.udp {
            builder.udp(self.source_port, 53).write(&mut out, &self.payload).expect("fits");
        } else {
            builder.tcp_header(self.tcp()).write(&mut out, &self.payload).expect("fits");
        }
        out
    }

    fn tcp(&self) -> TcpHeader {
        let mut tcp = TcpHeader::new(self.source_port, 5201, self.seq, self.window);
        tcp.acknowledgment_number = self.ack;
        let flag = |bit: u8| self.flags & bit != 0;
        tcp.fin = flag(0x01);
        tcp.syn = flag(0x02);
        tcp.rst = flag(0x04);
        tcp.psh = flag(0x08);
        tcp.ack = flag(0x10);
        tcp.urg = flag(0x20);
        tcp.ece = flag(0x40);
        tcp.cwr = flag(0x80);
        if let Some((value, echo)) = self.timestamps {
            use TcpOptionElement::{Noop, Timestamp};
            tcp.set_options(&[Noop, Noop, Timestamp(value, echo)]).expect("fits");
        }
        tcp
    }

    /// The packet as the kernel hands a super-packet over: partial checksum, one length for all.
    pub fn super_packet(&self, gso_size: u16) -> (Vec<u8>, VnetHeader) {
        let mut bytes = self.bytes();
        let l4 = if self.v6 { 40 } else { 20 };
        let (l4_header, offset) = match (self.udp, self.timestamps) {
            (true, _) => (8, 6),
            (false, None) => (20, 16),
            (false, Some(_)) => (32, 16),
        };
        // The field's content is not read for super-packets; the kernel has the pseudo header's sum there.
        bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&[0xde, 0xad]);
        let gso = match (self.udp, self.v6) {
            (true, _) => Gso::Udp,
            (_, false) => Gso::TcpV4,
            (_, true) => Gso::TcpV6,
        };
        let vnet = VnetHeader {
            needs_csum: true,
            gso,
            ecn: false,
            hdr_len: (l4 + l4_header) as u16,
            gso_size,
            csum_start: l4 as u16,
            csum_offset: offset as u16,
        };
        (bytes, vnet)
    }
}

/// Bytes from hexadecimal digits; spaces and line ends are for the reader.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// What `etherparse` reads from a packet whose lengths and checksums it has found right.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub source: IpAddr,
    pub id: Option<u16>,
    pub seq: Option<u32>,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// Judges a packet; panics when a length or checksum is wrong.
pub fn judge(packet: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ip(packet).expect("an IP packet with right lengths");
    let transport = sliced.transport.expect("TCP or UDP");
    let (source, id, checksum): (IpAddr, _, _) = match sliced.net.expect("IP") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.total_len), packet.len(), "IPv4 total length");
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
            let (from, to) = (header.source, header.destination);
            let checksum = match &transport {
                TransportSlice::Tcp(tcp) => tcp.to_header().calc_checksum_ipv4_raw(from, to, tcp.payload()),
                TransportSlice::Udp(udp) => udp.to_header().calc_checksum_ipv4_raw(from, to, udp.payload()),
                other => panic!("{other:?} instead of TCP or UDP"),
            };
            (from.into(), Some(header.identification), checksum)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, packet.len(), "IPv6 payload length");
            let (from, to) = (header.source, header.destination);
            let checksum = match &transport {
                TransportSlice::Tcp(tcp) => tcp.to_header().calc_checksum_ipv6_raw(from, to, tcp.payload()),
                TransportSlice::Udp(udp) => udp.to_header().calc_checksum_ipv6_raw(from, to, udp.payload()),
                other => panic!("{other:?} instead of TCP or UDP"),
            };
            (from.into(), None, checksum)
        }
        NetSlice::Arp(_) => panic!("ARP instead of IP"),
    };
    let checksum = checksum.expect("fits");
    match transport {
        TransportSlice::Tcp(tcp) => {
            assert_eq!(tcp.checksum(), checksum, "TCP checksum");
            let flags = tcp.slice()[13];
            Seen { source, id, seq: Some(tcp.sequence_number()), flags, payload: tcp.payload().to_vec() }
        }
        TransportSlice::Udp(udp) => {
            assert_eq!(udp.checksum(), checksum, "UDP checksum");
            assert_eq!(usize::from(udp.length()), udp.slice().len(), "UDP length");
            Seen { source, id, seq: None, flags: 0, payload: udp.payload().to_vec() }
        }
        other => panic!("{other:?} instead of TCP or UDP"),
    }
}
