//! The marks by which Linkspan knows its own objects in the kernel. An object without the mark is never written to.

/// Alias (`IFLA_IFALIAS`) of every link of ours.
pub const LINK_ALIAS: &str = "linkspan";

/// Table of the routes to other Members. Beyond 255, clear of the ids that `linux/rtnetlink.h` reserves.
pub const TABLE_REMOTE: u32 = 10_810;

/// Table of the routes to the other nodes' pods, looked up only for packets that leave the tunnel.
pub const TABLE_NODES: u32 = 10_811;

/// Route protocol (`rtm_protocol`) of our routes and rules. Not assigned in `linux/rtnetlink.h` or by a routing daemon.
pub const PROTOCOL: u8 = 108;

/// Priority of the rule that looks up [`TABLE_NODES`].
///
/// Ahead of the main table (32 766), so that a default route never takes traffic for another Member, and ahead of the
/// per-pod rules of cloud CNIs (512 and up); safe there, because both tables hold nothing but prefixes of the clusterset.
pub const PRIORITY_NODES: u32 = 449;

/// Priority of the rule that looks up [`TABLE_REMOTE`]. See [`PRIORITY_NODES`].
pub const PRIORITY_REMOTE: u32 = 450;

/// Metric of a route that carries traffic.
pub const METRIC_ROUTE: u32 = 100;

/// Metric of the `unreachable` route below each route to a Member, which answers when the first one is gone.
pub const METRIC_FALLBACK: u32 = 200;

/// Name of our nftables table, in family `inet`.
pub const NFT_TABLE: &str = "linkspan";

/// What the names of nftables tables begin with that count a flow, in family `inet`. Each is of one process that counts, and
/// is removed by it, or else by the next start of a node and by uninstalling.
pub const NFT_TABLE_COUNT: &str = "linkspan-count-";
