//! The only clock: lanes read it once per wake-up and hand the moment down.

use std::time::{Duration, Instant, SystemTime};

/// Counts from the moment that a device was opened. Moments are durations, so that logic can be tested with any.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[inline]
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// How long ago the kernel has stamped something, by the clock of the day; nothing when that was set back since.
pub(super) fn since(stamp: Duration) -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(stamp)
}
