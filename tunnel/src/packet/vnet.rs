//! `struct virtio_net_hdr` of `linux/virtio_net.h`, 10 bytes before each packet on a TUN queue with `IFF_VNET_HDR`.
//!
//! Fields are little endian: the queue must be set so with `TUNSETVNETLE`. The header's length is the default
//! `TUNSETVNETHDRSZ`, 10.

/// Bytes of the header.
pub const LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// How the kernel wants a packet to be cut, or how it may cut ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    /// One packet as it is.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of one size over either version (USO, Linux 6.2).
    Udp,
}

/// What the kernel says about a packet that we read, or we about one that we write. Lengths are untrusted numbers: a
/// reader must check them against the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// The checksum at `csum_start + csum_offset` holds only the pseudo header's sum; the rest is to be added.
    pub needs_csum: bool,
    /// Segmentation.
    pub gso: Gso,
    /// `VIRTIO_NET_HDR_GSO_ECN`: the TCP super-packet carries CWR. Not asked for (`TUN_F_TSO_ECN`), but understood.
    pub ecn: bool,
    /// Bytes of all headers: a hint to the kernel, never to be trusted on reading.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Offset in the packet at which summing starts.
    pub csum_start: u16,
    /// Offset of the checksum after `csum_start`.
    pub csum_offset: u16,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VnetError {
    /// Fewer than [`LEN`] bytes.
    #[error("virtio header has {0} bytes instead of 10; is the queue open with IFF_VNET_HDR and a header size of 10?")]
    Short(usize),
    /// A kind of segmentation that was not asked for.
    #[error("virtio header has the unknown segmentation type {0:#04x}; only TCP and UDP_L4 are offered to the kernel")]
    Gso(u8),
}

impl VnetHeader {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`VnetError`] when `bytes` is too short or the segmentation is of a kind that was never offered.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, VnetError> {
        let Some(b) = bytes.first_chunk::<LEN>() else {
            return Err(VnetError::Short(bytes.len()));
        };
        let gso = match b[1] & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::TcpV4,
            GSO_TCPV6 => Gso::TcpV6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return Err(VnetError::Gso(b[1])),
        };
        Ok(Self {
            needs_csum: b[0] & F_NEEDS_CSUM != 0,
            gso,
            ecn: b[1] & GSO_ECN != 0,
            hdr_len: u16::from_le_bytes([b[2], b[3]]),
            gso_size: u16::from_le_bytes([b[4], b[5]]),
            csum_start: u16::from_le_bytes([b[6], b[7]]),
            csum_offset: u16::from_le_bytes([b[8], b[9]]),
        })
    }

    /// The header as the kernel reads it.
    #[inline]
    pub fn encode(&self) -> [u8; LEN] {
        let kind = match self.gso {
            Gso::None => GSO_NONE,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        let mut b = [0; LEN];
        b[0] = if self.needs_csum { F_NEEDS_CSUM } else { 0 };
        b[1] = kind | if self.ecn { GSO_ECN } else { 0 };
        b[2..4].copy_from_slice(&self.hdr_len.to_le_bytes());
        b[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        b[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        b[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_kernels_layout() {
        // NEEDS_CSUM, TCPV4|ECN, hdr_len 54, gso_size 1368, csum_start 20, csum_offset 16.
        let bytes = [0x01, 0x81, 0x36, 0x00, 0x58, 0x05, 0x14, 0x00, 0x10, 0x00];
        let header = VnetHeader {
            needs_csum: true,
            gso: Gso::TcpV4,
            ecn: true,
            hdr_len: 54,
            gso_size: 1368,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::parse(&bytes), Ok(header));
        assert_eq!(header.encode(), bytes);
        assert_eq!(VnetHeader::default().encode(), [0; 10]);
    }

    #[test]
    fn numbers_the_segmentation_types_as_virtio_net_h_does() {
        for (number, gso) in [(0, Gso::None), (1, Gso::TcpV4), (4, Gso::TcpV6), (5, Gso::Udp)] {
            let mut bytes = [0; 10];
            bytes[1] = number;
            let header = VnetHeader::parse(&bytes).expect("a known type");
            assert_eq!(header.gso, gso);
            assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn refuses_short_headers_and_types_never_offered() {
        assert_eq!(VnetHeader::parse(&[0; 9]), Err(VnetError::Short(9)));
        // UFO (3) and UDP tunnel segmentation (0x20) are not offered.
        assert_eq!(VnetHeader::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(VnetError::Gso(3)));
        assert_eq!(VnetHeader::parse(&[0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0]), Err(VnetError::Gso(0x21)));
    }

    #[test]
    fn ignores_flags_that_only_inform() {
        // DATA_VALID (2) says that the kernel verified the checksum; nothing is left to do.
        let header = VnetHeader::parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).expect("valid");
        assert!(!header.needs_csum);
    }
}
