//! Network namespaces: one per node, and one for the world between the sites.
//!
//! ```text
//!   PARIS-1   PARIS-2          BERLIN-1   BERLIN-2
//!     eth0      eth0              eth0      eth0
//!      └── bridge ──┐   WORLD  ┌── bridge ──┘          one bridge per site, .1 of its node network
//!                   └──────────┘
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::spec::Spec;

/// An address outside of all clusters, where the resolver of the outside world listens (a range for documentation,
/// RFC 5737).
pub const OUTSIDE: &str = "198.51.100.53";

/// Strict reverse-path filtering is the harder of the two common defaults. Without duplicate address detection IPv6
/// works at once.
const ROUTER: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
];
/// A site's bridge is a switch; what Kubernetes wants of a node is the contrary.
const SWITCH: (&str, &str) = ("bridge/bridge-nf-call-iptables", "0");
const NODE: (&str, &str) = ("bridge/bridge-nf-call-iptables", "1");

/// The name of the namespace `name` of a testbed.
pub fn netns(prefix: &str, name: &str) -> String {
    format!("{prefix}-{name}")
}

/// Makes the world between the sites.
///
/// # Errors
/// A command fails.
pub fn make_world(prefix: &str) -> Result<()> {
    let world = netns(prefix, "world");
    Run::new("ip", ["netns", "add", &world]).done()?;
    settings(&world, ROUTER)?;
    settings(&world, &[SWITCH])?;
    batch(&world, &format!("link set lo up\naddr add {OUTSIDE}/32 dev lo\n"))
}

/// Makes the site of a cluster: its bridge, which routes to the others.
///
/// # Errors
/// A command fails.
pub fn make_site(prefix: &str, spec: &Spec) -> Result<()> {
    let (bridge, router, bits) = (bridge(spec), spec.router(), spec.node_network.prefix_len());
    let mut lines =
        format!("link add {bridge} type bridge\naddr add {router}/{bits} dev {bridge}\nlink set {bridge} up\n");
    if let (Some(ipv6), Some(router)) = (spec.ipv6, spec.router6()) {
        let bits = ipv6.node_network.prefix_len();
        writeln!(lines, "addr add {router}/{bits} dev {bridge} nodad").expect("a String takes all text");
    }
    batch(&netns(prefix, "world"), &lines)
}

/// Makes the namespace of a node and plugs it into its site. One that is there already is thrown away before.
///
/// # Errors
/// A command fails.
pub fn make_node(prefix: &str, spec: &Spec, index: usize) -> Result<()> {
    let name = &spec.node_names()[index];
    let node = netns(prefix, name);
    if namespaces(prefix)?.contains(&node) {
        // A killed node is unplugged already. The kernel would remove the link with the namespace, but later.
        let _ = unplug(prefix, name);
        Run::new("ip", ["netns", "del", &node]).done()?;
    }
    Run::new("ip", ["netns", "add", &node]).done()?;
    settings(&node, ROUTER)?;
    settings(&node, &[NODE])?;
    let bridge = bridge(spec);
    batch(
        &netns(prefix, "world"),
        &format!("link add {name} type veth peer name eth0 netns {node}\nlink set {name} master {bridge} up\n"),
    )?;
    let (address, bits, router) = (spec.node_address(index), spec.node_network.prefix_len(), spec.router());
    let mut lines = format!(
        "link set lo up\naddr add {address}/{bits} dev eth0\nlink set eth0 up\nroute add default via {router}\n"
    );
    if let (Some(ipv6), Some(address), Some(router)) = (spec.ipv6, spec.node_address6(index), spec.router6()) {
        let bits = ipv6.node_network.prefix_len();
        let more = format!("addr add {address}/{bits} dev eth0 nodad\nroute add default via {router} dev eth0");
        writeln!(lines, "{more}").expect("a String takes all text");
    }
    batch(&node, &lines)
}

/// Pulls a node's cable, as the end of its power does.
///
/// # Errors
/// The node is not plugged in.
pub fn unplug(prefix: &str, node: &str) -> Result<()> {
    batch(&netns(prefix, "world"), &format!("link del {node}\n"))
}

/// The namespaces on this machine that belong to a testbed.
///
/// # Errors
/// `/run/netns` cannot be read.
pub fn namespaces(prefix: &str) -> Result<Vec<String>> {
    let listed = match fs::read_dir("/run/netns") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.context("failed to list /run/netns")?,
    };
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| belongs(prefix, name)).collect();
    names.sort();
    Ok(names)
}

/// Whether a namespace or control group bears the prefix of a testbed.
pub fn belongs(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))
}

fn bridge(spec: &Spec) -> String {
    format!("br-{}", spec.name)
}

fn batch(netns: &str, lines: &str) -> Result<()> {
    let done = Run::new("ip", ["-n", netns, "-batch", "-"]).input(lines).done();
    done.with_context(|| format!("failed to set up the links of {netns} by these lines:\n{lines}"))
}

fn settings(netns: &str, settings: &[(&str, &str)]) -> Result<()> {
    let mut script = "set -e\n".to_owned();
    for (name, value) in settings {
        writeln!(script, "echo {value} >/proc/sys/net/{name}").expect("a String takes all text");
    }
    Run::new("sh", ["-s"]).input(script).in_netns(netns).done()
}
