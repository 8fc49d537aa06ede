//! Makes the planned namespaces, links, addresses, routes and foreign rules, and removes whatever bears the prefix.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::command::{Run, each};
use super::flannel::{self, POD_MTU, dad};
use super::kube_proxy;
use super::plan::{Node, Place, Plan, Site};
use super::processes;
use super::spec::{Prefix, Proxy};

/// Where `ip netns` looks for files that shall replace those of `/etc` in a namespace.
const ETC_NETNS: &str = "/etc/netns";

/// Settings of every namespace before its links are made. Strict reverse-path filtering is the harder of the two
/// common defaults. Without duplicate address detection IPv6 works at once.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];
/// Settings of every namespace that routes.
const ROUTER_SYSCTLS: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
/// What Kubernetes wants of a node: packets between pods on the same bridge pass the service rules too.
const NODE_SYSCTLS: &[(&str, &str)] =
    &[("bridge/bridge-nf-call-iptables", "1"), ("bridge/bridge-nf-call-ip6tables", "1")];
/// The LAN bridge is a switch: it does not track connections.
const LAN_SYSCTLS: &[(&str, &str)] =
    &[("bridge/bridge-nf-call-iptables", "0"), ("bridge/bridge-nf-call-ip6tables", "0")];

/// Builds the whole topology. Nothing of it exists yet: [`remove`] ran before.
///
/// # Errors
/// The first command that fails, with what it said.
pub fn build(plan: &Plan) -> Result<()> {
    let names: String = plan.namespaces().iter().map(|name| format!("netns add {name}\n")).collect();
    Run::new("ip", ["-batch", "-"]).input(names).done()?;
    settings(&plan.world, &[SYSCTLS, ROUTER_SYSCTLS])?;
    batch("ip", &plan.world, &world_links(plan))?;
    each(&plan.sites, |site| {
        settings(&site.lan, &[SYSCTLS, ROUTER_SYSCTLS, LAN_SYSCTLS])?;
        each(&site.nodes, |node| settings(&node.netns, &[SYSCTLS, ROUTER_SYSCTLS, NODE_SYSCTLS]))?;
        each(site.pods(), |place| settings(&place.pod.netns, &[SYSCTLS]))?;
        batch("ip", &site.lan, &lan_links(site))?;
        each(&site.nodes, |node| {
            batch("ip", &node.netns, &node_links(site, node))?;
            batch("bridge", &node.netns, &flannel::forwarding(site, node))?;
            foreign_rules(site, node)
        })?;
        each(site.pods(), pod)
    })?;
    Ok(())
}

/// Removes every process, namespace and file that bears the prefix, in whatever state a crash left it.
///
/// # Errors
/// A process, namespace or file cannot be removed.
pub fn remove(prefix: &Prefix) -> Result<()> {
    let leftovers = namespaces(prefix)?;
    let held = processes::hold(&leftovers)?;
    processes::end(&held)?;
    let names: String = leftovers.iter().map(|name| format!("netns del {name}\n")).collect();
    let deleted = Run::new("ip", ["-force", "-batch", "-"]).input(names).done();
    // A lab that is interrupted is removed by two at once; what counts is that nothing is left.
    let left = namespaces(prefix)?;
    if leftovers.iter().any(|name| left.contains(name)) {
        deleted?;
    }
    // What was being started may have entered since; without names, nothing more does.
    processes::end(&held)?;
    for name in entries(Path::new(ETC_NETNS), prefix)? {
        remove_folder(&Path::new(ETC_NETNS).join(name))?;
    }
    // Ours when nothing else is in it; `ip netns exec` does without.
    let _ = fs::remove_dir(ETC_NETNS);
    remove_folder(&prefix.state_dir())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The namespaces on this machine that bear the prefix.
///
/// # Errors
/// `/run/netns` cannot be read.
pub fn namespaces(prefix: &Prefix) -> Result<Vec<String>> {
    entries(Path::new("/run/netns"), prefix)
}

fn entries(folder: &Path, prefix: &Prefix) -> Result<Vec<String>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("failed to list {}", folder.display()))?,
    };
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix.as_str())).collect();
    names.sort();
    Ok(names)
}

fn batch(program: &str, netns: &str, lines: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    Run::new(program, ["-n", netns, "-batch", "-"]).input(lines).done()
}

fn settings(netns: &str, groups: &[&[(&str, &str)]]) -> Result<()> {
    let mut script = "set -e\n".to_owned();
    for (name, value) in groups.iter().copied().flatten() {
        writeln!(script, "echo {value} >/proc/sys/net/{name}").expect("a String takes all text");
    }
    Run::in_netns(netns, "sh", ["-s"]).input(script).done()
}

fn world_links(plan: &Plan) -> String {
    let mut lines = "link set lo up\n".to_owned();
    for net in &plan.world_hosts {
        lines += &format!("addr add {net} dev lo {}\n", dad(net));
    }
    for site in &plan.sites {
        let link = &site.world_link;
        lines += &format!("link add {link} type veth peer name wan netns {}\nlink set {link} up\n", site.lan);
        for net in &site.uplink_world {
            lines += &format!("addr add {net} dev {link} {}\n", dad(net));
        }
        for (lan, router) in site.router.iter().zip(&site.uplink_router) {
            lines += &format!("route add {} via {} dev {link}\n", lan.trunc(), router.addr());
        }
    }
    lines
}

fn lan_links(site: &Site) -> String {
    let mut lines = "link set lo up\nlink add br0 type bridge\nlink set br0 up\nlink set wan up\n".to_owned();
    for (lan, uplink) in site.router.iter().zip(&site.uplink_router) {
        lines += &format!("addr add {lan} dev br0 {0}\naddr add {uplink} dev wan {0}\n", dad(lan));
    }
    for far in &site.uplink_world {
        lines += &format!("route add default via {} dev wan\n", far.addr());
    }
    for (at, node) in site.nodes.iter().enumerate() {
        lines += &format!(
            "link add node{at} type veth peer name eth0 netns {}\nlink set node{at} master br0 up\n",
            node.netns
        );
    }
    lines
}

fn node_links(site: &Site, node: &Node) -> String {
    let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
    for (net, router) in node.addresses.iter().zip(&site.router) {
        lines += &format!("addr add {net} dev eth0 {}\nroute add default via {} dev eth0\n", dad(net), router.addr());
    }
    lines += &format!("link add cni0 mtu {POD_MTU} type bridge\nlink set cni0 up\n");
    for net in &node.bridge {
        lines += &format!("addr add {net} dev cni0 {}\n", dad(net));
    }
    for (at, pod) in node.pods.iter().enumerate() {
        lines += &format!(
            "link add veth{at} mtu {POD_MTU} type veth peer name eth0 mtu {POD_MTU} netns {}\n\
             link set veth{at} master cni0 up\n\
             link set veth{at} type bridge_slave hairpin on\n",
            pod.netns
        );
    }
    lines + &flannel::links(site, node)
}

/// flannel's and kube-proxy's rules, in the order in which a node gets them.
fn foreign_rules(site: &Site, node: &Node) -> Result<()> {
    for (cluster, own) in site.pod_cidrs.iter().zip(&node.pod_cidrs) {
        iptables(node, cluster, flannel::masquerade(cluster, own))?;
    }
    if site.proxy == Proxy::Nftables {
        return Run::in_netns(&node.netns, "nft", ["-f", "-"]).input(kube_proxy::nftables(site)).done();
    }
    for (vip, rules) in kube_proxy::iptables(site) {
        iptables(node, &IpNet::from(vip), rules)?;
    }
    Ok(())
}

fn iptables(node: &Node, family: &IpNet, rules: String) -> Result<()> {
    let program = if family.addr().is_ipv4() { "iptables-nft-restore" } else { "ip6tables-nft-restore" };
    Run::in_netns(&node.netns, program, ["--noflush"]).input(rules).done()
}

fn pod(place: Place<'_>) -> Result<()> {
    let Place { node, pod, .. } = place;
    let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
    for (net, bridge) in pod.addresses.iter().zip(&node.bridge) {
        lines += &format!("addr add {net} dev eth0 {}\nroute add default via {} dev eth0\n", dad(net), bridge.addr());
    }
    batch("ip", &pod.netns, &lines)?;
    // The pod's own kernel writes down who pinged it, which no answer to a ping could tell.
    Run::in_netns(&pod.netns, "nft", ["-f", "-"]).input(WITNESS).done()?;
    let folder = PathBuf::from(ETC_NETNS).join(&pod.netns);
    let servers: String = node.bridge.iter().map(|net| format!("nameserver {}\n", net.addr())).collect();
    // Another lab that ends at this moment may remove the folder above between its making and its use.
    (0..3)
        .find_map(|_| fs::create_dir_all(&folder).ok())
        .map_or_else(|| fs::create_dir_all(&folder), Ok)
        .and_then(|()| fs::write(folder.join("resolv.conf"), servers + "options timeout:2 attempts:2\n"))
        .with_context(|| format!("failed to write {}/resolv.conf", folder.display()))
}

/// Table of a pod with the sources of the echo requests that arrived at it.
const WITNESS: &str = "\
table inet witness {
  set pings4 { type ipv4_addr; flags dynamic; size 65535; }
  set pings6 { type ipv6_addr; flags dynamic; size 65535; }
  chain input {
    type filter hook input priority 0;
    icmp type echo-request add @pings4 { ip saddr }
    icmpv6 type echo-request add @pings6 { ip6 saddr }
  }
}
";
