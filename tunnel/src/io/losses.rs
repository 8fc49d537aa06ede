//! What the kernel has dropped before anybody here saw it.

use std::io;
use std::os::fd::AsRawFd;

use super::{check, socklen};

/// Values that `SO_MEMINFO` gives, and which of them counts drops (`linux/sock_diag.h`).
const MEMINFO_VALUES: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Datagrams that the kernel dropped on their way into a socket, mostly because its receive buffer was full. Begins at 0
/// with the socket, and again after 2^32.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn lost_by(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut values = [0u32; MEMINFO_VALUES];
    let mut length = socklen::<[u32; MEMINFO_VALUES]>();
    // SAFETY: the option writes at most `length` bytes into `values`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(values[MEMINFO_DROPS])
}

/// Packets that a link had to drop when they were to leave through it: for a TUN link, because its queue was full. Of the
/// network namespace of this thread. Asked of `/proc`, where no lock of the kernel's makes the reader wait.
///
/// # Errors
/// `ENOENT` without `/proc`, or when there is no such link.
pub fn lost_on(link: &str) -> io::Result<u64> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    dropped_when_leaving(&table, link).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The number in a line such as `tun0: 84 1 0 0 0 0 0 0 168 2 0 7 0 0 0 0` (proc(5)): the fourth after those of receiving.
fn dropped_when_leaving(table: &str, link: &str) -> Option<u64> {
    let numbers = table.lines().find_map(|line| line.trim_start().strip_prefix(link)?.strip_prefix(':'))?;
    numbers.split_ascii_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::udp::UdpSocket;

    #[test]
    fn a_link_is_found_by_its_whole_name() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    5    0     0       0          0
 tun01:       0       0    0    0    0     0          0         0        0       0    0    6    0     0       0          0
  tun0:      84       1    2    3    0     0          0         0      168       2    4    7    0     0       0          0
";
        assert_eq!(dropped_when_leaving(table, "tun0"), Some(7));
        assert_eq!(dropped_when_leaving(table, "lo"), Some(5));
        assert_eq!(dropped_when_leaving(table, "tun"), None);
        assert_eq!(dropped_when_leaving("tun0: 1 2", "tun0"), None);
        assert!(lost_on("lo").is_ok());
    }

    #[test]
    fn a_socket_tells_what_did_not_fit_into_its_buffer() {
        let (from, to) = (UdpSocket::bind(0).expect("bind"), UdpSocket::bind(0).expect("bind"));
        assert_eq!(lost_by(&to).expect("SO_MEMINFO"), 0);
        let address = (std::net::Ipv4Addr::LOCALHOST, to.port().expect("port")).into();
        let destination = from.destination(address, None);
        for _ in 0..5000 {
            from.send(&destination, &[7; 1400], 1400, 0).expect("send");
        }
        let mut buffer = [0; 2048];
        let taken = std::iter::from_fn(|| to.receive(&mut buffer).ok()).count();
        assert_eq!(lost_by(&to).expect("SO_MEMINFO") as usize, 5000 - taken);
        assert!(taken < 5000, "all fit");
    }
}
