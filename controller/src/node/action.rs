//! What a plan consists of.

use std::fmt;

use ipnet::IpNet;

use super::mark;
use super::nft;
use super::state::{Address, Family, Route, Rule};

/// One write to the kernel; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes the VXLAN link between the nodes.
    CreateVxlan {
        /// Its name.
        link: String,
        /// UDP port.
        port: u16,
    },
    /// Marks a link as ours and sets everything that we set on it, up included.
    ConfigureLink(LinkSettings),
    /// Removes a link of ours, with its addresses and routes.
    DeleteLink {
        /// Its name.
        link: String,
    },
    /// Adds an address to a link of ours.
    AddAddress(Address),
    /// Removes an address from a link of ours.
    DeleteAddress(Address),
    /// Writes our nftables table anew, in one transaction.
    ReplaceNftTable(nft::Table),
    /// Removes our nftables table.
    DeleteNftTable,
    /// Adds a route, or puts it in the place of the one with the same table, destination and metric.
    ReplaceRoute(Route),
    /// Removes the route with this table, destination and metric.
    DeleteRoute(Route),
    /// Adds a rule.
    AddRule(Rule),
    /// Removes a rule.
    DeleteRule(Rule),
}

/// What is set on a link of ours. Besides, reverse path filtering is loose (RFC 3704), because the way back may be
/// another link, and the kernel gives the link no IPv6 addresses by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// Its name.
    pub link: String,
    /// In bytes.
    pub mtu: u32,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVxlan { link, port } => write!(f, "create link {link} type vxlan external gpe dstport {port}"),
            Self::ConfigureLink(LinkSettings { link, mtu }) => {
                write!(f, "set link {link} alias {} mtu {mtu} rp_filter loose addrgenmode none up", mark::LINK_ALIAS)
            }
            Self::DeleteLink { link } => write!(f, "delete link {link}"),
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::DeleteAddress(address) => write!(f, "delete address {address}"),
            Self::ReplaceNftTable(table) => write!(f, "replace nft table inet {} ({table})", mark::NFT_TABLE),
            Self::DeleteNftTable => write!(f, "delete nft table inet {}", mark::NFT_TABLE),
            Self::ReplaceRoute(route) => write!(f, "replace route {route}"),
            Self::DeleteRoute(route) => write!(f, "delete route {route}"),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete rule {rule}"),
        }
    }
}

/// What a pass would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Writes, in order.
    pub actions: Vec<Action>,
    /// What stands in the way and is not ours to remove.
    pub obstacles: Vec<Obstacle>,
}

impl Plan {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.actions.iter().try_for_each(|action| writeln!(f, "{action}"))?;
        self.obstacles.iter().try_for_each(|obstacle| writeln!(f, "{obstacle}"))
    }
}

/// A state of the node that keeps it from what is desired until someone else changes it. Traffic that it concerns is
/// answered as unreachable meanwhile, but for [`HidesLink`](Self::HidesLink).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// The device has not made its link (yet).
    #[error("tunnel link {0} does not exist: the tunnel device has not opened it")]
    NoTunnelLink(String),
    /// A link of that name exists, but is not ours.
    #[error("link {0} belongs to another program: rename it, or choose another link name")]
    ForeignLink(String),
    /// The kernel has one external VXLAN link for each port.
    #[error(
        "link {link} of another program holds UDP port {port} for VXLAN: remove it, or choose another port on all nodes"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The link that holds it.
        link: String,
    },
    /// A prefix of a Member that no route can be made for, because its gateway's address is of another family than
    /// this node's.
    #[error("node {node} and this node have addresses of different families: give both one of the same family")]
    MixedFamilies {
        /// The other node.
        node: String,
    },
    /// No address to use as source, so connections from the node itself get no answer.
    #[error(
        "this node has no {0} address inside its pod CIDRs: its own connections to other clusters fail until it has one"
    )]
    NoSource(Family),
    /// A route of ours comes before that of a link of the node, whose hosts it hides.
    #[error(
        "{prefix} of {whose} hides {net} on link {link}, whose hosts this node does not reach where the two overlap: give \
         one of them other addresses; where {prefix} is virtual, set LINKSPAN_VIRTUAL_POOL in all clusters to prefixes \
         that nobody uses"
    )]
    HidesLink {
        /// Our prefix; the first one, where there are more.
        prefix: IpNet,
        /// Whose it is, as people say it.
        whose: String,
        /// What is connected.
        net: IpNet,
        /// By which link.
        link: String,
    },
}
