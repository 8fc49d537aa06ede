//! Passes over the node: the device, the kernel and the zone are brought to what the site asks for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use controller::node::{Desired, Interest, Kernel, Watch};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;
use tunnel::{Config, Device};

use super::board::Opened;
use super::paths::Told;
use super::publish::Publisher;
use super::{Context, current};
use crate::site::{Loaded, NodePlan};
use crate::status::PassReport;

/// Longest time between passes.
const PERIOD: Duration = Duration::from_secs(30);
/// How long a pass after a failed one waits; each further one waits twice as long, up to [`PERIOD`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Kernel events come in bursts, our own writes among them; one pass answers a burst.
const SETTLE: Duration = Duration::from_millis(50);
/// Between passes that fail, whatever happens in the kernel: their half-done writes are events too.
const FAILING_GAP: Duration = Duration::from_secs(1);
/// How often the loop shows that it lives while there is nothing to do.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long a dying process may hold ports and queues: the kernel ends its threads and waits for readers of its queues.
const HELD_MAX: Duration = Duration::from_secs(3);
/// Between tries to take what it held.
const HELD_RETRY: Duration = Duration::from_millis(50);

/// What made a pass run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Start,
    Site,
    Kernel,
    Clock,
    Retry,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "the start",
            Self::Site => "a changed site",
            Self::Kernel => "a change in the kernel",
            Self::Clock => "the clock",
            Self::Retry => "a failure before",
        })
    }
}

/// Processes that counted a flow beside an earlier one of this node may have died with it.
async fn remove_counters_left_behind() {
    match controller::node::remove_counters().await {
        Ok(tables) if tables.is_empty() => {}
        Ok(tables) => tracing::info!("removed counters that were left behind: {}", tables.join(", ")),
        Err(error) => tracing::warn!("failed to look for counters that were left behind: {error}"),
    }
}

/// Passes until it is cancelled.
///
/// # Errors
/// When netlink sockets cannot be had.
pub(super) async fn follow(context: Context) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    let (kernel, connection) = Kernel::open().context("failed to open a netlink socket")?;
    connections.spawn(connection);
    let (watch, connection) = Watch::open(Interest::default()).context("failed to watch the kernel")?;
    connections.spawn(connection);
    let sites = context.sites.subscribe();
    remove_counters_left_behind().await;
    let publisher = Publisher::new(&context);
    let told = context.board.told.subscribe();
    let mut node = Loop { context, kernel, watch, sites, told, publisher };
    let mut trigger = Trigger::Start;
    loop {
        let failures = node.pass(trigger).await?;
        trigger = tokio::select! {
            trigger = node.wait(failures) => trigger?,
            _ = connections.join_next() => anyhow::bail!("a netlink connection ended"),
        };
    }
}

struct Loop {
    context: Context,
    kernel: Kernel,
    watch: Watch,
    sites: watch::Receiver<Option<Arc<Loaded>>>,
    /// What the gateway tells of paths, on a node without a device.
    told: watch::Receiver<Told>,
    publisher: Publisher,
}

impl Loop {
    /// One pass; returns how many in a row have failed.
    async fn pass(&mut self, trigger: Trigger) -> anyhow::Result<u64> {
        // Without a site nothing is touched: what an earlier process left may be just what is wanted.
        let loaded = current(&mut self.sites).await?;
        let begin = Instant::now();
        let mut report = PassReport { trigger: trigger.to_string(), ..Default::default() };
        match self.context.plan(&loaded) {
            Ok(plan) => {
                let span = tracing::debug_span!(target: controller::SPANS, "node pass", %trigger);
                self.apply(&plan, &mut report).instrument(span).await;
            }
            Err(error) => report.failed.push(format!("{error:#}")),
        }
        let now = Instant::now();
        report.took_ms = u64::try_from(now.duration_since(begin).as_millis()).unwrap_or(u64::MAX);
        let report = self.context.board.passed(report, now);
        self.context.paths.send_replace(());
        // The kernel's part of a pass logs its own actions and failures.
        tracing::debug!(%trigger, took_ms = report.took_ms, failed = report.failed.len(), "pass");
        Ok(report.failures_in_row)
    }

    /// Peers first, then routes, then names: what is named can be reached.
    async fn apply(&mut self, plan: &NodePlan, report: &mut PassReport) {
        if let Err(error) = open_device(&self.context, plan.tunnel.clone()).await {
            tracing::error!("{error:#}");
            report.failed.push(format!("{error:#}"));
        }
        self.kernel_pass(&plan.desired, report).await;
        self.publisher.publish(plan);
    }

    async fn kernel_pass(&mut self, desired: &Desired, report: &mut PassReport) {
        self.watch.set_interest(Interest::of(desired));
        match controller::node::pass(&self.kernel, desired).await {
            Ok(done) => {
                report.applied = done.applied.iter().map(ToString::to_string).collect();
                report.failed.extend(done.failed.iter().map(ToString::to_string));
                report.obstacles = done.obstacles.iter().map(ToString::to_string).collect();
            }
            Err(error) => {
                tracing::warn!(%error, "the node could not be looked at");
                report.failed.push(error.to_string());
            }
        }
    }

    /// Waits for a reason to pass again, and meanwhile keeps names in step with paths.
    async fn wait(&mut self, failures: u64) -> anyhow::Result<Trigger> {
        let (pause, mut reason) = match u32::try_from(failures.min(10)).unwrap_or(10) {
            0 => (PERIOD, Trigger::Clock),
            failures => (FIRST_RETRY.saturating_mul(1 << (failures - 1)).min(PERIOD), Trigger::Retry),
        };
        let passed = tokio::time::Instant::now();
        let again = tokio::time::sleep_until(passed + pause);
        tokio::pin!(again);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let paths = self.context.board.device().map(|device| UnixStream::from_std(device.changes()?)).transpose()?;
        // A state may have changed before this wait began.
        self.publisher.follow_paths();
        loop {
            tokio::select! {
                () = &mut again => return Ok(reason),
                changed = self.sites.changed() => {
                    changed.context("the site is held as long as the process runs")?;
                    return Ok(Trigger::Site);
                }
                changed = self.watch.changed() => {
                    changed.context("kernel events ended")?;
                    let at = passed + after_event(passed.elapsed(), failures);
                    if at < again.deadline() {
                        again.as_mut().reset(at);
                        reason = Trigger::Kernel;
                    }
                }
                changed = path_change(paths.as_ref()) => {
                    changed.context("failed to wait for path states")?;
                    self.publisher.follow_paths();
                    self.context.paths.send_replace(());
                }
                changed = self.told.changed() => {
                    changed.context("the board is held as long as the process runs")?;
                    self.publisher.follow_paths();
                }
                _ = heartbeat.tick() => self.context.board.beat(Instant::now()),
            }
        }
    }
}

/// How long after the last pass a change in the kernel is answered that has come `since` then.
fn after_event(since: Duration, failures: u64) -> Duration {
    let settled = since + SETTLE;
    if failures == 0 { settled } else { settled.max(FAILING_GAP) }
}

/// Waits until the state of a path changes; for ever where there is no device.
async fn path_change(paths: Option<&UnixStream>) -> std::io::Result<()> {
    let Some(paths) = paths else { return std::future::pending().await };
    paths.readable().await?;
    loop {
        match paths.try_read(&mut [0; 64]) {
            // The device has closed; the next pass opens another.
            Ok(0) => return std::future::pending().await,
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Opens the device when the process starts. What the process before it still holds, because it was killed a moment ago,
/// is waited for.
///
/// # Errors
/// As [`open_device`].
pub(super) async fn open_first_device(context: &Context, config: Option<Config>) -> anyhow::Result<()> {
    let end = Instant::now() + HELD_MAX;
    loop {
        let Err(error) = open_device(context, config.clone()).await else { return Ok(()) };
        let held = error.downcast_ref::<tunnel::Error>().is_some_and(tunnel::Error::is_held);
        if !held || Instant::now() >= end {
            return Err(error);
        }
        tracing::debug!(%error, "waiting for a process to let go");
        tokio::time::sleep(HELD_RETRY).await;
    }
}

/// Work on the device, one piece at a time and each to its end.
#[derive(Clone, Default)]
pub(super) struct DeviceWork(Arc<Mutex<()>>);

impl DeviceWork {
    /// Does something that blocks. It goes on when the caller is dropped; whoever comes next waits for it, so that nothing
    /// makes the link anew behind the back of a drain.
    async fn alone<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let turn = Arc::clone(&self.0).lock_owned().await;
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await
    }
}

/// Opens the device, changes it, or closes it when there is to be none. A change that fails is taken back, so that peers
/// stay joined as before.
///
/// # Errors
/// [`tunnel::Error`]; the device is then as it was, unless the message says otherwise.
pub(super) async fn open_device(context: &Context, config: Option<Config>) -> anyhow::Result<()> {
    let board = Arc::clone(&context.board);
    let work = move || match (board.opened(), config) {
        (None, None) => Ok(()),
        (Some(_), None) => {
            board.set_device(None);
            Ok(())
        }
        (None, Some(config)) => {
            let device = Arc::new(Device::open(config.clone())?);
            board.set_device(Some(Opened { device, config }));
            Ok(())
        }
        (Some(Opened { device, config: old }), Some(config)) => {
            change(&device, &old, &config)?;
            board.set_device(Some(Opened { device, config }));
            Ok(())
        }
    };
    context.work.alone(work).await.context("opening the device panicked")?
}

fn change(device: &Device, old: &Config, new: &Config) -> anyhow::Result<()> {
    let Err(error) = device.configure(new.clone()) else { return Ok(()) };
    match device.configure(old.clone()) {
        Ok(()) => Err(anyhow::Error::from(error).context("the tunnel stays as it was")),
        Err(second) => Err(anyhow::anyhow!("{error}; going back failed too, so the tunnel is down: {second}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_on_the_device_ends_before_the_next_begins_although_its_task_is_aborted() {
        let work = DeviceWork::default();
        let (began, begun) = mpsc::channel();
        let (go_on, held) = mpsc::channel::<()>();
        let (done, order) = mpsc::channel();
        let (first, first_done) = (work.clone(), done.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let open = move || {
                began.send(()).unwrap();
                held.recv().unwrap();
                first_done.send("opened").unwrap();
            };
            first.alone(open).await.unwrap();
        });
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        tasks.shutdown().await;
        let close = work.alone(move || done.send("closed").unwrap());
        tokio::pin!(close);
        assert!(futures::poll!(&mut close).is_pending(), "the first is not over");
        go_on.send(()).unwrap();
        close.await.unwrap();
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["opened", "closed"]);
    }

    #[test]
    fn a_change_in_the_kernel_is_answered_when_it_has_settled_and_failing_passes_come_once_a_second() {
        let ms = Duration::from_millis;
        assert_eq!([0, 700, 20_000].map(|since| after_event(ms(since), 0)), [50, 750, 20_050].map(ms));
        assert_eq!([0, 700, 980, 20_000].map(|since| after_event(ms(since), 7)), [1000, 1000, 1030, 20_050].map(ms));
    }
}
