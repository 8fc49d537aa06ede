//! Looks at all clusters again and again, at each by itself: one that is slow keeps nobody else waiting.
//!
//! A look reads what an API server has and then asks the active gateway how its tunnels are. Asking all nodes what they have
//! and whom they reach takes longer, and happens beside that now and then: [`is_due`]. What was seen stands until a look has
//! told otherwise.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::data::{Shown, Topology};
use super::latest::{Latest, Stage};
use super::rates::Rates;
use super::server::Answer;
use super::topology::{spoken, topology};
use crate::kubectl::contexts::Target;
use crate::kubectl::diagnose::{Finding, State, diagnose, questions};
use crate::kubectl::inspect::Questions;
use crate::kubectl::picture::{self, Answers, ClusterPicture, Part, Picture, Unseen, Wanted};
use crate::kubectl::speech::Speech;

/// How long it takes until something is shown although not all clusters have told anything.
const FIRST: Duration = Duration::from_secs(2);
/// How long the nodes of a cluster may take to answer.
const ANSWERS: Duration = Duration::from_secs(60);
/// Milliseconds after which all nodes are asked again, where all is well and where something is not.
const AGAIN: [i64; 2] = [60_000, 15_000];
/// News that wait while others are judged.
const WAITING: usize = 1024;
/// Clusters whose nodes are asked at a time: each node is a connection, 16 of each cluster. Looks are not counted: their
/// connections stay open for the next one.
const AT_ONCE: usize = 32;
/// The shortest time between two pages.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether nodes are asked, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// Yes, which needs the right to get and create pods/exec.
    Asked,
    /// API servers alone.
    LeftAlone,
}

/// What somebody has seen, by the position of the cluster.
pub(super) enum News {
    /// What an API server has.
    Look(usize, Box<ClusterPicture>),
    /// How the tunnels of its gateway are.
    Gateway(usize, Answers),
    /// What all its nodes have.
    Nodes(usize, Stage, Answers),
}

/// What is known from look to look.
pub(super) struct Follower {
    targets: Vec<Target>,
    nodes: Nodes,
    speech: Speech,
    latest: Latest,
    rates: Rates,
    shown: Shown,
    /// When all nodes had been asked. Milliseconds since 1970.
    asked: Option<i64>,
    /// Whether they are being asked.
    is_asking: bool,
    /// Clusters whose nodes have not answered yet.
    asking: JoinSet<News>,
    /// Turns of those whose nodes are being asked.
    turns: Arc<Semaphore>,
}

impl Follower {
    pub(super) fn new(targets: Vec<Target>, nodes: Nodes, speech: Speech) -> Self {
        Self {
            latest: Latest::new(targets.iter().map(|target| target.name.clone())),
            targets,
            nodes,
            speech,
            rates: Rates::default(),
            shown: Shown::default(),
            asked: None,
            is_asking: false,
            asking: JoinSet::new(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Goes on until nobody wants to see it any more.
    ///
    /// # Errors
    /// What was seen cannot be judged or written, which is a fault of this program.
    pub(super) async fn follow(mut self, every: Duration, answer: watch::Sender<Arc<Answer>>) -> anyhow::Result<()> {
        let (send, mut news) = mpsc::channel(WAITING);
        let mut looking = JoinSet::new();
        for (at, target) in self.targets.iter().cloned().enumerate() {
            looking.spawn(look_again(at, target, self.nodes, every, send.clone()));
        }
        let mut first = pin!(tokio::time::sleep(FIRST));
        while !self.latest.is_complete() {
            tokio::select! {
                Some(seen) = news.recv() => self.latest.take(seen, picture::now()),
                () = &mut first => break,
            }
        }
        loop {
            let begun = picture::now();
            self.judge(every).await?;
            let judging = Duration::from_millis((picture::now() - begun).unsigned_abs());
            self.shown.round += 1;
            let told = Answer::new(&self.shown, picture::now())?;
            if answer.send(Arc::new(told)).is_err() {
                return Ok(());
            }
            self.ask_nodes().await?;
            // Many clusters tell something all the time; half of a processor is enough for it.
            tokio::time::sleep(judging.clamp(PAUSE, every.max(PAUSE))).await;
            self.wait(&mut news, every).await;
        }
    }

    /// Waits for news, of which all that are there are taken; not for ever, since ages are shown, too.
    async fn wait(&mut self, news: &mut mpsc::Receiver<News>, every: Duration) {
        let first = tokio::select! {
            first = news.recv() => first,
            Some(Ok(answers)) = self.asking.join_next() => Some(answers),
            () = tokio::time::sleep(every) => None,
        };
        let now = picture::now();
        first.into_iter().for_each(|first| self.latest.take(first, now));
        while let Ok(further) = news.try_recv() {
            self.latest.take(further, now);
        }
        while let Some(Ok(answers)) = self.asking.try_join_next() {
            self.latest.take(answers, now);
        }
    }

    /// Goes on with asking all nodes: once all have told what they have, whom they reach, which is about each other.
    async fn ask_nodes(&mut self) -> anyhow::Result<()> {
        let now = picture::now();
        if self.nodes == Nodes::LeftAlone || !self.asking.is_empty() {
            return Ok(());
        }
        if self.latest.has_first_answers() {
            let mut latest = std::mem::take(&mut self.latest);
            let asked = tokio::task::spawn_blocking(move || {
                let asked = latest.with_first_answers(questions);
                (latest, asked)
            });
            let (latest, asked) = asked.await.context("questions to nodes could not be found")?;
            self.latest = latest;
            self.spawn(Stage::Second, asked);
        } else if std::mem::take(&mut self.is_asking) {
            self.asked = Some(now);
        } else if is_due(self.asked, now, &self.shown.topology) {
            self.is_asking = true;
            self.spawn(Stage::First, picture::all_nodes(self.latest.picture()));
        }
        Ok(())
    }

    fn spawn(&mut self, stage: Stage, asked: Vec<BTreeMap<String, Questions>>) {
        let clusters = self.latest.picture().clusters.iter().zip(&self.targets).zip(asked);
        for (at, ((cluster, target), asked)) in clusters.enumerate().filter(|(_, (_, asked))| !asked.is_empty()) {
            let (target, wanted) = (target.clone(), picture::wanted(cluster, asked));
            let turns = Arc::clone(&self.turns);
            self.asking.spawn(async move {
                let _turn = turns.acquire_owned().await;
                News::Nodes(at, stage, ask(&target, wanted).await)
            });
        }
    }

    /// Makes of what was seen what is shown. Hundreds of clusters take a while, and the server goes on.
    async fn judge(&mut self, every: Duration) -> anyhow::Result<()> {
        let (latest, before, now) = (std::mem::take(&mut self.latest), std::mem::take(&mut self.rates), picture::now());
        let speech = self.speech.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let seen: &Picture = latest.picture();
            let rates = before.after(seen);
            let mut findings: Vec<Finding> = diagnose(seen);
            findings.extend(latest.stale(now, every));
            let topology = spoken(topology(seen, &findings, &rates), &speech);
            (latest, rates, topology)
        });
        (self.latest, self.rates, self.shown.topology) = judged.await.context("what was seen could not be judged")?;
        Ok(())
    }
}

/// Looks at one cluster until nobody wants to know.
async fn look_again(at: usize, target: Target, nodes: Nodes, every: Duration, news: mpsc::Sender<News>) {
    loop {
        let Some(seen) = picture::look(std::slice::from_ref(&target)).await.clusters.pop() else { return };
        let gateway = seen.active_gateway().filter(|_| nodes == Nodes::Asked);
        let wanted = gateway.map(|node| picture::wanted(&seen, BTreeMap::from([(node, Questions::default())])));
        if news.send(News::Look(at, Box::new(seen))).await.is_err() {
            return;
        }
        let asked = async {
            if let Some(wanted) = wanted {
                // Nobody wants to know any more: the next look finds out.
                let _ = news.send(News::Gateway(at, ask(&target, wanted).await)).await;
            }
        };
        tokio::join!(asked, tokio::time::sleep(every));
    }
}

/// Asks nodes of one cluster, and waits so long.
async fn ask(target: &Target, wanted: Vec<Wanted>) -> Answers {
    let nodes: Vec<String> = wanted.iter().map(|wanted| wanted.node().to_owned()).collect();
    let silent = |node: String| {
        let why = format!("no answer within {} s", ANSWERS.as_secs());
        (node.clone(), Part::Unseen(Unseen { what: format!("node {node}"), why }))
    };
    let answers = timeout(ANSWERS, picture::answers(&target.client, wanted)).await;
    answers.unwrap_or_else(|_| nodes.into_iter().map(silent).collect())
}

/// Whether all nodes are to be asked again.
fn is_due(asked: Option<i64>, now: i64, topology: &Topology) -> bool {
    let is_bad = topology.findings.iter().any(|finding| matches!(finding.state, State::Failed | State::Warning));
    asked.is_none_or(|asked| now - asked >= AGAIN[usize::from(is_bad)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::picture::samples::healthy;

    #[test]
    fn nodes_are_asked_more_often_while_something_is_wrong() {
        let well = Topology::default();
        let picture = healthy();
        let mut finding = diagnose(&picture).remove(0);
        finding.state = State::Failed;
        let ill = Topology { findings: vec![finding], ..Topology::default() };
        assert!(is_due(None, 0, &well));
        assert_eq!([59_999, 60_000].map(|now| is_due(Some(0), now, &well)), [false, true]);
        assert_eq!([14_999, 15_000].map(|now| is_due(Some(0), now, &ill)), [false, true]);
    }
}
