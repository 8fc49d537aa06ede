//! What a program can leave on a node.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use testbed::{Run, Testbed};

/// Links, rules, routes and packet filter of every node, as their own programs print them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeMap<String, String>);

/// Pods and kube-proxy change these with every pod and service, so only what could be Linkspan's is looked at.
const OURS: [&str; 5] = ["linkspan", "10810", "10811", "proto 108", "lookup 1081"];

impl Traces {
    /// Of all nodes of a testbed.
    ///
    /// # Errors
    /// A node does not run.
    pub fn of(bed: &Testbed) -> Result<Self> {
        let mut traces = BTreeMap::new();
        for node in bed.clusters.iter().flat_map(|cluster| &cluster.nodes) {
            let mut said = String::new();
            for command in [
                &["ip", "-d", "link"][..],
                &["ip", "rule"],
                &["ip", "-6", "rule"],
                &["ip", "route", "show", "table", "all"],
                &["ip", "-6", "route", "show", "table", "all"],
                &["nft", "list", "ruleset"],
            ] {
                let printed = node.inside(Run::new(command[0], command[1..].iter().copied()))?.stdout()?;
                let of_interest = |line: &&str| OURS.iter().any(|mark| line.contains(mark));
                printed.lines().filter(of_interest).for_each(|line| said += &format!("{line}\n"));
            }
            traces.insert(node.name.clone(), said);
        }
        Ok(Self(traces))
    }

    /// Checks that nothing is there that was not there before.
    ///
    /// # Errors
    /// Something is, on the node that the error names.
    pub fn assert_as(&self, before: &Self) -> Result<()> {
        for (node, said) in &self.0 {
            if before.0.get(node) != Some(said) {
                bail!("node {node} still has:\n{said}");
            }
        }
        Ok(())
    }
}
