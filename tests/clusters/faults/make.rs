//! How faults are made.

use anyhow::Result;
use testbed::{Node, Run, netns};

use crate::joined::{Joined, TWO};

/// A command on a node.
pub(super) fn on(node: &Node, command: &[&str]) -> Result<()> {
    node.inside(Run::new(command[0], command[1..].iter().copied()))?.done()
}

pub(super) fn node<'a>(joined: &'a Joined, name: &str) -> Result<&'a Node> {
    joined.cluster(name.split('-').next().unwrap_or_default())?.node(name)
}

/// Filters in the world between the sites what matches, or nothing.
pub(super) fn world(matches: &str) -> Result<()> {
    let mut script = table("ip", "fault", "forward", "filter", 0);
    if !matches.is_empty() {
        script += &format!("add rule ip fault forward {matches} drop\n");
    }
    Run::new("nft", ["-f", "-"]).input(script).in_netns(&netns(TWO, "world")).done()
}

pub(super) fn open_world(_: &Joined) -> Result<()> {
    world("")
}

/// Lines for nft that make a table with one chain anew.
fn table(family: &str, name: &str, hook: &str, kind: &str, priority: i32) -> String {
    let table = format!("table {family} {name}\n");
    format!(
        "add {table}delete {table}add {table}\
         add chain {family} {name} {hook} {{ type {kind} hook {hook} priority {priority}; }}\n"
    )
}

/// A rule on a node, in a table of its own.
pub(super) fn rule(node: &Node, hook: &str, kind: &str, priority: i32, rule: &str) -> Result<()> {
    let script = format!("{}add rule inet fault {hook} {rule}\n", table("inet", "fault", hook, kind, priority));
    node.inside(Run::new("nft", ["-f", "-"]))?.input(script).done()
}

fn open(node: &Node) -> Result<()> {
    on(node, &["nft", "delete", "table", "inet", "fault"])
}

pub(super) fn open_worker(joined: &Joined) -> Result<()> {
    open(node(joined, "paris-2")?)
}

pub(super) fn open_gateway(joined: &Joined) -> Result<()> {
    open(node(joined, "berlin-1")?)
}

pub(super) fn service(joined: &Joined, cluster: &str, name: &str, selector: &str, port: u16) -> Result<()> {
    joined.cluster(cluster)?.apply(&format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: {name}, namespace: default }}, \
         spec: {{ selector: {{ {selector} }}, ports: [{{ name: http, port: {port}, targetPort: 80 }}] }} }}"
    ))
}
