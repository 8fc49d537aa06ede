//! Named tasks in one set. The end of each is an event: it is told and the task is started anew.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;

use super::board::Board;

/// How long the first restart waits; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

type Work = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

struct Task {
    name: String,
    start: Box<dyn Fn() -> Work + Send>,
    failures: u32,
}

/// A set of tasks. Dropping it aborts them.
pub(crate) struct Tasks {
    set: JoinSet<(usize, String)>,
    tasks: Vec<Task>,
    board: Arc<Board>,
}

impl Tasks {
    pub(crate) fn new(board: &Arc<Board>) -> Self {
        Self { set: JoinSet::new(), tasks: Vec::new(), board: Arc::clone(board) }
    }

    /// Starts a task, which is not expected to end.
    pub(crate) fn spawn<F>(&mut self, name: impl Into<String>, start: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let start = Box::new(move || -> Work { Box::pin(start()) });
        self.tasks.push(Task { name: name.into(), start, failures: 0 });
        self.begin(self.tasks.len() - 1, Duration::ZERO);
    }

    fn begin(&mut self, index: usize, wait: Duration) {
        let Some(task) = self.tasks.get(index) else { return };
        let work = (task.start)();
        self.set.spawn(async move {
            tokio::time::sleep(wait).await;
            // The panic's own message is on stderr already.
            let end = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "it panicked".to_owned(),
            };
            (index, end)
        });
    }

    /// Starts anew what ends, for ever.
    pub(crate) async fn restart(&mut self) -> Infallible {
        loop {
            let Some(ended) = self.set.join_next().await else {
                std::future::pending::<()>().await;
                continue;
            };
            // Tasks are cancelled only together with the set, and their panics are caught.
            let Ok((index, error)) = ended else { continue };
            let Some(task) = self.tasks.get_mut(index) else { continue };
            let wait = FIRST_WAIT.saturating_mul(1 << task.failures.min(10)).min(LONGEST_WAIT);
            task.failures += 1;
            tracing::error!(task = %task.name, %error, wait_ms = wait.as_millis(), "a task ended and is started anew");
            self.board.restarted(&task.name, error);
            self.begin(index, wait);
        }
    }

    /// Aborts all tasks and waits for them.
    pub(crate) async fn stop(mut self) {
        self.set.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_or_panics_is_started_anew_later_and_later() {
        let board = Arc::new(Board::for_tests());
        let mut tasks = Tasks::new(&board);
        let starts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&starts);
        tasks.spawn("weak", move || {
            let start = count.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(start > 0, "the first one panics");
                anyhow::bail!("no luck")
            }
        });
        // 0.5 + 1 + 2 + 4 s pass before the fifth start; a task's future is made when its wait begins.
        let _ = tokio::time::timeout(Duration::from_millis(7400), tasks.restart()).await;
        assert_eq!(starts.load(Ordering::Relaxed), 5);
        let report = board.report(std::time::Instant::now());
        assert_eq!(report.restarts.len(), 1);
        assert_eq!((report.restarts[0].task.as_str(), report.restarts[0].error.as_str()), ("weak", "no luck"));
        tasks.stop().await;
    }
}
