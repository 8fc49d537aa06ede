//! `linkspan check`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use tunnel::Addresses;

use super::run::NodeName;
use crate::site::{Loaded, NodePlan};

const LONG: &str = "\
Check a site file and print what `linkspan run` would make of it on this node, without changing anything.

Mistakes are told with line and column, all at once. On the gateway the key files are checked too; with --file-only \
neither they nor the node's name are looked at, for a check on another machine, such as before a commit.";

const EXAMPLES: &str = "\
Examples:
  linkspan check --config site.yaml
  linkspan check site.yaml --node paris-w1
  linkspan check site.yaml --file-only";

/// Check a site file and print the plan for this node.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The site file.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The site file, as `linkspan run` takes it.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    #[command(flatten)]
    node: NodeName,
    /// Check the text of the file alone.
    #[arg(long)]
    file_only: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let path = args.file.or(args.config).unwrap_or_default();
    if args.file_only {
        let site = crate::site::read(&path)?;
        return super::print(&format!(
            "{}: cluster {} with {} nodes, {} peers and {} exports is well-formed\n",
            path.display(),
            site.cluster,
            site.nodes.len(),
            site.peers.len(),
            site.exports.len()
        ));
    }
    let loaded = Loaded::read(&path, &args.node.resolve()?)?;
    let plan = crate::run::plan_now(&loaded)?;
    super::print(&describe(&loaded, &plan))
}

/// The plan as people read it.
fn describe(loaded: &Loaded, plan: &NodePlan) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<10}{text}");
    };
    let role = if plan.node.gateway { "gateway" } else { "worker" };
    line("Node", format!("{}/{} ({role}), {}", loaded.site.cluster, plan.node.name, plan.node.address));
    if let Some(tunnel) = &plan.tunnel {
        let vanilla = tunnel.vanilla_port.map_or_else(String::new, |port| format!(", vanilla UDP port {port}"));
        let link = &tunnel.link;
        line(
            "Link",
            format!("{link}, {} lanes, MTU {}, UDP port {}{vanilla}", tunnel.lanes, tunnel.mtu, tunnel.listen_port),
        );
        line("Key", format!("public key {}", tunnel.private_key.public_key()));
    }
    for pair in &loaded.site.translation {
        line("Virtual", format!("{} is known as {}", pair.native, pair.r#virtual));
    }
    for peer in &loaded.site.peers {
        let endpoint = peer.endpoint.map_or_else(|| "waits for its call".to_owned(), |at| format!("at {at}"));
        let lanes = peer.lanes.map_or_else(|| "plain WireGuard".to_owned(), |lanes| format!("{lanes} lanes"));
        let prefixes: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        let known = match peer.knows_us_by {
            Addresses::Virtual => ", knows this cluster by virtual addresses",
            Addresses::Native => "",
        };
        line("Peer", format!("{} {endpoint}, {lanes}, {}{known}", peer.cluster, prefixes.join(" ")));
    }
    let via = match (&plan.node.gateway, &plan.desired.active_gateway) {
        (false, Some(gateway)) => format!("through {gateway}"),
        _ => "into the tunnel".to_owned(),
    };
    let routes = plan.desired.remote.values().map(Vec::len).sum::<usize>();
    line("Routes", format!("{routes} prefixes {via}"));
    let listen: Vec<String> = plan.dns_listen.iter().map(ToString::to_string).collect();
    let on = if listen.is_empty() { "no address of this node".to_owned() } else { listen.join(", ") };
    let services = plan.services.values().map(Vec::len).sum::<usize>();
    line("Names", format!("{} with {services} exports, on {on}", loaded.site.dns.zone));
    let http = loaded.site.status.listen.map_or_else(String::new, |at| format!(", metrics on http://{at}/metrics"));
    line("Status", format!("{}{http}", loaded.site.status.socket.display()));
    out
}
