//! The lab's only reading of time: it measures real programs, so its time is real.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment to measure from.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, which processes of one machine share.
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sleeps.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks every 5 ms until `done` says yes, for at most `limit`. Tells whether it did.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        pause(Duration::from_millis(5));
    }
}
