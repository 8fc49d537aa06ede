//! Asks the kernel which way a packet takes, as `ip route get` does. Nothing is sent and nothing is written.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use serde::{Deserialize, Serialize};

use super::message::{self, Names};
use super::{Kernel, KernelError};
use crate::node::state::{Encap, Family};

/// Which packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// Where it goes.
    pub to: IpAddr,
    /// Where it comes from, and the link by which it does; none for the node's own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arriving: Option<Arriving>,
}

/// A packet that comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arriving {
    /// Its source.
    pub from: IpAddr,
    /// Name of the link.
    pub link: String,
}

/// Which way it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Way {
    /// The link by which it leaves; none when there is no way.
    pub link: Option<String>,
    /// The table that decided.
    pub table: u32,
    /// The next hop, when there is one.
    pub gateway: Option<IpAddr>,
    /// The node at the other end of a VXLAN route.
    pub node: Option<IpAddr>,
    /// Source of the node's own packets.
    pub source: Option<IpAddr>,
    /// Why there is no way.
    pub refused: Option<String>,
}

/// Asks the kernel.
///
/// # Errors
/// When the kernel cannot be asked; that there is no way is an answer.
pub async fn lookup(kernel: &Kernel, question: &Lookup) -> Result<Way, KernelError> {
    let names = names(kernel).await?;
    let mut request = RouteMessage::default();
    let family = Family::of(question.to);
    request.header.address_family = message::address_family(family);
    let bits = if family == Family::V4 { 32 } else { 128 };
    request.header.destination_prefix_length = bits;
    request.header.flags = RouteFlags::LookupTable;
    request.attributes.push(RouteAttribute::Destination(question.to.into()));
    if let Some(Arriving { from, link }) = &question.arriving {
        let index = names.iter().find(|(_, name)| *name == link).map(|(index, _)| *index);
        request.header.source_prefix_length = bits;
        request.attributes.push(RouteAttribute::Source((*from).into()));
        request.attributes.push(RouteAttribute::Iif(index.ok_or_else(|| KernelError::NoLink(link.clone()))?));
    }
    match kernel.ask(RouteNetlinkMessage::GetRoute(request)).await {
        Err(KernelError::Refused { cause }) if is_an_answer(&cause) => {
            Ok(Way { refused: Some(cause.to_string()), ..Way::default() })
        }
        Err(error) => Err(error),
        Ok(answers) => {
            let found = answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(read(route, &names)),
                _ => None,
            });
            Ok(found.unwrap_or_else(|| Way { refused: Some("no answer".to_owned()), ..Way::default() }))
        }
    }
}

/// What the kernel says when there is no way: unreachable, prohibited, or a source that may not come in by this link.
fn is_an_answer(cause: &std::io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::EXDEV | libc::ENODATA)
    )
}

async fn names(kernel: &Kernel) -> Result<Names, KernelError> {
    let mut names = Names::new();
    for answer in kernel.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await? {
        if let RouteNetlinkMessage::NewLink(link) = answer
            && let Some(read) = message::read_link(&link)
        {
            names.insert(link.header.index, read.name);
        }
    }
    Ok(names)
}

fn read(route: &RouteMessage, names: &Names) -> Way {
    let mut way = Way { table: u32::from(route.header.table), ..Way::default() };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(table) => way.table = *table,
            RouteAttribute::Oif(index) => way.link = names.get(index).cloned(),
            RouteAttribute::Gateway(address) => way.gateway = message::ip_address(address),
            RouteAttribute::PrefSource(address) => way.source = message::ip_address(address),
            RouteAttribute::Encap(parts) => {
                way.node = message::read_encap(parts).map(|Encap { outer_destination, .. }| outer_destination);
            }
            _ => {}
        }
    }
    way
}
