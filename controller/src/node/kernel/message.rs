//! Netlink messages from our values, and back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind, InfoVxlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwEnCapType,
    RouteLwTunnelEncap, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::node::action::LinkSettings;
use crate::node::mark;
use crate::node::state::{Address, AddressGeneration, Encap, Family, Layer3, Link, LinkKind, Path, Route, Rule, Table};

/// Names of links by index.
pub(super) type Names = BTreeMap<u32, String>;

pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(mark::PROTOCOL);

/// Loose reverse path filtering (RFC 3704; `net.ipv4.conf.*.rp_filter`).
const RP_FILTER_LOOSE: i32 = 2;

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    Family::ALL.into_iter().find(|known| address_family(*known) == family)
}

// === Links ===

pub(super) fn read_link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        name: String::new(),
        alias: None,
        kind: LinkKind::Other,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        rp_filter: None,
        ipv6_addresses: None,
    };
    let mut info = &[][..];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(found) => info = found,
            LinkAttribute::AfSpecUnspec(found) => read_families(found, &mut link),
            _ => {}
        }
    }
    link.kind = read_kind(info, message.header.link_layer_type);
    (!link.name.is_empty()).then_some(link)
}

fn read_families(families: &[AfSpecUnspec], link: &mut Link) {
    for family in families {
        match family {
            AfSpecUnspec::Inet(settings) => {
                link.rp_filter = settings.iter().find_map(|setting| match setting {
                    AfSpecInet::DevConf(conf) => u8::try_from(conf.rp_filter).ok(),
                    _ => None,
                });
            }
            AfSpecUnspec::Inet6(settings) => {
                link.ipv6_addresses = settings.iter().find_map(|setting| match setting {
                    AfSpecInet6::AddrGenMode(In6AddrGenMode::None) => Some(AddressGeneration::None),
                    AfSpecInet6::AddrGenMode(_) => Some(AddressGeneration::Automatic),
                    _ => None,
                });
            }
            _ => {}
        }
    }
}

fn read_kind(info: &[LinkInfo], layer: LinkLayerType) -> LinkKind {
    let mut kind = if layer == LinkLayerType::Ether || layer == LinkLayerType::Loopback {
        LinkKind::Other
    } else {
        LinkKind::Layer3(Layer3::Other)
    };
    for part in info {
        match part {
            LinkInfo::Kind(InfoKind::Tun) if kind != LinkKind::Other => kind = LinkKind::Layer3(Layer3::Tun),
            LinkInfo::Data(InfoData::Vxlan(settings)) => {
                let external =
                    settings.contains(&InfoVxlan::CollectMetadata(true)) && settings.contains(&InfoVxlan::Gpe);
                let port = settings.iter().find_map(|setting| match setting {
                    InfoVxlan::Port(port) if external => Some(*port),
                    _ => None,
                });
                kind = port.map_or(LinkKind::Other, |port| LinkKind::ExternalVxlan { port });
            }
            _ => {}
        }
    }
    kind
}

pub(super) fn vxlan_link(name: &str, port: u16) -> LinkMessage {
    let settings = vec![
        InfoVxlan::Port(port),
        // The outer header comes from the route of each packet.
        InfoVxlan::CollectMetadata(true),
        // IP directly inside VXLAN (VXLAN-GPE): no Ethernet header, hence no neighbours to know.
        InfoVxlan::Gpe,
        InfoVxlan::Learning(false),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(settings))]),
    ];
    message
}

/// Everything about a link but its state. `found` is the link as the kernel has it.
pub(super) fn link_settings(settings: &LinkSettings, found: &LinkMessage) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = found.header.index;
    message.attributes = vec![LinkAttribute::IfAlias(mark::LINK_ALIAS.into()), LinkAttribute::Mtu(settings.mtu)];
    let mut families = Vec::new();
    let known = read_link(found);
    if known.as_ref().is_some_and(|link| link.rp_filter.is_some()) {
        let mut conf = InetDevConf::default();
        conf.rp_filter = RP_FILTER_LOOSE;
        families.push(AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]));
    }
    if known.as_ref().is_some_and(|link| link.ipv6_addresses.is_some()) {
        families.push(AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]));
    }
    if !families.is_empty() {
        message.attributes.push(LinkAttribute::AfSpecUnspec(families));
    }
    message
}

pub(super) fn link_up(index: u32) -> LinkMessage {
    let mut message = link_index(index);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

pub(super) fn link_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

// === Addresses ===

pub(super) fn read_address(message: &AddressMessage, names: &Names) -> Option<Address> {
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    if message.header.flags.intersects(unusable) {
        return None;
    }
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link, IFA_ADDRESS is the other end.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) if found.is_none() => found = Some(*address),
            _ => {}
        }
    }
    let address = IpNet::new(found?, message.header.prefix_len).ok()?;
    Some(Address { link: names.get(&message.header.index)?.clone(), address })
}

pub(super) fn address_message(address: &Address, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(address.address.addr()));
    message.header.prefix_len = address.address.prefix_len();
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.address.addr()), AddressAttribute::Address(address.address.addr())];
    message
}

// === Routes ===

pub(super) fn read_route(message: &RouteMessage, names: &Names) -> Option<Route> {
    let family = family(message.header.address_family)?;
    let mut to = match family {
        Family::V4 => IpAddr::V4([0; 4].into()),
        Family::V6 => IpAddr::V6([0; 16].into()),
    };
    let (mut table, mut metric) = (u32::from(message.header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => to = ip_address(address)?,
            _ => {}
        }
    }
    let to = IpNet::new(to, message.header.destination_prefix_length).ok()?;
    let path = read_path(message, names).unwrap_or(Path::Foreign);
    Some(Route { table: Table::from_id(table)?, to, metric, path })
}

/// `None` for anything that [`route_message`] would not make.
fn read_path(message: &RouteMessage, names: &Names) -> Option<Path> {
    if message.header.kind == RouteType::Unreachable {
        return Some(Path::Unreachable);
    }
    if message.header.kind != RouteType::Unicast || message.header.tos != 0 {
        return None;
    }
    let (mut link, mut source, mut encap) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(names.get(index)?.clone()),
            RouteAttribute::PrefSource(address) => source = Some(ip_address(address)?),
            RouteAttribute::Encap(parts) => encap = Some(read_encap(parts)?),
            RouteAttribute::Table(_)
            | RouteAttribute::Priority(_)
            | RouteAttribute::Destination(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_) => {}
            _ => return None,
        }
    }
    let link = link?;
    Some(match encap {
        Some(encap) => Path::Encap { link, encap, source },
        None => Path::Link { link, source },
    })
}

pub(super) fn read_encap(parts: &[RouteLwTunnelEncap]) -> Option<Encap> {
    let (mut number, mut source, mut destination) = (None, None, None);
    for part in parts {
        match part {
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(id)) => number = u32::try_from(*id).ok(),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(id)) => number = u32::try_from(*id).ok(),
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Source(address)) => source = Some(IpAddr::V4(*address)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Source(address)) => source = Some(IpAddr::V6(*address)),
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(address)) => destination = Some(IpAddr::V4(*address)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(address)) => destination = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    Some(Encap { id: number?, outer_source: source?, outer_destination: destination? })
}

/// The route; `index` is that of its link.
pub(super) fn route_message(route: &Route, index: Option<u32>) -> RouteMessage {
    let mut message = route_key(route);
    message.header.kind = match route.path {
        Path::Unreachable | Path::Foreign => RouteType::Unreachable,
        Path::Link { .. } | Path::Encap { .. } => RouteType::Unicast,
    };
    message.header.scope = match route.path {
        Path::Unreachable | Path::Foreign => RouteScope::Universe,
        // Without a next hop.
        Path::Link { .. } | Path::Encap { .. } => RouteScope::Link,
    };
    message.attributes.extend(index.map(RouteAttribute::Oif));
    if let Path::Link { source, .. } | Path::Encap { source, .. } = &route.path {
        message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    }
    if let Path::Encap { encap, .. } = &route.path {
        let (kind, parts) = encap_attributes(encap);
        message.attributes.push(RouteAttribute::EncapType(kind));
        message.attributes.push(RouteAttribute::Encap(parts));
    }
    message
}

/// Table, destination, metric and protocol only: what names a route for deletion.
pub(super) fn route_key(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(route.to.addr()));
    message.header.destination_prefix_length = route.to.prefix_len();
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![
        RouteAttribute::Destination(route.to.network().into()),
        RouteAttribute::Table(route.table.id()),
        RouteAttribute::Priority(route.metric),
    ];
    message
}

fn encap_attributes(encap: &Encap) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
    let id = u64::from(encap.id);
    match (encap.outer_source, encap.outer_destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let parts = [RouteIpTunnel::Id(id), RouteIpTunnel::Source(source), RouteIpTunnel::Destination(destination)];
            (RouteLwEnCapType::Ip, parts.map(RouteLwTunnelEncap::Ip).into())
        }
        (source, destination) => {
            let v6 = |address| match address {
                IpAddr::V4(address) => std::net::Ipv4Addr::to_ipv6_mapped(&address),
                IpAddr::V6(address) => address,
            };
            let parts = [
                RouteIp6Tunnel::Id(id),
                RouteIp6Tunnel::Source(v6(source)),
                RouteIp6Tunnel::Destination(v6(destination)),
                // Over IPv6, VXLAN sockets drop UDP without checksum (RFC 8200, section 8.1).
                RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum),
            ];
            (RouteLwEnCapType::Ip6, parts.map(RouteLwTunnelEncap::Ip6).into())
        }
    }
}

pub(super) fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

// === Rules ===

/// `None` for rules that are not ours: of another protocol or priority, or for fewer packets than a rule of ours.
pub(super) fn read_rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.src_len != 0 || header.dst_len != 0 || header.tos != 0 {
        return None;
    }
    let mut found = Rule { family: family(header.family)?, input_link: None, table: Table::Remote };
    let (mut protocol, mut priority, mut table) = (None, None, u32::from(header.table));
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(number) => protocol = Some(*number),
            RuleAttribute::Priority(number) => priority = Some(*number),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Iifname(name) => found.input_link = Some(name.clone()),
            // What the kernel lists for "none".
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => return None,
        }
    }
    found.table = Table::from_id(table)?;
    (protocol == Some(PROTOCOL) && priority == Some(found.priority())).then_some(found)
}

pub(super) fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Protocol(PROTOCOL),
        RuleAttribute::Priority(rule.priority()),
        RuleAttribute::Table(rule.table.id()),
    ];
    message.attributes.extend(rule.input_link.clone().map(RuleAttribute::Iifname));
    message
}
