//! Waits until every node is ready and the first packet has crossed between each two sites.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::clock::{now, pause};
use super::command::{Run, each};
use super::pod::{Answer, Question, Transport};
use super::{Lab, STATUS_LISTEN};

impl Lab {
    /// Waits until `/readyz` of every node answers 200, and then until a pod of each site reaches one of each other.
    ///
    /// # Errors
    /// A process ended, or it takes longer than `limit`: the error says what is missing, with the last lines of the log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let start = now();
        let nodes: Vec<_> = self.plan.nodes().map(|(_, node)| node.name.clone()).collect();
        for name in &nodes {
            loop {
                let Err(error) = self.readyz(name) else { break };
                if self.node_pid(name).is_none() {
                    bail!("linkspan on {name} ended: {}", self.last_words(name, 8));
                }
                if start.elapsed() >= limit {
                    let words = self.last_words(name, 8);
                    return Err(error).context(format!("{name} is not ready after {limit:?}; its log ends: {words}"));
                }
                pause(Duration::from_millis(20));
            }
        }
        loop {
            let silent = self.unreached()?;
            if silent.is_empty() {
                return Ok(());
            }
            if start.elapsed() >= limit {
                let gateway = self.plan.sites[0].gateway().name.clone();
                let words = self.last_words(&gateway, 8);
                bail!("no packet crosses after {limit:?}: {}; the log of {gateway} ends: {words}", silent.join(", "));
            }
        }
    }

    /// Asks a node's own `/readyz`.
    ///
    /// # Errors
    /// It does not answer 200: the error holds what it answers.
    pub fn readyz(&self, name: &str) -> Result<()> {
        let url = format!("http://{STATUS_LISTEN}/readyz");
        Run::in_netns(&self.node(name)?.netns, "curl", ["-sS", "--fail-with-body", "-m", "2", &url]).done()
    }

    /// Asks questions from a pod, all at the same time.
    ///
    /// # Errors
    /// The client cannot be run. A question without an answer is an [`Answer`] that says so.
    pub fn ask(&self, netns: &str, questions: &[Question]) -> Result<Vec<Answer>> {
        let mut args = vec!["lab".to_owned(), "pod-ask".to_owned()];
        args.extend(questions.iter().map(Question::to_string));
        let said = Run::in_netns(netns, self.binary(), args).stdout()?;
        serde_json::from_str(&said).with_context(|| format!("the client in {netns} said `{said}`"))
    }

    /// Pairs of sites whose first pods do not reach each other yet.
    fn unreached(&self) -> Result<Vec<String>> {
        let sites = &self.plan.sites;
        let silent = each(sites, |site| {
            let from = site.pods().next().context("a site has pods")?;
            let others = sites.iter().filter(|other| other.name != site.name).filter_map(|other| other.pods().next());
            let targets: Vec<_> = others
                .flat_map(|place| place.addresses_seen_from(site).into_iter().map(move |to| (place, to)))
                .collect();
            let questions: Vec<_> = targets.iter().map(|(_, to)| Question { over: Transport::Udp, to: *to }).collect();
            let answers = self.ask(&from.pod.netns, &questions)?;
            let failed = answers.into_iter().zip(targets).filter_map(|(answer, (place, _))| {
                let why = answer.seen.err()?;
                Some(format!("{} to {} at {}: {why}", from.label(), place.label(), answer.question.to))
            });
            Ok(failed.collect::<Vec<_>>())
        })?;
        Ok(silent.concat())
    }
}
