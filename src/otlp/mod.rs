//! Metrics, logs and traces over OTLP (OpenTelemetry protocol 1.x, HTTP or HTTPS with protobuf), off unless an endpoint is set.
//!
//! ```text
//! tracing --layer--> channel --+
//!                              +--every 2 s--> buffer --> collector
//! report  --every 30 s---------+
//! ```
//!
//! While the collector is away, what was made is kept with its times, and the oldest goes when there is too much of it.
//! Nothing waits for the collector: the channel and the buffer are bounded, and what does not fit is counted.

mod buffer;
mod collector;
mod encode;
mod endpoint;
mod layer;
mod send;
mod tls;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

pub use collector::Collector;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use layer::{Bridge, SPANS};
pub use tls::NoTrust;

use crate::run::Board;
use buffer::{Buffer, Signal};
use encode::{Item, Resource};

/// Log records and spans that may wait for the next tick.
const ITEMS: usize = 4096;
/// Encoded batches that may wait for the collector, in bytes: of metrics, and as many of log records and spans.
const BYTES: usize = 2 * 1024 * 1024;
/// How often logs and spans are taken.
const TICK: Duration = Duration::from_secs(2);
/// How often metrics are taken.
const METRICS: Duration = Duration::from_secs(30);
/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The one exporter of this process, if there is one.
static EXPORTER: OnceLock<Arc<Exporter>> = OnceLock::new();

/// What is exported, and where to.
struct Exporter {
    collector: Collector,
    state: Mutex<State>,
    counts: Arc<Counts>,
}

struct State {
    items: mpsc::Receiver<Item>,
    buffer: Buffer,
    /// When metrics are taken next; at once at first.
    metrics: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What became of it.
#[derive(Debug, Default)]
struct Counts {
    /// Items that found the channel full.
    dropped_items: AtomicU64,
    dropped_batches: AtomicU64,
    buffered_bytes: AtomicU64,
    failing: AtomicBool,
}

/// The part of the report that tells of the export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtlpReport {
    /// Whether the collector has taken the last batch.
    pub reachable: bool,
    /// Bytes that wait for it.
    pub buffered_bytes: u64,
    /// Log records and spans that were dropped because they came too fast.
    pub dropped_items: u64,
    /// Batches that were dropped because the collector was away for too long, or refused them.
    pub dropped_batches: u64,
}

/// Prepares the export. The layer has to be told of what is logged; task `otlp` sends it.
pub fn install(collector: Collector) -> Bridge {
    let (sender, items) = mpsc::channel(ITEMS);
    let counts = Arc::new(Counts::default());
    let state = State { items, buffer: Buffer::new(BYTES), metrics: None, failures: 0, not_before: None };
    let exporter = Exporter { collector, state: Mutex::new(state), counts: Arc::clone(&counts) };
    // A second one in a process, as tests have it, has nobody who sends; its channel fills up and drops.
    let _ = EXPORTER.set(Arc::new(exporter));
    Bridge::new(sender, seed(), move || {
        counts.dropped_items.fetch_add(1, Ordering::Relaxed);
    })
}

/// Whether there is anything to export.
pub(crate) fn is_on() -> bool {
    EXPORTER.get().is_some()
}

/// What is told of the export; none where there is none.
pub(crate) fn report() -> Option<OtlpReport> {
    let counts = &EXPORTER.get()?.counts;
    Some(OtlpReport {
        reachable: !counts.failing.load(Ordering::Relaxed),
        buffered_bytes: counts.buffered_bytes.load(Ordering::Relaxed),
        dropped_items: counts.dropped_items.load(Ordering::Relaxed),
        dropped_batches: counts.dropped_batches.load(Ordering::Relaxed),
    })
}

/// Exports until it is cancelled.
///
/// # Errors
/// Never; what cannot be sent is kept.
pub(crate) async fn follow(board: Arc<Board>) -> anyhow::Result<()> {
    let Some(exporter) = EXPORTER.get() else { return std::future::pending().await };
    let started = unix_nanoseconds();
    let mut state = exporter.state.lock().await;
    loop {
        state.take(&board, &exporter.counts, started);
        state.send(exporter).await;
        let counts = &exporter.counts;
        counts.buffered_bytes.store(state.buffer.bytes() as u64, Ordering::Relaxed);
        tokio::time::sleep(TICK).await;
    }
}

impl State {
    /// Puts what there is to tell into the buffer.
    fn take(&mut self, board: &Board, counts: &Counts, started: u64) {
        let now = Instant::now();
        let report = board.report(now);
        let resource =
            Resource { cluster: report.cluster.clone(), instance: report.node.clone(), role: board.role().name() };
        let mut items = Vec::new();
        while let Ok(item) = self.items.try_recv() {
            items.push(item);
        }
        let (logs, spans) = encode::items(&resource, items);
        let metrics = self.metrics.is_none_or(|at| at <= now).then(|| {
            self.metrics = Some(now + METRICS);
            encode::metrics(&resource, &report, started, unix_nanoseconds())
        });
        let batches = [(Signal::Logs, logs), (Signal::Traces, spans), (Signal::Metrics, metrics)];
        for (signal, batch) in batches {
            let dropped = batch.map_or(0, |batch| self.buffer.push(signal, batch));
            counts.dropped_batches.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// Sends what is in the buffer, as far as the collector takes it.
    async fn send(&mut self, exporter: &Exporter) {
        let now = Instant::now();
        if self.buffer.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        let outcome = send::all(&exporter.collector, &mut self.buffer).await;
        exporter.counts.dropped_batches.fetch_add(outcome.refused, Ordering::Relaxed);
        let was_failing = exporter.counts.failing.swap(outcome.error.is_some(), Ordering::Relaxed);
        match outcome.error {
            None => (self.failures, self.not_before) = (0, None),
            Some(error) => {
                let wait = RETRY.0.saturating_mul(1 << self.failures.min(8)).min(RETRY.1);
                self.failures += 1;
                self.not_before = Some(Instant::now() + wait);
                if !was_failing {
                    let endpoint = &exporter.collector.endpoint;
                    tracing::warn!(%endpoint, "the OTLP collector does not take what is sent, which is kept: {error}");
                }
            }
        }
    }
}

/// Makes the IDs of traces and spans unlike those of other processes.
#[expect(clippy::disallowed_methods, reason = "the edge that seeds the IDs of traces")]
fn seed() -> u64 {
    rand::random()
}

/// Nanoseconds since 1970.
fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
