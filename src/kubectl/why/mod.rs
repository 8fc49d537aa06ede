//! The way of one connection and its name, hop by hop: pure, on a picture. The first hop that is broken is the answer.

mod ends;
mod flow;
mod members;
mod name;
mod packets;
pub mod parse;
mod policies;
mod questions;
mod show;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::diagnose::{Fault, Finding, State};
use super::picture::Picture;
use super::speech::Speech;
use parse::End;

pub use ends::{Client, Goal, NotFound, client, goal};
pub use flow::Target;
pub use questions::{goal_targets, questions};
pub use show::show;

/// The way from one end to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// The hops, in order.
    pub hops: Vec<Hop>,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The cluster in which it is.
    pub cluster: String,
    /// What is looked at: `route on node paris-2`.
    pub what: String,
    /// How it is.
    pub state: State,
    /// One word for programs; `Ok` where all is as it should be.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
    /// What is the matter; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Hop {
    fn good(cluster: &str, what: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            what: what.into(),
            state: State::Ok,
            reason: "Ok".to_owned(),
            evidence: evidence.into(),
            cause: String::new(),
            fix: String::new(),
        }
    }

    fn unseen(cluster: &str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::Unknown, reason: "Unseen".to_owned(), ..Self::good(cluster, what, why) }
    }

    fn bad(cluster: &str, what: impl Into<String>, fault: Fault) -> Self {
        let Fault { state, reason, evidence, cause, fix } = fault;
        Self { cluster: cluster.to_owned(), what: what.into(), state, reason: reason.to_owned(), evidence, cause, fix }
    }

    /// What a check has found.
    fn found(what: impl Into<String>, finding: Finding) -> Self {
        let Finding { cluster, state, reason, evidence, cause, fix, .. } = finding;
        Self { cluster, what: what.into(), state, reason, evidence, cause, fix }
    }

    /// A fault if there is one, else what is told of a good hop.
    fn judged(cluster: &str, what: impl Into<String>, fault: Option<Fault>, good: impl Into<String>) -> Self {
        match fault {
            Some(fault) => Self::bad(cluster, what, fault),
            None => Self::good(cluster, what, good),
        }
    }
}

impl Story {
    /// The first hop that is broken.
    pub fn broken(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.state == State::Failed)
    }

    /// The same in words of who reads it: conditions of objects are quoted, and say `linkspan`.
    pub fn spoken(mut self, speech: &Speech) -> Self {
        for Hop { evidence, cause, fix, .. } in &mut self.hops {
            [evidence, cause, fix].into_iter().for_each(|text| *text = speech.spoken(text));
        }
        self
    }

    /// Exit code: 1 when a hop is broken, 3 when one could not be seen, else 0.
    pub fn exit_code(&self) -> u8 {
        if self.broken().is_some() {
            1
        } else if self.hops.iter().any(|hop| hop.state == State::Unknown) {
            3
        } else {
            0
        }
    }
}

/// Follows the way. `namespace` is that of ends that name none.
///
/// # Errors
/// An end is not in the clusters that were seen.
pub fn why(picture: &Picture, from: &End, to: &End, namespace: &str) -> Result<Story, NotFound> {
    let from = client(picture, from, namespace)?;
    let port = to.port;
    let goal = goal(picture, &from, to, namespace)?;
    let (way, fars) = match &goal {
        Goal::Address { address, cluster, .. } => {
            let target = flow::Target { address: *address, port, protocol: "TCP".to_owned(), probe: true };
            (flow::follow(picture, &from, &target, *cluster), flow::fars(picture, &from, *address, *cluster))
        }
        Goal::Service(service) => {
            let found = name::follow(picture, &from, service, port);
            let ways = found.targets.iter().map(|target| flow::follow(picture, &from, target, None));
            let way = found.hops.into_iter().chain(worst(ways.collect())).collect();
            (way, name::fars(picture, &from, service))
        }
    };
    let mut hops = vec![flow::source(&from)];
    hops.extend(members::beside(picture, from.cluster, &fars, &way));
    hops.extend(way);
    Ok(Story { from: format!("{} of {}", from.label, from.cluster.name()), to: goal.label(), hops })
}

impl Goal<'_> {
    /// What people call it.
    pub fn label(&self) -> String {
        match self {
            Self::Address { label, .. } => label.clone(),
            Self::Service(service) => service.dns_name(),
        }
    }
}

/// Of the ways to several endpoints the one that tells most: one that is broken, else one that was not all seen.
fn worst(ways: Vec<Vec<Hop>>) -> Vec<Hop> {
    let best_state = |way: &Vec<Hop>| way.iter().map(|hop| hop.state).min();
    let worst = ways.iter().enumerate().min_by_key(|(at, way)| (best_state(way), *at)).map(|(at, _)| at);
    worst.and_then(|at| ways.into_iter().nth(at)).unwrap_or_default()
}
