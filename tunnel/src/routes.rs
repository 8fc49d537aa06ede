//! Cryptokey routing: which peer an inner address belongs to (WireGuard paper, section 2).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Number of a peer within its device, stable while the peer stays configured.
pub type Slot = u16;

/// Longest-prefix match from inner address to peer. Immutable once built; all lanes share one.
#[derive(Debug, Default)]
pub struct AllowedIps {
    v4: PrefixMap<Ipv4Net, Slot>,
    v6: PrefixMap<Ipv6Net, Slot>,
}

impl AllowedIps {
    /// Builds the table. Where two peers claim the very same prefix, the later one has it, as in WireGuard.
    pub fn build(prefixes: impl IntoIterator<Item = (IpNet, Slot)>) -> Self {
        let mut table = Self::default();
        for (prefix, slot) in prefixes {
            match prefix.trunc() {
                IpNet::V4(net) => table.v4.insert(net, slot).map_or((), drop),
                IpNet::V6(net) => table.v6.insert(net, slot).map_or((), drop),
            }
        }
        table
    }

    /// The peer with the longest prefix that covers `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<Slot> {
        match address {
            IpAddr::V4(a) => self.v4.get_lpm(&Ipv4Net::from(a)).map(|(_, slot)| *slot),
            IpAddr::V6(a) => self.v6.get_lpm(&Ipv6Net::from(a)).map(|(_, slot)| *slot),
        }
    }
}

/// The last answer, kept by each direction of a lane: packets of one flow come in runs.
#[derive(Debug, Default)]
pub struct LastHit {
    answer: Option<(IpAddr, Option<Slot>)>,
}

impl LastHit {
    /// [`AllowedIps::lookup`], without the walk when the address is that of the last call.
    #[inline]
    pub fn lookup(&mut self, table: &AllowedIps, address: IpAddr) -> Option<Slot> {
        match self.answer {
            Some((last, slot)) if last == address => slot,
            _ => {
                let slot = table.lookup(address);
                self.answer = Some((address, slot));
                slot
            }
        }
    }

    /// Forgets; to be called when the table changes.
    pub fn clear(&mut self) {
        self.answer = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn the_longest_prefix_wins_in_each_family() {
        let table = AllowedIps::build([
            (net("10.0.0.0/8"), 1),
            (net("10.1.0.0/16"), 2),
            (net("fd00::/8"), 3),
            (net("::/0"), 4),
        ]);
        let slot = |text: &str| table.lookup(text.parse().expect("an address"));
        assert_eq!(slot("10.1.2.3"), Some(2));
        assert_eq!(slot("10.2.2.3"), Some(1));
        assert_eq!(slot("192.0.2.1"), None);
        assert_eq!(slot("fd12::1"), Some(3));
        assert_eq!(slot("2001:db8::1"), Some(4));
    }

    proptest! {
        #[test]
        fn agrees_with_a_walk_over_all_prefixes(
            prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            probe in any::<u32>(), nth in any::<prop::sample::Index>(), flip in 0u32..32,
        ) {
            let nets: Vec<_> = prefixes.iter().map(|(a, l)| Ipv4Net::new((*a).into(), *l).expect("length").trunc()).collect();
            let table = AllowedIps::build(nets.iter().enumerate().map(|(i, n)| (IpNet::V4(*n), i as Slot)));
            let near = if nets.is_empty() { probe } else { u32::from(nets[nth.index(nets.len())].network()) ^ (1 << flip) };
            for address in [probe, near] {
                let address = std::net::Ipv4Addr::from(address);
                let naive = nets.iter().enumerate().filter(|(_, n)| n.contains(&address)).max_by_key(|(i, n)| (n.prefix_len(), *i));
                prop_assert_eq!(table.lookup(address.into()), naive.map(|(i, _)| i as Slot));
            }
        }
    }
}
