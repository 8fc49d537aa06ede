//! One peer on one lane: its session, its endpoint, its path, and what is due when.

mod due;
mod report;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use super::heard::Heard;
use super::keepalive::Keepalive;
use super::queue::Mark;
use super::waiting::Waiting;
use super::wire::{Port, Wire};
use crate::config::{Addresses, PresharedKey, PrivateKey, PublicKey};
use crate::io::udp::{Destination, Received};
use crate::path::Path;
use crate::probe;
use crate::routes::Slot;
use crate::segments::{Segments, Sent, Verdict};
use crate::shared::{Endpoint, SharedPath, SharedPeer};
use crate::status::PeerState;

/// boringtun's clock moves with `update_timers` only; it may lag by this much while packets flow.
const TICK: Duration = Duration::from_millis(250);
/// Waits between handshakes that nobody answers: the first, doubled up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What a lane needs to know of a peer; a change makes a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) slot: Slot,
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: Option<PresharedKey>,
    pub(crate) port: Port,
    /// Largest inner packet that the link hands over, in bytes.
    pub(crate) mtu: u16,
}

pub(crate) struct LanePeer {
    pub(crate) slot: Slot,
    pub(crate) port: Port,
    pub(crate) identity: Identity,
    pub(crate) tunn: Tunn,
    pub(crate) path: Path,
    pub(crate) shared: Arc<SharedPeer>,
    /// May change while the session goes on, as may the next.
    pub(crate) knows_us_by: Addresses,
    pub(crate) keepalive: Keepalive,
    lane: u8,
    endpoint: Option<(Endpoint, Destination)>,
    generation: u32,
    /// When the session's handshake was last seen complete.
    handshake_at: Option<Duration>,
    attempts: u32,
    next_attempt: Duration,
    last_tick: Duration,
    /// When inner packets last went either way; probes and keepalives do not count.
    last_traffic: Option<Duration>,
    traffic: bool,
    pub(crate) waiting: Waiting,
    /// Data messages that have gone out, and those of them that went out together with others.
    sent: Sent,
    /// What becomes of the latter.
    pub(crate) segments: Segments,
    /// Counted for the peer's benefit, in probes.
    pub(crate) rx_packets: u64,
    /// When it was last heard in the queue of its socket.
    pub(crate) in_queue: Mark,
    pub(crate) heard: Heard,
}

impl LanePeer {
    pub(crate) fn new(
        identity: Identity,
        lane: u8,
        private_key: &PrivateKey,
        limiter: &Arc<RateLimiter>,
        shared: Arc<SharedPeer>,
        now: Duration,
    ) -> Self {
        // 24 bits: the peer's slot above, the lane in the low byte, so that every message names its lane in byte 5.
        let index = u32::from(identity.slot) << 8 | u32::from(lane);
        let tunn = Tunn::new(
            private_key.secret(),
            boringtun::x25519::PublicKey::from(identity.public_key.0),
            identity.preshared_key.as_ref().map(PresharedKey::bytes),
            // Keepalives are ours: boringtun's cannot be changed while a session goes on.
            None,
            index,
            Some(Arc::clone(limiter)),
        );
        Self {
            slot: identity.slot,
            port: identity.port,
            tunn,
            path: Path::new(identity.mtu),
            shared,
            knows_us_by: Addresses::Native,
            keepalive: Keepalive::default(),
            lane,
            endpoint: None,
            generation: 0,
            handshake_at: None,
            attempts: 0,
            next_attempt: now,
            last_tick: now,
            last_traffic: None,
            traffic: false,
            waiting: Waiting::default(),
            sent: Sent::default(),
            segments: Segments::default(),
            rx_packets: 0,
            in_queue: Mark::default(),
            heard: Heard::default(),
            identity,
        }
    }

    /// The numbers of this lane's path that everyone may read.
    pub(crate) fn shared_path(&self) -> &SharedPath {
        // The owner makes one path per lane that the peer has; a lane beyond has no such peer.
        &self.shared.paths[usize::from(self.lane) % self.shared.paths.len().max(1)]
    }

    /// Where to send; `None` until the peer has called or was configured.
    #[inline]
    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.endpoint.as_ref().map(|(_, destination)| destination)
    }

    /// Takes over an endpoint that another lane has learnt, or the configuration has changed.
    #[inline]
    pub(crate) fn follow_endpoint(&mut self, wire: &Wire) {
        if self.generation != self.shared.generation() {
            self.generation = self.shared.generation();
            self.move_to(self.shared.endpoint(), wire);
        }
    }

    /// Roams: an authentic message has come that nobody can repeat (WireGuard paper, section 2.1). Answers go where it came
    /// from, and come from where it went to.
    #[inline]
    pub(crate) fn roam(&mut self, from: &Received, wire: &Wire) {
        let endpoint = Endpoint { address: from.source, local: from.local };
        if self.endpoint.as_ref().is_none_or(|(known, _)| *known != endpoint) {
            self.place(endpoint, wire);
        }
    }

    /// Leaves our own address to the routing table again, if it was `lost` or with any: the address has gone, or nobody
    /// answers to it any more.
    pub(crate) fn forget_source(&mut self, lost: Option<IpAddr>, wire: &Wire) {
        let Some((Endpoint { address, local: Some(local) }, _)) = self.endpoint else { return };
        if lost.is_none_or(|lost| lost == local) {
            self.place(address.into(), wire);
        }
    }

    fn place(&mut self, endpoint: Endpoint, wire: &Wire) {
        self.generation = self.shared.set_endpoint(Some(endpoint));
        self.move_to(Some(endpoint), wire);
    }

    fn move_to(&mut self, endpoint: Option<Endpoint>, wire: &Wire) {
        let before = self.endpoint.as_ref().map(|(known, _)| known.address);
        let socket = wire.socket(self.port);
        self.endpoint = endpoint.map(|endpoint| (endpoint, socket.destination(endpoint.address, endpoint.local)));
        if before != endpoint.map(|endpoint| endpoint.address) {
            self.path.reset();
            // Who cannot be called has not failed to answer.
            self.attempts = if endpoint.is_some() { self.attempts } else { 0 };
            self.segments = Segments::default();
            self.next_attempt = Duration::ZERO;
        }
    }

    /// Notes an inner packet that was sealed.
    #[inline]
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent.packets += 1;
        self.shared_path().tx_bytes.add(bytes as u64);
    }

    /// Notes that `packets` more leave together with others.
    #[inline]
    pub(crate) fn sent_together(&mut self, packets: u64) {
        self.sent.segmented += packets;
    }

    /// Takes the answer to a probe, which tells how many packets the peer has received.
    pub(crate) fn answered(&mut self, message: probe::Message, now: Duration, wire: &Wire) {
        if !self.path.answer(message.sequence, now) {
            return;
        }
        let (lane, peer) = (self.lane, self.identity.public_key);
        match self.segments.answer(message.sequence, message.packets, now) {
            Verdict::Same => {}
            Verdict::Suspected => tracing::info!(lane, %peer, "segmented sends seem to vanish; trying without"),
            Verdict::Cleared => tracing::info!(lane, %peer, "segmented sends are not what is lost; using them again"),
            Verdict::GivenUp => {
                wire.shared.offloads.udp_gso.count.add(1);
                tracing::warn!(lane, %peer, "segmented sends to a peer vanish while others arrive; doing without");
            }
            Verdict::TriedAgain => tracing::info!(lane, %peer, "trying segmented sends to a peer again"),
        }
        self.publish();
    }

    /// Notes an inner packet that was opened.
    #[inline]
    pub(crate) fn received(&mut self, bytes: usize) {
        self.traffic = true;
        self.shared_path().rx_bytes.add(bytes as u64);
    }

    /// Notes that somebody wants to reach the peer.
    #[inline]
    pub(crate) fn wanted(&mut self) {
        self.traffic = true;
    }

    pub(crate) fn handshake_sent(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.heard.calls_sent += 1;
    }

    /// Moves boringtun's clock when it lags, so that packets after a pause carry the right time.
    #[inline]
    pub(crate) fn freshen(&mut self, now: Duration, wire: &mut Wire) {
        if now.saturating_sub(self.last_tick) >= TICK {
            self.tick(now, wire);
            wire.replan = true;
        }
    }

    /// Whether this lane does not reach the peer now, but lane 0 does: while the lane's first handshake is under way, or
    /// when the peer runs fewer lanes than it was said to.
    #[inline]
    pub(crate) fn should_use_lane_0(&self) -> bool {
        let ready = self.has_session() && self.path.alive() != Some(false);
        !ready && self.lane != 0 && self.shared.paths.first().is_some_and(|path| path.state() == PeerState::Up)
    }

    /// Runs everything that is due by `now`.
    pub(crate) fn tick(&mut self, now: Duration, wire: &mut Wire) {
        self.follow_endpoint(wire);
        if std::mem::take(&mut self.traffic) {
            self.last_traffic = Some(now);
        }
        self.last_tick = now;
        self.heard.tick(self.rx_packets, now);
        let mut message = [0; 256];
        let due = self.tunn.update_timers(&mut message);
        if matches!(due, TunnResult::Err(WireGuardError::ConnectionExpired)) {
            // With the attempt, boringtun gives up what has waited for it.
            self.waiting.clear();
        }
        self.send(due, wire);
        self.see_session(now);
        self.connect(now, wire);
        if self.keepalive.take(now) {
            self.keep_alive(wire);
        }
        if now >= self.probe_due(now) {
            self.probe(now, wire);
        }
        self.publish();
    }

    /// Sends what boringtun has made, if anything, and tells whether it is a handshake.
    fn send(&mut self, message: TunnResult<'_>, wire: &mut Wire) -> bool {
        let TunnResult::WriteToNetwork(bytes) = message else { return false };
        let is_handshake = bytes[0] == super::INITIATION;
        if let Some(to) = self.destination().cloned() {
            wire.send_now(&to, self.port, bytes);
        }
        if is_handshake {
            self.handshake_sent();
        }
        is_handshake
    }

    /// Sends a keepalive, or calls the peer where there is no session to be kept alive and no call is under way.
    fn keep_alive(&mut self, wire: &mut Wire) {
        if self.endpoint.is_none() {
            return;
        }
        let mut message = [0; 256];
        let message = if self.has_session() {
            self.tunn.encapsulate(&[], &mut message)
        } else {
            self.tunn.format_handshake_initiation(&mut message, false)
        };
        self.send(message, wire);
    }

    /// Whether a session is in use. A responder has none before the initiator's first packet.
    pub(crate) fn has_session(&self) -> bool {
        self.handshake_at.is_some()
    }

    /// Learns from boringtun whether there is a session, and since when.
    pub(crate) fn see_session(&mut self, now: Duration) {
        let age = self.tunn.time_since_last_handshake();
        if age.is_some() && self.handshake_at.is_none() {
            self.attempts = 0;
        }
        self.handshake_at = age.map(|age| now.saturating_sub(age));
    }

    /// A handshake has just completed or been answered.
    pub(crate) fn session_made(&mut self, now: Duration) {
        self.attempts = 0;
        // A responder has no session in use before the initiator's first packet: give it time to come.
        self.next_attempt = now + FIRST_RETRY;
        self.see_session(now);
        self.publish();
    }

    /// Sends a handshake when the peer is wanted and has no session, or has one that no longer answers (it restarted).
    fn connect(&mut self, now: Duration, wire: &mut Wire) {
        if !self.wants_handshake() || now < self.next_attempt {
            return;
        }
        // The way out may be another one by now, and with it our address.
        if self.attempts > 0 {
            self.forget_source(None, wire);
        }
        if self.endpoint.is_none() {
            return;
        }
        let mut message = [0; 256];
        let initiation = self.tunn.format_handshake_initiation(&mut message, true);
        if self.send(initiation, wire) {
            let wait = FIRST_RETRY.saturating_mul(1 << self.attempts.clamp(1, 5).saturating_sub(1)).min(LAST_RETRY);
            // Spread the retries of many peers, as WireGuard's jitter of up to a third of a second does.
            self.next_attempt = now + wait + Duration::from_millis(u64::from(self.slot) * 37 % 333);
        }
    }

    fn probe(&mut self, now: Duration, wire: &mut Wire) {
        let due = self.path.next_probe(now);
        let message = probe::Message { kind: probe::Kind::Request, sequence: due.sequence, packets: self.sent.packets };
        let mut buffer = [0; super::MAX_PROBE];
        let size = due.size.map_or(probe::LENGTH, usize::from);
        let packet = probe::write(&mut buffer, message, size);
        // Alone: a probe tells of the path, not of segmented sends.
        wire.flush();
        if size > probe::LENGTH {
            if !self.send_large(packet, wire) {
                return self.path.withdraw(due.sequence);
            }
        } else {
            wire.seal(self, packet, 0);
            wire.flush();
        }
        self.segments.mark(due.sequence, self.sent);
    }

    /// Sends a padded probe, which must not be fragmented. One that had to wait for room would be, like anything else by
    /// then: it is taken back. Returns whether it went out.
    fn send_large(&mut self, packet: &[u8], wire: &mut Wire) -> bool {
        if wire.full().is_some() {
            return false;
        }
        // Best effort: where it fails, the search ends at a size that fragments.
        let _ = wire.socket(self.port).fragment_outer_packets(false);
        wire.seal(self, packet, 0);
        wire.flush();
        let _ = wire.socket(self.port).fragment_outer_packets(true);
        !wire.discard()
    }
}
