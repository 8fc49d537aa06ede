//! What a lab consists of and what runs in it, for `linkspan lab status`.

use std::net::IpAddr;

use comfy_table::{ContentArrangement, Table, presets};
use ipnet::IpNet;
use serde::Serialize;

use super::{Lab, Node};

/// One node or pod of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// `SITE/NODE` or `SITE/POD`, as `lab exec` takes it.
    pub name: String,
    /// `gateway`, `node` or `pod`.
    pub kind: &'static str,
    /// Network namespace.
    pub netns: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What runs there.
    pub state: String,
}

impl Lab {
    /// Every node, each followed by its pods.
    pub fn overview(&mut self) -> Vec<Member> {
        let plan = self.plan.clone();
        let mut members = Vec::new();
        for (site, node) in plan.nodes() {
            members.push(Member {
                name: format!("{}/{}", site.name, node.short),
                kind: if node.gateway { "gateway" } else { "node" },
                netns: node.netns.clone(),
                addresses: plain(&node.addresses),
                state: self.state_of(node),
            });
            members.extend(node.pods.iter().map(|pod| Member {
                name: format!("{}/{}", site.name, pod.name),
                kind: "pod",
                netns: pod.netns.clone(),
                addresses: plain(&pod.addresses),
                state: format!("on {}", node.name),
            }));
        }
        members
    }

    fn state_of(&mut self, node: &Node) -> String {
        let Some(pid) = self.node_pid(&node.name) else { return "linkspan does not run".to_owned() };
        match self.readyz(&node.name) {
            Ok(()) => format!("ready (process {pid})"),
            Err(_) => format!("not ready (process {pid})"),
        }
    }
}

/// The overview as a table for people.
pub fn overview_table(members: &[Member]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["name", "kind", "addresses", "namespace", "state"]);
    for member in members {
        let addresses: Vec<_> = member.addresses.iter().map(ToString::to_string).collect();
        table.add_row([&member.name, member.kind, &addresses.join("\n"), &member.netns, &member.state]);
    }
    table
}

fn plain(nets: &[IpNet]) -> Vec<IpAddr> {
    nets.iter().map(IpNet::addr).collect()
}
