//! Has nodes count while packets are sent.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::api::names::SYSTEM_NAMESPACE;
use controller::node::counters::{Count, Flow};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::{Deserialize, Serialize};

use super::judge::{Exactness, judge};
use super::plan::{Plan, Route};
use super::{Counted, Spot, Trace, Way};
use crate::kubectl::contexts::Target;
use crate::kubectl::exec::{self, Session};
use crate::kubectl::output::Progress;
use crate::kubectl::picture::{NODE_CONTAINER, Picture};
use crate::kubectl::why::Client;

/// How long after the last packet counters are still of interest.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How much longer than the sender nodes count at most, should nobody come back for the figures.
const LONGER: u64 = 60;
/// How long a command in the client's pod may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// Who makes the packets.
#[derive(Debug, Clone)]
pub enum Sender {
    /// The client's node sends so many echo requests.
    Node {
        /// How many.
        packets: u32,
        /// Their identifier.
        identifier: u16,
    },
    /// A command that is run in the client's pod.
    Command {
        /// The program and its arguments.
        words: Vec<String>,
        /// In which container; the first one by default.
        container: Option<String>,
    },
    /// The client, by itself.
    Client {
        /// For how long it is watched.
        time: Duration,
    },
}

impl Sender {
    /// How long it sends at most, in seconds.
    fn seconds(&self) -> u64 {
        match self {
            Self::Node { packets, .. } => u64::from(*packets),
            Self::Command { .. } => COMMAND_MAX.as_secs(),
            Self::Client { time } => time.as_secs(),
        }
    }
}

/// What a node prints when it has counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said {
    /// What came by.
    pub counts: Vec<Count>,
    /// Echo requests that it sent itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u32>,
    /// How many of them were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<u32>,
}

/// By cluster and node what it said, or why it said nothing.
type Answers = BTreeMap<(String, String), Result<Said, String>>;

/// Counts. `targets` are in the order of the picture's clusters.
///
/// # Errors
/// The packets cannot be made. Nodes that cannot count are told in the traces.
pub async fn run(
    targets: &[Target],
    picture: &Picture,
    from: &Client<'_>,
    label: &str,
    plan: &Plan,
    sender: &Sender,
    progress: &Progress,
) -> Result<Vec<Trace>, String> {
    let near = (from.cluster.name().to_owned(), from.node.clone().unwrap_or_default());
    let sends_there = matches!(sender, Sender::Node { .. });
    progress.now("setting counters on nodes");
    let others = plan.flows.iter().filter(|(node, _)| !sends_there || **node != near);
    let mut counting = Vec::new();
    let seconds = sender.seconds() + LONGER;
    let nodes = Nodes { targets, picture, seconds };
    let started = others.map(async |(node, flow)| (node.clone(), nodes.start(node, flow, None).await));
    let mut answers = Answers::new();
    for (node, session) in join_all(started).await {
        match session {
            Ok(session) => counting.push((node, session)),
            Err(error) => drop(answers.insert(node, Err(error))),
        }
    }
    progress.now("sending packets");
    let sent = send(&nodes, from, plan, sender, &near).await;
    tokio::time::sleep(AFTERWARDS).await;
    progress.now("reading counters");
    let finished =
        counting.into_iter().map(async |(node, session)| (node, session.finish().await.and_then(|said| read(&said))));
    answers.extend(join_all(finished).await);
    let (told, asked, own) = sent?;
    answers.extend(own.map(|own| (near, Ok(own))));
    let exactness = if sends_there { Exactness::Each } else { Exactness::Any };
    let routes = plan.routes.iter().enumerate();
    let traces: Vec<Trace> = routes
        .map(|(at, route)| {
            let spots = counted(plan, at, route, &answers);
            let loss = judge(&spots, asked, exactness);
            Trace {
                from: from.label.clone(),
                to: format!("{label} ({})", route.target.address),
                sent: told.clone(),
                spots,
                loss,
            }
        })
        .collect();
    Ok(of_interest(traces))
}

/// Of several endpoints those that were called; all, if none was.
fn of_interest(traces: Vec<Trace>) -> Vec<Trace> {
    let is_called = |trace: &Trace| trace.spots.iter().any(|one| one.packets.is_some_and(|packets| packets > 0));
    if traces.iter().any(is_called) { traces.into_iter().filter(is_called).collect() } else { traces }
}

/// What was sent, in words; how many packets, where somebody knows; and what the sending node counted itself.
type Sent = (String, Option<u64>, Option<Said>);

async fn send(
    nodes: &Nodes<'_>,
    from: &Client<'_>,
    plan: &Plan,
    sender: &Sender,
    near: &(String, String),
) -> Result<Sent, String> {
    match sender {
        Sender::Client { time } => {
            tokio::time::sleep(*time).await;
            Ok((format!("what the client sent in {} s", time.as_secs()), None, None))
        }
        Sender::Node { packets, .. } => {
            let flow = plan.flows.get(near).ok_or("the way does not begin on the client's node")?;
            let said = read(&nodes.start(near, flow, Some(*packets)).await?.wait().await?)?;
            let (sent, answered) = (said.sent.unwrap_or(*packets), said.answered.unwrap_or_default());
            Ok((format!("{sent} echo requests, {answered} answered"), Some(sent.into()), Some(said)))
        }
        Sender::Command { words, container } => {
            let outcome = nodes.run_in_pod(from, container.as_deref(), words).await?;
            Ok((format!("`{}` {outcome}", words.join(" ")), None, None))
        }
    }
}

/// The nodes and pods of all clusters.
struct Nodes<'a> {
    targets: &'a [Target],
    picture: &'a Picture,
    /// How long they count at most.
    seconds: u64,
}

impl Nodes<'_> {
    /// Has a node count, and send so many packets where it is the sender.
    async fn start(
        &self,
        (cluster, node): &(String, String),
        flow: &Flow,
        send: Option<u32>,
    ) -> Result<Session, String> {
        let at = self.picture.clusters.iter().position(|one| one.name() == cluster);
        let found = at.and_then(|at| Some((self.picture.clusters.get(at)?, self.targets.get(at)?)));
        let (seen, target) = found.ok_or("it was not named with --context")?;
        let pod = seen.node_pod(node).and_then(|pod| pod.metadata.name.clone());
        let pod = pod.ok_or("no linkspan-node pod runs there")?;
        let pods: Api<Pod> = Api::namespaced(target.client.clone(), SYSTEM_NAMESPACE);
        let flow = serde_json::to_string(flow).map_err(|error| error.to_string())?;
        let (seconds, send) = (self.seconds.to_string(), send.map(|packets| packets.to_string()));
        let mut command = vec!["linkspan", "count", "--flow", &flow, "--seconds", &seconds, "-o", "json"];
        match &send {
            Some(packets) => command.extend(["--send", packets]),
            None => command.push("--until-told"),
        }
        Session::start(&pods, &pod, NODE_CONTAINER, &command).await
    }

    /// Runs a command in the client's pod, and tells how it ended: that it fails is why somebody traces it.
    async fn run_in_pod(&self, from: &Client<'_>, container: Option<&str>, words: &[String]) -> Result<String, String> {
        let pod = from.pod.ok_or("a command can be run in a pod only: name one as FROM")?;
        let at = self.picture.clusters.iter().position(|one| std::ptr::eq(one, from.cluster));
        let target =
            at.and_then(|at| self.targets.get(at)).ok_or("the client's cluster was not named with --context")?;
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(target.client.clone(), &namespace);
        let first = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.as_str()).next();
        let container = container.or(first).unwrap_or_default();
        let command: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let run = exec::run(&pods, &name, container, &command);
        match tokio::time::timeout(COMMAND_MAX, run).await {
            Ok(Ok(_)) => Ok("succeeded".to_owned()),
            Ok(Err(error)) if error.starts_with("missing permission") => Err(error),
            Ok(Err(error)) => Ok(format!("failed: {}", error.trim_start_matches(&format!("pod {name}: ")))),
            Err(_) => Ok(format!("was not done after {} s", COMMAND_MAX.as_secs())),
        }
    }
}

fn read(said: &str) -> Result<Said, String> {
    serde_json::from_str(said).map_err(|error| format!("it said something else than counters: {error}"))
}

fn counted(plan: &Plan, at: usize, route: &Route, answers: &Answers) -> Vec<Counted> {
    let count = |spot: &Spot| {
        let pair = plan.pair(at, &spot.cluster, &spot.node);
        let said = match answers.get(&(spot.cluster.clone(), spot.node.clone())) {
            Some(Ok(said)) => said,
            Some(Err(error)) => return Err(error.clone()),
            None => return Err("it was not asked".to_owned()),
        };
        let is = |count: &&Count| (count.pair, count.link, count.hook) == (pair, spot.link, spot.hook);
        let found = said.counts.iter().find(is).ok_or("it has no such link")?;
        Ok(if spot.way == Way::There { found.there } else { found.back })
    };
    let spots = route.spots.iter().map(|spot| {
        let (packets, unseen) = match count(spot) {
            Ok(packets) => (Some(packets), String::new()),
            Err(error) => (None, error),
        };
        Counted { spot: spot.clone(), packets, unseen }
    });
    spots.collect()
}
