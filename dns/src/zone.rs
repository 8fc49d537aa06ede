//! The immutable zone and its one question: what is at this name, of this type?

mod build;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::name::{Name, below};
use crate::service::Service;

/// Version of the multi-cluster DNS schema, told by `TXT dns-version.<zone>` (KEP-1645, specification.md).
pub(crate) const SCHEMA_VERSION: &str = "1.0.0";
/// Highest negative TTL in seconds. Names are asked for before they exist, and a resolver must not remember their
/// absence for long.
const MAX_NEGATIVE_TTL: u32 = 5;
/// Highest TTL in seconds; a day is already far beyond what a name that follows health should have.
const MAX_TTL: u32 = 86_400;

/// What a zone says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Name of the zone, `clusterset.local` by default.
    pub origin: Name,
    /// TTL of positive answers in seconds; served within 1 to 86 400. 5 by default.
    pub ttl: u32,
    /// TTL of negative answers in seconds, the SOA's `minimum` (RFC 2308); served as at most 5. 5 by default.
    pub negative_ttl: u32,
    /// Serial of the SOA record, 1 by default. There are no zone transfers: it only tells people which zone is served.
    pub serial: u32,
    /// Addresses of `ns.dns.<origin>`, the name in the zone's NS record; none by default.
    pub server_addresses: Vec<IpAddr>,
    /// Namespaces whose names exist even without a service, as CoreDNS has it; none by default. Those of services always
    /// exist.
    pub namespaces: Vec<String>,
}

impl Default for ZoneConfig {
    fn default() -> Self {
        Self {
            origin: Name::from_wire(b"\x0aclusterset\x05local\x00".to_vec()),
            ttl: 5,
            negative_ttl: 5,
            serial: 1,
            server_addresses: Vec::new(),
            namespaces: Vec::new(),
        }
    }
}

/// An immutable set of names. Made by [`Zone::build`], shared by `Arc`, read without a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    origin: Name,
    ttl: u32,
    soa: Soa,
    /// Keys are names below the origin: lower-case wire format without the origin's bytes.
    names: HashMap<Box<[u8]>, Node>,
    // Records of all names, each name's side by side: a big zone is a few allocations, quick to build and to drop.
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    srv: Vec<Srv>,
    skipped: Vec<Skipped>,
}

/// What exists at one name. All ranges empty: an empty non-terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    role: Role,
    v4: Range<u32>,
    v6: Range<u32>,
    srv: Range<u32>,
}

/// Names with records of the zone itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Plain,
    /// The origin: SOA and NS.
    Apex,
    /// `dns-version`: TXT.
    Version,
}

/// The record types that a zone knows; every other type is [`RecordType::Other`] and has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address (RFC 3596).
    Aaaa,
    /// Service location (RFC 2782).
    Srv,
    /// Text.
    Txt,
    /// Name server.
    Ns,
    /// Start of authority.
    Soa,
    /// The `*` question, answered as RFC 8482 says.
    Any,
    /// Any other type, by its number.
    Other(u16),
}

impl From<u16> for RecordType {
    /// From the numbers of the IANA registry "Resource Record (RR) TYPEs".
    fn from(number: u16) -> Self {
        match number {
            1 => Self::A,
            2 => Self::Ns,
            6 => Self::Soa,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            255 => Self::Any,
            other => Self::Other(other),
        }
    }
}

/// The zone's answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'z> {
    /// The records; never an empty set.
    Records(Records<'z>),
    /// The name exists, the type does not: NOERROR with the SOA (RFC 2308).
    NoData,
    /// The name does not exist: NXDOMAIN with the SOA.
    NxDomain,
    /// The name is not in this zone: REFUSED.
    Refused,
}

/// The records of one name and type, borrowed from the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records<'z> {
    /// IPv4 addresses, ascending.
    A(&'z [Ipv4Addr]),
    /// IPv6 addresses, ascending.
    Aaaa(&'z [Ipv6Addr]),
    /// Service locations, by port number and target.
    Srv(&'z [Srv]),
    /// One text.
    Txt(&'static str),
    /// The zone's name server.
    Ns(&'z Name),
    /// The zone's start of authority.
    Soa(&'z Soa),
    /// A question for `*` at a name that has records: a synthesised HINFO (RFC 8482, section 4.2).
    Any,
}

/// One service location (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Port number of the service.
    pub port: u16,
    /// The name to connect to; it has an address in the same zone.
    pub target: Name,
    /// Always 0.
    pub priority: u16,
    /// 100 shared among the records of the set, at least 1.
    pub weight: u16,
}

/// The start of authority (RFC 1035, section 3.3.13). Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The zone's name server.
    pub mname: Name,
    /// The mailbox of who is responsible, as a name.
    pub rname: Name,
    /// Version of the zone.
    pub serial: u32,
    /// When a secondary looks again; there is none.
    pub refresh: u32,
    /// When a secondary tries again.
    pub retry: u32,
    /// When a secondary gives up.
    pub expire: u32,
    /// How long the absence of a name or type may be remembered; also the TTL of this record in negative answers.
    pub minimum: u32,
}

/// Something that was asked for and has no legal name. The rest of the zone is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// What was skipped.
    pub what: String,
    /// Why it has no name.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Zone {
    /// Makes the zone of `services`. Pure: the order of services, ports, endpoints and addresses does not matter.
    ///
    /// # Guarantees
    /// Total: what has no legal name (a label that is not RFC 1123, a name over 255 bytes) is left out and told by
    /// [`Zone::skipped`]. Every SRV target has an address in the zone. A headless service without a ready endpoint has
    /// no name.
    pub fn build(config: &ZoneConfig, services: &[Service]) -> Self {
        build::build(config, services)
    }

    /// The records of `name` and `rtype`.
    pub fn lookup(&self, name: &Name, rtype: RecordType) -> Answer<'_> {
        self.lookup_wire(name.wire(), rtype)
    }

    /// [`Zone::lookup`] of a name in lower-case wire format, ending with the root.
    pub(crate) fn lookup_wire(&self, wire: &[u8], rtype: RecordType) -> Answer<'_> {
        let Some(key) = below(wire, self.origin.wire()) else {
            return Answer::Refused;
        };
        let Some(node) = self.names.get(key) else {
            return Answer::NxDomain;
        };
        self.records(node, rtype).map_or(Answer::NoData, Answer::Records)
    }

    fn records(&self, node: &Node, rtype: RecordType) -> Option<Records<'_>> {
        let (v4, v6, srv) = (slice(&self.v4, &node.v4), slice(&self.v6, &node.v6), slice(&self.srv, &node.srv));
        match rtype {
            RecordType::A => (!v4.is_empty()).then_some(Records::A(v4)),
            RecordType::Aaaa => (!v6.is_empty()).then_some(Records::Aaaa(v6)),
            RecordType::Srv => (!srv.is_empty()).then_some(Records::Srv(srv)),
            RecordType::Txt => (node.role == Role::Version).then_some(Records::Txt(SCHEMA_VERSION)),
            RecordType::Ns => (node.role == Role::Apex).then_some(Records::Ns(&self.soa.mname)),
            RecordType::Soa => (node.role == Role::Apex).then_some(Records::Soa(&self.soa)),
            RecordType::Any => {
                let bare = node.role == Role::Plain && v4.is_empty() && v6.is_empty() && srv.is_empty();
                (!bare).then_some(Records::Any)
            }
            RecordType::Other(_) => None,
        }
    }

    /// The addresses of a name, for the additional section; empty when there are none.
    pub fn addresses(&self, name: &Name) -> (&[Ipv4Addr], &[Ipv6Addr]) {
        below(name.wire(), self.origin.wire())
            .and_then(|key| self.names.get(key))
            .map_or((&[], &[]), |node| (slice(&self.v4, &node.v4), slice(&self.v6, &node.v6)))
    }

    /// Name of the zone.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// TTL of positive answers in seconds, 1 to 86 400.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The zone's start of authority.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// How many names exist, empty non-terminals and the apex included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never true: a zone has an apex.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What was left out because it has no legal name, sorted.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

/// The part of an arena that belongs to a node.
fn slice<'a, T>(arena: &'a [T], range: &Range<u32>) -> &'a [T] {
    &arena[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests;
