//! What a peer is owed, and when.

use std::time::Duration;

use super::{LanePeer, TICK};
use crate::lane::Port;
use crate::path::ACTIVE_AFTER_TRAFFIC;

/// After traffic, WireGuard's own timers (keepalive 10 s, rekey 15 s after silence) want a tick each second for so long.
const TIMERS_AFTER_TRAFFIC: Duration = Duration::from_secs(20);
/// Between ticks of a session without traffic: only its expiry is left to notice.
const IDLE_TICK: Duration = Duration::from_secs(30);

impl LanePeer {
    /// Whether the peer is to be called: its session no longer answers, or there is none and one is wanted.
    pub(super) fn wants_handshake(&self) -> bool {
        self.path.alive() == Some(false) || !self.has_session() && self.wants_session()
    }

    /// Lane 0 keeps a session to every Linkspan peer, so that its state is known; others connect once, then on traffic.
    fn wants_session(&self) -> bool {
        self.attempts == 0 || self.port == Port::Linkspan && self.lane == 0 || self.is_active(self.last_tick)
    }

    fn is_active(&self, now: Duration) -> bool {
        self.last_traffic.is_some_and(|at| now.saturating_sub(at) < ACTIVE_AFTER_TRAFFIC)
    }

    pub(super) fn probe_due(&self, now: Duration) -> Duration {
        // A path that is down is watched until it answers, or its lane would call the peer for ever.
        let wanted = self.lane == 0 || self.is_active(now) || self.path.alive() == Some(false);
        if self.port == Port::Vanilla || !self.has_session() || !wanted {
            return Duration::MAX;
        }
        self.path.due(self.last_traffic, now)
    }

    /// When this peer next wants a tick; `Duration::MAX` for never.
    pub(crate) fn due(&self, now: Duration) -> Duration {
        let recent = self.traffic || self.last_traffic.is_some_and(|at| now.saturating_sub(at) < TIMERS_AFTER_TRAFFIC);
        let timers = match (recent, self.handshake_at) {
            (true, _) => self.last_tick + 4 * TICK,
            (false, Some(_)) => self.last_tick + IDLE_TICK,
            (false, None) => Duration::MAX,
        };
        // An endpoint that was set meanwhile is taken over with the tick.
        let has_endpoint = self.endpoint.is_some() || self.generation != self.shared.generation();
        let attempt = if self.wants_handshake() && has_endpoint { self.next_attempt } else { Duration::MAX };
        timers.min(attempt).min(self.keepalive.due()).min(self.probe_due(now))
    }
}
