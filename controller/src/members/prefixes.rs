//! Prefixes and addresses that Members may claim, and who holds which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Shortest prefixes that a Member may claim. Pods of one cluster need no more; a shorter one takes what is others'.
const SHORTEST: (u8, u8) = (8, 16);

/// Parses a prefix that may be routed between clusters.
pub(super) fn routed(text: &str) -> Result<IpNet, String> {
    let net: IpNet =
        text.parse().map_err(|_| format!("{text:?} is not a prefix; write it such as 10.42.0.0/16 or fd00:42::/56"))?;
    routable(net)
}

/// The prefix, if it may be routed between clusters.
pub(super) fn routable(net: IpNet) -> Result<IpNet, String> {
    if net != net.trunc() {
        return Err(format!("{net} has bits set behind its length; write {}", net.trunc()));
    }
    if let Some(what) = special(net.addr()) {
        return Err(format!("{net} is {what}; only unicast prefixes can be routed through a tunnel"));
    }
    let shortest = shortest(net);
    if net.prefix_len() < shortest {
        return Err(format!("{net} is too wide; a Member may claim /{shortest} at most"));
    }
    Ok(net)
}

fn shortest(net: IpNet) -> u8 {
    if net.addr().is_ipv4() { SHORTEST.0 } else { SHORTEST.1 }
}

/// The prefix that a text claims, be it right or wrong. One that no Member may have is nobody's.
pub(super) fn claimed(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    (net.prefix_len() >= shortest(net)).then(|| net.trunc())
}

/// The address that a text with a port names, be it right or wrong. One with spaces names none: to the broker's policy,
/// which makes one text of all, it would be several.
pub(super) fn called(text: &str) -> Option<IpAddr> {
    let (host, _) = text.rsplit_once(':').filter(|_| !text.contains(' '))?;
    host.replace(['[', ']'], "").parse().ok()
}

/// Parses the address and port at which a gateway is called.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let at: SocketAddr = text.parse().map_err(|_| {
        format!("{text:?} is not an address with a port; write it such as 198.51.100.7:51820 or [2001:db8::7]:51820")
    })?;
    if matches!(at, SocketAddr::V6(v6) if v6.scope_id() != 0) {
        return Err(format!("{at} names a link of its own node; leave out what is behind the %"));
    }
    match (special(at.ip()), at.port()) {
        (_, 0) => Err(format!("{at} has port 0")),
        (Some(what), _) => Err(format!("{at} is {what}; it cannot be called from another cluster")),
        (None, _) => Ok(at),
    }
}

/// What makes an address unfit to be another cluster's, if anything.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("reserved"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

/// Whether two prefixes have an address in common.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Whether one of `some` overlaps one of `others`.
pub(super) fn any_overlap(some: impl IntoIterator<Item = IpNet>, others: &[IpNet]) -> bool {
    let held: Holders<()> = some.into_iter().collect();
    others.iter().any(|net| held.overlapping(*net).is_some())
}

/// Prefixes, each with its first holder. They may overlap: one then holds the other.
#[derive(Debug, Clone)]
pub(super) struct Holders<T> {
    held: BTreeMap<IpNet, T>,
    /// Which lengths there are, of IPv4 (`true`) and of IPv6; a few as a rule.
    lengths: BTreeSet<(bool, u8)>,
}

impl<T> Holders<T> {
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), lengths: BTreeSet::new() }
    }

    /// A prefix that overlaps `net`, and its holder: the widest that holds `net`, else the first inside of it.
    pub(super) fn overlapping(&self, net: IpNet) -> Option<(IpNet, &T)> {
        let is_ipv4 = net.addr().is_ipv4();
        let wider = self.lengths.range((is_ipv4, 0)..=(is_ipv4, net.prefix_len()));
        let holding = wider.filter_map(|(_, length)| {
            let wide = IpNet::new(net.network(), *length).ok()?.trunc();
            self.held.get_key_value(&wide)
        });
        // Prefixes are ordered by address, then by length; IPv4 comes before IPv6.
        let inside = || self.held.range(net.trunc()..=IpNet::from(net.broadcast())).next();
        holding.into_iter().next().or_else(inside).map(|(held, holder)| (*held, holder))
    }

    /// Gives `net` to `holder`, unless somebody has exactly it.
    pub(super) fn insert(&mut self, net: IpNet, holder: T) {
        self.lengths.insert((net.addr().is_ipv4(), net.prefix_len()));
        self.held.entry(net.trunc()).or_insert(holder);
    }
}

impl FromIterator<IpNet> for Holders<()> {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut holders = Self::new();
        for net in nets {
            holders.insert(net, ());
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unicast_prefixes_of_sane_width_are_routed() {
        for good in ["10.42.0.0/16", "10.0.0.0/8", "fd00:42::/56", "203.0.113.7/32", "2001:db8::/32"] {
            assert_eq!(routed(good).unwrap().to_string(), good);
        }
        let bad = [
            ("10.42.0.1/16", "bits set"),
            ("0.0.0.0/0", "unspecified"),
            ("::/0", "unspecified"),
            ("128.0.0.0/1", "too wide"),
            ("2000::/3", "too wide"),
            ("127.0.0.0/8", "loopback"),
            ("169.254.0.0/16", "link-local"),
            ("fe80::/64", "link-local"),
            ("224.0.0.0/8", "multicast"),
            ("ff02::/16", "multicast"),
            ("240.0.0.0/8", "reserved"),
            ("::ffff:10.0.0.0/112", "IPv4-mapped"),
            ("pods", "not a prefix"),
        ];
        for (text, part) in bad {
            let error = routed(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_overlap_is_found_whichever_prefix_is_wider() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut holders = Holders::new();
        holders.insert(net("10.42.0.0/16"), "paris");
        holders.insert(net("10.44.1.0/24"), "rome");
        holders.insert(net("fd00::/56"), "oslo");
        let held = |text: &str| holders.overlapping(net(text)).map(|(_, holder)| *holder);
        assert_eq!(held("10.42.7.0/24"), Some("paris"));
        assert_eq!(held("10.44.0.0/16"), Some("rome"));
        assert_eq!(held("10.43.0.0/16"), None);
        assert_eq!(held("10.0.0.0/8"), Some("paris"));
        assert_eq!(held("fd00:0:0:7::/64"), Some("oslo"));
        assert_eq!(held("fd01::/64"), None);
        assert_eq!(held("255.0.0.0/8"), None);
    }

    #[test]
    fn overlapping_prefixes_are_all_held_and_each_by_its_first_holder() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut holders = Holders::new();
        let all =
            [("10.42.0.0/16", "paris"), ("10.0.0.0/8", "rome"), ("10.42.0.0/16", "oslo"), ("11.1.0.0/16", "bonn")];
        for (text, holder) in all {
            holders.insert(net(text), holder);
        }
        let held = |text: &str| holders.overlapping(net(text)).map(|(net, holder)| (net.to_string(), *holder));
        assert_eq!(held("10.77.0.0/24"), Some(("10.0.0.0/8".to_owned(), "rome")));
        assert_eq!(held("10.42.1.0/24"), Some(("10.0.0.0/8".to_owned(), "rome")));
        assert_eq!(held("12.0.0.0/8"), None);
        assert_eq!(held("11.0.0.0/8"), Some(("11.1.0.0/16".to_owned(), "bonn")));
    }

    #[test]
    fn endpoints_are_unicast_addresses_with_a_port() {
        assert_eq!(endpoint("[2001:db8::7]:51820").unwrap().port(), 51820);
        for bad in [
            "198.51.100.7",
            "198.51.100.7:0",
            "127.0.0.1:51820",
            "[fe80::1]:1",
            "[2001:db8::1%2]:1",
            "0.0.0.0:1",
            "host:1",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
