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
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use super::inquiry::Inquiry;
use super::message::PROTOCOL;
use crate::node::desired::Desired;
use crate::node::mark;
use crate::node::state::Table;

/// Multicast group of nftables changes (`NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`).
const NFNLGRP_NFTABLES: u32 = 7;
/// Multicast group of IPv4 settings of links (`linux/rtnetlink.h`).
const RTNLGRP_IPV4_NETCONF: u32 = 24;
/// The table's name, in messages about tables, chains, sets, elements and rules alike (`NFTA_TABLE_NAME`,
/// `NFTA_CHAIN_TABLE`, … of `linux/netfilter/nf_tables.h`).
const NFTA_TABLE: u16 = 1;
/// The link and its reverse path filtering, in messages about IPv4 settings (`linux/netconf.h`).
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_RP_FILTER: u16 = 3;

/// Changes that concern us: always those of our links, with their addresses and reverse path filtering, of our routes and
/// rules, and of our nftables table.
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
                self.covers_link(&link.attributes)
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

    fn covers_link(&self, attributes: &[LinkAttribute]) -> bool {
        attributes.iter().any(|attribute| match attribute {
            LinkAttribute::IfName(name) => self.links.contains(name),
            LinkAttribute::IfAlias(alias) => alias == mark::LINK_ALIAS,
            _ => false,
        })
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
    /// Of links' IPv4 settings, in messages that `netlink-packet-route` does not know and would log as errors.
    settings: TokioSocket,
    /// Which link an event's index is.
    inquiry: Inquiry,
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
        let filter = subscribe(NETLINK_NETFILTER, NFNLGRP_NFTABLES)?;
        // Of what we set in IPv6, the kernel tells nothing but the addresses that come of it.
        let settings = subscribe(NETLINK_ROUTE, RTNLGRP_IPV4_NETCONF)?;
        let inquiry = Inquiry::open()?;
        Ok((Self { interest, routes, filter, settings, inquiry }, connection))
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
        let mut filter = Vec::with_capacity(1 << 16);
        let mut settings = Vec::with_capacity(1 << 12);
        loop {
            filter.clear();
            settings.clear();
            let relevant = tokio::select! {
                message = self.routes.next() => match message {
                    Some((message, _)) => self.concerns_us(&message),
                    None => return Err(io::ErrorKind::BrokenPipe.into()),
                },
                received = self.filter.recv(&mut filter) => is_lost(received)? || names_our_table(&filter),
                received = self.settings.recv(&mut settings) => {
                    is_lost(received)? || filtered_links(&settings).any(|link| self.concerns_link(link))
                }
            };
            if relevant {
                while self.routes.try_recv().is_ok() {}
                return Ok(());
            }
        }
    }

    fn concerns_us(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        match &message.payload {
            NetlinkPayload::InnerMessage(message) => {
                self.interest.covers(message) || link_of_address(message).is_some_and(|link| self.concerns_link(link))
            }
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }

    /// Whether the link of an index is of interest. Asked each time, as the kernel gives indexes and names again.
    fn concerns_link(&self, index: u32) -> bool {
        match self.inquiry.link(index) {
            Ok(Some(link)) => self.interest.covers_link(&link.attributes),
            // An event of its own has told that it is gone.
            Ok(None) => false,
            // It may be.
            Err(_) => true,
        }
    }
}

fn subscribe(protocol: isize, group: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(group)?;
    Ok(socket)
}

/// Whether events came faster than we read.
fn is_lost(received: io::Result<()>) -> io::Result<bool> {
    match received {
        Ok(()) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Index of the link whose address comes or goes.
fn link_of_address(message: &RouteNetlinkMessage) -> Option<u32> {
    match message {
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Some(address.header.index)
        }
        _ => None,
    }
}

/// Whether a datagram of nftables events speaks of table `linkspan`.
fn names_our_table(datagram: &[u8]) -> bool {
    let ours = mark::NFT_TABLE.as_bytes();
    let is_ours = |(kind, value): (u16, &[u8])| kind == NFTA_TABLE && value.strip_suffix(b"\0") == Some(ours);
    messages(datagram).flat_map(attributes).any(is_ours)
}

/// Indexes of the links whose reverse path filtering a datagram of events about IPv4 settings tells.
fn filtered_links(datagram: &[u8]) -> impl Iterator<Item = u32> {
    messages(datagram).filter_map(|message| {
        let value = |wanted: u16| attributes(message).find_map(|(kind, value)| (kind == wanted).then_some(value));
        value(NETCONFA_RP_FILTER)?;
        let index = i32::from_ne_bytes(value(NETCONFA_IFINDEX)?.try_into().ok()?);
        // Below zero are the settings of all links and of new ones (`NETCONFA_IFINDEX_ALL`, `NETCONFA_IFINDEX_DEFAULT`):
        // the larger of a link's mode and that of all links counts, and there is none above loose.
        u32::try_from(index).ok()
    })
}

/// The attributes of each message in a datagram.
///
/// A message is `struct nlmsghdr` (16 bytes), the header of its kind in 4 bytes (`struct nfgenmsg`, or `struct netconfmsg`
/// with its padding), and attributes.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk::<4>()?) as usize;
        let attributes = rest.get(20..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attributes)
    })
}

/// Kinds and values (`struct nlattr`).
fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), value))
    })
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

    #[test]
    fn a_link_is_told_when_its_reverse_path_filtering_is_and_no_other_setting() {
        let [ours, all] = [7_i32, -1].map(i32::to_ne_bytes);
        let [strict, on] = [1_i32, 1].map(i32::to_ne_bytes);
        let mut datagram = message(&[(NETCONFA_IFINDEX, &ours), (NETCONFA_RP_FILTER, &strict)]);
        assert_eq!(filtered_links(&datagram).collect::<Vec<_>>(), [7]);
        datagram.extend(message(&[(NETCONFA_IFINDEX, &ours), (2, &on)]));
        datagram.extend(message(&[(NETCONFA_IFINDEX, &all), (NETCONFA_RP_FILTER, &strict)]));
        datagram.extend(message(&[(NETCONFA_RP_FILTER, &strict), (NETCONFA_IFINDEX, &9_i32.to_ne_bytes())]));
        assert_eq!(filtered_links(&datagram).collect::<Vec<_>>(), [7, 9]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(start in any::<[u8; 2]>(), rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut datagram = vec![start[0], 0, 0, 0];
            datagram.extend(rest);
            names_our_table(&datagram);
            filtered_links(&datagram).for_each(drop);
            datagram[1] = start[1];
            names_our_table(&datagram);
            filtered_links(&datagram).for_each(drop);
        }
    }
}
