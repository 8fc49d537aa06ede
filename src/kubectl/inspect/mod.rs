//! What one node's kernel has that matters to Linkspan, and what can be reached from there. Read only; it runs on the node,
//! or by `pods/exec` inside its `linkspan-node` pod, which shares the node's network.

mod look;
pub mod probe;
mod resolve;
mod table;

use std::net::{IpAddr, SocketAddr};

use controller::node::filter::{Hit, Packet};
use controller::node::{Lookup, Way};
use serde::{Deserialize, Serialize};

pub use look::{Here, inspect};
pub use table::table;

/// What is asked of a node besides what it always tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Questions {
    /// Which way packets take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// What the packet filter does to packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packets: Vec<Packet>,
    /// Whether kube-proxy carries these addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<SocketAddr>,
    /// What answers from here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// What a name server answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameQuestion>,
}

impl Questions {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Something to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Probe {
    /// ICMP echo, of a whole IP packet of `size` bytes that must not be fragmented; 0 for a small one.
    Ping {
        /// Whom.
        to: IpAddr,
        /// Size of the packet in bytes, IP header included.
        #[serde(default)]
        size: u16,
    },
    /// A TCP connection, which is closed at once.
    Tcp {
        /// Where to.
        to: SocketAddr,
    },
}

impl Probe {
    /// The address that is to be reached.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Ping { to, .. } => to,
            Self::Tcp { to } => to.ip(),
        }
    }
}

/// A question to a name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameQuestion {
    /// Whom to ask.
    pub server: SocketAddr,
    /// Which name; addresses of its family are asked for.
    pub name: String,
    /// Whether IPv6 addresses are asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6: bool,
}

/// What a node tells.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inspection {
    /// Version of the program that looked.
    pub version: String,
    /// The node's clock: milliseconds since 1970.
    pub clock: i64,
    /// Links of ours.
    pub links: Vec<LinkSeen>,
    /// All addresses: `10.42.0.1/24 dev cni0`.
    pub addresses: Vec<String>,
    /// Routes of ours.
    pub routes: Vec<String>,
    /// Rules of ours.
    pub rules: Vec<String>,
    /// What a pass would change now; nothing on a node that is as it should be.
    pub pending: Vec<String>,
    /// What stands in the way and is not ours to change.
    pub obstacles: Vec<String>,
    /// UDP ports on which something of this node listens.
    pub udp_ports: Vec<u16>,
    /// Answers to lookups.
    pub lookups: Vec<LookupSeen>,
    /// What the packet filter does.
    pub packets: Vec<PacketSeen>,
    /// What kube-proxy carries.
    pub services: Vec<ServiceSeen>,
    /// What answered.
    pub probes: Vec<ProbeSeen>,
    /// What names resolve to.
    pub names: Vec<NameSeen>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

/// How what could not be seen begins where it is the packet filter.
const FILTER: &str = "the packet filter";

impl Inspection {
    /// Whether rules could be read. Where none were asked for, they could.
    pub fn saw_filter(&self) -> bool {
        self.unseen.iter().all(|text| !is_of_filter(text))
    }
}

/// Whether something of [`Inspection::unseen`] is about the packet filter.
pub fn is_of_filter(unseen: &str) -> bool {
    unseen.starts_with(FILTER)
}

/// A link of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkSeen {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
}

/// Which way a packet takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookupSeen {
    /// The packet.
    pub of: Lookup,
    /// Its way.
    pub way: Way,
}

/// What the packet filter does to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketSeen {
    /// The packet.
    pub of: Packet,
    /// The rules that do something to it.
    pub hits: Vec<Hit>,
}

/// Whether kube-proxy carries the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSeen {
    /// Address and port of the service.
    pub address: SocketAddr,
    /// Whether the kernel knows it; none where there is no kube-proxy that can be looked at.
    pub programmed: Option<bool>,
    /// By what: `nftables`, `iptables`, `ipvs`, or why nobody can tell.
    pub by: String,
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSeen {
    /// The probe.
    pub of: Probe,
    /// What happened.
    pub outcome: Outcome,
    /// In words: `0.8 ms`, `no answer within 2 s`.
    pub detail: String,
}

/// What happened to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was answered as it should be.
    Answered,
    /// The host is there, and nothing listens on the port.
    Refused,
    /// Somebody on the way says that there is no way.
    Unreachable,
    /// Larger than a link on the way takes, which somebody says.
    TooBig,
    /// Nothing came back.
    Silent,
    /// It could not be sent.
    Unable,
}

impl Outcome {
    /// Whether packets reach the host and come back.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Answered | Self::Refused)
    }
}

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameSeen {
    /// The question.
    pub of: NameQuestion,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// `NOERROR`, `NXDOMAIN`, or why there is no answer.
    pub answer: String,
}
