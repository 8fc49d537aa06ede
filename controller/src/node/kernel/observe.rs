//! Reads everything that a plan depends on.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::rule::RuleMessage;

use super::message::{self, Names};
use super::{Kernel, KernelError, NftError, nft};
use crate::node::state::{Observed, Route, Table};

/// The node's state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// Over netlink.
    #[error("failed to list {what}: {cause}")]
    Kernel {
        /// Which objects.
        what: &'static str,
        /// Why.
        cause: KernelError,
    },
    /// The packet filter.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Reads. Writes nothing and remembers nothing.
///
/// # Errors
/// When anything cannot be read: a plan from half of the truth would remove what it cannot see.
pub async fn observe(kernel: &Kernel) -> Result<Observed, ObserveError> {
    let (observed, nft) = tokio::join!(observe_netlink(kernel), nft::list());
    Ok(Observed { nft: nft?, ..observed? })
}

async fn observe_netlink(kernel: &Kernel) -> Result<Observed, ObserveError> {
    let failed = |what| move |cause| ObserveError::Kernel { what, cause };
    let mut observed = Observed::default();
    let mut names = Names::new();
    for answer in kernel.dump(all_links()).await.map_err(failed("links"))? {
        if let RouteNetlinkMessage::NewLink(found) = answer
            && let Some(link) = message::read_link(&found)
        {
            names.insert(found.header.index, link.name.clone());
            observed.links.push(link);
        }
    }
    let all_addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for answer in kernel.dump(all_addresses).await.map_err(failed("addresses"))? {
        if let RouteNetlinkMessage::NewAddress(found) = answer {
            observed.addresses.extend(message::read_address(&found, &names));
        }
    }
    let all_rules = RouteNetlinkMessage::GetRule(RuleMessage::default());
    for answer in kernel.dump(all_rules).await.map_err(failed("rules"))? {
        if let RouteNetlinkMessage::NewRule(found) = answer {
            observed.rules.extend(message::read_rule(&found));
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for table in [Table::Remote, Table::Nodes] {
            observed.routes.extend(routes(kernel, family, table, &names).await.map_err(failed("routes"))?);
        }
    }
    Ok(observed)
}

fn all_links() -> RouteNetlinkMessage {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(request)
}

/// Our routes in one table. The kernel filters, so that a node with a full routing table costs no more.
async fn routes(
    kernel: &Kernel,
    family: AddressFamily,
    table: Table,
    names: &Names,
) -> Result<Vec<Route>, KernelError> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.protocol = message::PROTOCOL;
    request.attributes.push(RouteAttribute::Table(table.id()));
    let answers = match kernel.dump(RouteNetlinkMessage::GetRoute(request)).await {
        // A table comes into being with its first route.
        Err(error) if error.errno() == Some(libc::ENOENT) => Vec::new(),
        // A kernel without IPv6.
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Vec::new(),
        answers => answers?,
    };
    let routes = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(found) if found.header.protocol == message::PROTOCOL => {
            message::read_route(found, names)
        }
        _ => None,
    });
    Ok(routes.filter(|route| route.table == table).collect())
}
