//! The latest of everything that was seen of all clusters: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::follow::News;
use crate::kubectl::diagnose::{Check, Fault, Finding, State};
use crate::kubectl::inspect::Questions;
use crate::kubectl::picture::{Answers, ClusterPicture, Part, Picture, put_all};

/// Milliseconds that a look may take before the last one counts as old: several requests that time out one after another,
/// and a gateway that is waited for.
const OLD: i64 = 60_000;

/// Nodes are asked twice: what they have, and then whom they reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    First,
    Second,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Latest {
    picture: Picture,
    /// When each cluster was looked at. Milliseconds since 1970; none before the first look has ended.
    looked: Vec<Option<i64>>,
    /// What all nodes of a cluster told first, until they have told the rest: half of it would hide what is known.
    first: BTreeMap<usize, Answers>,
}

impl Latest {
    /// Of clusters of which nothing is known but their contexts.
    pub(super) fn new(contexts: impl Iterator<Item = String>) -> Self {
        let clusters: Vec<ClusterPicture> =
            contexts.map(|context| ClusterPicture::dark(&context, "the API server has not answered yet")).collect();
        Self { looked: vec![None; clusters.len()], picture: Picture { clusters }, first: BTreeMap::new() }
    }

    pub(super) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Whether every cluster was looked at.
    pub(super) fn is_complete(&self) -> bool {
        self.looked.iter().all(Option::is_some)
    }

    /// Takes what somebody has seen.
    pub(super) fn take(&mut self, news: News, now: i64) {
        match news {
            News::Look(at, mut seen) => {
                carry_over(&self.picture.clusters[at], &mut seen);
                self.picture.clusters[at] = *seen;
                self.looked[at] = Some(now);
            }
            News::Gateway(at, answers) => tunnels(&mut self.picture.clusters[at].inspections, answers),
            News::Nodes(at, Stage::First, answers) => {
                self.first.insert(at, answers);
            }
            News::Nodes(at, Stage::Second, answers) => {
                let mut told = self.first.remove(&at).unwrap_or_default();
                put_all(&mut told, answers);
                self.picture.clusters[at].inspections.extend(told);
            }
        }
    }

    /// Whether nodes have told what they have, and were not asked for more.
    pub(super) fn has_first_answers(&self) -> bool {
        !self.first.is_empty()
    }

    /// What is asked then. Clusters of which nothing is asked have told all.
    pub(super) fn with_first_answers(
        &mut self,
        questions: impl FnOnce(&Picture) -> Vec<BTreeMap<String, Questions>>,
    ) -> Vec<BTreeMap<String, Questions>> {
        self.swap();
        let asked = questions(&self.picture);
        self.swap();
        self.first.retain(|at, _| asked.get(*at).is_some_and(|asked| !asked.is_empty()));
        asked
    }

    fn swap(&mut self) {
        for (at, answers) in &mut self.first {
            std::mem::swap(&mut self.picture.clusters[*at].inspections, answers);
        }
    }

    /// Clusters of which something old is shown: a look goes on for longer than it should.
    pub(super) fn stale(&self, now: i64, every: Duration) -> Vec<Finding> {
        let limit = OLD + i64::try_from(every.as_millis()).unwrap_or(i64::MAX - OLD);
        let is_old = |(cluster, looked): (&ClusterPicture, &Option<i64>)| {
            let age = now - (*looked)?;
            if age <= limit || cluster.is_dark() {
                return None;
            }
            let fault = Fault {
                state: State::Unknown,
                reason: "Old",
                evidence: format!("what is shown is {} s old", age / 1000),
                cause: "the API server has not answered since, which need not stop the cluster's traffic".to_owned(),
                fix: String::new(),
            };
            Some(Finding::bad(Check::Rbac, cluster, "cluster", fault))
        };
        self.picture.clusters.iter().zip(&self.looked).filter_map(is_old).collect()
    }
}

/// What stays known from the last look: the ID of a cluster that is silent now, and what nodes have told.
fn carry_over(before: &ClusterPicture, now: &mut ClusterPicture) {
    if now.id().is_none() && before.id().is_some() {
        now.id = before.id.clone();
        now.settle();
    }
    let there = now.node_names();
    now.inspections = before.inspections.clone();
    now.inspections.retain(|node, _| there.contains(node));
}

/// How the tunnels are now; what kernels have stays as it was told before.
fn tunnels(told: &mut Answers, now: Answers) {
    for (node, mut answer) in now {
        if let (Some(Part::Seen(old)), Part::Seen(new)) = (told.get_mut(&node), &mut answer) {
            new.inspection = std::mem::take(&mut old.inspection);
            new.unanswered = old.unanswered.take();
        }
        told.insert(node, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::diagnose::questions;
    use crate::kubectl::picture::Unseen;
    use crate::kubectl::picture::samples::healthy;

    /// All that is known of two clusters that are well.
    fn latest() -> Latest {
        let mut latest = Latest::new(["paris", "berlin"].into_iter().map(str::to_owned));
        for (at, cluster) in healthy().clusters.into_iter().enumerate() {
            let answers = cluster.inspections.clone();
            latest.take(News::Look(at, Box::new(cluster)), 1000);
            latest.take(News::Nodes(at, Stage::Second, answers), 1000);
        }
        latest
    }

    fn unseen(why: &str) -> Part<crate::kubectl::picture::NodePicture> {
        Part::Unseen(Unseen { what: "node paris-1".to_owned(), why: why.to_owned() })
    }

    #[test]
    fn a_cluster_that_has_not_answered_yet_is_dark_and_the_others_are_not() {
        let mut latest = Latest::new(["paris", "berlin"].into_iter().map(str::to_owned));
        latest.take(News::Look(1, Box::new(healthy().clusters.remove(1))), 1000);
        assert!(!latest.is_complete());
        assert_eq!(latest.picture().clusters[0].server.unseen().unwrap().why, "the API server has not answered yet");
        assert_eq!(latest.picture().clusters[1].id(), Some("berlin"));
    }

    #[test]
    fn a_cluster_that_falls_silent_keeps_its_name_and_nothing_else() {
        let mut latest = latest();
        latest.take(News::Look(0, Box::new(ClusterPicture::dark("paris", "refused"))), 2000);
        let paris = &latest.picture().clusters[0];
        assert_eq!(paris.id(), Some("paris"));
        assert!(paris.is_dark() && paris.inspections.is_empty());
    }

    #[test]
    fn a_node_that_is_gone_is_told_of_no_more() {
        let mut latest = latest();
        let mut now = healthy().clusters.remove(1);
        now.inspections.clear();
        now.nodes = Part::Seen(now.nodes.all()[..1].to_vec());
        latest.take(News::Look(1, Box::new(now)), 2000);
        let told: Vec<&String> = latest.picture().clusters[1].inspections.keys().collect();
        assert_eq!(told, ["berlin-1"], "berlin-2 is no node any more");
    }

    #[test]
    fn a_look_that_takes_long_leaves_what_was_seen_and_tells_how_old_it_is() {
        let latest = latest();
        let every = Duration::from_secs(5);
        assert!(latest.stale(66_000, every).is_empty());
        let told = latest.stale(83_000, every);
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].cluster.as_str(), told[0].state), ("paris", State::Unknown));
        assert_eq!(told[0].evidence, "what is shown is 82 s old");
        assert_eq!(latest.picture().clusters[0].peer("berlin").unwrap().state, "up");
    }

    #[test]
    fn half_of_what_nodes_tell_hides_nothing_of_what_they_told_before() {
        let mut latest = latest();
        let told = |latest: &Latest| latest.picture().clusters[0].inspection("paris-1").unwrap().lookups.len();
        assert_eq!(told(&latest), 1);
        let bare = |latest: &Latest| {
            let mut answers = latest.picture().clusters[0].inspections.clone();
            for answer in answers.values_mut() {
                let Part::Seen(seen) = answer else { panic!("all have answered") };
                seen.inspection.lookups.clear();
            }
            answers
        };
        latest.take(News::Nodes(0, Stage::First, bare(&latest)), 2000);
        assert_eq!(told(&latest), 1);
        let asked = latest.with_first_answers(questions);
        assert_eq!((asked[0]["paris-1"].lookups.len(), told(&latest)), (1, 1));
        // The second answer does not come: what the first one told is what is known.
        latest.take(News::Nodes(0, Stage::Second, Answers::from([("paris-1".to_owned(), unseen("lost"))])), 3000);
        assert_eq!(told(&latest), 0);
        assert_eq!(latest.picture().clusters[0].asked("paris-1").unwrap().unanswered.as_deref(), Some("lost"));
        assert!(!latest.has_first_answers());
    }

    #[test]
    fn a_gateway_tells_of_its_tunnels_and_its_kernel_stays_as_it_was() {
        let mut latest = latest();
        let mut now = latest.picture().clusters[0].inspections["paris-1"].clone();
        let Part::Seen(seen) = &mut now else { panic!("it has answered") };
        seen.inspection = Default::default();
        seen.pod = "another".to_owned();
        latest.take(News::Gateway(0, Answers::from([("paris-1".to_owned(), now)])), 2000);
        let asked = latest.picture().clusters[0].asked("paris-1").unwrap();
        assert_eq!((asked.pod.as_str(), asked.inspection.lookups.len()), ("another", 1));
        // A look that has failed is told.
        latest.take(News::Gateway(0, Answers::from([("paris-1".to_owned(), unseen("gone"))])), 3000);
        assert_eq!(latest.picture().clusters[0].inspections["paris-1"].unseen().unwrap().why, "gone");
    }
}
