//! Where datagrams go, and what each bears besides its payload.

use std::mem::zeroed;
use std::net::IpAddr;

use socket2::SockAddr;

use super::control::ControlWriter;

/// Where datagrams go, in the form that the kernel takes.
#[derive(Debug, Clone)]
pub struct Destination {
    pub(super) address: SockAddr,
    /// IPv4, directly or mapped: decides which of the two ToS control messages counts.
    pub(super) ipv4: bool,
    /// The address of ours that they come from; `None` leaves it to the routing table.
    pub(super) source: Option<IpAddr>,
}

impl Destination {
    /// A header for one send.
    pub(super) fn message(&self, iov: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: `msghdr` is plain data, for which all zeroes is valid.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = self.address.as_ptr().cast_mut().cast();
        message.msg_namelen = self.address.len();
        message.msg_iov = iov;
        message.msg_iovlen = 1;
        message
    }

    /// Writes what each datagram bears besides its payload.
    pub(super) fn describe(&self, tos: u8, writer: &mut ControlWriter) {
        let (level, kind) =
            if self.ipv4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        if tos != 0 {
            writer.put(level, kind, libc::c_int::from(tos));
        }
        if let Some(source) = self.source {
            writer.put_source(source);
        }
    }

    /// The address of ours that datagrams come from, when it was chosen.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The same, with the routing table's choice of our address.
    pub fn without_source(&self) -> Self {
        Self { source: None, ..self.clone() }
    }
}
