//! One holder at a time: election by a Lease of `coordination.k8s.io`, quick enough for gateways.
//!
//! As client-go's election, with two differences. Candidates watch the Lease, so one that is given back is taken at
//! once; and durations are not bound to whole seconds, because expiry is counted by who waits.
//!
//! A Lease that is missing is made by whoever notices, without a holder, and then taken as any other. No manifest has one:
//! Argo CD leaves the kind out, and what Helm deletes first at an uninstall would be back before the pods are gone.

mod election;

use std::future::Future;
use std::time::Duration;

use election::{Election, Seen, Step};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use serde_json::json;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::watching::prompt;
use crate::api::names::FIELD_MANAGER;

/// Which Lease, for whom, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our own name on it: of the pod or of the node.
    pub holder: String,
    /// After how long without renewal others may take it; the same for all candidates. At least 2 renewals long.
    pub duration: Duration,
    /// How often the holder renews it.
    pub renew_period: Duration,
}

impl LeaseConfig {
    /// How long a holder lasts that says so itself, in the API's whole seconds: ours, unless it means to last longer.
    fn promised(&self, told: Duration) -> Duration {
        if told > Duration::from_secs(whole_seconds(self.duration).into()) { told } else { self.duration }
    }
}

/// Whether to compete for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Take it when it is free.
    Candidate,
    /// Only look who has it, and give it back when it is ours.
    Observer,
}

/// Who holds the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// Not known yet.
    Unknown,
    /// Nobody.
    Nobody,
    /// We do.
    Ours,
    /// We did, and could not renew it in time. Others may have taken it.
    Lost,
    /// Somebody else, as far as we have seen.
    Other(String),
}

/// Why there is no election.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Renewals must be faster than expiry.
    #[error(
        "lease {name}: renewal every {renew_period:?} is too slow for a duration of {duration:?}: at most half of it"
    )]
    TooSlow {
        /// The Lease.
        name: String,
        /// How often it would be renewed.
        renew_period: Duration,
        /// How long it would last.
        duration: Duration,
    },
}

/// A candidate for a lease, or somebody who watches it.
#[derive(Debug)]
pub struct Elector {
    config: LeaseConfig,
    api: Api<Lease>,
    holding: watch::Sender<Holding>,
}

impl Elector {
    /// Prepares; nothing happens before [`Elector::run`]. The receiver tells who holds the lease.
    ///
    /// # Errors
    /// When renewals would be too slow.
    pub fn new(client: kube::Client, config: LeaseConfig) -> Result<(Self, watch::Receiver<Holding>), LeaseError> {
        let LeaseConfig { duration, renew_period, .. } = config;
        if renew_period.is_zero() || renew_period * 2 > duration {
            return Err(LeaseError::TooSlow { name: config.name, renew_period, duration });
        }
        let api = Api::namespaced(client, &config.namespace);
        let (holding, receiver) = watch::channel(Holding::Unknown);
        Ok((Self { config, api, holding }, receiver))
    }

    /// Competes, or watches, as `standing` says, until `shutdown`; then gives back what it has.
    ///
    /// # Guarantees
    /// Never ends by itself: failures are logged and tried again. Between two candidates with the same
    /// [`LeaseConfig::duration`], at most one is told [`Holding::Ours`] at a time.
    pub async fn run(self, mut standing: watch::Receiver<Standing>, shutdown: impl Future<Output = ()>) {
        let fields = format!("metadata.name={}", self.config.name);
        let leases = watcher(self.api.clone(), prompt().fields(&fields));
        let leases = leases.backoff(Steady(self.config.renew_period));
        let mut leases = std::pin::pin!(leases.map_err(|error| debug!(%error, "the watch of a lease broke off")));
        let mut shutdown = std::pin::pin!(shutdown);
        let mut election = Election::new(self.config.clone(), *standing.borrow_and_update(), Instant::now());
        let mut lease = None;
        let mut found = false;
        loop {
            let step = election.poll(Instant::now());
            self.publish(election.holding());
            let Step::Wait(deadline) = step else {
                tokio::select! {
                    () = self.write(step, &mut lease, &mut election) => continue,
                    () = &mut shutdown => break,
                }
            };
            let wake = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wake => {}
                () = &mut shutdown => break,
                Ok(()) = standing.changed() => election.stand(*standing.borrow_and_update()),
                Some(event) = leases.next() => match event {
                    Ok(watcher::Event::Apply(seen) | watcher::Event::InitApply(seen)) => {
                        found = true;
                        see(&mut lease, Some(seen), &mut election);
                    }
                    Ok(watcher::Event::Init) => found = false,
                    Ok(watcher::Event::InitDone) if found => {}
                    Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => see(&mut lease, None, &mut election),
                    Err(()) => {}
                },
            }
        }
        election.stand(Standing::Observer);
        // Twice, because a renewal may have been under way.
        for _ in 0..2 {
            if election.poll(Instant::now()) == Step::Release {
                self.write(Step::Release, &mut lease, &mut election).await;
            }
        }
        election.poll(Instant::now());
        self.publish(election.holding());
    }

    fn publish(&self, holding: &Holding) {
        let changed = self.holding.send_if_modified(|told| {
            let changed = told != holding;
            if changed {
                told.clone_from(holding);
            }
            changed
        });
        if changed {
            info!(lease = %self.config.name, ?holding, "the holder of a lease changed");
        }
    }

    /// Writes once. A conflict means that somebody was faster: then it is read again.
    async fn write(&self, step: Step, lease: &mut Option<Lease>, election: &mut Election) {
        let began = Instant::now();
        let write = async {
            match step {
                Step::Create => self.create().await,
                _ => {
                    let wanted = self.wanted(step, lease.as_ref());
                    self.api.replace(&self.config.name, &PostParams::default(), &wanted).await
                }
            }
        };
        let patience = self.config.duration / 2;
        match timeout(patience, write).await {
            Ok(Ok(written)) => {
                election.handle_written(seen(&written), began, Instant::now());
                *lease = Some(written);
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || (status.code == 404 && step != Step::Create) => {
                match timeout(patience, self.api.get_opt(&self.config.name)).await {
                    Ok(Ok(current)) => believe(lease, current, election),
                    _ => election.handle_failed(Instant::now()),
                }
            }
            Ok(Err(error)) => {
                warn!(lease = %self.config.name, %error, "failed to write a lease");
                election.handle_failed(Instant::now());
            }
            Err(_) => {
                warn!(lease = %self.config.name, ?patience, "failed to write a lease: no answer in time");
                election.handle_failed(Instant::now());
            }
        }
    }

    /// Makes the Lease, without a holder: of two who do so at once, the second one changes nothing. By server-side apply,
    /// because that alone tells the name to the authorizer, so that nobody needs the right to make any Lease.
    async fn create(&self) -> Result<Lease, kube::Error> {
        let empty = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": self.config.name, "labels": { "app.kubernetes.io/name": "linkspan" } },
        });
        self.api.patch(&self.config.name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&empty)).await
    }

    /// The Lease as it shall be. Its version goes along, so that a write over somebody else's fails.
    fn wanted(&self, step: Step, lease: Option<&Lease>) -> Lease {
        let before = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let transitions = before.lease_transitions.unwrap_or(0);
        let spec = match step {
            Step::Take => LeaseSpec {
                holder_identity: Some(self.config.holder.clone()),
                lease_duration_seconds: i32::try_from(whole_seconds(self.config.duration)).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(transitions.saturating_add(1)),
                ..before
            },
            Step::Release => LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                renew_time: Some(now),
                ..before
            },
            Step::Renew | Step::Create | Step::Wait(_) => LeaseSpec {
                lease_duration_seconds: i32::try_from(whole_seconds(self.config.duration)).ok(),
                renew_time: Some(now),
                ..before
            },
        };
        let metadata = match lease {
            None => ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            Some(lease) => ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
        };
        Lease { metadata, spec: Some(spec) }
    }
}

/// After a conflict the Lease is what it is read as, whatever version that has: where the API server's data have been
/// restored, all versions are lower than those that are known.
fn believe(lease: &mut Option<Lease>, current: Option<Lease>, election: &mut Election) {
    election.handle_conflict(current.as_ref().map(seen), Instant::now());
    *lease = current;
}

/// A watch tells of the Lease.
fn see(lease: &mut Option<Lease>, current: Option<Lease>, election: &mut Election) {
    // Watches may be behind our own writes.
    let version = |lease: &Lease| lease.metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    let uid = |lease: &Lease| lease.metadata.uid.clone();
    if let (Some(known), Some(current)) = (&*lease, &current)
        && uid(known) == uid(current)
        && version(current) < version(known)
    {
        return;
    }
    election.handle_seen(current.as_ref().map(seen), Instant::now());
    *lease = current;
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or(0)),
    }
}

/// What the API takes: whole seconds, at least 1.
fn whole_seconds(duration: Duration) -> u32 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(rounded.max(1)).unwrap_or(u32::MAX).min(i32::MAX as u32)
}

/// Tries again after the same time, always.
struct Steady(Duration);

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests;
