//! What lanes and their owner share: numbers that a lane writes and anyone reads, and a peer's newest endpoint.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::answered::Answered;
use crate::drops::{Counter, Drops};
use crate::io::poll::Announcer;
use crate::lane::heard::Heard;
use crate::status::{LaneStatus, PeerState};

/// Locks a mutex whose data are plain values, valid whatever a panicking thread left in them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// The address of ours that the peer calls, which its firewalls expect answers from; `None` leaves it to the routing
    /// table.
    pub(crate) local: Option<IpAddr>,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address, local: None }
    }
}

/// One peer, as all its lanes share it.
#[derive(Debug)]
pub(crate) struct SharedPeer {
    endpoint: Mutex<Option<Endpoint>>,
    /// Counts changes of the endpoint: lanes compare it per batch and take the lock only when it moved.
    generation: AtomicU32,
    /// Locked for handshakes only.
    answered: Mutex<Answered>,
    /// Rung when the state of a path changes.
    changes: Arc<Announcer>,
    /// One per lane that the peer has.
    pub(crate) paths: Vec<SharedPath>,
}

impl SharedPeer {
    pub(crate) fn new(endpoint: Option<SocketAddr>, lanes: u8, changes: Arc<Announcer>) -> Self {
        Self {
            endpoint: Mutex::new(endpoint.map(Endpoint::from)),
            generation: AtomicU32::new(1),
            answered: Mutex::default(),
            changes,
            paths: (0..lanes).map(|_| SharedPath::default()).collect(),
        }
    }

    /// Takes a lane's report on its path, and tells the owner when the state is another than before.
    pub(crate) fn report(&self, path: &SharedPath, report: &PathReport) {
        let before = path.state();
        path.report(report);
        if before != report.state {
            self.changes.announce();
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        *lock(&self.endpoint)
    }

    /// Replaces the endpoint and returns the new generation.
    pub(crate) fn set_endpoint(&self, endpoint: Option<Endpoint>) -> u32 {
        let mut current = lock(&self.endpoint);
        *current = endpoint;
        // Under the lock, or a lane could take its own generation for one of another's endpoint.
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether some lane has answered this initiation already.
    pub(crate) fn has_answered(&self, initiation: &[u8]) -> bool {
        lock(&self.answered).has(initiation)
    }

    /// Remembers an initiation that is authentic; returns whether this lane is the first that it came to.
    pub(crate) fn note_answered(&self, initiation: &[u8]) -> bool {
        lock(&self.answered).add(initiation)
    }
}

/// One path, written by its lane. Durations are in nanoseconds, moments since the device was opened.
#[derive(Debug, Default)]
pub(crate) struct SharedPath {
    pub(crate) tx_bytes: Counter,
    pub(crate) rx_bytes: Counter,
    /// Moment of the newest handshake plus one; 0 without a session.
    handshake_at: Counter,
    rtt: Counter,
    jitter: Counter,
    /// Parts per million.
    loss: Counter,
    mtu: Counter,
    /// 1 when segmented sends vanish on the way and are given up.
    plain: Counter,
    state: Counter,
    attempts: Counter,
    /// Moment of the newest message plus one; 0 before the first.
    heard_at: Counter,
    calls_sent: Counter,
    calls_heard: Counter,
}

/// What a lane tells about a path at each tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathReport {
    pub(crate) handshake_at: Option<Duration>,
    pub(crate) rtt: Option<(Duration, Duration)>,
    pub(crate) loss: f64,
    pub(crate) mtu: u16,
    pub(crate) plain: bool,
    pub(crate) state: PeerState,
    /// Handshakes sent since the last answer.
    pub(crate) attempts: u32,
    /// What has come from the peer.
    pub(crate) heard: Heard,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}

impl SharedPath {
    fn report(&self, report: &PathReport) {
        let (rtt, jitter) = report.rtt.unwrap_or_default();
        self.handshake_at.set(report.handshake_at.map_or(0, |at| nanos(at) + 1));
        self.rtt.set(nanos(rtt));
        self.jitter.set(nanos(jitter));
        self.loss.set((report.loss * 1e6) as u64);
        self.mtu.set(u64::from(report.mtu));
        self.plain.set(u64::from(report.plain));
        self.attempts.set(u64::from(report.attempts));
        self.heard_at.set(report.heard.at.map_or(0, |at| nanos(at) + 1));
        self.calls_sent.set(report.heard.calls_sent);
        self.calls_heard.set(report.heard.calls_heard);
        self.state.set(match report.state {
            PeerState::Up => 1,
            PeerState::Idle => 0,
            PeerState::Connecting => 2,
            PeerState::Down => 3,
        });
    }

    pub(crate) fn state(&self) -> PeerState {
        match self.state.get() {
            1 => PeerState::Up,
            2 => PeerState::Connecting,
            3 => PeerState::Down,
            _ => PeerState::Idle,
        }
    }

    /// 0 before the first report.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu.get() as u16
    }

    /// Whether segmented sends are given up on this path.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain.get() != 0
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.get()
    }

    pub(crate) fn status(&self, lane: u8, now: Duration) -> LaneStatus {
        let some = |n: u64| (n != 0).then(|| Duration::from_nanos(n));
        LaneStatus {
            lane,
            handshake_age: some(self.handshake_at.get()).map(|at| now.saturating_sub(at)),
            rtt: some(self.rtt.get()),
            jitter: some(self.rtt.get()).map(|_| Duration::from_nanos(self.jitter.get())),
            loss: self.loss.get() as f64 / 1e6,
            mtu: self.mtu(),
            tx_bytes: self.tx_bytes.get(),
            rx_bytes: self.rx_bytes.get(),
            heard: some(self.heard_at.get()).map(|at| now.saturating_sub(at)),
            calls_sent: self.calls_sent.get(),
            calls_heard: self.calls_heard.get(),
        }
    }
}

/// One lane, as its owner sees it.
#[derive(Debug, Default)]
pub(crate) struct SharedLane {
    pub(crate) drops: Drops,
    pub(crate) translated: Translated,
    pub(crate) offloads: LaneOffloads,
    /// The TUN queue is gone: somebody has deleted the link.
    pub(crate) lost: AtomicBool,
}

/// Packets whose address of ours was translated; a super-packet counts once.
#[derive(Debug, Default)]
pub(crate) struct Translated {
    pub(crate) outward: Counter,
    pub(crate) inward: Counter,
}

/// Offloads that a lane gave up at run time: how often, and why the last time (an `errno`).
#[derive(Debug, Default)]
pub(crate) struct LaneOffloads {
    pub(crate) udp_gso: Fallback,
    pub(crate) tun_tso: Fallback,
    pub(crate) tun_uso: Fallback,
}

/// One offload's run-time fate on one lane.
#[derive(Debug, Default)]
pub(crate) struct Fallback {
    pub(crate) count: Counter,
    pub(crate) errno: Counter,
    /// 1 when it is given up for good.
    pub(crate) off: Counter,
}

impl Fallback {
    pub(crate) fn note(&self, error: &std::io::Error) {
        self.count.add(1);
        self.errno.set(error.raw_os_error().unwrap_or(0) as u64);
    }
}
