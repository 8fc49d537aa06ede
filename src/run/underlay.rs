//! What `auto` values are made from, read from the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::site::{Machine, Site};

/// MTU of Ethernet (IEEE 802.3), taken while no link's own has been found.
const ETHERNET_MTU: u16 = 1500;
/// Documentation prefixes (RFC 5737, RFC 3849): addresses that are routed by default and are nobody's.
const SOMEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The links under the tunnel.
///
/// A new MTU restarts all lanes, and with them every session. So the last one stays while there is no way to an address: a
/// route that is gone for a moment says nothing about the link.
#[derive(Debug, Default)]
pub(super) struct Underlay {
    /// MTUs in bytes towards the peers and somewhere else, as last seen.
    mtus: Mutex<BTreeMap<IpAddr, u16>>,
}

impl Underlay {
    /// The machine, with the smallest MTU of the links towards the site's peers, or else of those by default.
    pub(super) fn machine(&self, site: &Site) -> Machine {
        let peers = site.peers.iter().filter_map(|peer| peer.endpoint).map(|at| at.ip()).collect();
        // Without an answer, what was known is still the best guess.
        let underlay_mtu = self.smallest(&peers, |to| controller::node::link_mtus(to).unwrap_or_default());
        Machine { cores: std::thread::available_parallelism().map_or(1, usize::from), underlay_mtu }
    }

    fn smallest(&self, peers: &BTreeSet<IpAddr>, look: impl FnOnce(&BTreeSet<IpAddr>) -> BTreeMap<IpAddr, u32>) -> u16 {
        let wanted: BTreeSet<IpAddr> = peers.iter().chain(&SOMEWHERE).copied().collect();
        let found = look(&wanted);
        // Entries are replaced one by one, so that those of a thread that panicked are still true.
        let mut mtus = self.mtus.lock().unwrap_or_else(PoisonError::into_inner);
        mtus.retain(|address, _| wanted.contains(address));
        // What is larger, no IP packet fills.
        mtus.extend(found.into_iter().map(|(address, mtu)| (address, u16::try_from(mtu).unwrap_or(u16::MAX))));
        let known = |address: &IpAddr| mtus.get(address).copied();
        let towards_peers = peers.iter().filter_map(known).min();
        towards_peers.or_else(|| SOMEWHERE.iter().filter_map(known).min()).unwrap_or(ETHERNET_MTU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// What [`Underlay::smallest`] makes of peers, and of the MTUs that are found.
    fn smallest(underlay: &Underlay, peers: &[&str], found: &[(&str, u32)]) -> u16 {
        let found = found.iter().map(|(address, mtu)| (ip(address), *mtu)).collect();
        underlay.smallest(&peers.iter().map(|peer| ip(peer)).collect(), |_| found)
    }

    const ROME: &str = "198.51.100.7";
    const OSLO: &str = "2001:db8:2::7";
    const DEFAULT: &str = "192.0.2.1";

    #[test]
    fn the_smallest_mtu_towards_a_peer_counts_and_that_by_default_only_without_any() {
        let underlay = Underlay::default();
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[]), 1500, "nothing is known yet");
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[(DEFAULT, 1400)]), 1400);
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[(ROME, 9000), (OSLO, 8900), (DEFAULT, 1400)]), 8900);
        assert_eq!(smallest(&underlay, &[ROME], &[(ROME, 65_536)]), 65_535);
    }

    #[test]
    fn a_lost_route_keeps_the_mtu_until_there_is_another() {
        let underlay = Underlay::default();
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[(ROME, 9000), (OSLO, 1400)]), 1400);
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[(ROME, 9000)]), 1400, "by OSLO, as last seen");
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[]), 1400);
        assert_eq!(smallest(&underlay, &[ROME, OSLO], &[(ROME, 9000), (OSLO, 1450)]), 1450);
        assert_eq!(smallest(&underlay, &[ROME], &[]), 9000, "OSLO is no peer any more");
        assert_eq!(smallest(&underlay, &[OSLO], &[(DEFAULT, 1300)]), 1300, "and forgotten");
    }

    #[test]
    fn a_lost_default_route_keeps_the_mtu_where_no_peer_has_an_endpoint() {
        let underlay = Underlay::default();
        assert_eq!(smallest(&underlay, &[], &[(DEFAULT, 9000)]), 9000);
        assert_eq!(smallest(&underlay, &[], &[]), 9000);
    }
}
