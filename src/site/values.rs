//! Parsers of single values. Each error is the end of a sentence that starts with the field: it names the value and
//! the accepted form.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;

use ipnet::IpNet;
use tunnel::config::{MAX_MTU, MIN_MTU};

/// Longest RFC 1123 label.
const LABEL_MAX: usize = 63;
/// Longest domain name in text (RFC 1035, section 2.3.4, less length octets of the root).
const DOMAIN_MAX: usize = 253;
/// `IFNAMSIZ` of `linux/if.h` less the terminating zero.
const LINK_NAME_MAX: usize = 15;
/// Longest piece of a wrong value that is repeated in a message.
const QUOTE_MAX: usize = 80;

/// The value in quotes, escaped and cut, so that a message stays one line.
pub fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

/// An RFC 1123 label: a cluster ID, a namespace, a host name.
pub fn label(text: &str) -> Result<String, String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = text.len() <= LABEL_MAX && text.chars().all(inside);
    if fits && edge(text.chars().next()) && edge(text.chars().last()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} is not an RFC 1123 label; use 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends",
        quote(text)
    ))
}

/// A service name: an RFC 1035 label, which is an RFC 1123 label that starts with a letter.
pub fn service_name(text: &str) -> Result<String, String> {
    match label(text) {
        Ok(name) if name.starts_with(|c: char| c.is_ascii_lowercase()) => Ok(name),
        _ => Err(format!(
            "{} is not a service name; use 1 to 63 lower-case letters, digits and `-`, with a letter first",
            quote(text)
        )),
    }
}

/// A port name: an IANA service name as Kubernetes takes it, a label of at most 63 characters.
pub fn port_name(text: &str) -> Result<String, String> {
    label(text).map_err(|_| format!("{} is not a port name; use lower-case letters, digits and `-`", quote(text)))
}

/// A node name: an RFC 1123 subdomain.
pub fn node_name(text: &str) -> Result<String, String> {
    domain(text).map_err(|_| {
        format!("{} is not a node name; use lower-case letters, digits, `-` and `.`, as Kubernetes does", quote(text))
    })
}

/// A domain name, without the final dot.
pub fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= DOMAIN_MAX && name.split('.').all(|part| label(part).is_ok()) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "{} is not a domain name; use lower-case labels with dots between, such as clusterset.local",
        quote(text)
    ))
}

/// A prefix without host bits.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| {
        format!("{} is not a prefix; write ADDRESS/LENGTH, such as 10.42.0.0/16 or fd00:42::/56", quote(text))
    })?;
    if net != net.trunc() {
        return Err(format!("{text} has bits set behind its length; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

/// A prefix that may be routed between clusters.
pub fn routed_prefix(text: &str) -> Result<IpNet, String> {
    let net = prefix(text)?;
    match special(net.addr()) {
        // 0.0.0.0/0 starts with the unspecified address. The overlap check judges it.
        Some("unspecified") | None => Ok(net),
        Some(what) => Err(format!("{net} is {what}; only unicast prefixes can be routed through a tunnel")),
    }
}

/// What makes an address unfit for one host, if anything.
fn special(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        _ if link_local => Some("link-local"),
        _ => None,
    }
}

/// The address of one host.
pub fn unicast(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("{} is not an IP address; write it such as 192.168.7.2 or fd00::2", quote(text)))?;
    match special(address) {
        Some(what) => Err(format!("{address} is {what}; it must be a unicast address")),
        None => Ok(address),
    }
}

/// An address and a port to listen on.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{} is not an address with a port; write it such as 10.42.0.1:53 or [fd00::1]:53", quote(text))
    })
}

/// The address and port of a peer.
pub fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let form = "write it such as 198.51.100.7:51820 or [2001:db8::7]:51820";
    let at: SocketAddr =
        text.parse().map_err(|_| format!("{} is not an IP address with a port; {form}", quote(text)))?;
    match (special(at.ip()), at.port()) {
        (Some("link-local") | None, 1..) => Ok(at),
        (_, 0) => Err(format!("{at} has port 0; {form}")),
        (Some(what), _) => Err(format!("{at} is {what}; {form}")),
    }
}

/// A link name that the kernel takes (`dev_valid_name` of `net/core/dev.c`).
pub fn link_name(text: &str) -> Result<String, String> {
    let fits = (1..=LINK_NAME_MAX).contains(&text.len()) && text != "." && text != "..";
    if fits && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%')) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not a link name; use 1 to 15 letters, digits, `-`, `_` and `.`, such as linkspan0", quote(text)))
}

/// A port number.
pub fn port(number: u64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!("{number} is not a port; use 1 to 65535")),
    }
}

/// A number of lanes.
pub fn lanes(number: u64) -> Result<NonZeroU8, String> {
    let fits = u8::try_from(number).ok().filter(|lanes| *lanes <= tunnel::config::MAX_LANES).and_then(NonZeroU8::new);
    fits.ok_or_else(|| format!("{number} is not a number of lanes; use 1 to {}", tunnel::config::MAX_LANES))
}

/// An MTU of the TUN link.
pub fn mtu(number: u64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(mtu @ MIN_MTU..=MAX_MTU) => Ok(mtu),
        _ => Err(format!("{number} is not an MTU; use {MIN_MTU} to {MAX_MTU} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_rfc_1123() {
        for good in ["a", "0", "paris", "a-b", "1a", &"x".repeat(63)] {
            assert_eq!(label(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "ä", "a b", &"x".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(service_name("1a").is_err());
        assert_eq!(domain("clusterset.local.").as_deref(), Ok("clusterset.local"));
        assert!(domain("a..b").is_err());
    }

    #[test]
    fn a_prefix_with_host_bits_is_corrected() {
        assert_eq!(
            prefix("10.42.0.1/16"),
            Err("10.42.0.1/16 has bits set behind its length; did you mean 10.42.0.0/16?".to_owned())
        );
        assert_eq!(prefix("fd00:42::/56"), Ok("fd00:42::/56".parse().expect("valid")));
        assert!(prefix("10.42.0.0").is_err());
        assert!(prefix("10.42.0.0/33").is_err());
    }

    #[test]
    fn only_unicast_is_routed() {
        for bad in ["127.0.0.0/8", "224.0.0.0/4", "169.254.0.0/16", "fe80::/64", "ff02::/16", "::1/128"] {
            assert!(routed_prefix(bad).is_err(), "{bad}");
        }
        for bad in ["0.0.0.0", "::1", "239.1.1.1", "255.255.255.255"] {
            assert!(unicast(bad).is_err(), "{bad}");
        }
        assert!(routed_prefix("0.0.0.0/0").is_ok(), "a default route is refused as an overlap, with a better message");
    }

    #[test]
    fn numbers_stay_in_range() {
        assert_eq!(port(65_535), Ok(65_535));
        assert!(port(0).is_err());
        assert!(port(65_536).is_err());
        assert_eq!(lanes(16).map(NonZeroU8::get), Ok(16));
        assert!(lanes(0).is_err());
        assert!(lanes(17).is_err());
    }

    #[test]
    fn wrong_values_are_quoted_on_one_line_and_cut() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert_eq!(quote(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn link_names_are_those_of_the_kernel() {
        assert!(link_name("linkspan0").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-"] {
            assert!(link_name(bad).is_err(), "{bad}");
        }
    }
}
