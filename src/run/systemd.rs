//! What systemd is told: readiness, a status line, signs of life. Without systemd nothing is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::board::Board;
use crate::status::Report;

/// How often the status line is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// Silence of the pass loop after which the watchdog is left to bite: a pass of 5 000 routes takes seconds, and the
/// loop gives a sign of life at least every 30 s.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Tells systemd about the process until it is cancelled.
///
/// # Errors
/// Never; a lost notification is no reason to end.
pub(super) async fn follow(board: Arc<Board>) -> anyhow::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        std::future::pending::<()>().await;
    }
    let mut ready = false;
    let mut told = String::new();
    loop {
        let report = board.report(Instant::now());
        if report.ready && !ready {
            ready = true;
            send(&[NotifyState::Ready]);
        }
        let line = line(&report);
        if line != told {
            send(&[NotifyState::Status(&line)]);
            told = line;
        }
        if board.silence(Instant::now()) < SILENCE_MAX {
            send(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(if ready { PERIOD } else { Duration::from_millis(200) }).await;
    }
}

pub(super) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

pub(super) fn stopped() {
    send(&[NotifyState::Status("stopped")]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

fn line(report: &Report) -> String {
    let peers = report.tunnel.as_ref().map(|tunnel| {
        let up = tunnel.peers.iter().filter(|peer| peer.state == "up").count();
        format!("{up} of {} peers up", tunnel.peers.len())
    });
    let state =
        if report.ready { "ready".to_owned() } else { format!("not ready: {}", report.not_ready_because.join("; ")) };
    let refused = report.site.refused.as_ref().map(|_| "a newer site file is refused".to_owned());
    [Some(state), peers, refused].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
