//! What other programs do to clusterset traffic on the nodes, and which way the kernel sends it.

use std::net::IpAddr;

use controller::node::filter::{Effect, Hit, Packet};
use controller::node::mark;
use ipnet::IpNet;

use super::{Check, Fault, Finding};
use crate::kubectl::inspect::{Inspection, LookupSeen, PacketSeen};
use crate::kubectl::picture::{ClusterPicture, Picture};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in cluster.node_names() {
        let Some(seen) = cluster.inspection(&node) else { continue };
        let object = format!("node/{node}");
        let mut faults: Vec<Fault> = masquerade(&seen.packets).into_iter().collect();
        faults.extend(way_fault(cluster, &node));
        if faults.is_empty() && !seen.lookups.is_empty() && seen.saw_filter() {
            findings.push(Finding::good(
                Check::Cni,
                cluster,
                &object,
                "routes lead to the gateway, and sources are kept",
            ));
        }
        findings.extend(faults.into_iter().map(|fault| Finding::bad(Check::Cni, cluster, &object, fault)));
    }
    findings
}

/// A rule of somebody else that rewrites the source of one of these packets.
pub(crate) fn masquerade<'a>(packets: impl IntoIterator<Item = &'a PacketSeen>) -> Option<Fault> {
    let rewrites = |hit: &&Hit| matches!(hit.effect, Effect::Masquerade | Effect::Snat) && hit.certain && !hit.ours;
    let found = packets.into_iter().find_map(|packet| Some((&packet.of, packet.hits.iter().find(rewrites)?)));
    let (Packet { from, to, .. }, hit) = found?;
    let evidence = format!("chain {} {} packets from {from} to {to}: {}", hit.place, hit.effect, hit.rule);
    Some(Fault::failed(
        "Masqueraded",
        evidence,
        "pods lose their addresses on the way to another cluster, which drops them, or cannot tell them apart",
        format!("take prefixes of other clusters out of that rule, or give its chain a priority above {}", 90),
    ))
}

/// A rule of somebody else that drops one of these packets.
pub(super) fn drop_rule<'a>(packets: impl IntoIterator<Item = &'a PacketSeen>) -> Option<(&'a Packet, &'a Hit)> {
    let drops = |hit: &&Hit| matches!(hit.effect, Effect::Drop | Effect::Reject) && hit.certain && !hit.ours;
    packets.into_iter().find_map(|packet| Some((&packet.of, packet.hits.iter().find(drops)?)))
}

/// What is wrong with the way of a node's traffic to other clusters; nothing when it is right, or when nobody asked.
pub(crate) fn way_fault(cluster: &ClusterPicture, node: &str) -> Option<Fault> {
    let seen = cluster.inspection(node)?;
    let out = seen.lookups.iter().filter(|lookup| lookup.of.arriving.is_none());
    out.filter_map(|lookup| lookup_fault(cluster, node, seen, lookup)).next()
}

/// What is wrong with one way.
pub(crate) fn lookup_fault(
    cluster: &ClusterPicture,
    node: &str,
    seen: &Inspection,
    LookupSeen { of, way }: &LookupSeen,
) -> Option<Fault> {
    let gateway = cluster.active_gateway()?;
    // An address of this cluster is the main table's business, and nobody plans a way to a cluster without a gateway.
    let place = cluster.place(of.to)?;
    if Some(place.cluster.as_str()) == cluster.id() || cluster.is_without_gateway(&place.cluster) {
        return None;
    }
    let ours = way.table == mark::TABLE_REMOTE && way.link.as_ref().is_some_and(|link| is_ours(seen, link));
    if ours {
        return wrong_node(cluster, node, &gateway, of.to, way.node);
    }
    let evidence = match (&way.link, &way.refused) {
        (Some(link), _) => format!("packets to {} leave by {link} (table {})", of.to, way.table),
        (None, refused) => format!("there is no way to {}: {}", of.to, refused.as_deref().unwrap_or("no link")),
    };
    let route = |text: &&String| {
        text.split_whitespace().next().and_then(|net| net.parse::<IpNet>().ok()).is_some_and(|net| net.contains(&of.to))
    };
    let has_route = seen.routes.iter().any(|text| route(&text) && !text.starts_with("unreachable"));
    let cause = match (has_route, way.link.is_some()) {
        (true, true) => format!(
            "a routing rule of another program comes before Linkspan's, so that traffic for {} goes astray",
            place.cluster
        ),
        (true, false) => format!(
            "a rule or route of another program refuses traffic for {} before Linkspan's routes are asked",
            place.cluster
        ),
        (false, _) => format!("node {node} has no route of Linkspan's to {}", place.cluster),
    };
    let fix = if has_route {
        format!(
            "see `ip rule` on {node}: nothing for these prefixes may come before priority {}",
            mark::PRIORITY_REMOTE
        )
    } else {
        format!(
            "see `linkspan status` in the linkspan-node pod of {node}, and its log: passes should have made the route"
        )
    };
    Some(Fault::failed("MissingRoute", evidence, cause, fix))
}

fn is_ours(seen: &Inspection, link: &str) -> bool {
    seen.links.iter().any(|ours| ours.name == link)
}

/// A worker whose traffic goes to a node that is not the gateway.
fn wrong_node(
    cluster: &ClusterPicture,
    node: &str,
    gateway: &str,
    to: IpAddr,
    sent_to: Option<IpAddr>,
) -> Option<Fault> {
    let address = cluster.node_address(gateway)?;
    let (sent_to, expected) = (sent_to?, address);
    if node == gateway || sent_to == expected {
        return None;
    }
    let evidence = format!("packets to {to} go to node {sent_to}, and the active gateway {gateway} is {expected}");
    let cause = format!("node {node} has not followed the change of the gateway");
    Some(Fault::failed("WrongGateway", evidence, cause, format!("see the log of the linkspan-node pod of {node}")))
}
