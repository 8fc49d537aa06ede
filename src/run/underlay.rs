//! What `auto` values are made from, read from the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::site::{Machine, Site};

/// MTU of Ethernet (IEEE 802.3), taken when a link's own cannot be found.
const ETHERNET_MTU: u16 = 1500;
/// Documentation prefixes (RFC 5737, RFC 3849): addresses that are routed by default and are nobody's.
const SOMEWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SOMEWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The machine, with the smallest MTU of the links towards the site's peers.
pub(super) fn machine(site: &Site) -> Machine {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let endpoints = site.peers.iter().filter_map(|peer| peer.endpoint).map(|at| at.ip());
    let towards_peers = endpoints.filter_map(link_mtu).min();
    let by_default = || [SOMEWHERE_V4, SOMEWHERE_V6].into_iter().filter_map(link_mtu).min();
    Machine { cores, underlay_mtu: towards_peers.or_else(by_default).unwrap_or(ETHERNET_MTU) }
}

/// MTU of the link on which packets to an address leave. Nothing is sent.
fn link_mtu(to: IpAddr) -> Option<u16> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    // An address of this host is reached over the loopback link, which says nothing about the way to others.
    if source == to {
        return None;
    }
    let mtu = if to.is_ipv4() {
        u64::try_from(nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::IpMtu).ok()?).ok()?
    } else {
        link_of(source)?
    };
    u16::try_from(mtu.min(u64::from(u16::MAX))).ok()
}

/// MTU of the link that has an address.
fn link_of(address: IpAddr) -> Option<u64> {
    let mut addresses = nix::ifaddrs::getifaddrs().ok()?;
    let found = addresses.find(|entry| {
        let held = entry.address.as_ref().and_then(|held| held.as_sockaddr_in6());
        held.is_some_and(|held| IpAddr::V6(held.ip()) == address)
    })?;
    let text = std::fs::read_to_string(format!("/sys/class/net/{}/mtu", found.interface_name)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_mtu_and_what_is_not_beyond_a_link_has_none() {
        // The loopback link's 65 536 (`drivers/net/loopback.c`), cut to what an IP packet can have.
        assert_eq!(link_mtu(Ipv4Addr::new(127, 0, 0, 9).into()), Some(65_535));
        assert_eq!(link_mtu(Ipv4Addr::LOCALHOST.into()), None);
        // Connecting to broadcast needs SO_BROADCAST (socket(7)).
        assert_eq!(link_mtu(Ipv4Addr::BROADCAST.into()), None);
    }
}
