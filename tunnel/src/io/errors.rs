//! What errors of sockets mean.

use std::io;

/// Whether an error says that a datagram exceeds what the way out carries.
pub fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether an error says that the device on the way out cannot checksum segments (before Linux 6.11).
pub fn lacks_checksums(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Whether an error may say that the address to send from is no longer this host's: which one it is depends on the route.
pub fn lacks_source(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH))
}

/// Whether an error says that a system call does not exist or is forbidden (seccomp).
pub fn lacks_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Whether an error says that the host's kernel has IPv6 switched off.
pub fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
