//! What a lane tells others about the path to a peer.

use super::LanePeer;
use crate::lane::Port;
use crate::shared::PathReport;
use crate::status::PeerState;

/// Unanswered handshakes after which a peer counts as down.
const DOWN_ATTEMPTS: u32 = 3;

impl LanePeer {
    fn state(&self) -> PeerState {
        match (self.port, self.handshake_at, self.path.alive()) {
            (Port::Linkspan, Some(_), Some(true)) | (Port::Vanilla, Some(_), _) => PeerState::Up,
            (Port::Linkspan, _, Some(false)) => PeerState::Down,
            (Port::Linkspan, Some(_), None) => PeerState::Connecting,
            (_, None, _) if self.attempts >= DOWN_ATTEMPTS => PeerState::Down,
            (_, None, _) if self.attempts > 0 => PeerState::Connecting,
            (_, None, _) => PeerState::Idle,
        }
    }

    pub(crate) fn publish(&self) {
        let report = PathReport {
            handshake_at: self.handshake_at,
            rtt: self.path.rtt(),
            loss: self.path.loss(),
            mtu: self.path.mtu(),
            plain: self.segments.given_up(),
            state: self.state(),
            attempts: self.attempts,
            heard: self.heard,
        };
        self.shared.report(self.shared_path(), &report);
    }
}
