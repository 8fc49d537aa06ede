//! Tells when someone else changes what a pass has written, or what its plan depends on.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::rule::RuleAttribute;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use super::message::PROTOCOL;
use crate::node::desired::Desired;
use crate::node::mark;
use crate::node::state::Table;

/// Multicast group of nftables changes (`NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`).
const NFNLGRP_NFTABLES: u32 = 7;

/// Changes that concern us: always those of our routes and rules, and of our nftables table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    links: BTreeSet<String>,
    addresses: Vec<ipnet::IpNet>,
}

impl Interest {
    /// What a plan for `desired` depends on.
    pub fn of(desired: &Desired) -> Self {
        let links = desired.tunnel.iter().map(|tunnel| &tunnel.link).chain([&desired.vxlan.link]);
        let sources = desired.sources.iter().copied().chain(desired.this_node().map(|node| node.address));
        let pods = desired.this_node().into_iter().flat_map(|node| node.pod_cidrs.iter().copied());
        Self { links: links.cloned().collect(), addresses: sources.map(ipnet::IpNet::from).chain(pods).collect() }
    }

    fn covers(&self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                link.attributes.iter().any(|attribute| match attribute {
                    LinkAttribute::IfName(name) => self.links.contains(name),
                    LinkAttribute::IfAlias(alias) => alias == mark::LINK_ALIAS,
                    _ => false,
                })
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                address.attributes.iter().any(|attribute| match attribute {
                    AddressAttribute::Local(address) | AddressAttribute::Address(address) => {
                        self.covers_address(address)
                    }
                    _ => false,
                })
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                route.attributes.iter().any(|attribute| match attribute {
                    RouteAttribute::Table(id) => Table::from_id(*id).is_some(),
                    _ => false,
                })
            }
            RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule) => {
                rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL))
            }
            _ => false,
        }
    }

    fn covers_address(&self, address: &IpAddr) -> bool {
        self.addresses.iter().any(|net| net.contains(address))
    }
}

/// Kernel events of the network namespace in which it was opened.
pub struct Watch {
    interest: Interest,
    routes: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    filter: TokioSocket,
}

impl Watch {
    /// Subscribes. The caller spawns the returned future, as with [`Kernel::open`](super::Kernel::open). Subscribe
    /// before the first pass, so that nothing is missed in between.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn open(interest: Interest) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let (connection, _, routes) = rtnetlink::new_multicast_connection(&groups)?;
        let mut filter = TokioSocket::new(NETLINK_NETFILTER)?;
        filter.socket_mut().bind_auto()?;
        filter.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
        Ok((Self { interest, routes, filter }, connection))
    }

    /// Follows a new [`Desired`].
    pub fn set_interest(&mut self, interest: Interest) {
        self.interest = interest;
    }

    /// Waits until something changed that concerns us, then for all that is already known to have changed with it. Our
    /// own writes are among it; a pass after them finds nothing to do.
    ///
    /// Safe to cancel. A lost event counts as a change.
    ///
    /// # Errors
    /// When the connection's future was dropped or a socket failed: open another one.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            buffer.clear();
            let relevant = tokio::select! {
                message = self.routes.next() => match message {
                    Some((message, _)) => self.concerns_us(&message),
                    None => return Err(io::ErrorKind::BrokenPipe.into()),
                },
                received = self.filter.recv(&mut buffer) => match received {
                    Ok(()) => names_our_table(&buffer),
                    // Events came faster than we read.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => true,
                    Err(error) => return Err(error),
                },
            };
            if relevant {
                while self.routes.try_recv().is_ok() {}
                return Ok(());
            }
        }
    }

    fn concerns_us(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        match &message.payload {
            NetlinkPayload::InnerMessage(message) => self.interest.covers(message),
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }
}

/// Whether a datagram of nftables events speaks of table `linkspan`.
///
/// Each message is `struct nlmsghdr` (16 bytes), `struct nfgenmsg` (4 bytes), attributes; in messages about tables,
/// chains, sets, elements and rules alike, attribute 1 is the table's name (`NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, …).
fn names_our_table(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(header) = rest.first_chunk::<4>() {
        let length = u32::from_ne_bytes(*header) as usize;
        let Some(message) = rest.get(..length).filter(|_| length >= 20) else { return false };
        let mut attributes = &message[20..];
        while let Some([l0, l1, k0, k1]) = attributes.first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
            let Some(value) = attributes.get(4..length) else { break };
            if u16::from_ne_bytes([*k0, *k1]) == 1 && value.strip_suffix(b"\0") == Some(mark::NFT_TABLE.as_bytes()) {
                return true;
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One message: headers, then attributes of a kind and a value.
    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; 20];
        for (kind, value) in attributes {
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(body.len()).unwrap();
        body[..4].copy_from_slice(&length.to_ne_bytes());
        body
    }

    #[test]
    fn the_table_of_an_event_is_its_first_attribute() {
        assert!(names_our_table(&message(&[(1, b"linkspan\0"), (2, b"postrouting\0")])));
        assert!(!names_our_table(&message(&[(1, b"kube-proxy\0"), (2, b"linkspan\0")])));
        assert!(!names_our_table(&message(&[(1, b"linkspan2\0")])));
        assert!(!names_our_table(&message(&[])));
    }

    #[test]
    fn any_message_of_a_datagram_counts() {
        let mut datagram = message(&[(1, b"kube-proxy\0")]);
        datagram.extend(message(&[(3, &[1, 2, 3]), (1, b"linkspan\0")]));
        assert!(names_our_table(&datagram));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(start in any::<[u8; 2]>(), rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut datagram = vec![start[0], 0, 0, 0];
            datagram.extend(rest);
            names_our_table(&datagram);
            datagram[1] = start[1];
            names_our_table(&datagram);
        }
    }
}
