//! From a file's text to a checked [`Site`]: all mistakes are found in one go.

mod exports;
mod overlap;
mod peers;
mod translation;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tunnel::config::{Dscp, Offloads};

use super::file::{At, AutoOr, DnsFile, DscpFile, NodeFile, Position, SiteFile, StatusFile, TunnelFile};
use super::types::{Choice, Dns, Node, Site, Status, Tunnel};
use super::values;
use peers::Translated;

/// Largest site file in bytes: 500 peers with 5 000 exports take less than 2 MiB.
pub const MAX_BYTES: usize = 8 << 20;
/// Most problems that are told at once; the rest is counted.
const MAX_PROBLEMS: usize = 50;

/// One mistake in a site file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it stands.
    pub position: Position,
    /// Path of the field, such as `peers[0].endpoint`; empty when the text is no YAML at all.
    pub field: String,
    /// What is wrong, with the value and the accepted form.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position.line > 0 {
            write!(f, "{}:{}: ", self.position.line, self.position.column)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Reads a site file's text.
///
/// # Errors
/// Every problem of the file in the order of lines, or the first one when it is not YAML of the right shape.
pub fn parse(bytes: &[u8]) -> Result<Site, Vec<Problem>> {
    let file: SiteFile = yaml(bytes).map_err(|problem| vec![problem])?;
    let mut checker = Checker::default();
    let site = checker.site(&file);
    let mut problems = checker.problems;
    problems.sort();
    problems.dedup();
    match site {
        Some(site) if problems.is_empty() => Ok(site),
        _ => Err(cut(problems)),
    }
}

fn cut(mut problems: Vec<Problem>) -> Vec<Problem> {
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    if more > 0 {
        let message = format!("… and {more} more problems");
        problems.push(Problem { position: Position::default(), field: String::new(), message });
    }
    problems
}

/// The status socket alone, whatever else is wrong.
pub(super) fn socket(bytes: &[u8]) -> Result<PathBuf, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Rest {
        status: Socket,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Socket {
        socket: Option<String>,
    }
    let rest: Rest = yaml(bytes)?;
    Ok(PathBuf::from(rest.status.socket.as_deref().unwrap_or(DEFAULT_SOCKET)))
}

/// Text to fields. Sizes, depth and aliases are bounded, so that a small file cannot grow to gigabytes.
fn yaml<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let problem = |message: String| Problem { position: Position::default(), field: String::new(), message };
    if bytes.len() > MAX_BYTES {
        return Err(problem(format!("the file has {} bytes; at most {MAX_BYTES} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| problem(format!("the file is not UTF-8 text (byte {})", error.valid_up_to() + 1)))?;
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 16,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000, max_replay_stack_depth: 8 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
        Problem { position: position.unwrap_or_default(), field: String::new(), message: sentence(&error) }
    })
}

/// The parser's message without its own tail that repeats the place.
fn sentence(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default().trim_end_matches('.');
    match first.rfind(" at line ") {
        Some(cut) => first[..cut].to_owned(),
        None => first.to_owned(),
    }
}

/// Collects problems while it turns fields into values.
#[derive(Default)]
pub(super) struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    /// Notes a problem.
    pub(super) fn note(&mut self, position: Position, field: &str, message: String) {
        self.problems.push(Problem { position, field: field.to_owned(), message });
    }

    /// Parses one value, or notes why it cannot.
    pub(super) fn take<T>(
        &mut self,
        field: &str,
        text: &At<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text.value()).map_err(|message| self.note(text.position(), field, message)).ok()
    }

    /// Parses one number, or notes why it cannot.
    pub(super) fn number<T>(
        &mut self,
        field: &str,
        number: &At<u64>,
        parse: impl FnOnce(u64) -> Result<T, String>,
    ) -> Option<T> {
        parse(*number.value()).map_err(|message| self.note(number.position(), field, message)).ok()
    }

    /// Parses every value of a list; wrong ones are noted and left out.
    pub(super) fn list<T>(
        &mut self,
        field: &str,
        texts: &[At<String>],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let each = texts.iter().enumerate();
        each.filter_map(|(i, text)| self.take(&format!("{field}[{i}]"), text, &parse)).collect()
    }

    /// Notes every second use of a name.
    pub(super) fn unique<'a>(&mut self, names: impl Iterator<Item = (String, &'a At<String>)>) {
        let mut seen = BTreeMap::new();
        for (field, name) in names {
            if let Some(first) = seen.insert(name.value(), field.clone()) {
                let message = format!("{} is used before, in {first}", values::quote(name.value()));
                self.note(name.position(), &field, message);
            }
        }
    }

    fn site(&mut self, file: &SiteFile) -> Option<Site> {
        let cluster = self.take("cluster", &file.cluster, values::label);
        let pod_cidrs = self.list("network.podCIDRs", &file.network.pod_cidrs, values::routed_prefix);
        let service_cidrs = self.list("network.serviceCIDRs", &file.network.service_cidrs, values::routed_prefix);
        if file.network.pod_cidrs.is_empty() {
            self.note(
                file.cluster.position(),
                "network.podCIDRs",
                "is empty; name the prefixes of all pods".to_owned(),
            );
        }
        let nodes = self.nodes(file);
        let gateway = nodes.iter().find(|node| node.gateway).map(|node| node.name.clone());
        let tunnel = self.tunnel(&file.tunnel);
        let dns = self.dns(&file.dns);
        let status = self.status(&file.status);
        let translation = self.translation(&file.network);
        let translated = if file.network.r#virtual.is_empty() { Translated::No } else { Translated::Yes };
        let peers = self.peers(&file.peers, &file.cluster, translated);
        // With a wrong prefix, everything that lies in it would be told as wrong too.
        let complete =
            pod_cidrs.len() == file.network.pod_cidrs.len() && service_cidrs.len() == file.network.service_cidrs.len();
        let own: Vec<IpNet> = pod_cidrs.iter().chain(&service_cidrs).copied().filter(|_| complete).collect();
        let exports = self.exports("exports", &file.exports, &own, "network");
        if complete {
            self.overlaps(file);
        }
        Some(Site {
            cluster: cluster?,
            private_key_file: file.private_key_file.as_ref().map(|name| PathBuf::from(name.value())),
            pod_cidrs,
            service_cidrs,
            translation,
            nodes,
            active_gateway: gateway,
            tunnel: tunnel?,
            dns: dns?,
            status: status?,
            exports,
            peers,
            of_members: false,
        })
    }

    fn nodes(&mut self, file: &SiteFile) -> Vec<Node> {
        let names = file.nodes.iter().enumerate();
        self.unique(names.map(|(i, node)| (format!("nodes[{i}].name"), &node.name)));
        let addresses = file.nodes.iter().enumerate();
        self.unique(addresses.map(|(i, node)| (format!("nodes[{i}].address"), &node.address)));
        let gateways: Vec<&NodeFile> = file.nodes.iter().filter(|node| node.gateway).collect();
        if let Some(second) = gateways.get(1) {
            let message = "is a second gateway; one node ends the tunnels of a cluster".to_owned();
            self.note(second.name.position(), "nodes", message);
        }
        if let Some(node) = gateways.first().filter(|_| file.private_key_file.is_none()) {
            let message = format!(
                "is missing, and {} is a gateway; make a key with `linkspan genkey private.key` and name the file here",
                values::quote(node.name.value())
            );
            self.note(file.cluster.position(), "privateKeyFile", message);
        }
        if gateways.is_empty() {
            let message = "has no gateway; write `gateway: true` at the node that ends the tunnels".to_owned();
            self.note(file.cluster.position(), "nodes", message);
        }
        let nodes = file.nodes.iter().enumerate();
        nodes.filter_map(|(i, node)| self.node(&format!("nodes[{i}]"), node)).collect()
    }

    fn node(&mut self, field: &str, node: &NodeFile) -> Option<Node> {
        let name = self.take(&format!("{field}.name"), &node.name, values::node_name);
        let address = self.take(&format!("{field}.address"), &node.address, values::unicast);
        let pod_cidrs = self.list(&format!("{field}.podCIDRs"), &node.pod_cidrs, values::routed_prefix);
        Some(Node { name: name?, address: address?, gateway: node.gateway, pod_cidrs })
    }

    fn tunnel(&mut self, file: &TunnelFile) -> Option<Tunnel> {
        let link = match &file.link {
            Some(name) => self.take("tunnel.link", name, values::link_name),
            None => Some("linkspan0".to_owned()),
        };
        let port = |checker: &mut Self, field, number: &Option<At<u64>>, default| match number {
            Some(number) => checker.number(field, number, values::port),
            None => Some(default),
        };
        let listen_port = port(self, "tunnel.listenPort", &file.listen_port, 51820);
        let vanilla_port = port(self, "tunnel.vanillaPort", &file.vanilla_port, 51821);
        if let (Some(a), Some(b), Some(at)) =
            (listen_port, vanilla_port, file.vanilla_port.as_ref().or(file.listen_port.as_ref()))
            && a == b
        {
            self.note(at.position(), "tunnel.vanillaPort", format!("{b} is also the listenPort; use two ports"));
        }
        let lanes = self.choice("tunnel.lanes", file.lanes.as_ref(), values::lanes);
        let mtu = self.choice("tunnel.mtu", file.mtu.as_ref(), values::mtu);
        Some(Tunnel {
            link: link?,
            listen_port: listen_port?,
            vanilla_port: vanilla_port?,
            lanes: lanes?,
            mtu: mtu?,
            dscp: match file.dscp {
                Some(DscpFile::Copy) => Dscp::Copy,
                Some(DscpFile::Zero) | None => Dscp::Zero,
            },
            offloads: Offloads {
                tun_tso: file.offloads.tun_tso.unwrap_or(true),
                tun_uso: file.offloads.tun_uso.unwrap_or(true),
                udp_gso: file.offloads.udp_gso.unwrap_or(true),
                udp_gro: file.offloads.udp_gro.unwrap_or(true),
                steering: file.offloads.steering.unwrap_or(true),
            },
        })
    }

    fn choice<T>(
        &mut self,
        field: &str,
        written: Option<&At<AutoOr>>,
        parse: impl FnOnce(u64) -> Result<T, String>,
    ) -> Option<Choice<T>> {
        match written.map(|at| (at, *at.value())) {
            None | Some((_, AutoOr::Auto)) => Some(Choice::Auto),
            Some((at, AutoOr::Number(number))) => match parse(number) {
                Ok(value) => Some(Choice::Fixed(value)),
                Err(message) => {
                    self.note(at.position(), field, format!("{message} or auto"));
                    None
                }
            },
        }
    }

    fn dns(&mut self, file: &DnsFile) -> Option<Dns> {
        let each = file.listen.iter().enumerate();
        self.unique(each.map(|(i, at)| (format!("dns.listen[{i}]"), at)));
        let listen = self.list("dns.listen", &file.listen, values::listen);
        let zone = match &file.zone {
            Some(zone) => self.take("dns.zone", zone, values::domain),
            None => Some("clusterset.local".to_owned()),
        };
        let ttl = match &file.ttl {
            Some(ttl) => self.number("dns.ttl", ttl, |seconds| match u32::try_from(seconds) {
                Ok(seconds @ 1..=3600) => Ok(seconds),
                _ => Err(format!("{seconds} is no time to live; use 1 to 3600 seconds")),
            }),
            None => Some(5),
        };
        Some(Dns { listen, zone: zone?, ttl: ttl? })
    }

    fn status(&mut self, file: &StatusFile) -> Option<Status> {
        let socket = match &file.socket {
            Some(path) => self.take("status.socket", path, socket_path),
            None => Some(PathBuf::from(DEFAULT_SOCKET)),
        };
        let listen = match &file.listen {
            Some(at) => Some(self.take("status.listen", at, values::listen)?),
            None => None,
        };
        Some(Status { socket: socket?, listen })
    }
}

/// Where `linkspan status` looks when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/linkspan/linkspan.sock";

/// Longest path of a unix socket: `sun_path` of `linux/un.h` less the terminating zero and the `.new` it is made under.
const SOCKET_PATH_MAX: usize = 103;

fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.len() > SOCKET_PATH_MAX || text.contains('\0') {
        return Err(format!("{} is not a socket path; use 1 to {SOCKET_PATH_MAX} bytes", values::quote(text)));
    }
    Ok(PathBuf::from(text))
}
