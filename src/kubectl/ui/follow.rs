//! Looks at all clusters again and again.
//!
//! A round reads what API servers have and asks each active gateway how its tunnels are. Asking all nodes what they have and
//! whom they reach takes longer, and happens now and then: [`is_due`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::data::{Shown, Topology};
use super::rates::Rates;
use super::server::Answer;
use super::topology::{is_dark, topology};
use crate::kubectl::contexts::Target;
use crate::kubectl::diagnose::{Finding, State, diagnose, questions};
use crate::kubectl::inspect::Questions;
use crate::kubectl::picture::{self, ClusterPicture, Part, Picture, Unseen};

/// How long an API server may take to tell everything.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same for one that told nothing the last time; it is waited for beside the following rounds.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// How long the nodes of a cluster may take to answer.
const ANSWERS: Duration = Duration::from_secs(60);
/// Milliseconds after which all nodes are asked again, where all is well and where something is not.
const AGAIN: [i64; 2] = [60_000, 15_000];

/// Whether nodes are asked, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// Yes, which needs the right to create pods/exec.
    Asked,
    /// API servers alone.
    LeftAlone,
}

/// What is known from round to round.
pub(super) struct Follower {
    targets: Vec<Target>,
    nodes: Nodes,
    /// Looks that have not ended yet, by target.
    looks: Vec<Option<JoinHandle<Option<ClusterPicture>>>>,
    picture: Picture,
    rates: Rates,
    shown: Shown,
    /// When all nodes were asked. Milliseconds since 1970.
    asked: Option<i64>,
}

impl Follower {
    pub(super) fn new(targets: Vec<Target>, nodes: Nodes) -> Self {
        let looks = targets.iter().map(|_| None).collect();
        Self {
            targets,
            nodes,
            looks,
            picture: Picture::default(),
            rates: Rates::default(),
            shown: Shown::default(),
            asked: None,
        }
    }

    /// Goes on until nobody wants to see it any more.
    ///
    /// # Errors
    /// What was seen cannot be judged or written, which is a fault of this program.
    pub(super) async fn follow(mut self, every: Duration, answer: watch::Sender<Arc<Answer>>) -> anyhow::Result<()> {
        loop {
            self.round().await?;
            self.shown.round += 1;
            let told = Answer::new(&self.shown, picture::now())?;
            if answer.send(Arc::new(told)).is_err() {
                return Ok(());
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let mut seen = self.look().await;
        carry_over(&self.picture, &mut seen);
        if self.nodes == Nodes::Asked {
            seen = self.ask_gateways(seen).await;
        }
        self.judge(seen).await?;
        let now = picture::now();
        if self.nodes == Nodes::Asked && is_due(self.asked, now, &self.shown.topology) {
            let seen = std::mem::take(&mut self.picture);
            let everybody = picture::all_nodes(&seen);
            let seen = self.ask(seen, everybody).await;
            let further = questions(&seen);
            let seen = self.ask(seen, further).await;
            self.judge(seen).await?;
            self.asked = Some(now);
        }
        Ok(())
    }

    /// What API servers have.
    async fn look(&mut self) -> Picture {
        let known = &self.picture.clusters;
        let each = self.targets.iter().zip(&mut self.looks).enumerate().map(|(at, (target, look))| {
            let patience = if known.get(at).is_some_and(is_dark) { IMPATIENCE } else { PATIENCE };
            look_at(target, look, patience)
        });
        Picture { clusters: join_all(each).await }
    }

    /// How the tunnels are now; what kernels have stays as it was told before.
    async fn ask_gateways(&self, seen: Picture) -> Picture {
        let asked: Vec<BTreeMap<String, Questions>> = seen
            .clusters
            .iter()
            .map(|cluster| cluster.active_gateway().map(|node| (node, Questions::default())).into_iter().collect())
            .collect();
        let before: Vec<_> = seen.clusters.iter().map(|cluster| cluster.inspections.clone()).collect();
        let mut seen = self.ask(seen, asked).await;
        for (cluster, before) in seen.clusters.iter_mut().zip(before) {
            for (node, old) in before {
                if let (Part::Seen(old), Some(Part::Seen(new))) = (old, cluster.inspections.get_mut(&node)) {
                    new.inspection = old.inspection;
                }
            }
        }
        seen
    }

    /// Asks nodes, each cluster by itself: one that does not answer does not spoil the others.
    async fn ask(&self, seen: Picture, asked: Vec<BTreeMap<String, Questions>>) -> Picture {
        let each =
            seen.clusters.into_iter().zip(&self.targets).zip(asked).map(|((cluster, target), asked)| async move {
                let mut one = Picture { clusters: vec![cluster] };
                let (target, asked) = (std::slice::from_ref(target), std::slice::from_ref(&asked));
                if timeout(ANSWERS, picture::ask(target, &mut one, asked)).await.is_err() {
                    for node in asked.iter().flat_map(BTreeMap::keys) {
                        let why = format!("no answer within {} s", ANSWERS.as_secs());
                        let unseen = Part::Unseen(Unseen { what: format!("node {node}"), why });
                        one.clusters[0].inspections.insert(node.clone(), unseen);
                    }
                }
                one.clusters
            });
        Picture { clusters: join_all(each).await.into_iter().flatten().collect() }
    }

    /// Makes of what was seen what is shown. Hundreds of clusters take a while, and the server goes on.
    async fn judge(&mut self, seen: Picture) -> anyhow::Result<()> {
        let rates = self.rates.after(&seen);
        let judged = tokio::task::spawn_blocking(move || {
            let findings: Vec<Finding> = diagnose(&seen);
            let topology = topology(&seen, &findings, &rates);
            (seen, rates, topology)
        });
        (self.picture, self.rates, self.shown.topology) = judged.await.context("what was seen could not be judged")?;
        Ok(())
    }
}

/// Begins to look at a cluster, or goes on, and waits so long.
async fn look_at(
    target: &Target,
    look: &mut Option<JoinHandle<Option<ClusterPicture>>>,
    patience: Duration,
) -> ClusterPicture {
    let mut running = look.take().unwrap_or_else(|| {
        let target = [target.clone()];
        tokio::spawn(async move { picture::look(&target).await.clusters.pop() })
    });
    match timeout(patience, &mut running).await {
        Ok(Ok(Some(seen))) => seen,
        Ok(_) => silent(target, "it could not be looked at"),
        Err(_) => {
            *look = Some(running);
            silent(target, &format!("no answer within {} s", PATIENCE.as_secs()))
        }
    }
}

/// A cluster of which nothing was seen.
fn silent(target: &Target, why: &str) -> ClusterPicture {
    let server = Part::Unseen(Unseen { what: "the API server".to_owned(), why: why.to_owned() });
    ClusterPicture { context: target.name.clone(), server, ..ClusterPicture::default() }
}

/// What stays known from the last round: the IDs of clusters that are silent now, and what nodes have told.
fn carry_over(before: &Picture, now: &mut Picture) {
    for (now, before) in now.clusters.iter_mut().zip(&before.clusters) {
        if now.id().is_none() && before.id().is_some() {
            now.id = before.id.clone();
        }
        let there = now.node_names();
        now.inspections = before.inspections.clone();
        now.inspections.retain(|node, _| there.contains(node));
    }
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
    fn a_cluster_that_falls_silent_keeps_its_name_and_nothing_else() {
        let before = healthy();
        let mut now = Picture { clusters: vec![ClusterPicture::default(), before.clusters[1].clone()] };
        now.clusters[1].inspections.clear();
        now.clusters[1].nodes = Part::Seen(before.clusters[1].nodes.all()[..1].to_vec());
        carry_over(&before, &mut now);
        assert_eq!(now.clusters[0].id(), Some("paris"));
        assert!(is_dark(&now.clusters[0]) && now.clusters[0].inspections.is_empty());
        let told: Vec<&String> = now.clusters[1].inspections.keys().collect();
        assert_eq!(told, ["berlin-1"], "berlin-2 is no node any more");
    }

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
