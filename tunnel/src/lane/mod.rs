//! A lane: one thread that owns a TUN queue, a UDP socket and a session per peer.
//!
//! ```text
//! TUN queue ─ tx: read ─ route ─ cut ─ seal ─▶ wire ─▶ UDP socket
//! TUN queue ◀─ write ─ merge ─ check ─ open ─ rx ◀──── UDP socket
//! ```
//! # Guarantees
//! Between two waits a lane takes no lock, allocates nothing and makes system calls per batch only, once a session is up.

mod busy;
mod deliver;
mod dry;
pub(crate) mod heard;
mod keepalive;
mod passing;
mod peer;
mod rx;
#[cfg(test)]
mod simulation;
mod tx;
mod wire;

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;

use crate::config::{Addresses, Dscp, PrivateKey};
use crate::io::clock::Clock;
use crate::io::poll::{Bell, Poll, Ready};
use crate::io::tun::{Queue, Segmentation};
use crate::io::udp::UdpSocket;
use crate::packet::translate::Table;
use crate::routes::{AllowedIps, Slot};
use crate::shared::{SharedLane, SharedPeer, lock};

use busy::BusyPoll;
pub(crate) use dry::DryLane;
pub(crate) use passing::{Inbox, Outboxes, connect};
pub(crate) use peer::Identity;
use peer::LanePeer;
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

/// Handshakes per second and lane beyond which cookies are asked for. boringtun counts each initiation twice here: once
/// before we know whose it is, once in its session.
const HANDSHAKES_PER_SECOND: u64 = 200;

const TOKEN_BELL: u8 = 0;
const TOKEN_TUN: u8 = 1;
const TOKEN_UDP: u8 = 2;
const TOKEN_VANILLA: u8 = 3;

/// What all lanes are to do, made by the owner as one immutable value.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) routes: AllowedIps,
    /// Native prefixes to virtual ones.
    pub(crate) outward: Table,
    /// Virtual prefixes to native ones.
    pub(crate) inward: Table,
    pub(crate) peers: Vec<PeerOrder>,
    pub(crate) dscp: Dscp,
}

/// One peer of the orders.
#[derive(Debug)]
pub(crate) struct PeerOrder {
    pub(crate) identity: Identity,
    /// Lanes that both ends have; 1 for vanilla peers.
    pub(crate) lanes: u8,
    pub(crate) shared: Arc<SharedPeer>,
    pub(crate) knows_us_by: Addresses,
    pub(crate) persistent_keepalive: Option<NonZeroU16>,
}

/// Where the owner leaves orders for one lane.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) bell: Arc<Bell>,
    letter: Mutex<Letter>,
    stop: AtomicBool,
}

/// What a lane finds in its mailbox, to be done in this order.
#[derive(Debug, Default)]
struct Letter {
    /// The socket for vanilla peers from now on, or none.
    vanilla: Option<Option<UdpSocket>>,
    orders: Option<Arc<Orders>>,
}

impl Mailbox {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, letter: Mutex::default(), stop: AtomicBool::new(false) }
    }

    pub(crate) fn post(&self, orders: Arc<Orders>) {
        lock(&self.letter).orders = Some(orders);
        self.bell.ring();
    }

    /// Leaves the socket for vanilla peers, or word that there is none any more. The orders that follow ring the bell.
    pub(crate) fn hand_over(&self, vanilla: Option<UdpSocket>) {
        lock(&self.letter).vanilla = Some(vanilla);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// What a lane is made of.
pub(crate) struct Parts {
    pub(crate) lane: u8,
    pub(crate) queue: Queue,
    pub(crate) segmentation: Segmentation,
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

/// The lane's peers and how to find them.
pub(crate) struct Peers {
    orders: Arc<Orders>,
    table: Vec<Option<Box<LanePeer>>>,
    /// Lanes of every peer of the device by slot, also of those that this lane has no session with.
    lanes: Vec<u8>,
    by_key: HashMap<[u8; 32], Slot>,
    limiter: Arc<RateLimiter>,
    private_key: PrivateKey,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    lane: u8,
}

impl Peers {
    fn new(lane: u8, private_key: PrivateKey) -> Self {
        let secret = private_key.secret();
        let public = x25519::PublicKey::from(&secret);
        Self {
            orders: Arc::default(),
            table: Vec::new(),
            lanes: Vec::new(),
            by_key: HashMap::new(),
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND)),
            private_key,
            secret,
            public,
            lane,
        }
    }

    #[inline]
    fn get(&mut self, slot: Slot) -> Option<&mut LanePeer> {
        self.table.get_mut(usize::from(slot))?.as_deref_mut()
    }

    /// The peer, and the orders beside it.
    #[inline]
    fn with_orders(&mut self, slot: Slot) -> (&Orders, Option<&mut LanePeer>) {
        (&self.orders, self.table.get_mut(usize::from(slot)).and_then(Option::as_deref_mut))
    }

    fn slot_of(&self, key: &[u8; 32]) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    /// The lane that holds the session for packets which this lane reads for a peer.
    #[inline]
    fn lane_of(&self, slot: Slot) -> u8 {
        self.lane % self.lanes.get(usize::from(slot)).copied().unwrap_or(1).max(1)
    }

    /// Takes new orders: keeps the sessions of peers that are as before.
    fn obey(&mut self, orders: Arc<Orders>, now: Duration) {
        let mut old = std::mem::take(&mut self.table);
        self.lanes.clear();
        self.by_key.clear();
        for order in &orders.peers {
            let slot = usize::from(order.identity.slot);
            self.lanes.resize(self.lanes.len().max(slot + 1), 1);
            self.lanes[slot] = order.lanes;
            if self.lane >= order.lanes {
                continue;
            }
            let kept = old
                .get_mut(slot)
                .and_then(Option::take)
                .filter(|peer| peer.identity == order.identity && Arc::ptr_eq(&peer.shared, &order.shared));
            let mut peer = kept.unwrap_or_else(|| {
                let shared = Arc::clone(&order.shared);
                Box::new(LanePeer::new(
                    order.identity.clone(),
                    self.lane,
                    &self.private_key,
                    &self.limiter,
                    shared,
                    now,
                ))
            });
            peer.knows_us_by = order.knows_us_by;
            peer.keepalive.set(order.persistent_keepalive, now);
            self.by_key.insert(order.identity.public_key.0, order.identity.slot);
            self.table.resize_with(self.table.len().max(slot + 1), || None);
            self.table[slot] = Some(peer);
        }
        self.orders = orders;
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
    /// When the next peer is due.
    deadline: Duration,
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
            rx: Rx::new(parts.segmentation, parts.receive, parts.vanilla.is_some()),
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
            deadline: Duration::ZERO,
        })
    }

    fn run(&mut self) {
        let mut more = false;
        loop {
            let ready = match self.wait(more) {
                Ok(ready) => ready,
                Err(error) => return tracing::error!(%error, lane = self.links.lane, "lane ends: waiting failed"),
            };
            let from = self.clock.now();
            let Some(progress) = self.turn(ready, from) else { return };
            self.busy.worked(self.clock.now() - from);
            more = progress == Progress::More;
        }
    }

    /// What is ready: at once when there is more to do anyway; else a lane looks for a moment before it sleeps.
    fn wait(&mut self, more: bool) -> std::io::Result<Ready> {
        if more {
            return self.poll.wait(Some(Duration::ZERO));
        }
        let (from, window) = (self.clock.now(), self.busy.window());
        while self.clock.now() - from < window {
            std::thread::yield_now();
            let ready = self.poll.wait(Some(Duration::ZERO))?;
            if !ready.is_empty() {
                self.busy.found();
                return Ok(ready);
            }
        }
        if !window.is_zero() {
            self.busy.missed();
        }
        self.poll.wait(self.time_left())
    }

    /// Does what is ready and what is due; `None` when the lane is told to stop.
    fn turn(&mut self, ready: Ready, now: Duration) -> Option<Progress> {
        self.links.now = now;
        if ready.has(TOKEN_BELL) {
            self.mailbox.bell.hear();
            if self.mailbox.stop.load(Ordering::Acquire) {
                return None;
            }
            let letter = std::mem::take(&mut *lock(&self.mailbox.letter));
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
        Some(progress)
    }

    fn time_left(&self) -> Option<Duration> {
        (self.deadline != Duration::MAX).then(|| self.deadline.saturating_sub(self.clock.now()))
    }

    /// One turn of both directions.
    fn step(&mut self, ready: Ready) -> Progress {
        let (mut inward, mut outward) = (Progress::Dry, Progress::Dry);
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
        let wire = &mut self.links.wire;
        wire.flush();
        if let Some(old) = &wire.vanilla {
            // Closing it would do as well.
            let _ = self.poll.remove(old.as_raw_fd());
        }
        wire.vanilla = vanilla;
        self.rx.serve_vanilla(wire.vanilla.is_some());
        let added = wire.vanilla.as_ref().map_or(Ok(()), |new| self.poll.add(new.as_raw_fd(), TOKEN_VANILLA));
        if let Err(error) = added {
            tracing::error!(%error, "vanilla peers cannot be heard: their socket cannot be waited for");
        }
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
            for peer in self.peers.table.iter_mut().flatten() {
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
        for peer in self.peers.table.iter_mut().flatten() {
            if now >= peer.due(now) {
                peer.tick(now, &mut self.links.wire);
            }
            deadline = deadline.min(peer.due(now).max(now + MIN_SLEEP));
        }
        self.links.wire.flush();
        self.deadline = deadline;
    }
}

/// A peer that cannot do what is due (its buffer is full) is not asked again sooner.
const MIN_SLEEP: Duration = Duration::from_millis(5);
