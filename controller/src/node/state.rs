//! What a pass reads from the kernel, as plain values that are compared.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::mark;
use super::nft;

/// Everything that a plan depends on besides [`Desired`](super::Desired).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// All links of the network namespace.
    pub links: Vec<Link>,
    /// All usable addresses of all links: neither tentative nor failed in duplicate address detection.
    pub addresses: Vec<Address>,
    /// Routes of our protocol in our tables.
    pub routes: Vec<Route>,
    /// Rules of our protocol with our priorities.
    pub rules: Vec<Rule>,
    /// Our nftables table.
    pub nft: Option<nft::Table>,
}

impl Observed {
    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Unique name.
    pub name: String,
    /// Free text; ours is [`mark::LINK_ALIAS`].
    pub alias: Option<String>,
    /// What made it.
    pub kind: LinkKind,
    /// Administratively up.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// `net.ipv4.conf.<link>.rp_filter`: 0 off, 1 strict, 2 loose (RFC 3704). `None` without IPv4.
    pub rp_filter: Option<u8>,
    /// Whether the kernel gives the link IPv6 addresses by itself. `None` without IPv6.
    pub ipv6_addresses: Option<AddressGeneration>,
}

impl Link {
    /// Whether it carries our mark.
    pub fn is_ours(&self) -> bool {
        self.alias.as_deref() == Some(mark::LINK_ALIAS)
    }
}

/// Whether the kernel gives a link IPv6 addresses by itself (`IFLA_INET6_ADDR_GEN_MODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressGeneration {
    /// Only those that someone adds.
    None,
    /// A link-local one at least, and router solicitations with it.
    Automatic,
}

/// What made a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A VXLAN link of the form that we make: `external gpe`, on this UDP port.
    ExternalVxlan {
        /// UDP port.
        port: u16,
    },
    /// Any other link without Ethernet header, as a TUN link is: it may end a tunnel.
    Layer3(Layer3),
    /// Anything else.
    Other,
}

/// A link without Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer3 {
    /// A TUN device.
    Tun,
    /// Any other.
    Other,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Name of the link.
    pub link: String,
    /// The address with its prefix length.
    pub address: IpNet,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.address, self.link)
    }
}

/// One of our routing tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// To the other Members.
    Remote,
    /// To the other nodes' pods, for packets out of the tunnel.
    Nodes,
}

impl Table {
    /// The kernel's number.
    pub fn id(self) -> u32 {
        match self {
            Self::Remote => mark::TABLE_REMOTE,
            Self::Nodes => mark::TABLE_NODES,
        }
    }

    /// The table of this number, if it is ours.
    pub fn from_id(id: u32) -> Option<Self> {
        [Self::Remote, Self::Nodes].into_iter().find(|table| table.id() == id)
    }
}

/// A route of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Its table.
    pub table: Table,
    /// Destination.
    pub to: IpNet,
    /// Lower is preferred.
    pub metric: u32,
    /// What happens to the packet.
    pub path: Path,
}

impl Route {
    /// What the kernel tells routes apart by.
    pub fn key(&self) -> (Table, IpNet, u32) {
        (self.table, self.to, self.metric)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, to, metric, path } = self;
        match path {
            Path::Unreachable => write!(f, "unreachable {to}")?,
            Path::Link { link, source } => {
                write!(f, "{to} dev {link}")?;
                source.iter().try_for_each(|source| write!(f, " src {source}"))?;
            }
            Path::Encap { link, encap, source } => {
                let Encap { id, outer_source, outer_destination } = encap;
                write!(f, "{to} encap ip id {id} src {outer_source} dst {outer_destination} dev {link}")?;
                source.iter().try_for_each(|source| write!(f, " src {source}"))?;
            }
            Path::Foreign => write!(f, "{to} (altered by another program)")?,
        }
        write!(f, " table {} metric {metric}", table.id())
    }
}

/// What a route does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Answers with ICMP unreachable.
    Unreachable,
    /// Out of a link as it is.
    Link {
        /// Name of the link.
        link: String,
        /// Source address of packets that this node itself sends.
        source: Option<IpAddr>,
    },
    /// Out of an `external` VXLAN link.
    Encap {
        /// Name of the link.
        link: String,
        /// Outer header.
        encap: Encap,
        /// Source address of packets that this node itself sends.
        source: Option<IpAddr>,
    },
    /// With our mark, but in a form that Linkspan never makes.
    Foreign,
}

impl Path {
    /// The link that packets leave by.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Link { link, .. } | Self::Encap { link, .. } => Some(link),
            Self::Unreachable | Self::Foreign => None,
        }
    }
}

/// Outer header that a lightweight tunnel route writes. Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encap {
    /// VXLAN network identifier.
    pub id: u32,
    /// This node.
    pub outer_source: IpAddr,
    /// The node at the other end.
    pub outer_destination: IpAddr,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in a fixed order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Whether the prefix is of this family.
    pub fn holds(self, net: &IpNet) -> bool {
        self == Self::of(net.addr())
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A rule of ours: packets, of one link or all, look up a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Address family.
    pub family: Family,
    /// Only packets that came in by this link.
    pub input_link: Option<String>,
    /// Table looked up. Its priority follows from it.
    pub table: Table,
}

impl Rule {
    /// Its place among all rules; lower is first.
    pub fn priority(&self) -> u32 {
        match self.table {
            Table::Nodes => mark::PRIORITY_NODES,
            Table::Remote => mark::PRIORITY_REMOTE,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.input_link.as_ref().map(|link| format!(" iif {link}")).unwrap_or_default();
        write!(f, "{} priority {} from all{from} lookup {}", self.family, self.priority(), self.table.id())
    }
}
