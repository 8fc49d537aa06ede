//! A time that many calls share: while it runs, what fails is tried again; when it is over, once more.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

/// Between tries.
const PAUSE: Duration = Duration::from_secs(2);

/// A time that runs out.
pub struct Deadline {
    over: CancellationToken,
    _timer: DropGuard,
}

impl Deadline {
    /// It runs out after so long.
    pub fn after(time: Duration) -> Self {
        let over = CancellationToken::new();
        let (out, ended) = (over.clone(), CancellationToken::new());
        let timer = ended.clone().drop_guard();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => out.cancel(),
                () = ended.cancelled() => {}
            }
        });
        Self { over, _timer: timer }
    }

    /// Tries until it succeeds, or the time is over and it was tried once more, or another try would find the same.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn retry<T>(&self, mut once: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
        loop {
            let is_last = self.over.is_cancelled();
            match once().await {
                Err(error) if !is_last && !error.starts_with("missing permission") => {}
                made => return made,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.over.cancelled() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_calls_share_one_time_and_each_has_a_last_try() {
        let deadline = Deadline::after(Duration::from_secs(5));
        let tries = async |error: &str| {
            let mut tries = 0;
            let made: Result<(), String> = deadline
                .retry(async || {
                    tries += 1;
                    Err(error.to_owned())
                })
                .await;
            assert_eq!(made, Err(error.to_owned()));
            tries
        };
        // At 0, 2 and 4 s, and when the time is over.
        assert_eq!(tries("no such name").await, 4);
        // Who comes later has one.
        assert_eq!(tries("no such name").await, 1);
        let fresh = Deadline::after(Duration::from_secs(5));
        let mut tries = 0;
        let denied = "missing permission: create pods/exec";
        let made: Result<(), String> = fresh
            .retry(async || {
                tries += 1;
                Err(denied.to_owned())
            })
            .await;
        assert_eq!((made, tries), (Err(denied.to_owned()), 1));
    }
}
