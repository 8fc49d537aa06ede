//! When the next persistent keepalive is due. boringtun has them too, but its interval cannot be changed while a session
//! goes on, and follows a clock of its own.

use std::num::NonZeroU16;
use std::time::Duration;

/// The interval of one session, and its next end.
#[derive(Debug, Default)]
pub(super) struct Keepalive {
    every: Option<NonZeroU16>,
    next: Option<Duration>,
}

impl Keepalive {
    /// Takes another interval in seconds, or none; the same one changes nothing.
    pub(super) fn set(&mut self, every: Option<NonZeroU16>, now: Duration) {
        if self.every != every {
            self.every = every;
            self.begin(now);
        }
    }

    /// Tells whether one is due, and begins the next interval if so.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let due = now >= self.due();
        if due {
            self.begin(now);
        }
        due
    }

    /// When the next one is due; `Duration::MAX` for never.
    pub(super) fn due(&self) -> Duration {
        self.next.unwrap_or(Duration::MAX)
    }

    fn begin(&mut self, now: Duration) {
        self.next = self.every.map(|every| now + Duration::from_secs(every.get().into()));
    }
}
