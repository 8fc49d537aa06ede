//! What `diagnose` finds in all clusters, and what it has asked nodes for that.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kubectl::contexts::Target;
use crate::kubectl::diagnose::{Finding, ask_nodes, diagnose};
use crate::kubectl::output::Progress;
use crate::kubectl::picture::{Answers, ClusterPicture, Part, look};

/// A diagnosis.
#[derive(Debug)]
pub(super) struct Diagnosis {
    /// The findings of all checks.
    pub findings: Vec<Finding>,
    /// What nodes have answered, by cluster: ways, rules, probes, names.
    pub answers: Vec<Answers>,
}

impl Diagnosis {
    /// Looks at all clusters but those that have refused for these reasons, and asks their nodes.
    pub(super) async fn of(targets: &[Target], refused: &[Option<String>], progress: &Progress) -> Self {
        let reached = targets.iter().zip(refused).filter(|(_, why)| why.is_none());
        let reached: Vec<Target> = reached.map(|(target, _)| target.clone()).collect();
        progress.now("looking at clusters");
        let mut picture = look(&reached).await;
        ask_nodes(&reached, &mut picture, progress).await;
        // Each is told, in the order in which it was named.
        let mut seen = std::mem::take(&mut picture.clusters).into_iter();
        let all = targets.iter().zip(refused).filter_map(|(target, why)| match why {
            Some(why) => Some(ClusterPicture::dark(&target.name, why)),
            None => seen.next(),
        });
        picture.clusters = all.collect();
        let findings = diagnose(&picture);
        Self { findings, answers: picture.clusters.into_iter().map(|cluster| cluster.inspections).collect() }
    }

    /// Keys that nodes themselves call public.
    pub(super) fn public_keys(&self) -> BTreeSet<String> {
        let seen = self.answers.iter().flat_map(|answers| answers.values()).filter_map(Part::seen);
        let statuses = seen.filter_map(|node| serde_json::to_value(&node.status).ok());
        let mut keys = BTreeSet::new();
        for status in statuses {
            super::public_keys(&status, &mut |key| {
                keys.insert(key.to_owned());
            });
        }
        keys
    }
}

/// What nodes of one cluster have answered, by path, or why they have not.
pub(super) fn files(answers: &Answers) -> Vec<(String, Result<Value, String>)> {
    let path = |node: &str| format!("nodes/{}/answers.json", super::part(node));
    let of_node = |(node, answer): (&String, &Part<_>)| {
        let told = match answer {
            Part::Seen(seen) => serde_json::to_value(seen).map_err(|error| error.to_string()),
            Part::Partly(partly) => Err(partly.rest.why.clone()),
            Part::Unseen(unseen) => Err(unseen.why.clone()),
        };
        (path(node), told)
    };
    answers.iter().map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::picture::Unseen;
    use crate::kubectl::picture::samples::healthy;

    #[test]
    fn answers_of_nodes_are_files_and_what_did_not_come_is_told() {
        let mut answers = healthy().clusters.remove(0).inspections;
        let why = "missing permission: create pods/exec in namespace linkspan-system".to_owned();
        answers
            .insert("paris-2".to_owned(), Part::Unseen(Unseen { what: "node paris-2".to_owned(), why: why.clone() }));
        let files = files(&answers);
        let [(first, Ok(told)), (second, Err(missing))] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!([first.as_str(), second.as_str()], ["nodes/paris-1/answers.json", "nodes/paris-2/answers.json"]);
        assert!(told["inspection"]["lookups"].as_array().is_some_and(|lookups| !lookups.is_empty()), "{told}");
        assert_eq!(*missing, why);
    }

    #[test]
    fn keys_that_nodes_have_may_stay() {
        let answers = healthy().clusters.into_iter().map(|cluster| cluster.inspections).collect();
        let keys = Diagnosis { findings: Vec::new(), answers }.public_keys();
        assert!(!keys.is_empty());
    }
}
