//! UDP sockets of the lanes: segmentation on sending, coalescing on receiving, ECN in control messages.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::{check, check_len, socklen};

/// Most datagrams in one segmented send (`UDP_MAX_SEGMENTS` of `linux/udp.h` before it grew to 128).
pub const MAX_SEGMENTS: usize = 64;

/// Most bytes in one segmented send: the UDP payload of a 65 535-byte IPv4 packet.
pub const MAX_SEND: usize = 65_507;

/// Room for three control messages of 4 bytes each, aligned as `cmsghdr` wants it.
#[repr(align(8))]
struct Control(#[expect(dead_code, reason = "read and written by the kernel only")] [u8; 96]);

/// Where datagrams go, in the form that the kernel takes.
#[derive(Debug, Clone)]
pub struct Destination {
    address: SockAddr,
    /// IPv4, directly or mapped: decides which of the two ToS control messages counts.
    ipv4: bool,
}

/// One receive: `length` bytes in datagrams of `segment` bytes each (the last may be shorter), all from `source`.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes in the buffer.
    pub length: usize,
    /// Size of each datagram but the last, at least 1.
    pub segment: usize,
    /// Who sent them; IPv4-mapped addresses are told as IPv4.
    pub source: SocketAddr,
    /// The outer ToS or traffic class byte.
    pub tos: u8,
}

/// Whether an optional socket feature took.
pub type Probe = Result<(), io::Error>;

/// One lane's socket, non-blocking.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    /// An IPv6 socket that carries IPv4 as mapped addresses; false where the host has no IPv6.
    dual: bool,
}

impl UdpSocket {
    /// Binds to `port` on all addresses of both families, in a group that shares the port.
    ///
    /// # Errors
    /// `EADDRINUSE` when the port is taken by another user or program, `EMFILE` when descriptors have run out.
    pub fn bind(port: u16) -> io::Result<Self> {
        match Self::bind_family(Domain::IPV6, port) {
            // A host whose kernel has IPv6 switched off.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                Self::bind_family(Domain::IPV4, port)
            }
            other => other,
        }
    }

    fn bind_family(domain: Domain, port: u16) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        let dual = domain == Domain::IPV6;
        socket.set_reuse_port(true)?;
        let any = if dual {
            socket.set_only_v6(false)?;
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        };
        let bound = Self { socket, dual };
        bound.size_buffers();
        bound.fragment_outer_packets(true)?;
        bound.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        if dual {
            bound.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        }
        bound.socket.bind(&SocketAddr::new(any, port).into())?;
        Ok(bound)
    }

    /// Buffers of a few super-packets: enough for the peers' bursts, small enough that a queue behind them stays below
    /// about two milliseconds. The forced variants pass `net.core.rmem_max` with `CAP_NET_ADMIN`.
    fn size_buffers(&self) {
        for (forced, plain, bytes) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER),
        ] {
            if self.set(libc::SOL_SOCKET, forced, bytes).is_err() {
                // Best effort: a small buffer costs drops under bursts only.
                let _ = self.set(libc::SOL_SOCKET, plain, bytes);
            }
        }
    }

    /// Whether routers may fragment the outer packet. Data may be fragmented, so that a path MTU which is not known yet
    /// slows traffic and never stops it; the path-MTU search forbids it for its own probes.
    ///
    /// # Errors
    /// Passes on the kernel's.
    pub fn fragment_outer_packets(&self, allow: bool) -> io::Result<()> {
        let (v4, v6) = if allow {
            (libc::IP_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_OMIT)
        } else {
            (libc::IP_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_PROBE)
        };
        self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4)?;
        if self.dual {
            self.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6)?;
        }
        Ok(())
    }

    /// Asks the kernel to hand over datagrams of one flow merged.
    ///
    /// # Errors
    /// `ENOPROTOOPT` before Linux 5.0.
    pub fn enable_gro(&self) -> Probe {
        self.set(libc::SOL_UDP, libc::UDP_GRO, 1)
    }

    /// Whether the kernel knows `UDP_SEGMENT`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` before Linux 4.18.
    pub fn probe_gso(&self) -> Probe {
        self.set(libc::SOL_UDP, libc::UDP_SEGMENT, 0)
    }

    /// The port that the socket is bound to.
    ///
    /// # Errors
    /// Passes on the kernel's.
    pub fn port(&self) -> io::Result<u16> {
        let address = self.socket.local_addr()?;
        Ok(address.as_socket().map_or(0, |a| a.port()))
    }

    /// Makes the kernel's form of an address once, so that sends need not.
    pub fn destination(&self, to: SocketAddr) -> Destination {
        let to = unmap(to);
        let address = match to {
            SocketAddr::V4(v4) if self.dual => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)).into()
            }
            other => other.into(),
        };
        Destination { address, ipv4: to.is_ipv4() }
    }

    /// Sends `payload` as datagrams of `segment` bytes in one call (`UDP_SEGMENT`); the last may be shorter.
    ///
    /// # Errors
    /// `EIO` when the device cannot checksum (before Linux 6.11), `EMSGSIZE` or `EINVAL` when a datagram exceeds the
    /// device's MTU, `WouldBlock` when the send buffer is full, `ENETUNREACH` and its kin when there is no route.
    pub fn send(&self, to: &Destination, payload: &[u8], segment: usize, tos: u8) -> io::Result<()> {
        let mut control = Control([0; 96]);
        let mut iov = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        let mut message = to.message(&mut iov);
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        let mut writer = ControlWriter::new(&message);
        if payload.len() > segment {
            writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
        }
        if tos != 0 {
            let (level, kind) = to.tos_option();
            writer.put(level, kind, libc::c_int::from(tos));
        }
        message.msg_controllen = writer.written as _;
        if writer.written == 0 {
            message.msg_control = ptr::null_mut();
        }
        // SAFETY: the message points to `payload`, `to` and `control`, which outlive the call; the kernel reads only.
        check_len(unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })?;
        Ok(())
    }

    /// Sends the same datagrams one by one, in one call (`sendmmsg`), and returns how many the kernel took. For kernels
    /// and devices without segmentation.
    ///
    /// # Errors
    /// As [`UdpSocket::send`], for the first datagram.
    pub fn send_each(&self, to: &Destination, payload: &[u8], segment: usize, tos: u8) -> io::Result<usize> {
        let mut control = Control([0; 96]);
        // SAFETY: `iovec` and `mmsghdr` are plain data, for which all zeroes is valid.
        let (mut iovs, mut messages) =
            unsafe { (zeroed::<[libc::iovec; MAX_SEGMENTS]>(), zeroed::<[libc::mmsghdr; MAX_SEGMENTS]>()) };
        let mut written = 0;
        let mut count = 0;
        for ((piece, iov), entry) in payload.chunks(segment.max(1)).zip(&mut iovs).zip(&mut messages) {
            *iov = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            entry.msg_hdr = to.message(iov);
            if tos != 0 {
                entry.msg_hdr.msg_control = (&raw mut control).cast();
                entry.msg_hdr.msg_controllen = size_of::<Control>() as _;
                if written == 0 {
                    let (level, kind) = to.tos_option();
                    let mut writer = ControlWriter::new(&entry.msg_hdr);
                    writer.put(level, kind, libc::c_int::from(tos));
                    written = writer.written;
                }
                entry.msg_hdr.msg_controllen = written as _;
            }
            count += 1;
        }
        // SAFETY: the first `count` messages point to `payload`, `to` and `control`, which outlive the call.
        let sent = check(unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL)
        })?;
        Ok(sent as usize)
    }

    /// Receives once, merged by the kernel where it can.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `ECONNREFUSED` and its kin never, as the socket is not connected.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = MaybeUninit::<Control>::uninit();
        let mut storage = SockAddrStorage::zeroed();
        let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `msghdr` is plain data, for which all zeroes is valid.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = (&raw mut storage).cast();
        message.msg_namelen = storage.size_of();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the message points to `buffer`, `storage` and `control`, which outlive the call.
        let length = check_len(unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) })?;
        // SAFETY: recvmsg has written `msg_namelen` bytes of an address into `storage`.
        let source = unsafe { SockAddr::new(storage, message.msg_namelen) };
        let source = source.as_socket().map(unmap).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let (segment, tos) = read_control(&message);
        Ok(Received { length, segment: segment.unwrap_or(length).max(1), source, tos: tos.unwrap_or(0) })
    }

    /// Waits a few milliseconds for room in the send buffer.
    ///
    /// # Errors
    /// `TimedOut` when there is none by then.
    pub fn wait_writable(&self) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: the call reads and writes one `pollfd`.
        match check(unsafe { libc::poll(&raw mut poll, 1, SEND_PATIENCE_MS) })? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the option reads one int.
        check(unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                socklen::<libc::c_int>(),
            )
        })?;
        Ok(())
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// How long a send waits for room in the buffer, in milliseconds.
const SEND_PATIENCE_MS: libc::c_int = 5;
/// Bytes of receive buffer, which the kernel doubles for its own bookkeeping.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// Bytes of send buffer, which the kernel doubles for its own bookkeeping.
const SEND_BUFFER: libc::c_int = 2 << 20;

impl Destination {
    fn message(&self, iov: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: `msghdr` is plain data, for which all zeroes is valid.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = self.address.as_ptr().cast_mut().cast();
        message.msg_namelen = self.address.len();
        message.msg_iov = iov;
        message.msg_iovlen = 1;
        message
    }

    fn tos_option(&self) -> (libc::c_int, libc::c_int) {
        if self.ipv4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) }
    }
}

/// Writes control messages one after the other.
struct ControlWriter {
    next: *mut libc::cmsghdr,
    message: *const libc::msghdr,
    written: usize,
}

impl ControlWriter {
    fn new(message: &libc::msghdr) -> Self {
        // SAFETY: the header's control pointer and length describe a live buffer.
        Self { next: unsafe { libc::CMSG_FIRSTHDR(message) }, message, written: 0 }
    }

    fn put<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        debug_assert!(!self.next.is_null(), "three small control messages fit into 96 bytes");
        // SAFETY: `next` is inside the zeroed control buffer, which has room for three messages of 4 bytes; CMSG_NXTHDR
        // reads only lengths that were written here.
        unsafe {
            (*self.next).cmsg_level = level;
            (*self.next).cmsg_type = kind;
            (*self.next).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            libc::CMSG_DATA(self.next).cast::<T>().write_unaligned(value);
            self.written += libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
            self.next = libc::CMSG_NXTHDR(self.message, self.next);
        }
    }
}

/// Segment size and ToS of a receive.
fn read_control(message: &libc::msghdr) -> (Option<usize>, Option<u8>) {
    let (mut segment, mut tos) = (None, None);
    // SAFETY: recvmsg has filled the control buffer and its length; the macros stay inside of it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while !next.is_null() {
            let data = libc::CMSG_DATA(next);
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => segment = Some(data.cast::<libc::c_int>().read_unaligned() as usize),
                (libc::IPPROTO_IP, libc::IP_TOS) => tos = Some(data.read()),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    tos = Some(data.cast::<libc::c_int>().read_unaligned() as u8)
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
    (segment, tos)
}

/// Whether an error says that a datagram exceeds what the way out carries.
pub fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether an error says that the device on the way out cannot checksum segments (before Linux 6.11).
pub fn lacks_checksums(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Tells an IPv4-mapped address as the IPv4 address that it is.
fn unmap(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        // As it came: a link-local address means nothing without its scope.
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket, Destination) {
        let (a, b) = (UdpSocket::bind(0).expect("bind"), UdpSocket::bind(0).expect("bind"));
        let to = a.destination(SocketAddr::from((Ipv4Addr::LOCALHOST, b.port().expect("port"))));
        (a, b, to)
    }

    #[test]
    fn a_segmented_send_arrives_merged_with_its_ecn() {
        let (a, b, to) = pair();
        b.enable_gro().expect("UDP_GRO");
        a.send(&to, &[7; 2500], 1000, 0x02).expect("send");
        let mut buffer = vec![0; 65_536];
        let received = b.receive(&mut buffer).expect("receive");
        assert_eq!((received.length, received.segment, received.tos), (2500, 1000, 0x02));
        assert_eq!(received.source, SocketAddr::from((Ipv4Addr::LOCALHOST, a.port().expect("port"))));
    }

    #[test]
    fn without_segmentation_the_same_datagrams_arrive_one_by_one() {
        let (a, b, to) = pair();
        assert_eq!(a.send_each(&to, &[7; 2500], 1000, 0x01).expect("send"), 3);
        let mut buffer = vec![0; 65_536];
        let sizes: Vec<_> =
            (0..3).map(|_| b.receive(&mut buffer).expect("receive")).map(|r| (r.length, r.tos)).collect();
        assert_eq!(sizes, [(1000, 1), (1000, 1), (500, 1)]);
        assert_eq!(b.receive(&mut buffer).expect_err("empty").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn lanes_get_the_datagrams_that_name_them() {
        let first = UdpSocket::bind(0).expect("bind");
        let port = first.port().expect("port");
        let group = [first, UdpSocket::bind(port).expect("bind"), UdpSocket::bind(port).expect("bind")];
        super::super::steer::steer_by_lane(&group[0]).expect("steer");
        let sender = UdpSocket::bind(0).expect("bind");
        let to = sender.destination(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut buffer = [0; 64];
        for lane in [2u8, 0, 1, 2] {
            sender.send(&to, &[4, 0, 0, 0, 99, lane, 1, 2], 64, 0).expect("send");
            let received = group[usize::from(lane)].receive(&mut buffer).expect("the lane's own socket has it");
            assert_eq!(received.length, 8);
        }
    }
}
