//! A lane: one thread that owns a TUN queue, a UDP socket and a session per peer.
//!
//! ```text
//! TUN queue ─ tx: read ─ route ─ cut ─ seal ─▶ wire ─▶ UDP socket
//! TUN queue ◀─ write ─ merge ─ check ─ open ─ rx ◀──── UDP socket
//! ```
//! # Guarantees
//! Between two waits a lane takes no lock that another could hold, allocates nothing and makes system calls per batch only,
//! once a session is up. (boringtun has a mutex of each session's own, which it takes for every packet that it opens.)

mod busy;
mod deliver;
mod dry;
pub(crate) mod heard;
mod keepalive;
mod losses;
mod orders;
mod passing;
mod peer;
mod peers;
mod queue;
mod refusals;
mod rx;
#[cfg(test)]
mod simulation;
mod tx;
mod waiting;
mod wire;

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::PrivateKey;
use crate::io::clock::Clock;
use crate::io::poll::{Interest, Poll, Ready};
use crate::io::tun::{Queue, Segmentation};
use crate::io::udp::UdpSocket;
use crate::shared::SharedLane;

use busy::{After, BusyPoll};
pub(crate) use deliver::Merges;
pub(crate) use dry::DryLane;
use losses::Losses;
pub(crate) use orders::{Mailbox, Orders, PeerOrder};
pub(crate) use passing::{Inbox, Outboxes, connect};
pub(crate) use peer::Identity;
use peers::Peers;
pub(crate) use rx::Receive;
use rx::Rx;
use tx::{Progress, Tx};
pub(crate) use wire::Port;
use wire::Wire;

/// Message types (WireGuard paper, section 5.4).
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

/// Largest padded probe: the largest MTU that a device may have.
const MAX_PROBE: usize = crate::config::MAX_MTU as usize;

const TOKEN_BELL: u8 = 0;
const TOKEN_TUN: u8 = 1;
const TOKEN_UDP: u8 = 2;
const TOKEN_VANILLA: u8 = 3;

/// What a lane is made of.
pub(crate) struct Parts {
    pub(crate) lane: u8,
    pub(crate) queue: Queue,
    pub(crate) segmentation: Segmentation,
    pub(crate) merges: Merges,
    pub(crate) socket: UdpSocket,
    pub(crate) vanilla: Option<UdpSocket>,
    pub(crate) gso: bool,
    pub(crate) receive: Receive,
    pub(crate) inbox: Inbox,
    pub(crate) outboxes: Outboxes,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) shared: Arc<SharedLane>,
    pub(crate) private_key: PrivateKey,
    pub(crate) clock: Clock,
}

/// What both directions use.
pub(crate) struct Links {
    lane: u8,
    queue: Queue,
    wire: Wire,
    inbox: Inbox,
    outboxes: Outboxes,
    now: Duration,
}

impl Links {
    fn drops(&self) -> &crate::drops::Drops {
        &self.wire.shared.drops
    }
}

/// Runs a lane until it is told to stop.
pub(crate) fn run(parts: Parts) {
    match Lane::new(parts) {
        Ok(mut lane) => lane.run(),
        Err(error) => tracing::error!(%error, "failed to start a lane: no poll set"),
    }
}

struct Lane {
    links: Links,
    peers: Peers,
    tx: Tx,
    rx: Rx,
    poll: Poll,
    mailbox: Arc<Mailbox>,
    clock: Clock,
    busy: BusyPoll,
    /// The socket for whose room the lane waits before it reads more packets of this host.
    held: Option<Port>,
    /// When the next peer is due.
    deadline: Duration,
    losses: Losses,
}

impl Lane {
    fn new(parts: Parts) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(parts.mailbox.bell.raw(), TOKEN_BELL)?;
        poll.add(parts.queue.raw(), TOKEN_TUN)?;
        poll.add(parts.socket.as_raw_fd(), TOKEN_UDP)?;
        if let Some(vanilla) = &parts.vanilla {
            poll.add(vanilla.as_raw_fd(), TOKEN_VANILLA)?;
        }
        Ok(Self {
            tx: Tx::new(parts.segmentation),
            rx: Rx::new(parts.segmentation, parts.merges, parts.receive, parts.vanilla.is_some()),
            peers: Peers::new(parts.lane, parts.private_key),
            links: Links {
                lane: parts.lane,
                queue: parts.queue,
                wire: Wire::new(parts.socket, parts.vanilla, parts.gso, parts.shared),
                inbox: parts.inbox,
                outboxes: parts.outboxes,
                now: Duration::ZERO,
            },
            poll,
            mailbox: parts.mailbox,
            clock: parts.clock,
            busy: BusyPoll::default(),
            held: None,
            deadline: Duration::ZERO,
            losses: Losses::default(),
        })
    }

    fn run(&mut self) {
        let (mut more, mut after, mut done) = (false, After::Chores, self.clock.now());
        loop {
            let ready = match self.wait(more, after, done) {
                Ok(ready) => ready,
                Err(error) => return tracing::error!(%error, lane = self.links.lane, "lane ends: waiting failed"),
            };
            let from = self.clock.now();
            if !more {
                self.busy.waited(after, is_answer(ready, after).then(|| from - done));
            }
            let Some(progress) = self.turn(ready, from) else { return };
            after = after_turn(ready);
            done = self.clock.now();
            self.busy.worked(done - from);
            more = progress == Progress::More;
        }
    }

    /// What is ready: at once when there is more to do anyway; else a lane looks for a moment before it sleeps, from the
    /// time at which the last turn was done.
    fn wait(&mut self, more: bool, after: After, done: Duration) -> std::io::Result<Ready> {
        if more {
            return self.poll.wait(Some(Duration::ZERO));
        }
        let window = self.busy.window(after, done);
        let mut now = done;
        while now - done < window {
            std::thread::yield_now();
            let ready = self.poll.wait(Some(Duration::ZERO))?;
            now = self.clock.now();
            if !ready.is_empty() {
                self.busy.found(now - done);
                return Ok(ready);
            }
        }
        if !window.is_zero() {
            self.busy.missed(now - done);
        }
        self.poll.wait(self.time_left())
    }

    /// Does what is ready and what is due; `None` when the lane is told to stop.
    fn turn(&mut self, ready: Ready, now: Duration) -> Option<Progress> {
        self.links.now = now;
        self.links.wire.begin_turn();
        if ready.has(TOKEN_BELL) {
            let letter = self.mailbox.open()?;
            if let Some(vanilla) = letter.vanilla {
                self.replace_vanilla(vanilla);
            }
            if let Some(orders) = letter.orders {
                self.obey(orders);
            }
        }
        let progress = self.step(ready);
        self.note_failed_sends();
        if std::mem::take(&mut self.links.wire.replan) || self.links.now >= self.deadline {
            self.tick();
        }
        self.losses.look(&self.links.wire, now);
        self.links.outboxes.ring();
        self.hold_back();
        Some(progress)
    }

    fn time_left(&self) -> Option<Duration> {
        (self.deadline != Duration::MAX).then(|| self.deadline.saturating_sub(self.clock.now()))
    }

    /// One turn of both directions.
    fn step(&mut self, ready: Ready) -> Progress {
        let (mut inward, mut outward) = (Progress::Dry, Progress::Dry);
        if ready.room {
            self.links.wire.has_room(self.held);
        }
        if ready.has(TOKEN_UDP) {
            inward = inward.max(self.rx.run(Port::Linkspan, &mut self.links, &mut self.peers));
        }
        if ready.has(TOKEN_VANILLA) {
            inward = inward.max(self.rx.run(Port::Vanilla, &mut self.links, &mut self.peers));
        }
        if ready.has(TOKEN_TUN) {
            outward = outward.max(self.tx.run(&mut self.links, &mut self.peers));
            if self.links.wire.shared.lost.load(Ordering::Acquire) {
                tracing::warn!(lane = self.links.lane, "the TUN link is gone: it was deleted by somebody else");
                // A queue without its link is readable for ever.
                let _ = self.poll.remove(self.links.queue.raw());
            }
        }
        outward = outward.max(self.tx.run_inbox(&mut self.links, &mut self.peers));
        // Packets that wait in the queue may fill up the batch; it never waits for others.
        if outward == Progress::Dry {
            self.links.wire.flush();
        }
        inward.max(outward)
    }

    /// Uses another socket for vanilla peers, or none.
    fn replace_vanilla(&mut self, vanilla: Option<UdpSocket>) {
        // Closing it would do as well.
        self.losses.vanilla_replaced();
        let old = self.links.wire.replace_vanilla(vanilla);
        let _ = old.map(|old| self.poll.remove(old.as_raw_fd()));
        let vanilla = &self.links.wire.vanilla;
        self.rx.serve_vanilla(vanilla.is_some());
        let added = vanilla.as_ref().map_or(Ok(()), |new| self.poll.add(new.as_raw_fd(), TOKEN_VANILLA));
        if let Err(error) = added {
            tracing::error!(%error, "vanilla peers cannot be heard: their socket cannot be waited for");
        }
        if self.held == Some(Port::Vanilla) {
            // The new one may be full before this turn ends.
            let _ = self.watch(Port::Vanilla, Interest::DataAndRoom);
        }
    }

    /// While a send buffer is full, waits for room in it instead of packets of this host.
    fn hold_back(&mut self) {
        let full = self.links.wire.full();
        if full == self.held {
            return;
        }
        if let Some(port) = self.held {
            // Its socket may have been replaced, or is gone.
            let _ = self.watch(port, Interest::Data);
        }
        let queue = self.links.queue.raw();
        let changed = match (self.held, full) {
            (Some(_), Some(port)) => self.watch(port, Interest::DataAndRoom),
            (None, Some(port)) => self.watch(port, Interest::DataAndRoom).and_then(|()| self.poll.remove(queue)),
            // A link that is gone is not watched any more.
            (_, None) if self.links.wire.shared.lost.load(Ordering::Acquire) => Ok(()),
            (_, None) => self.poll.add(queue, TOKEN_TUN),
        };
        self.held = full;
        if let Err(error) = changed {
            tracing::error!(%error, lane = self.links.lane, "packets of this host may wait for ever");
        }
    }

    fn watch(&self, port: Port, interest: Interest) -> std::io::Result<()> {
        let wire = &self.links.wire;
        let (socket, token) = match (port, &wire.vanilla) {
            (Port::Linkspan, _) => (&wire.main, TOKEN_UDP),
            (Port::Vanilla, Some(vanilla)) => (vanilla, TOKEN_VANILLA),
            (Port::Vanilla, None) => return Ok(()),
        };
        self.poll.change(socket.as_raw_fd(), token, interest)
    }

    fn obey(&mut self, orders: Arc<Orders>) {
        self.peers.obey(orders, self.links.now);
        self.tx.routes_changed();
        self.rx.routes_changed();
        self.deadline = Duration::ZERO;
    }

    /// Tells peers what sends to them have shown.
    fn note_failed_sends(&mut self) {
        if let Some(lost) = self.links.wire.lost_source.take() {
            for peer in self.peers.iter_mut() {
                peer.forget_source(Some(lost), &self.links.wire);
            }
        }
        if let Some(slot) = self.links.wire.too_big.take()
            && let Some(peer) = self.peers.get(slot)
        {
            peer.path.too_big(self.links.now);
        }
    }

    /// Ticks the peers that are due and finds the next deadline.
    fn tick(&mut self) {
        let now = self.links.now;
        let mut deadline = Duration::MAX;
        for peer in self.peers.iter_mut() {
            if now >= peer.due(now) {
                peer.tick(now, &mut self.links.wire);
            }
            deadline = deadline.min(peer.due(now).max(now + MIN_SLEEP));
        }
        self.links.wire.flush();
        self.deadline = deadline;
    }
}

/// What a turn was mainly about, by what was ready.
fn after_turn(ready: Ready) -> After {
    if ready.has(TOKEN_TUN) {
        After::Sending
    } else if ready.has(TOKEN_UDP) || ready.has(TOKEN_VANILLA) {
        After::Receiving
    } else {
        After::Chores
    }
}

/// Whether what is ready answers to what the last turn was about: datagrams after sending, packets after receiving.
fn is_answer(ready: Ready, after: After) -> bool {
    match after {
        After::Sending => ready.has(TOKEN_UDP) || ready.has(TOKEN_VANILLA),
        After::Receiving => ready.has(TOKEN_TUN),
        After::Chores => false,
    }
}

/// A peer that cannot do what is due (its buffer is full) is not asked again sooner.
const MIN_SLEEP: Duration = Duration::from_millis(5);
