//! The testbed's only reading of time: it waits for real programs.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Longest wait for what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A moment to measure from.
pub fn now() -> Instant {
    Instant::now()
}

/// Sleeps.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks every 5 ms until `done` says yes, for at most `limit`. Tells whether it did.
pub fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
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

/// Tries until `attempt` succeeds, for at most `limit`, and waits in between for as long as an attempt took, for 100 ms to
/// 2 s: on a busy machine, who asks shall not be what keeps it busy.
///
/// # Errors
/// The last attempt's error, when the time is over.
pub fn retry<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = now();
    loop {
        let began = now();
        match attempt() {
            Err(error) if start.elapsed() >= limit => {
                return Err(error.context(format!("gave up after {} s", start.elapsed().as_secs())));
            }
            Err(_) => pause(began.elapsed().clamp(Duration::from_millis(100), Duration::from_secs(2))),
            done => return done,
        }
    }
}
