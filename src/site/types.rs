//! A checked site: every value parsed, every default filled in.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::path::PathBuf;

use ipnet::IpNet;
use tunnel::config::{Addresses, Dscp, Offloads, PublicKey, Translation};

pub use super::file::Protocol;

/// One cluster of a clusterset, seen from itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The cluster's ID.
    pub cluster: String,
    /// File with the private key, as written.
    pub private_key_file: Option<PathBuf>,
    /// Prefixes of all pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefixes of all service addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Prefixes of pods and services that others know by virtual addresses.
    pub translation: Vec<Translation>,
    /// Nodes; at least one is a gateway, as a rule.
    pub nodes: Vec<Node>,
    /// Name of the gateway that carries the cluster's traffic; none while there is no such node.
    pub active_gateway: Option<String>,
    /// How tunnels are made.
    pub tunnel: Tunnel,
    /// Where names are served.
    pub dns: Dns,
    /// Where the process tells about itself.
    pub status: Status,
    /// Services of this cluster.
    pub exports: Vec<Export>,
    /// The other clusters.
    pub peers: Vec<Peer>,
    /// Whether it is made of Members, which decide by themselves whose services they route, and by what they know each other
    /// in both families alike.
    pub of_members: bool,
}

impl Site {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Whether it can end tunnels, and so has a device.
    pub gateway: bool,
    /// Prefixes of its pods.
    pub pod_cidrs: Vec<IpNet>,
}

/// `auto`, or a chosen value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<T> {
    /// Chosen from what the machine is.
    Auto,
    /// Chosen by the file.
    Fixed(T),
}

/// How tunnels are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Name of the TUN link.
    pub link: String,
    /// UDP port for Linkspan peers.
    pub listen_port: u16,
    /// UDP port for plain WireGuard peers.
    pub vanilla_port: u16,
    /// Number of lanes.
    pub lanes: Choice<NonZeroU8>,
    /// MTU of the TUN link in bytes.
    pub mtu: Choice<u16>,
    /// Traffic class of encrypted packets.
    pub dscp: Dscp,
    /// Offloads that may be used.
    pub offloads: Offloads,
}

/// Where names are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Addresses to answer on, of all nodes.
    pub listen: Vec<SocketAddr>,
    /// The zone, without the final dot.
    pub zone: String,
    /// Time to live of answers in seconds.
    pub ttl: u32,
}

/// Where the process tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Unix socket of `linkspan status`.
    pub socket: PathBuf,
    /// Address of metrics and probes.
    pub listen: Option<SocketAddr>,
}

/// An exported service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name of the service.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How it is reached.
    pub kind: ExportKind,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// How an exported service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportKind {
    /// By its own addresses, at most one of each family.
    ClusterSetIp(Vec<IpAddr>),
    /// By its pods.
    Headless(Vec<Backend>),
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty when it is the only port and has none.
    pub name: String,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its number, not 0.
    pub port: u16,
}

/// A pod behind a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its host name.
    pub hostname: Option<String>,
    /// Its addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// Whether it may be used.
    pub ready: bool,
}

/// Another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its ID.
    pub cluster: String,
    /// Its public key.
    pub public_key: PublicKey,
    /// Where it is called; `None` waits for its call.
    pub endpoint: Option<SocketAddr>,
    /// Prefixes behind it.
    pub allowed_ips: Vec<IpNet>,
    /// Its lanes; `None` for a plain WireGuard.
    pub lanes: Option<NonZeroU8>,
    /// File with the preshared key, as written.
    pub preshared_key_file: Option<PathBuf>,
    /// Seconds between keepalives.
    pub persistent_keepalive: Option<NonZeroU16>,
    /// By which addresses it knows this cluster.
    pub knows_us_by: Addresses,
    /// Its services.
    pub exports: Vec<Export>,
}
