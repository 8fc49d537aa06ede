//! What packets may measure where they leave this host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType};

use super::inquiry::Inquiry;
use super::message;
use crate::node::state::Family;

/// MTUs in bytes towards addresses: of the link by which packets leave, or less where somebody has given the route less.
/// Of several next hops, the smallest. Nothing is sent.
///
/// What the kernel has learnt of the path beyond the link is left out: it expires, and anybody may have sent it (RFC 5927,
/// section 7).
///
/// Addresses without a way out of this host are missing, its own among them.
///
/// # Errors
/// When there is no netlink socket.
pub fn link_mtus(to: &BTreeSet<IpAddr>) -> io::Result<BTreeMap<IpAddr, u32>> {
    let mut survey = Survey { inquiry: Inquiry::open()?, links: BTreeMap::new() };
    Ok(to.iter().filter_map(|to| Some((*to, survey.mtu(*to)?))).collect())
}

struct Survey {
    inquiry: Inquiry,
    /// MTUs of links by index, each asked for once.
    links: BTreeMap<u32, Option<u32>>,
}

impl Survey {
    fn mtu(&mut self, to: IpAddr) -> Option<u32> {
        // The route itself, as it is configured, and not what is cached for this address.
        let route = self.route(to, RouteFlags::FibMatch)?;
        let mut indexes = out_links(&route);
        if indexes.is_empty() {
            // A route with a nexthop object names only that where net.ipv4.nexthop_compat_mode is 0.
            indexes = out_links(&self.route(to, RouteFlags::empty())?);
        }
        let smallest = indexes.into_iter().filter_map(|index| self.link_mtu(index)).min()?;
        Some(smallest.min(route_mtu(&route).unwrap_or(u32::MAX)))
    }

    /// `None` when no route leads to another host.
    fn route(&self, to: IpAddr, flags: RouteFlags) -> Option<RouteMessage> {
        let mut request = RouteMessage::default();
        request.header.address_family = message::address_family(Family::of(to));
        request.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        request.header.flags = flags;
        request.attributes.push(RouteAttribute::Destination(to.into()));
        match self.inquiry.ask(RouteNetlinkMessage::GetRoute(request)) {
            Ok(RouteNetlinkMessage::NewRoute(route)) if route.header.kind == RouteType::Unicast => Some(route),
            _ => None,
        }
    }

    fn link_mtu(&mut self, index: u32) -> Option<u32> {
        if let Some(known) = self.links.get(&index) {
            return *known;
        }
        let link = self.inquiry.link(index).ok().flatten();
        let mtu = link.and_then(|link| {
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            })
        });
        self.links.insert(index, mtu);
        mtu
    }
}

/// Indexes of the links by which a route leaves.
fn out_links(route: &RouteMessage) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    route.attributes.iter().flat_map(of).collect()
}

/// The MTU that somebody has given a route.
fn route_mtu(route: &RouteMessage) -> Option<u32> {
    let metrics = route.attributes.iter().filter_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    metrics.flatten().find_map(|metric| match metric {
        // 0 is "none".
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_leave_this_host_has_no_mtu() {
        let own = ["127.0.0.1", "127.0.0.9", "255.255.255.255", "::1"].map(|own| own.parse::<IpAddr>().unwrap());
        assert_eq!(link_mtus(&BTreeSet::from(own)).unwrap(), BTreeMap::new());
    }
}
