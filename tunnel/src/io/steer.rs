//! Steering of datagrams to lanes: a classic BPF program on a `SO_REUSEPORT` group (`linux/filter.h`).

use std::io;
use std::os::fd::AsRawFd;

use super::{check, socklen};

/// Offset of the byte that names the lane. boringtun makes a session index from ours as `index << 8 | session`, in
/// little endian from byte 4 on; the low byte of our index is the lane. Initiations and responses carry the sender's
/// index there, cookie replies and data the receiver's: lane *i* talks to lane *i* only, so all four name the lane.
pub const LANE_OFFSET: usize = 5;

/// Steers each datagram of the group to the socket whose number is the byte at [`LANE_OFFSET`]. A number without a
/// socket, and a datagram too short to have one (the program then returns 0), fall to any lane, which drops it.
///
/// # Errors
/// `EINVAL` or `ENOPROTOOPT` where the kernel does not steer.
pub fn steer_by_lane(socket: &impl AsRawFd) -> io::Result<()> {
    let mut program = [
        // ldb [LANE_OFFSET]: the program sees the UDP payload from offset 0.
        libc::sock_filter {
            code: (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
            jt: 0,
            jf: 0,
            k: LANE_OFFSET as u32,
        },
        // ret A
        libc::sock_filter { code: (libc::BPF_RET | 0x10) as u16, jt: 0, jf: 0, k: 0 },
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option reads one `sock_fprog` and the instructions that it points to, both alive here.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            socklen::<libc::sock_fprog>(),
        )
    })?;
    Ok(())
}
