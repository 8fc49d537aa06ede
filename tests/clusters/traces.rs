//! What a program can leave on a node, and in an API server.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Cluster, Node, Run, Testbed};

/// Links, rules, routes and packet filter of every node, as their own programs print them, and the files that it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeMap<String, String>);

/// Pods and kube-proxy change these with every pod and service, so only what could be Linkspan's is looked at.
const OURS: [&str; 5] = ["linkspan", "10810", "10811", "proto 108", "lookup 1081"];
/// Where a node keeps its private key and the facts of its last site. The folder is a mount in the pod, and stays, empty.
const STATE: &str = "/var/lib/linkspan";

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
            said += &kept(node)?;
            traces.insert(node.name.clone(), said);
        }
        Ok(Self(traces))
    }

    /// Checks that every node has routes of ours, which only a process that runs makes after a start of the node, and something
    /// on its disk: what was never there cannot go.
    ///
    /// # Errors
    /// A node has nothing, which the error names.
    pub fn assert_on_all(&self) -> Result<()> {
        for (node, said) in &self.0 {
            let has = |mark: &str| said.lines().any(|line| line.contains(mark));
            ensure!(has(STATE) && has("proto 108"), "node {node} has only:\n{said}");
        }
        Ok(())
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

/// The files that a node keeps, one a line.
fn kept(node: &Node) -> Result<String> {
    let folder = node.path(STATE);
    if !folder.exists() {
        return Ok(String::new());
    }
    let failed = || format!("failed to read {}", folder.display());
    let mut files = String::new();
    for file in std::fs::read_dir(&folder).with_context(failed)? {
        files += &format!("{}\n", file.with_context(failed)?.path().display());
    }
    Ok(files)
}

/// Checks that no object of Linkspan is left, neither of the kinds without a namespace nor in kube-system, and nothing in those
/// of cluster DNS. Namespaces of its own take along what is in them.
///
/// # Errors
/// One is.
pub fn assert_no_object(cluster: &Cluster) -> Result<()> {
    let kinds = "namespaces,crds,clusterroles,clusterrolebindings,priorityclasses,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    let said = cluster.kubectl(["get", kinds, "-o", "name"])?.stdout()?;
    let left: Vec<_> = said.lines().filter(|name| name.contains("linkspan")).collect();
    ensure!(left.is_empty(), "{} still has {left:?}", cluster.spec.name);
    let kinds = "roles,rolebindings,configmaps";
    let said = cluster.kubectl(["get", kinds, "-n", "kube-system", "-o", "yaml"])?.stdout()?;
    let left: Vec<_> = said.lines().filter(|line| line.contains("linkspan")).collect();
    ensure!(left.is_empty(), "kube-system of {} still has {left:?}", cluster.spec.name);
    Ok(())
}
