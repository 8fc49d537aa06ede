//! When a peer was last heard of, and how often each side has called: what tells a path that is blocked one way.

use std::time::Duration;

/// What has come from a peer, and what went to it before there was a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Heard {
    /// When it was last heard of, to a tick.
    pub(crate) at: Option<Duration>,
    /// Handshakes that this side began.
    pub(crate) calls_sent: u64,
    /// Handshakes that the peer began, as far as they came here.
    pub(crate) calls_heard: u64,
    /// Packets that had come at the last tick.
    packets: u64,
}

impl Heard {
    /// An authentic handshake message has come: the peer's own call, or its answer to ours.
    pub(crate) fn handshake(&mut self, call: bool, now: Duration) {
        self.at = Some(now);
        self.calls_heard += u64::from(call);
    }

    /// So many packets have come by now.
    pub(crate) fn tick(&mut self, packets: u64, now: Duration) {
        if self.packets != packets {
            self.packets = packets;
            self.at = Some(now);
        }
    }
}
