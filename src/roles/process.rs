//! What the roles without a node have in common: metrics and probes, tasks, an end by signal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::run::{Board, Role, Signals, Tasks, memory, tell_http, tell_otlp};

/// A process that is not bound to a node.
pub(super) struct Process {
    pub(super) board: Arc<Board>,
    pub(super) tasks: Tasks,
    /// Cancelled when the signal comes.
    pub(super) stop: CancellationToken,
    signals: Signals,
}

impl Process {
    /// Starts what tells about a process of this role. `name` is the pod's.
    ///
    /// # Errors
    /// When the kernel takes no signal handlers.
    pub(super) fn start(role: Role, cluster: String, name: String, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let signals = Signals::listen()?;
        let board = Arc::new(Board::new(role, "the Kubernetes API".to_owned(), cluster, name, Instant::now()));
        let mut tasks = Tasks::new(&board);
        tell_http(&board, listen, &mut tasks);
        tell_otlp(&board, &mut tasks);
        memory::release(&mut tasks);
        Ok(Self { board, tasks, stop: CancellationToken::new(), signals })
    }

    /// Restarts tasks that end, until a signal comes; stays at work for `linger` after it, and then stops them.
    pub(super) async fn run(mut self, linger: Duration) {
        tokio::select! {
            name = self.signals.next() => tracing::info!("{name}: draining"),
            never = self.tasks.restart() => match never {},
        }
        self.board.draining();
        self.stop.cancel();
        tokio::select! {
            () = tokio::time::sleep(linger) => {}
            name = self.signals.next() => tracing::info!("a second {name} ends the drain"),
            never = self.tasks.restart() => match never {},
        }
        self.tasks.stop().await;
        tracing::info!("stopped");
    }
}
