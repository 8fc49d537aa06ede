//! Stateless 1:1 translation by prefix, for clusters whose addresses overlap: outward our own native source becomes
//! virtual, inward the virtual destination becomes native. Host bits stay, so nothing has to be remembered.
//!
//! Checksums are adjusted by what the prefix alone changes (RFC 1624), which is the same for every address in it. Those
//! of TCP, UDP and ICMPv6 cover the addresses; that of ICMP covers what an error quotes, and SCTP's CRC32c (RFC 9260,
//! section 6.8) covers neither. In an ICMP error the quoted packet is one that went the other way, so its *other*
//! address is ours and is translated alike (RFC 5508, section 4.2, has the rule for NATs): traceroute and path-MTU
//! discovery work. Of any other protocol the IP header alone changes.
//!
//! Not translated: addresses in payloads, options and routing headers. What authenticates its addresses (AH) breaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, BitOr, Range};

use ipnet::IpNet;

use super::checksum::{Sum, adjust, change};
use super::ip::{Fragment, Version, View, protocol};
use super::vnet::VnetHeader;

/// Bytes of an ICMP error before the packet that it quotes (RFC 792; RFC 4443, section 3).
const ICMP_HEADER: usize = 8;
/// Offset of the checksum in a message of either ICMP.
const ICMP_CHECKSUM: usize = 2;
/// Offset of the checksum in an IPv4 header.
const V4_CHECKSUM: usize = 10;

/// Which way a packet goes, and so which of its addresses is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To a peer: the source.
    Outward,
    /// From a peer: the destination.
    Inward,
}

impl Direction {
    /// Where the address that is ours stands in the IP header.
    #[inline]
    fn place(self, version: Version) -> Range<usize> {
        match (version, self) {
            (Version::V4, Self::Outward) => 12..16,
            (Version::V4, Self::Inward) => 16..20,
            (Version::V6, Self::Outward) => 8..24,
            (Version::V6, Self::Inward) => 24..40,
        }
    }

    fn reverse(self) -> Self {
        match self {
            Self::Outward => Self::Inward,
            Self::Inward => Self::Outward,
        }
    }
}

/// Prefixes and what they become, in one direction. Immutable once built; all lanes share one.
#[derive(Debug, Default)]
pub struct Table {
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
}

/// The entries that matched last, kept by each direction of a lane: packets of one flow come in runs.
#[derive(Debug, Default)]
pub struct LastHit {
    v4: usize,
    v6: usize,
}

impl LastHit {
    /// Forgets; to be called when the table changes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Table {
    /// Builds the table from pairs of prefixes, each of one family and length; others are left out, as
    /// [`crate::Config`] refuses them. The prefixes that are looked for must not overlap.
    pub fn build(pairs: impl IntoIterator<Item = (IpNet, IpNet)>) -> Self {
        let mut table = Self::default();
        for (from, to) in pairs {
            match (from.trunc(), to.trunc()) {
                (IpNet::V4(from), IpNet::V4(to)) if from.prefix_len() == to.prefix_len() => {
                    let (from, to, host) =
                        (from.network().to_bits(), to.network().to_bits(), from.hostmask().to_bits());
                    table.v4.0.push(Entry { first: from, last: from | host, host, to, change: change_v4(from, to) });
                }
                (IpNet::V6(from), IpNet::V6(to)) if from.prefix_len() == to.prefix_len() => {
                    let (from, to, host) =
                        (from.network().to_bits(), to.network().to_bits(), from.hostmask().to_bits());
                    table.v6.0.push(Entry { first: from, last: from | host, host, to, change: change_v6(from, to) });
                }
                _ => {}
            }
        }
        table.v4.0.sort_by_key(|entry| entry.first);
        table.v6.0.sort_by_key(|entry| entry.first);
        table
    }

    /// Whether nothing is translated.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether any prefix of this family is translated.
    #[inline]
    pub fn has(&self, version: Version) -> bool {
        match version {
            Version::V4 => !self.v4.0.is_empty(),
            Version::V6 => !self.v6.0.is_empty(),
        }
    }

    /// What becomes of an address; `None` when it is in no prefix.
    pub fn map(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => {
                let entry = self.v4.find(v4.to_bits(), &mut 0)?;
                Some(Ipv4Addr::from_bits(entry.map(v4.to_bits())).into())
            }
            IpAddr::V6(v6) => {
                let entry = self.v6.find(v6.to_bits(), &mut 0)?;
                Some(Ipv6Addr::from_bits(entry.map(v6.to_bits())).into())
            }
        }
    }

    /// Replaces the address at the beginning of `field`, and gives what that changes in sums over it.
    #[inline]
    fn replace(&self, field: &mut [u8], last: &mut LastHit) -> Option<Sum> {
        if let Some(field) = field.first_chunk_mut::<16>() {
            let address = u128::from_be_bytes(*field);
            let entry = self.v6.find(address, &mut last.v6)?;
            *field = entry.map(address).to_be_bytes();
            return Some(entry.change);
        }
        let field = field.first_chunk_mut::<4>()?;
        let address = u32::from_be_bytes(*field);
        let entry = self.v4.find(address, &mut last.v4)?;
        *field = entry.map(address).to_be_bytes();
        Some(entry.change)
    }
}

fn change_v4(from: u32, to: u32) -> Sum {
    change(Sum::of(&from.to_be_bytes()), Sum::of(&to.to_be_bytes()))
}

fn change_v6(from: u128, to: u128) -> Sum {
    change(Sum::of(&from.to_be_bytes()), Sum::of(&to.to_be_bytes()))
}

/// The entries of one family by their first address.
#[derive(Debug)]
struct Prefixes<B>(Vec<Entry<B>>);

impl<B> Default for Prefixes<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// One prefix and what it becomes.
#[derive(Debug)]
struct Entry<B> {
    first: B,
    last: B,
    /// The bits that stay.
    host: B,
    to: B,
    /// What a sum grows by. Host bits stand in the same bits of the same words before and after, so that it is the same
    /// for every address.
    change: Sum,
}

impl<B: Copy + Ord + BitAnd<Output = B> + BitOr<Output = B>> Entry<B> {
    #[inline]
    fn holds(&self, address: B) -> bool {
        self.first <= address && address <= self.last
    }

    #[inline]
    fn map(&self, address: B) -> B {
        self.to | address & self.host
    }
}

impl<B: Copy + Ord + BitAnd<Output = B> + BitOr<Output = B>> Prefixes<B> {
    #[inline]
    fn find(&self, address: B, last: &mut usize) -> Option<&Entry<B>> {
        if let Some(entry) = self.0.get(*last).filter(|entry| entry.holds(address)) {
            return Some(entry);
        }
        let at = self.0.partition_point(|entry| entry.first <= address).checked_sub(1)?;
        let entry = self.0.get(at).filter(|entry| entry.holds(address))?;
        *last = at;
        Some(entry)
    }
}

/// Translates our own address in `packet`, of which `view` is true and which came with `vnet` (the default for a
/// decrypted packet). Tells whether it did: an address that is in no prefix of the table stays, and with it the packet.
///
/// A super-packet is translated once, before it is cut: its segments are built from its headers.
#[inline]
pub fn translate(
    packet: &mut [u8],
    view: &View,
    vnet: &VnetHeader,
    direction: Direction,
    table: &Table,
    last: &mut LastHit,
) -> bool {
    let Some(packet) = packet.get_mut(..view.total_len) else { return false };
    let Some(pseudo) = replace(packet, view.version, direction, table, last) else { return false };
    if view.fragment == Fragment::Later {
        return true;
    }
    let Some(l4) = packet.get_mut(view.l4..) else { return true };
    let mut covered = Covered::of(view, pseudo);
    if let Some(quoted) = quoted(l4, view) {
        covered.content = translate_quoted(&mut l4[quoted], direction.reverse(), table, last);
        covered.field = Some(ICMP_CHECKSUM);
    }
    let start = usize::from(vnet.csum_start);
    let partial = vnet.needs_csum && start == view.l4 && covered.field == Some(usize::from(vnet.csum_offset));
    covered.settle(l4, if partial { Form::Partial } else { Form::Complete(view.protocol) });
    true
}

/// Replaces the address and adjusts the IPv4 header's checksum; gives what that changes in a pseudo header's sum.
#[inline]
fn replace(
    packet: &mut [u8],
    version: Version,
    direction: Direction,
    table: &Table,
    last: &mut LastHit,
) -> Option<Sum> {
    let change = table.replace(packet.get_mut(direction.place(version))?, last)?;
    if version == Version::V4 {
        adjust_at(packet, V4_CHECKSUM, change);
    }
    Some(change)
}

/// What changes below an upper-layer checksum.
struct Covered {
    /// Offset of the checksum in the upper-layer header; none when it covers nothing that changes.
    field: Option<usize>,
    /// In the pseudo header.
    pseudo: Sum,
    /// In the payload.
    content: Sum,
}

impl Covered {
    #[inline]
    fn of(view: &View, change: Sum) -> Self {
        let (field, pseudo) = match (view.protocol, view.version) {
            (protocol::TCP, _) => (Some(super::headers::TCP_CHECKSUM), change),
            (protocol::UDP, _) => (Some(super::headers::UDP_CHECKSUM), change),
            (protocol::ICMPV6, Version::V6) => (Some(ICMP_CHECKSUM), change),
            _ => (None, Sum::ZERO),
        };
        Self { field, pseudo, content: Sum::ZERO }
    }

    /// Adjusts the checksum, if it is there: a quoted packet may end before it.
    #[inline]
    fn settle(&self, l4: &mut [u8], form: Form) {
        let Some(at) = self.field else { return };
        let Some(field) = l4.get_mut(at..at + 2).and_then(<[u8]>::first_chunk_mut::<2>) else { return };
        let old = u16::from_be_bytes(*field);
        let new = match form {
            // The rest of the sum is still to be added, over what stands there then.
            Form::Partial => self.pseudo.add_word(old).fold(),
            // No checksum: RFC 768, and RFC 6935 for IPv6.
            Form::Complete(protocol::UDP) if old == 0 => 0,
            Form::Complete(protocol::UDP) => match adjust(old, self.pseudo) {
                0 => 0xffff,
                checksum => checksum,
            },
            Form::Complete(_) => adjust(old, self.pseudo.add_sum(self.content)),
        };
        *field = new.to_be_bytes();
    }
}

/// What a checksum field holds.
#[derive(Clone, Copy)]
enum Form {
    /// The pseudo header's sum, not complemented (`CHECKSUM_PARTIAL` of the kernel).
    Partial,
    /// The checksum, of this protocol.
    Complete(u8),
}

#[inline]
fn adjust_at(bytes: &mut [u8], at: usize, change: Sum) {
    if let Some(field) = bytes.get_mut(at..at + 2).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = adjust(u16::from_be_bytes(*field), change).to_be_bytes();
    }
}

/// The address of ours that an ICMP error quotes, for fuzzing.
pub(super) fn quoted_address(packet: &[u8], view: &View, direction: Direction) -> Option<IpAddr> {
    let l4 = packet.get(view.l4..view.total_len).filter(|_| view.fragment != Fragment::Later)?;
    let quoted = View::parse_quoted(l4.get(quoted(l4, view)?)?).ok()?;
    Some(if direction == Direction::Outward { quoted.destination } else { quoted.source })
}

/// Where in the upper layer its checksum is, when it is of a packet that is not fragmented, for fuzzing.
pub(super) fn checksum_field(view: &View) -> Option<usize> {
    Covered::of(view, Sum::ZERO).field.filter(|_| view.fragment == Fragment::Whole)
}

/// Where in an ICMP error the beginning of the packet is that it quotes.
#[inline]
fn quoted(l4: &[u8], view: &View) -> Option<Range<usize>> {
    let &[kind, .., v6_length, v4_length, _, _] = l4.first_chunk::<ICMP_HEADER>()?;
    // Where extensions follow the quoted packet, its length is told (RFC 4884, section 3).
    let length = match (view.version, view.protocol, kind) {
        // Unreachable, time exceeded, parameter problem.
        (Version::V4, protocol::ICMP, 3 | 11 | 12) => usize::from(v4_length) * 4,
        // Source quench, redirect.
        (Version::V4, protocol::ICMP, 4 | 5) => 0,
        // Unreachable, time exceeded.
        (Version::V6, protocol::ICMPV6, 1 | 3) => usize::from(v6_length) * 8,
        // Packet too big, parameter problem.
        (Version::V6, protocol::ICMPV6, 2 | 4) => 0,
        _ => return None,
    };
    let end = if length == 0 { l4.len() } else { l4.len().min(ICMP_HEADER + length) };
    Some(ICMP_HEADER..end)
}

/// Translates the quoted packet, and gives what that changes in the sum of the message around it.
#[cold]
fn translate_quoted(quoted: &mut [u8], direction: Direction, table: &Table, last: &mut LastHit) -> Sum {
    let Ok(view) = View::parse_quoted(quoted) else { return Sum::ZERO };
    let quoted = &mut quoted[..view.total_len];
    // All that changes lies before the end of the address or of the longest checksum's place, at even offsets.
    let end = (view.l4 + super::headers::TCP_CHECKSUM + 2).min(quoted.len());
    let before = Sum::of(&quoted[..end]);
    let Some(pseudo) = replace(quoted, view.version, direction, table, last) else { return Sum::ZERO };
    if view.fragment != Fragment::Later {
        Covered::of(&view, pseudo).settle(&mut quoted[view.l4..], Form::Complete(view.protocol));
    }
    change(before, Sum::of(&quoted[..end]))
}

#[cfg(test)]
mod tests;
