//! Control messages of datagrams: segment size, ToS, and which of our addresses a datagram comes from or goes to.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;
use std::time::Duration;

use socket2::{SockAddr, SockAddrStorage};

use super::clock::since;
use super::udp::{Received, unmap};

/// Room for what one datagram bears (a segment size, a ToS for each family, an address for each, a time), aligned as
/// `cmsghdr` wants it.
#[repr(align(8))]
pub(super) struct Control(#[expect(dead_code, reason = "read and written by the kernel only")] [u8; 160]);

impl Control {
    pub(super) const EMPTY: Self = Self([0; 160]);
}

/// Writes control messages one after the other.
pub(super) struct ControlWriter {
    next: *mut libc::cmsghdr,
    message: *const libc::msghdr,
    pub(super) written: usize,
}

impl ControlWriter {
    /// A writer into the control buffer that `message` points to, which is all zeroes.
    pub(super) fn new(message: &libc::msghdr) -> Self {
        // SAFETY: the header's control pointer and length describe a live buffer.
        Self { next: unsafe { libc::CMSG_FIRSTHDR(message) }, message, written: 0 }
    }

    pub(super) fn put<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        debug_assert!(!self.next.is_null(), "a size, a ToS and an address fit into 160 bytes");
        // SAFETY: `next` is inside the zeroed control buffer, which has room for three messages of at most 20 bytes;
        // CMSG_NXTHDR reads only lengths that were written here.
        unsafe {
            (*self.next).cmsg_level = level;
            (*self.next).cmsg_type = kind;
            (*self.next).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            libc::CMSG_DATA(self.next).cast::<T>().write_unaligned(value);
            self.written += libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
            self.next = libc::CMSG_NXTHDR(self.message, self.next);
        }
    }

    /// The address that the datagram bears as its source; the link is the routing table's choice.
    pub(super) fn put_source(&mut self, source: IpAddr) {
        match source {
            IpAddr::V4(v4) => {
                let address = libc::in_addr { s_addr: u32::from(v4).to_be() };
                let nobody = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: nobody };
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            IpAddr::V6(v6) => {
                let address = libc::in6_addr { s6_addr: v6.octets() };
                self.put(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 },
                );
            }
        }
    }
}

/// What the control messages of a received datagram say.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    segment: Option<usize>,
    tos: u8,
    /// The address of ours that it was sent to; IPv4-mapped ones as IPv4.
    local: Option<IpAddr>,
    /// When it has come, by the clock of the day.
    stamp: Option<Duration>,
}

/// Reads the control messages of a receive.
///
/// # Safety
/// The header's control pointer and length are as the kernel left them after it has received.
unsafe fn read(message: &libc::msghdr) -> Said {
    let mut said = Said::default();
    // SAFETY: the control buffer and its length are valid, says the caller; the macros stay inside of it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while !next.is_null() {
            let data = libc::CMSG_DATA(next);
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    said.segment = Some(data.cast::<libc::c_int>().read_unaligned() as usize);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let stamp = data.cast::<libc::timespec>().read_unaligned();
                    said.stamp = Some(Duration::new(stamp.tv_sec as u64, stamp.tv_nsec as u32));
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => said.tos = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    said.tos = data.cast::<libc::c_int>().read_unaligned() as u8;
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    said.local = Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    said.local = Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical());
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
    // Nobody can send from a group's address.
    said.local = said.local.filter(|local| !local.is_multicast() && !local.is_unspecified());
    said
}

/// A header for one receive.
pub(super) fn incoming(
    iov: &mut libc::iovec,
    storage: &mut SockAddrStorage,
    control: &mut MaybeUninit<Control>,
) -> libc::msghdr {
    // SAFETY: `msghdr` is plain data, for which all zeroes is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_namelen = storage.size_of();
    message.msg_name = ptr::from_mut(storage).cast();
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}

/// What a receive has brought.
///
/// # Safety
/// The kernel has filled the header, its control buffer and `storage`.
pub(super) unsafe fn received(message: &libc::msghdr, storage: SockAddrStorage, length: usize) -> io::Result<Received> {
    // SAFETY: the kernel has written `msg_namelen` bytes of an address into `storage`, and control messages.
    let (source, said) = unsafe { (SockAddr::new(storage, message.msg_namelen), read(message)) };
    let source = source.as_socket().map(unmap).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let (segment, age) = (said.segment.unwrap_or(length).max(1), said.stamp.map_or(Duration::ZERO, since));
    Ok(Received { length, segment, source, local: said.local, tos: said.tos, age })
}
