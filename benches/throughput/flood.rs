//! Small UDP packets, faster than iperf3 makes them: batches of `sendmmsg` at one end, of `recvmmsg` at the other.
//!
//! Every datagram is a packet of its own in the kernel (no `UDP_SEGMENT`), as from a program that knows nothing of
//! offloads. Sender, receiver and both ends of the tunnel share the machine, so the bare link's figure is the most
//! that the generator itself can make.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

/// Datagrams per system call.
const BATCH: usize = 32;
/// The receiver takes the flood as over after so long without a datagram.
const SILENCE: Duration = Duration::from_millis(300);
/// The receiver gives up when nothing at all has come for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends equal datagrams.
#[derive(Debug, Args)]
pub struct Send {
    #[arg(long)]
    from: SocketAddrV4,
    #[arg(long)]
    to: SocketAddrV4,
    /// Payload of each datagram in bytes.
    #[arg(long)]
    size: usize,
    /// Datagrams per second; 0 is as many as possible.
    #[arg(long)]
    rate: u64,
    #[arg(long)]
    seconds: f64,
}

/// Counts datagrams and prints `COUNT SECONDS`, from the first to the last.
#[derive(Debug, Args)]
pub struct Receive {
    #[arg(long)]
    at: SocketAddrV4,
}

/// Runs the sender.
pub fn send(options: &Send) -> Result<()> {
    let socket = UdpSocket::bind(options.from).with_context(|| format!("binding {}", options.from))?;
    socket.connect(options.to).with_context(|| format!("connecting to {}", options.to))?;
    let mut payload = vec![0x5a; options.size];
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    let mut batch = headers(std::slice::from_mut(&mut part));
    let from = Instant::now();
    let mut sent = 0_u64;
    while from.elapsed().as_secs_f64() < options.seconds {
        if options.rate > 0 {
            let due = Duration::from_secs_f64(sent as f64 / options.rate as f64);
            if let Some(early) = due.checked_sub(from.elapsed()) {
                std::thread::sleep(early);
            }
        }
        // SAFETY: each header names one iovec over `payload`; both outlive the call, which only reads them.
        let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), BATCH as u32, 0) };
        match check(count) {
            Ok(count) => sent += count as u64,
            Err(error) if is_full(&error) => (),
            Err(error) => return Err(error).context("sending"),
        }
    }
    Ok(())
}

/// Runs the receiver; prints `ready` once it listens.
pub fn receive(options: &Receive) -> Result<()> {
    let socket = UdpSocket::bind(options.at).with_context(|| format!("binding {}", options.at))?;
    grow_buffer(&socket)?;
    println!("ready");
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    let mut parts: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    let mut batch = headers(&mut parts);
    let (mut count, mut first, mut last) = (0_u64, None, Instant::now());
    loop {
        let patience = if first.is_some() { SILENCE } else { PATIENCE };
        socket.set_read_timeout(Some(patience))?;
        // SAFETY: each header names one iovec over a buffer of its own; all outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                batch.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        match check(received) {
            Ok(received) => {
                last = Instant::now();
                first.get_or_insert(last);
                count += received as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => (),
            Err(error) => return Err(error).context("receiving"),
        }
    }
    let seconds = first.map_or(0.0, |first| (last - first).as_secs_f64());
    println!("{count} {seconds}");
    Ok(())
}

/// `BATCH` headers, over one iovec each, or all over the same one.
fn headers(parts: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    let last = parts.len() - 1;
    let header = |index: usize| {
        // SAFETY: a message header is plain data, and all zeros is one without address, data or control messages.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = &raw mut parts[index.min(last)];
        header.msg_hdr.msg_iovlen = 1;
        header
    };
    (0..BATCH).map(header).collect()
}

/// 4 MiB of receive buffer, so that what is lost was lost in the tunnel and not behind it.
fn grow_buffer(socket: &UdpSocket) -> Result<()> {
    let size: libc::c_int = 4 << 20;
    // SAFETY: the option takes a C int, and is given the address and the length of one.
    let result = unsafe {
        let length = size_of_val(&size) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const size).cast(), length)
    };
    check(result).map(drop).context("setting SO_RCVBUFFORCE (needs root)")
}

fn check(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Whether a send failed because a queue on the way is full, or because nobody listens yet.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN | libc::ECONNREFUSED))
}
