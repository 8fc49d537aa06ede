//! The only room with `unsafe`: thin, typed wrappers around system calls, most of them of the packet path.
//!
//! Everything here is a direct call; nothing decides. Buffers are the caller's, so no call of the packet path allocates.

pub mod clock;
mod control;
mod destination;
mod errors;
pub mod losses;
pub mod poll;
pub mod steer;
pub mod text;
pub mod tun;
pub mod udp;

use std::io;

/// Turns the -1 convention of libc into a `Result`.
fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Turns the -1 convention of libc's length-returning calls into a `Result`.
fn check_len(value: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// Size of `T` as the kernel's socket calls want it.
const fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
