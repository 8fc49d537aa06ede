//! The probe packet: an IPv6 packet that exists inside tunnels only, between two Linkspan gateways.
//!
//! Link-local addresses and the experimental protocol number 253 (RFC 3692, RFC 4727) keep it apart from any packet that
//! an allowed-IPs entry could cover. It is looked at after authentication and never reaches the TUN link.

/// Smallest probe: IPv6 header and body.
pub const LENGTH: usize = HEADER + BODY;
const HEADER: usize = 40;
const BODY: usize = 24;
const PROTOCOL: u8 = 253;
/// `fe80::6c69:6e6b`, source and destination alike.
const ADDRESS: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x6c, 0x69, 0x6e, 0x6b];
const MAGIC: [u8; 4] = *b"LSP1";

/// Which way a probe goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request,
    /// Is one.
    Answer,
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Which way it goes.
    pub kind: Kind,
    /// Number of the request.
    pub sequence: u32,
    /// Data packets that the sender of this message has sent on this lane (request) or received (answer).
    pub packets: u64,
}

/// Writes a message as a packet of `size` bytes, padded with zeroes, and returns it. `size` is raised to [`LENGTH`] and
/// cut to the buffer.
pub fn write(buffer: &mut [u8], message: Message, size: usize) -> &[u8] {
    let size = size.max(LENGTH).min(buffer.len());
    let packet = &mut buffer[..size];
    packet.fill(0);
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&((size - HEADER) as u16).to_be_bytes());
    packet[6] = PROTOCOL;
    packet[7] = 1; // hop limit: never to be forwarded
    packet[8..24].copy_from_slice(&ADDRESS);
    packet[24..40].copy_from_slice(&ADDRESS);
    let body = &mut packet[HEADER..LENGTH];
    body[..4].copy_from_slice(&MAGIC);
    body[4] = match message.kind {
        Kind::Request => 1,
        Kind::Answer => 2,
    };
    body[8..12].copy_from_slice(&message.sequence.to_be_bytes());
    body[16..24].copy_from_slice(&message.packets.to_be_bytes());
    packet
}

/// Whether a packet has the probe's addresses and protocol; cheap enough for every packet.
#[inline]
pub fn is_probe(packet: &[u8]) -> bool {
    packet.len() >= LENGTH
        && packet[0] >> 4 == 6
        && packet[6] == PROTOCOL
        && packet[8..24] == ADDRESS
        && packet[24..40] == ADDRESS
}

/// Reads a packet for which [`is_probe`] holds; `None` when its body is of no version that we know.
pub fn read(packet: &[u8]) -> Option<Message> {
    let body = packet.get(HEADER..LENGTH)?;
    if body[..4] != MAGIC {
        return None;
    }
    let kind = match body[4] {
        1 => Kind::Request,
        2 => Kind::Answer,
        _ => return None,
    };
    let sequence = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
    let packets = u64::from_be_bytes(body[16..24].try_into().ok()?);
    Some(Message { kind, sequence, packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_an_ipv6_packet_of_the_size_asked_for() {
        let mut buffer = [0xff; 1500];
        let message = Message { kind: Kind::Request, sequence: 7, packets: 9 };
        let packet = write(&mut buffer, message, 1420).to_vec();
        assert_eq!(packet.len(), 1420);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0x05, 0x64, 253, 1]); // payload length 1380
        assert_eq!(packet[40..64], *b"LSP1\x01\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\x09");
        assert!(is_probe(&packet));
        assert_eq!(read(&packet), Some(message));
    }

    #[test]
    fn nothing_else_is_a_probe() {
        let mut buffer = [0; LENGTH];
        let message = Message { kind: Kind::Answer, sequence: 1, packets: 0 };
        let packet = write(&mut buffer, message, 0).to_vec();
        assert!(!is_probe(&packet[..LENGTH - 1]));
        for (at, value) in [(0, 0x45), (6, 6), (23, 0), (39, 0)] {
            let mut other = packet.clone();
            other[at] = value;
            assert!(!is_probe(&other), "byte {at}");
        }
        for (at, value) in [(40, b'X'), (44, 3)] {
            let mut other = packet.clone();
            other[at] = value;
            assert!(is_probe(&other));
            assert_eq!(read(&other), None, "byte {at}");
        }
    }
}
