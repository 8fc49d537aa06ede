//! The services loop of a cluster: from watches to writes, service by service.

mod apply;
mod leftovers;
mod retries;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tracing::{Instrument as _, debug, info, warn};

use self::apply::{Applied, Writer, apply};
pub use self::leftovers::Leftovers;
use self::retries::{Extent, Retries};
use self::watches::{Event, watch_all};
use super::lease::Holding;
use super::pulse::Pulse;
use crate::broker::status::WorkCounts;
use crate::services::index::{Index, IndexConfig, Kind, Object, Summary};
use crate::services::plan::{Observed, plan};
use crate::services::validate::Policy;
use crate::services::{ClusterId, Family, ServiceKey};

/// Services that are written at the same time.
const CONCURRENCY: usize = 32;
/// Events that are taken in before anything is decided.
const BATCH: usize = 256;
/// How long writes that are under way may take at shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// Shortest time between two tellings of the state: it is counted anew each time.
const TELL: Duration = Duration::from_secs(1);

/// What the loop needs to know.
#[derive(Debug, Clone)]
pub struct ServicesConfig {
    /// ID of this cluster.
    pub cluster_id: ClusterId,
    /// What may be exported and imported.
    pub policy: Policy,
    /// Families of the cluster's service addresses, primary first. Empty: found by themselves, from the Service CIDRs of
    /// the cluster's own Member.
    pub families: Vec<Family>,
    /// Who holds the controller's Lease: nothing is written unless we do. None: always write.
    pub leadership: Option<watch::Receiver<Holding>>,
    /// What all that is made of imports belongs to, so that it goes with them; see [`owner`](super::owner).
    pub owners: Vec<OwnerReference>,
    /// Where the state of the loop is told, for metrics and probes.
    pub status: watch::Sender<ServicesStatus>,
}

/// The loop at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicesStatus {
    /// Whether all kinds have been listed; nothing is written before.
    pub listed: bool,
    /// Services, counted.
    pub summary: Summary,
    /// What has been done since the start.
    pub work: WorkCounts,
}

impl ServicesConfig {
    /// Everything by default.
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            policy: Policy::default(),
            families: Vec::new(),
            leadership: None,
            owners: Vec::new(),
            status: watch::Sender::default(),
        }
    }
}

/// Keeps ServiceRecords, ServiceImports, derived Services, EndpointSlices and conditions as the exports ask for, until
/// `shutdown`. While the cluster is in no clusterset, nothing of all that is there: who leaves gets it removed.
///
/// # Guarantees
/// Never ends by itself: failures are logged and tried again, ever more slowly. Nothing is written before all kinds
/// have been listed, so that what is merely not seen yet is never taken for gone. What needs no change is not written. A
/// write that fails again and again keeps no other write of its service waiting for long.
///
/// # Assumptions
/// One such loop writes at a time; see [`ServicesConfig::leadership`].
pub async fn run(client: kube::Client, config: ServicesConfig, shutdown: impl Future<Output = ()>) {
    let ServicesConfig { cluster_id, policy, families, mut leadership, owners, status } = config;
    let mut world = World::new(Index::new(IndexConfig { cluster: cluster_id, policy, families }));
    let mut events = watch_all(&client).ready_chunks(BATCH);
    let writer = Writer::new(client, owners);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut tasks: JoinSet<(ServiceKey, Applied)> = JoinSet::new();
    let mut told = Instant::now();
    let mut untold = true;
    loop {
        world.lead(leadership.as_mut().is_none_or(|holding| *holding.borrow_and_update() == Holding::Ours));
        world.start(Instant::now(), &mut tasks, &writer);
        let retry = async {
            match world.retries.next() {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let leader_changes = async {
            // Without a sender nothing changes any more.
            let changed = match &mut leadership {
                Some(holding) => holding.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(batch) = events.next() => {
                let now = Instant::now();
                batch.into_iter().for_each(|event| world.handle(event, now));
            }
            Some(ended) = tasks.join_next() => if let Ok((key, applied)) = ended {
                world.handle_applied(key, applied, Instant::now());
            },
            () = retry => {}
            () = leader_changes => {}
            () = sleep_until(told + TELL), if untold => {
                status.send_replace(world.status());
                (told, untold) = (Instant::now(), false);
                continue;
            }
        }
        untold = true;
    }
    let finish = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, finish).await.is_err() {
        info!("writes that took too long were given up");
    }
}

/// What is known, and what is under way.
struct World {
    index: Index,
    /// Whether the gateway Lease is renewed.
    pulse: Pulse,
    unlisted: BTreeSet<Kind>,
    leading: bool,
    /// Services that may need writes.
    dirty: BTreeSet<ServiceKey>,
    in_flight: BTreeMap<ServiceKey, Extent>,
    /// Whether the API server has been asked for its version.
    versioned: bool,
    retries: Retries,
    work: WorkCounts,
}

impl World {
    fn new(index: Index) -> Self {
        Self {
            index,
            pulse: Pulse::default(),
            unlisted: Kind::ALL.into(),
            leading: false,
            dirty: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            versioned: false,
            retries: Retries::default(),
            work: WorkCounts::default(),
        }
    }

    fn status(&self) -> ServicesStatus {
        ServicesStatus {
            listed: self.unlisted.is_empty(),
            summary: self.index.summary(),
            work: WorkCounts { waiting: self.retries.len() as u64, ..self.work },
        }
    }

    /// Whoever begins to lead looks at everything.
    fn lead(&mut self, leading: bool) {
        if leading && !self.leading {
            self.dirty.extend(self.index.keys().cloned());
        }
        self.leading = leading;
    }

    fn handle(&mut self, event: Event, now: Instant) {
        self.note_pulse(&event, now);
        match event {
            Event::Begin(kind) => self.index.begin(kind),
            Event::Listed(kind) => {
                self.index.finish(kind);
                if self.unlisted.remove(&kind) && self.unlisted.is_empty() {
                    info!("all objects of services are known");
                }
            }
            Event::There(object) => self.index.upsert(object),
            Event::Gone(object) => self.index.remove(&object),
            Event::Version(version) => {
                self.index.set_server(version);
                self.versioned = true;
            }
            Event::Broken(_) => {}
        }
    }

    fn note_pulse(&mut self, event: &Event, now: Instant) {
        let changed = match event {
            Event::There(Object::Lease(lease)) => self.pulse.see(lease, now),
            Event::Listed(Kind::Lease) => self.pulse.listed(now),
            Event::Begin(Kind::Lease) => {
                self.pulse.ask(now);
                false
            }
            Event::Broken(Kind::Lease) => {
                self.pulse.fail();
                false
            }
            _ => false,
        };
        if changed {
            let silent = self.pulse.silence().is_some();
            match silent {
                true => warn!("nobody renews the gateway Lease: all other clusters count as out of reach"),
                false => info!("the gateway Lease is renewed again"),
            }
            self.index.set_gateway_silent(silent);
        }
    }

    fn handle_applied(&mut self, key: ServiceKey, applied: Applied, now: Instant) {
        let extent = self.in_flight.remove(&key).unwrap_or(Extent::Whole);
        self.work.passes += 1;
        self.work.written += (applied.written.len() + applied.deleted.len()) as u64;
        self.work.failed += applied.failures.len() as u64;
        self.index.end_pass(&key, applied.written);
        for (kind, object) in applied.deleted {
            self.index.forget(kind, &object);
        }
        // What goes on from here is marked by the index: a write that changes nothing is not made again and again.
        match extent {
            Extent::Rest => self.retries.hold(&key, applied.failures),
            Extent::Whole if applied.failures.is_empty() => self.forget(key),
            Extent::Whole => {
                let failed = applied.failures.len();
                let delay = self.retries.postpone(key.clone(), applied.failures, now);
                debug!(service = %key, failed, ?delay, "tried again later");
            }
        }
    }

    /// All is well with `key`. Where something else was told, that is to be mended.
    fn forget(&mut self, key: ServiceKey) {
        if self.retries.forget(&key) {
            self.dirty.insert(key);
        }
    }

    /// Plans what is dirty, and starts to apply it.
    fn start(&mut self, now: Instant, tasks: &mut JoinSet<(ServiceKey, Applied)>, writer: &Writer) {
        for key in self.index.take_dirty() {
            if self.retries.is_waiting(&key) {
                self.retries.hurry(&key, now);
            } else {
                self.dirty.insert(key);
            }
        }
        self.dirty.extend(self.retries.take_due(now));
        if !self.leading || !self.versioned || !self.unlisted.is_empty() {
            return;
        }
        let mut later = BTreeSet::new();
        while let Some(key) = self.dirty.pop_first() {
            if self.in_flight.contains_key(&key) {
                later.insert(key);
                continue;
            }
            if self.in_flight.len() >= CONCURRENCY {
                later.insert(key);
                break;
            }
            let failures = self.retries.told(&key);
            let mut actions = plan(&Observed { failures, ..self.index.observe(&key) }, Timestamp::now());
            if actions.is_empty() {
                self.forget(key);
                continue;
            }
            let extent = self.retries.extent(&key);
            if extent == Extent::Rest {
                actions.retain(|action| !self.retries.holds(&key, action));
            }
            if !actions.is_empty() {
                self.in_flight.insert(key.clone(), extent);
                self.index.begin_pass(&key);
                let (writer, task) = (writer.clone(), key);
                let span = tracing::debug_span!(target: crate::SPANS, "service pass", service = %task);
                tasks.spawn(async move { (task, apply(&writer, actions).await) }.instrument(span));
            }
        }
        self.dirty.append(&mut later);
    }
}
