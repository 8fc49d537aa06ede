//! The loop: the one place of the broker part that reads the clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Resource as _};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::action::Action;
use super::apply::{self, ApplyError, Before, Outcome, Targets, Written};
use super::config::BrokerConfig;
use super::connection::Refusal;
use super::down;
use super::news::news;
use super::plan::{Pass, outward, plan};
use super::retry::Attempt;
use super::session::confirm;
use super::shell::{Now, Shell};
use super::world::{Input, Key};
use crate::events::News;

/// Shortest time between two tellings of the state: it is counted anew each time.
const TELL: std::time::Duration = std::time::Duration::from_secs(1);

/// Keeps a cluster joined to its broker, until `shutdown` is done.
///
/// Reads in the own cluster: Nodes, ServiceCIDRs, GatewayNodes, the gateway Lease, the Secrets `linkspan-join` and
/// `linkspan-broker`, Members and ServiceRecords. Writes there: Members, the copies of the others' ServiceRecords, the
/// credential's Secret and ClusterProperties. On the broker: the own Member, ServiceRecords and Lease.
///
/// # Guarantees
/// Level-triggered: it may end between any two writes, and another one continues. Without a broker nothing goes.
///
/// # Assumptions
/// One runs in a cluster at a time: whoever holds the controller's Lease.
pub async fn run(local: Client, config: BrokerConfig, shutdown: impl Future<Output = ()>) {
    let mut shell = Shell::new(local, config);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut told: Option<Instant> = None;
    loop {
        let step = shell.step();
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = step => {}
        }
        let tell = told.map(|told| told + TELL).filter(|next| *next > now().monotonic);
        if tell.is_none() {
            shell.config.status.send_replace(shell.status());
            told = Some(now().monotonic);
        }
        let wake = [shell.next_step(now()), tell].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            input = shell.next_input() => shell.take(input, now()),
            () = sleep_until(wake) => {}
        }
        shell.take_ready(now());
        shell.ask_again();
    }
}

fn now() -> Now {
    let wall = Timestamp::try_from(SystemTime::now()).expect("the system clock is within the years 1 to 9999");
    Now { wall, monotonic: Instant::now() }
}

/// What is not done, and why.
fn withheld((key, action): (Key, Action), why: &str) -> Outcome {
    Outcome { key, action, result: Err(ApplyError::Withheld(why.to_owned())) }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Shell {
    /// The next thing that a watch shows.
    async fn next_input(&mut self) -> Input {
        let broker = self.session.as_mut().map(|session| &mut session.inputs);
        let broker = async {
            match broker {
                Some(inputs) => inputs.next().await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            input = self.inputs.next() => input,
            input = broker => input,
        };
        match input {
            Some(input) => input,
            // Watches go on for ever.
            None => std::future::pending().await,
        }
    }

    /// Asks again for the records of clusters that had too much to be kept.
    fn ask_again(&mut self) {
        let Some(session) = &mut self.session else { return };
        for cluster in self.world.remote.take_wanted() {
            session.list_again(cluster);
        }
    }

    /// Takes in what a watch has shown.
    pub(super) fn take(&mut self, input: Input, now: Now) {
        self.world.note_pulse(&input, now.monotonic);
        self.world.take(input, now.wall);
    }

    /// Does all that is to be done now.
    async fn step(&mut self) {
        self.tend(now()).await;
        let now = now();
        if self.world.remote.liveness.take_silenced(now.wall) {
            self.world.mark([Key::Members]);
        }
        if self.rest_ends().is_some_and(|at| at <= now.wall) {
            self.world.mark([Key::Own]);
        }
        let due = self.retry.take_due(now.monotonic);
        self.world.mark(due);
        while !self.world.dirty.is_empty() {
            self.pass().await;
        }
    }

    /// One pass: plan what is dirty, and write it.
    async fn pass(&mut self) {
        let now = now();
        let broker = self.session.as_ref().map(|session| session.namespace().to_owned());
        let pass =
            Pass { config: &self.config, connection: &self.connection, broker: broker.as_deref(), now: now.wall };
        let plans = plan(&mut self.world, &mut self.court, &pass);
        self.retry.forget_idle(&plans);
        let actions: Vec<(Key, Action)> = plans
            .into_iter()
            .flat_map(|(key, actions)| actions.into_iter().map(move |action| (key.clone(), action)))
            .collect();
        self.work.passes += u64::from(!actions.is_empty());
        for (_, action) in &actions {
            tracing::info!("{action}");
        }
        let span = tracing::debug_span!(target: crate::SPANS, "broker pass", actions = actions.len());
        let outcomes = self.write(actions, now).instrument(span).await;
        for (about, news) in self.note(outcomes, now) {
            if !self.events.tell(&about, &news).await {
                break;
            }
        }
    }

    async fn write(&mut self, actions: Vec<(Key, Action)>, now: Now) -> Vec<Outcome> {
        let (forgets, others): (Vec<_>, Vec<_>) = actions.into_iter().partition(|(_, action)| action.forgets());
        let mut outcomes = self.apply(others, now).await;
        let remembers = self.remembers(&outcomes);
        if remembers {
            self.kept.clear();
        }
        let (kept, forgets): (Vec<_>, Vec<_>) =
            forgets.into_iter().partition(|(_, action)| !remembers && self.kept.keeps(action, now.wall));
        let why = "the own Member, which tells what must rest after it, is not written yet";
        outcomes.extend(kept.into_iter().map(|planned| withheld(planned, why)));
        if forgets.is_empty() {
            return outcomes;
        }
        match self.confirmed().await {
            Ok(()) => outcomes.extend(self.apply(forgets, now).await),
            Err(why) => outcomes.extend(forgets.into_iter().map(|planned| withheld(planned, &why))),
        }
        outcomes
    }

    /// Whether the own Member tells what must rest after those who go, now that this was written.
    fn remembers(&self, outcomes: &[Outcome]) -> bool {
        let own = self.config.cluster.as_str();
        self.court.as_ref().is_some_and(|court| court.remembers(own, &self.world.members, outcomes))
    }

    /// Whether what is gone from the broker is gone; if that is not sure, why.
    async fn confirmed(&mut self) -> Result<(), String> {
        let confirmed = match &self.session {
            Some(session) => confirm(&session.client, session.namespace(), &self.config.cluster).await,
            None => Err("not joined".to_owned()),
        };
        confirmed.map_err(|error| format!("the broker does not confirm that it still is one: {error}"))
    }

    async fn apply(&mut self, actions: Vec<(Key, Action)>, now: Now) -> Vec<Outcome> {
        let broker = self.session.as_ref().map(|session| (&session.client, session.namespace()));
        let targets = Targets { local: &self.local, namespace: &self.config.namespace, broker };
        let before = Before { members: &self.world.members, records: &self.world.records };
        apply::apply(actions, &targets, &before, now.wall).await
    }

    /// Remembers what was written, and has what failed tried again. Gives back what is worth an Event.
    fn note(&mut self, outcomes: Vec<Outcome>, now: Now) -> Vec<(ObjectReference, Vec<News>)> {
        let mut told = Vec::new();
        let mut attempts: BTreeMap<Key, Attempt> = BTreeMap::new();
        for Outcome { key, action, result } in outcomes {
            let (attempt, refusal) = match result {
                Ok(written) => {
                    self.work.written += 1;
                    told.extend(self.news(&action, &written));
                    self.world.keep(written);
                    (Attempt::Done, None)
                }
                Err(error) => {
                    self.work.failed += 1;
                    tracing::warn!("failed to {action}: {error}");
                    let refusal = error.refusal();
                    (if refusal.is_some() { Attempt::Refused } else { Attempt::Failed }, refusal)
                }
            };
            self.note_refusal(&action, refusal);
            let worst = attempts.entry(key).or_insert(attempt);
            *worst = (*worst).max(attempt);
        }
        for (key, attempt) in attempts {
            self.retry.note(key, attempt, now.monotonic);
        }
        told
    }

    /// What people are told of a Member whose conditions were written.
    fn news(&self, action: &Action, written: &Written) -> Option<(ObjectReference, Vec<News>)> {
        let (Action::TellMember(name, findings), Written::Member(member)) = (action, written) else { return None };
        let before = self.world.members.get(name).map_or(&[][..], down::member_conditions);
        Some((member.object_ref(&()), news(before, findings)))
    }

    /// What the broker refuses is said where people look: on the own object.
    fn note_refusal(&mut self, action: &Action, refusal: Option<Refusal>) {
        match action {
            Action::PublishMember(member) => {
                let local = self.world.members.get(self.config.cluster.as_str());
                // What went through without its new prefixes is still refused as it is.
                let is_whole = |local| outward(&self.world, self.court.as_ref(), local).spec == member.spec;
                let whole = refusal.is_some() || local.is_none_or(is_whole);
                if whole && self.connection.refused != refusal {
                    self.connection.refused = refusal;
                    self.world.mark([Key::Own, Key::Publish]);
                }
            }
            Action::PublishRecord(record) => {
                self.world.note_upward(
                    record.metadata.name.clone().unwrap_or_default(),
                    refusal.map(|refusal| refusal.message),
                );
            }
            _ => {}
        }
    }
}
