//! TUN queues: `/dev/net/tun`, `linux/if_tun.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

/// What TUN links are made of.
pub const TUN_DEVICE: &str = "/dev/net/tun";

/// Length of the virtio header in front of each packet (`struct virtio_net_hdr`, `linux/virtio_net.h`).
pub const VNET_LEN: usize = 10;

// `linux/if_tun.h`; libc lacks the USO bits.
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// Packets that one queue holds for its lane; each may be 64 KB. The kernel's 500 drops on short stalls of a busy lane.
const TX_QUEUE_LEN: libc::c_int = 1000;

/// What a queue hands over in one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segmentation {
    /// Plain packets without a virtio header.
    None,
    /// TCP super-packets of up to 64 KB behind a virtio header.
    Tcp,
    /// TCP and UDP super-packets.
    TcpUdp,
}

/// Opens the device, for one queue.
///
/// # Errors
/// `ENOENT` or `ENODEV` without it, `EPERM` where the control group of devices does not allow it.
pub fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(TUN_DEVICE)
}

/// One queue of a TUN link, non-blocking, owned by one lane.
#[derive(Debug)]
pub struct Queue {
    file: File,
}

impl Queue {
    /// Attaches one more queue, of a device that [`open`] gave, to the link, creating the link when it is missing. A link
    /// that outlived its process is adopted: it is persistent, so its addresses and routes hold while a new process starts.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`, `EINVAL` when a link of that name is of another kind, `EBUSY` or `E2BIG` when other
    /// processes hold its queues.
    pub fn attach(device: File, link: &str, segmentation: Segmentation) -> io::Result<Self> {
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE;
        if segmentation != Segmentation::None {
            flags |= libc::IFF_VNET_HDR;
        }
        let mut request = request(link)?;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is.
        check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        if segmentation != Segmentation::None {
            let length = VNET_LEN as libc::c_int;
            // SAFETY: TUNSETVNETHDRSZ reads one int.
            check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) })?;
        }
        let queue = Self { file: device };
        queue.offer(segmentation)?;
        Ok(queue)
    }

    /// A queue that swallows what is written, and has nothing to read.
    ///
    /// # Errors
    /// `ENOENT` without `/dev/null`.
    pub fn nowhere() -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().read(true).write(true).open("/dev/null")? })
    }

    /// A queue whose other end the test holds.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when descriptors have run out.
    #[cfg(test)]
    pub fn pair() -> io::Result<(Self, std::os::unix::net::UnixDatagram)> {
        let (queue, test) = std::os::unix::net::UnixDatagram::pair()?;
        queue.set_nonblocking(true)?;
        test.set_nonblocking(true)?;
        Ok((Self { file: File::from(std::os::fd::OwnedFd::from(queue)) }, test))
    }

    /// Tells the kernel which super-packets this link takes. It is a property of the link, not of the queue.
    ///
    /// # Errors
    /// `EINVAL` when the kernel does not know one (USO before Linux 6.2).
    fn offer(&self, segmentation: Segmentation) -> io::Result<()> {
        let features = match segmentation {
            Segmentation::None => 0,
            Segmentation::Tcp => TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
            Segmentation::TcpUdp => TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6,
        };
        // SAFETY: TUNSETOFFLOAD takes the bits by value.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features)) })?;
        Ok(())
    }

    /// Makes the link outlive this process.
    ///
    /// # Errors
    /// Passes on the kernel's.
    pub fn persist(&self) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes its flag by value.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) })?;
        Ok(())
    }

    /// Reads one packet, virtio header first when the queue has one.
    ///
    /// # Errors
    /// `WouldBlock` when the queue is empty.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet, virtio header first when the queue has one.
    ///
    /// # Errors
    /// `EIO` while the link is down, `EINVAL` when the kernel refuses the virtio header.
    #[inline]
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(drop)
    }

    /// Writes one packet behind a virtio header that asks for nothing, on a queue that has them.
    ///
    /// # Errors
    /// As [`Queue::write`].
    pub fn write_single(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write_vectored(&[IoSlice::new(&[0; VNET_LEN]), IoSlice::new(packet)]).map(drop)
    }

    /// The raw descriptor, for the poll set.
    pub fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether an error of [`Queue::write`] is about the virtio header, and not about the link.
pub fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Gives the link's queues room for short stalls of their lanes. Failure costs drops under bursts only.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn set_queue_length(link: &str) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut request = request(link)?;
    request.ifr_ifru.ifru_metric = TX_QUEUE_LEN;
    // SAFETY: SIOCSIFTXQLEN reads one `ifreq`; `ifr_qlen` shares the union's int with `ifru_metric`.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN as libc::Ioctl, &raw const request) })?;
    Ok(())
}

/// An `ifreq` that names `link`.
fn request(link: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = link.as_bytes();
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link name has 1 to 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}
