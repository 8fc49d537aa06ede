//! Waiting: one epoll set per lane, and an eventfd by which the owner wakes it.

use std::io;
use std::io::Write as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{check, check_len};

/// Up to this many descriptors can be ready at once; a lane has at most five.
const EVENTS: usize = 8;

/// Which descriptors are readable, as a bit set of the tokens that they were added with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    readable: u64,
    /// One that is watched for room has it.
    pub room: bool,
}

impl Ready {
    /// Whether the descriptor with this token has something to read.
    pub fn has(self, token: u8) -> bool {
        self.readable & (1 << token) != 0
    }

    /// Whether none has, and none has room.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn with(mut self, event: &libc::epoll_event) -> Self {
        let room = libc::EPOLLOUT as u32;
        self.room |= event.events & room != 0;
        if event.events & !room != 0 {
            self.readable |= 1 << (event.u64 & 63);
        }
        self
    }
}

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Data,
    /// The same, and room to write into.
    DataAndRoom,
}

/// An epoll set.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the returned descriptor is owned by nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { epoll })
    }

    /// Watches `fd` for reading, level triggered. `token` is 0 to 63.
    ///
    /// # Errors
    /// `EEXIST` when it is watched already.
    pub fn add(&self, fd: RawFd, token: u8) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, Interest::Data)
    }

    /// Watches a descriptor that was added for something else than before.
    ///
    /// # Errors
    /// `ENOENT` when it was not added.
    pub fn change(&self, fd: RawFd, token: u8, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u8, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Data => libc::EPOLLIN,
            Interest::DataAndRoom => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: u64::from(token) };
        // SAFETY: the call reads one event.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }

    /// Watches `fd` no longer.
    ///
    /// # Errors
    /// `ENOENT` when it was not watched.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: no event is read for a removal.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// Waits until something is readable or `timeout` has passed; `None` waits for ever. Rounds up to a millisecond, so
    /// that a deadline is never met too early and then polled in a loop.
    ///
    /// # Errors
    /// Passes on the kernel's; an interrupted wait is an empty result.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let millis = timeout.map_or(-1, |t| t.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32);
        // SAFETY: the call writes at most EVENTS events into the array.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, millis) };
        match check(count) {
            Ok(count) => Ok(events.iter().take(count as usize).fold(Ready::default(), Ready::with)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Ready::default()),
            Err(error) => Err(error),
        }
    }
}

/// An eventfd: any thread rings, the lane hears.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the returned descriptor is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))?) };
        Ok(Self { fd })
    }

    /// Wakes the lane. Ringing twice before it hears is once; the counter's overflow cannot happen otherwise.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: reads eight bytes of `one`. A full counter (EAGAIN) means that the bell rings already.
        let _ = unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Silences the bell; returns how often it was rung.
    pub fn hear(&self) -> u64 {
        let mut count = [0u8; 8];
        // SAFETY: writes eight bytes into `count`. EAGAIN means that it was silent, and leaves the zeroes.
        let _ = check_len(unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) });
        u64::from_ne_bytes(count)
    }

    /// The raw descriptor, for the poll set.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The lanes' end of a stream on which the owner hears that something has changed. A stream rather than an eventfd,
/// because an async runtime takes one without `unsafe`.
#[derive(Debug)]
pub struct Announcer {
    stream: UnixStream,
}

impl Announcer {
    /// Both ends, neither of which blocks.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when descriptors have run out.
    pub fn new() -> io::Result<(Self, UnixStream)> {
        let (stream, listener) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        Ok((Self { stream }, listener))
    }

    /// Makes the other end readable. When the stream is full, it is readable anyway.
    pub fn announce(&self) {
        let _ = (&self.stream).write(&[0]);
    }
}
