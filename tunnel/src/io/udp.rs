//! UDP sockets of the lanes: segmentation on sending, coalescing on receiving, ECN in control messages.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddrStorage, Socket, Type};

use super::control::{Control, ControlWriter, incoming, received};
pub use super::destination::Destination;
use super::errors::lacks_family;
pub use super::errors::{is_too_big, lacks_call, lacks_checksums, lacks_source};
use super::{check, check_len, socklen};

/// Most datagrams in one segmented send (`UDP_MAX_SEGMENTS` of `linux/udp.h` before it grew to 128).
pub const MAX_SEGMENTS: usize = 64;

/// Most datagrams in one call of [`UdpSocket::receive_each`].
pub const MAX_RECEIVES: usize = 32;

/// Most bytes in one segmented send: the UDP payload of a 65 535-byte IPv4 packet.
pub const MAX_SEND: usize = 65_507;

/// One receive: `length` bytes in datagrams of `segment` bytes each (the last may be shorter), all from `source`.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes in the buffer.
    pub length: usize,
    /// Size of each datagram but the last, at least 1.
    pub segment: usize,
    /// Who sent them; IPv4-mapped addresses are told as IPv4.
    pub source: SocketAddr,
    /// The address of ours that they were sent to, where the kernel tells.
    pub local: Option<IpAddr>,
    /// The outer ToS or traffic class byte.
    pub tos: u8,
    /// How long the first of them has waited in the socket; 0 where the kernel does not tell.
    pub age: Duration,
}

impl Received {
    /// A place to receive into.
    pub const NOTHING: Self = Self {
        length: 0,
        segment: 1,
        source: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local: None,
        tos: 0,
        age: Duration::ZERO,
    };
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
            Err(error) if lacks_family(&error) => Self::bind_family(Domain::IPV4, port),
            other => other,
        }
    }

    /// Whether nobody else has `port`. A group takes any socket of the same user in, that of a process which is about to
    /// die as well; its numbers, by which datagrams are steered, would then be wrong once that socket closes.
    ///
    /// # Errors
    /// `EADDRINUSE` while somebody has it.
    pub fn is_free(port: u16) -> io::Result<()> {
        match Self::bind_alone(Domain::IPV6, port) {
            Err(error) if lacks_family(&error) => Self::bind_alone(Domain::IPV4, port),
            other => other,
        }
    }

    fn bind_alone(domain: Domain, port: u16) -> io::Result<()> {
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        let any = any_address(&socket, domain)?;
        socket.bind(&SocketAddr::new(any, port).into())
    }

    fn bind_family(domain: Domain, port: u16) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        let dual = domain == Domain::IPV6;
        socket.set_reuse_port(true)?;
        let any = any_address(&socket, domain)?;
        let bound = Self { socket, dual };
        bound.size_buffers();
        bound.fragment_outer_packets(true)?;
        bound.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        if dual {
            bound.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            // Tells mapped addresses too.
            bound.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        } else {
            bound.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        bound.socket.bind(&SocketAddr::new(any, port).into())?;
        Ok(bound)
    }

    /// Buffers of some super-packets: enough for bursts, and small, because one full stream fills them. With four times
    /// the size others wait for six milliseconds instead of two, and it gains no rate. The forced variants pass
    /// `net.core.rmem_max` with `CAP_NET_ADMIN`.
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

    /// Whether the outer packet may be fragmented. Data may, so that a path MTU which is not known yet slows traffic and
    /// never stops it: IPv4 by routers, whatever they say of their MTU; IPv6 by this host alone, which therefore believes
    /// them, as WireGuard in the kernel does. The path-MTU search forbids both for its own probes, and believes nobody.
    ///
    /// # Errors
    /// Passes on the kernel's.
    pub fn fragment_outer_packets(&self, allow: bool) -> io::Result<()> {
        let (v4, v6) = if allow {
            (libc::IP_PMTUDISC_OMIT, libc::IPV6_PMTUDISC_WANT)
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

    /// Asks the kernel to tell when datagrams have come ([`Received::age`]).
    ///
    /// # Errors
    /// Passes on the kernel's.
    pub fn stamp_arrivals(&self) -> Probe {
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
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

    /// Makes the kernel's form of an address once, so that sends need not. Datagrams to it bear `source`, or what the
    /// routing table chooses.
    pub fn destination(&self, to: SocketAddr, source: Option<IpAddr>) -> Destination {
        let to = unmap(to);
        let source = source.filter(|source| source.is_ipv4() == to.is_ipv4());
        let address = match to {
            SocketAddr::V4(v4) if self.dual => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)).into()
            }
            other => other.into(),
        };
        Destination { address, ipv4: to.is_ipv4(), source }
    }

    /// Sends `payload` as datagrams of `segment` bytes in one call (`UDP_SEGMENT`); the last may be shorter.
    ///
    /// # Errors
    /// `EIO` when the device cannot checksum (before Linux 6.11), `EMSGSIZE` or `EINVAL` when a datagram exceeds the
    /// device's MTU, or when one of several, over IPv6, exceeds what routers have told of the path, `WouldBlock` when the
    /// send buffer is full, `ENETUNREACH` and its kin when there is no route.
    pub fn send(&self, to: &Destination, payload: &[u8], segment: usize, tos: u8) -> io::Result<()> {
        let mut control = Control::EMPTY;
        let mut iov = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        let mut message = to.message(&mut iov);
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        let mut writer = ControlWriter::new(&message);
        if payload.len() > segment {
            writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
        }
        to.describe(tos, &mut writer);
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
        let mut control = Control::EMPTY;
        // SAFETY: `iovec` and `mmsghdr` are plain data, for which all zeroes is valid.
        let (mut iovs, mut messages) =
            unsafe { (zeroed::<[libc::iovec; MAX_SEGMENTS]>(), zeroed::<[libc::mmsghdr; MAX_SEGMENTS]>()) };
        let mut written = 0;
        let mut count = 0;
        for ((piece, iov), entry) in payload.chunks(segment.max(1)).zip(&mut iovs).zip(&mut messages) {
            *iov = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            entry.msg_hdr = to.message(iov);
            if tos != 0 || to.source.is_some() {
                // The same words for all of them.
                entry.msg_hdr.msg_control = (&raw mut control).cast();
                entry.msg_hdr.msg_controllen = size_of::<Control>() as _;
                if written == 0 {
                    let mut writer = ControlWriter::new(&entry.msg_hdr);
                    to.describe(tos, &mut writer);
                    written = writer.written;
                }
                entry.msg_hdr.msg_controllen = written as _;
            }
            count += 1;
        }
        // SAFETY: the first `count` messages point to `payload`, `to` and `control`, which outlive the call.
        let sent = check(unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL as _)
        })?;
        Ok(sent as usize)
    }

    /// Receives once, merged by the kernel where it can.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `ECONNREFUSED` and its kin never, as the socket is not connected.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (mut control, mut storage) = (MaybeUninit::<Control>::uninit(), SockAddrStorage::zeroed());
        let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut message = incoming(&mut iov, &mut storage, &mut control);
        // SAFETY: the message points to `buffer`, `storage` and `control`, which outlive the call.
        let length = check_len(unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) })?;
        // SAFETY: recvmsg has filled `storage` and `control`, and told their lengths in the message.
        unsafe { received(&message, storage, length) }
    }

    /// Receives datagrams that the kernel does not merge, up to [`MAX_RECEIVES`] in one call (`recvmmsg`). Each begins at
    /// a multiple of `room` in the buffer; returns how many of `into` were filled.
    ///
    /// # Errors
    /// As [`UdpSocket::receive`]; `ENOSYS` or `EPERM` where the call is not allowed.
    pub fn receive_each(&self, buffer: &mut [u8], room: usize, into: &mut [Received]) -> io::Result<usize> {
        // SAFETY: `iovec` and `mmsghdr` are plain data, for which all zeroes is valid.
        let (mut iovs, mut messages) =
            unsafe { (zeroed::<[libc::iovec; MAX_RECEIVES]>(), zeroed::<[libc::mmsghdr; MAX_RECEIVES]>()) };
        let mut storages: [SockAddrStorage; MAX_RECEIVES] = std::array::from_fn(|_| SockAddrStorage::zeroed());
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; MAX_RECEIVES];
        let parts = iovs.iter_mut().zip(&mut storages).zip(&mut controls).zip(&mut messages);
        let mut count = 0;
        for (piece, (((iov, storage), control), entry)) in
            buffer.chunks_exact_mut(room.max(1)).zip(parts).take(into.len())
        {
            *iov = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
            entry.msg_hdr = incoming(iov, storage, control);
            count += 1;
        }
        // SAFETY: the first `count` messages point to `buffer`, `storages` and `controls`, which outlive the call.
        let filled = check(unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })? as usize;
        let mut kept = 0;
        for ((entry, storage), slot) in messages.iter().zip(storages).zip(&mut *into).take(filled) {
            // SAFETY: recvmmsg has filled the first `filled` entries as recvmsg would.
            *slot = unsafe { received(&entry.msg_hdr, storage, entry.msg_len as usize) }?;
            kept += 1;
        }
        Ok(kept)
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

/// Where to bind for all addresses; of both families, when the socket is an IPv6 one.
fn any_address(socket: &Socket, domain: Domain) -> io::Result<IpAddr> {
    if domain != Domain::IPV6 {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    socket.set_only_v6(false)?;
    Ok(Ipv6Addr::UNSPECIFIED.into())
}

/// How long a send waits for room in the buffer, in milliseconds.
const SEND_PATIENCE_MS: libc::c_int = 5;
/// Bytes of receive buffer, which the kernel doubles for its own bookkeeping.
const RECEIVE_BUFFER: libc::c_int = 1 << 20;
/// Bytes of send buffer, which the kernel doubles for its own bookkeeping.
const SEND_BUFFER: libc::c_int = 2 << 20;

/// Tells an IPv4-mapped address as the IPv4 address that it is.
pub(super) fn unmap(address: SocketAddr) -> SocketAddr {
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
        let to = a.destination(SocketAddr::from((Ipv4Addr::LOCALHOST, b.port().expect("port"))), None);
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
    fn many_datagrams_come_in_one_call_each_with_its_own_words() {
        let (a, b, to) = pair();
        for (size, tos) in [(1400, 1), (1400, 0), (7, 0x2e << 2)] {
            a.send(&to, &vec![7; size], size, tos).expect("send");
        }
        let mut buffer = vec![0; MAX_RECEIVES * 2048];
        let mut all = [Received::NOTHING; MAX_RECEIVES];
        assert_eq!(b.receive_each(&mut buffer, 2048, &mut all).expect("receive"), 3);
        let told = all[..3].iter().map(|r| (r.length, r.segment, r.tos)).collect::<Vec<_>>();
        assert_eq!(told, [(1400, 1400, 1), (1400, 1400, 0), (7, 7, 0xb8)]);
        assert!(all[..3].iter().all(|r| r.local == Some(Ipv4Addr::LOCALHOST.into())));
        assert_eq!(buffer[2 * 2048..2 * 2048 + 8], [7, 7, 7, 7, 7, 7, 7, 0]);
        let empty = b.receive_each(&mut buffer, 2048, &mut all).expect_err("empty");
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_tells_how_long_it_has_waited() {
        let (a, b, to) = pair();
        let waited = || {
            a.send(&to, &[1], 1, 0).expect("send");
            std::thread::sleep(Duration::from_millis(20));
            b.receive(&mut [0; 64]).expect("receive").age
        };
        assert_eq!(waited(), Duration::ZERO, "nobody has asked");
        b.stamp_arrivals().expect("SO_TIMESTAMPNS");
        // The kernel begins a moment after it was asked to, if it was the first time.
        let told = (0..100).map(|_| waited()).find(|age| !age.is_zero() && *age >= Duration::from_millis(20));
        assert!(told.is_some_and(|age| age < Duration::from_secs(10)), "{told:?}");
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_called() {
        let (a, b, _) = pair();
        for called in [IpAddr::from([127, 0, 0, 77]), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            a.send(&a.destination((called, b.port().expect("port")).into(), None), &[1], 1, 0).expect("send");
            let mut buffer = [0; 64];
            let received = b.receive(&mut buffer).expect("receive");
            assert_eq!(received.local, Some(called));
            let back = b.destination(received.source, received.local);
            for (size, tos) in [(1, 0), (1, 3), (3, 3)] {
                b.send(&back, &[2; 3][..size], 1, tos).expect("send");
                b.send_each(&back, &[2; 3][..size], 1, tos).expect("send");
                for _ in 0..2 * size {
                    assert_eq!(a.receive(&mut buffer).expect("receive").source.ip(), called);
                }
            }
        }
        let gone = b.destination((Ipv4Addr::LOCALHOST, a.port().expect("port")).into(), Some([192, 0, 2, 9].into()));
        assert!(lacks_source(&b.send(&gone, &[3], 1, 0).expect_err("not an address of this host")));
        b.send(&gone.without_source(), &[3], 1, 0).expect("send");
    }

    fn ip(setting: &str) {
        let done = std::process::Command::new("ip").args(setting.split(' ')).status().expect("ip of iproute2");
        assert!(done.success(), "ip {setting}");
    }

    /// Two sockets in a network namespace of this thread's, and where the second is on the other end of a link.
    fn across_a_link() -> (UdpSocket, UdpSocket, SocketAddr) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        for setting in [
            "link set lo up",
            "link add ll-a type veth peer name ll-b",
            "link set ll-a up",
            "link set ll-b up",
            "address add fe80::a/64 dev ll-a nodad",
            "address add fe80::b/64 dev ll-b nodad",
        ] {
            ip(setting);
        }
        // SAFETY: reads one string that ends with a zero.
        let index = unsafe { libc::if_nametoindex(c"ll-a".as_ptr()) };
        let (a, b, _) = pair();
        let to = SocketAddrV6::new("fe80::b".parse().expect("an address"), b.port().expect("port"), 0, index);
        (a, b, to.into())
    }

    /// Receives what may take a moment, as it comes across a link.
    fn receive(socket: &UdpSocket) -> Received {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        loop {
            match socket.receive(&mut [0; 2048]) {
                Ok(received) => return received,
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
        }
    }

    #[test]
    fn a_link_local_address_keeps_its_scope_both_ways() {
        let (a, b, to) = across_a_link();
        a.send(&a.destination(to, None), &[1], 1, 0).expect("send");
        let received = receive(&b);
        assert_eq!(received.local, Some("fe80::b".parse().expect("an address")));
        b.send(&b.destination(received.source, received.local), &[2], 1, 0).expect("send");
        assert_eq!(receive(&a).source, to);
    }

    /// Fragments that this thread's network namespace has made of IPv6 packets.
    fn fragments() -> u32 {
        let counters = std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("counters");
        let count = counters.lines().find_map(|line| line.strip_prefix("Ip6FragCreates")).expect("a known counter");
        count.trim().parse().expect("a number")
    }

    #[test]
    fn ipv6_data_is_fragmented_where_the_path_is_known_to_be_narrow_and_probes_are_not() {
        let (a, b, to) = across_a_link();
        // As if a router had told.
        ip("-6 route add fe80::b/128 dev ll-a mtu 1280");
        let to = a.destination(to, None);
        a.send(&to, &[1; 1400], 1400, 0).expect("send");
        assert_eq!((receive(&b).length, fragments()), (1400, 2));
        // The kernel does not fragment segments, so that they go one by one.
        let error = a.send(&to, &[2; 2800], 1400, 0).expect_err("too big");
        assert!(!lacks_checksums(&error), "segmented sends go on: {error}");
        assert_eq!(a.send_each(&to, &[2; 2800], 1400, 0).expect("send"), 2);
        assert_eq!((receive(&b).length, receive(&b).length, fragments()), (1400, 1400, 6));
        a.send(&to, &[3; 2400], 1200, 0).expect("segments that fit");
        assert_eq!((receive(&b).length, receive(&b).length, fragments()), (1200, 1200, 6));
        a.fragment_outer_packets(false).expect("a mode");
        a.send(&to, &[4; 1400], 1400, 0).expect("send");
        assert_eq!((receive(&b).length, fragments()), (1400, 6), "as large as it was made, to find out");
    }

    #[test]
    fn lanes_get_the_datagrams_that_name_them() {
        let first = UdpSocket::bind(0).expect("bind");
        let port = first.port().expect("port");
        let group = [first, UdpSocket::bind(port).expect("bind"), UdpSocket::bind(port).expect("bind")];
        super::super::steer::steer_by_lane(&group[0]).expect("steer");
        let sender = UdpSocket::bind(0).expect("bind");
        let to = sender.destination(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None);
        let mut buffer = [0; 64];
        for lane in [2u8, 0, 1, 2] {
            sender.send(&to, &[4, 0, 0, 0, 99, lane, 1, 2], 64, 0).expect("send");
            let received = group[usize::from(lane)].receive(&mut buffer).expect("the lane's own socket has it");
            assert_eq!(received.length, 8);
        }
    }
}
