//! The pure decision: from what is desired and what is there to what is to be written.
//!
//! Order of the writes: links and addresses, nftables, routes, rules; then what is no longer wanted, rules first. The
//! nftables table comes before the routes because the first packet of a connection decides its source for good. The
//! fallback of a prefix comes before its route, and the rules come last: at no point does a packet for a Member that
//! is already covered leave by another way.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, LinkSettings, Plan};
use super::desired::Desired;
use super::mark;
use super::state::{AddressGeneration, Layer3, Link, LinkKind, Observed, Path};
use super::target::{Target, VxlanTarget, is_unmarked_vxlan};

/// Reverse path filter modes of `net.ipv4.conf.*.rp_filter`; "loose" of RFC 3704.
const RP_FILTER_LOOSE: u8 = 2;

/// Decides. Total and deterministic; the order of inputs that are sets does not matter.
///
/// # Guarantees
/// Applying the plan, or any beginning of it and then a new plan, leads to a state whose plan is empty. No action
/// names an object without our mark, save the desired tunnel link, [`Desired::stale_tunnels`], and a link that has the very
/// name, form and port of [`Desired::vxlan`] and no alias.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let target = Target::new(desired, observed);
    let mut actions = Vec::new();
    plan_links(&target, desired, observed, &mut actions);
    plan_addresses(&target, observed, &mut actions);
    if let Some(table) = target.nft.as_ref().filter(|table| observed.nft.as_ref() != Some(table)) {
        actions.push(Action::ReplaceNftTable(table.clone()));
    }
    plan_routes(&target, observed, &mut actions);
    actions.extend(target.rules.iter().filter(|rule| !observed.rules.contains(rule)).cloned().map(Action::AddRule));
    plan_removal(&target, desired, observed, &mut actions);
    Plan { actions, obstacles: target.obstacles.into_iter().collect() }
}

fn plan_links(target: &Target, desired: &Desired, observed: &Observed, actions: &mut Vec<Action>) {
    if let Some(VxlanTarget { settings, port }) = &target.vxlan {
        let wanted = LinkKind::ExternalVxlan { port: *port };
        let existing = observed.link(&settings.link);
        let reusable = existing.is_some_and(|link| link.kind == wanted);
        if !reusable {
            // The kernel has one external VXLAN link for each port. Its routes go with it, the fallbacks answer.
            let stale = stale_links(target, desired, observed);
            let is_vxlan =
                |link: &&Link| matches!(link.kind, LinkKind::ExternalVxlan { .. }) && stale.contains(&link.name);
            let in_the_way: BTreeSet<_> =
                observed.links.iter().filter(is_vxlan).chain(existing).map(|link| &link.name).collect();
            actions.extend(in_the_way.into_iter().map(|link| Action::DeleteLink { link: link.clone() }));
            actions.push(Action::CreateVxlan { link: settings.link.clone(), port: *port });
        }
        if !existing.is_some_and(|link| reusable && is_configured(link, settings)) {
            actions.push(Action::ConfigureLink(settings.clone()));
        }
    }
    if let Some(settings) = &target.tunnel {
        let configured = observed.link(&settings.link).is_some_and(|link| is_configured(link, settings));
        if !configured {
            actions.push(Action::ConfigureLink(settings.clone()));
        }
    }
}

fn is_configured(link: &Link, settings: &LinkSettings) -> bool {
    link.is_ours()
        && link.up
        && link.mtu == settings.mtu
        && link.rp_filter.is_none_or(|mode| mode == RP_FILTER_LOOSE)
        && link.ipv6_addresses.is_none_or(|generation| generation == AddressGeneration::None)
}

fn plan_addresses(target: &Target, observed: &Observed, actions: &mut Vec<Action>) {
    let missing = target.addresses.iter().filter(|address| !observed.addresses.contains(address));
    actions.extend(missing.cloned().map(Action::AddAddress));
}

fn plan_routes(target: &Target, observed: &Observed, actions: &mut Vec<Action>) {
    let existing: BTreeMap<_, _> = observed.routes.iter().map(|route| (route.key(), route)).collect();
    // A link made anew in this plan has lost the routes that were seen on it.
    let remade: BTreeSet<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::CreateVxlan { link, .. } => Some(link.clone()),
            _ => None,
        })
        .collect();
    let stands = |path: &Path| path.link().is_none_or(|link| !remade.contains(link));
    let (fallbacks, others): (Vec<_>, Vec<_>) =
        target.routes.iter().partition(|route| route.metric == mark::METRIC_FALLBACK);
    for route in fallbacks.into_iter().chain(others) {
        if !existing.get(&route.key()).is_some_and(|existing| *existing == route && stands(&route.path)) {
            actions.push(Action::ReplaceRoute(route.clone()));
        }
    }
}

fn plan_removal(target: &Target, desired: &Desired, observed: &Observed, actions: &mut Vec<Action>) {
    // One by one: two processes at a time may have left a rule twice.
    let mut stale_rules: Vec<_> = observed.rules.iter().filter(|rule| !target.rules.contains(rule)).collect();
    stale_rules.sort();
    actions.extend(stale_rules.into_iter().cloned().map(Action::DeleteRule));

    let wanted: BTreeSet<_> = target.routes.iter().map(|route| route.key()).collect();
    let mut stale_routes: Vec<_> = observed.routes.iter().filter(|route| !wanted.contains(&route.key())).collect();
    // Carrying routes before their fallbacks, so that a prefix is never half removed.
    stale_routes.sort_by_key(|route| (route.metric, route.key()));
    actions.extend(stale_routes.into_iter().cloned().map(Action::DeleteRoute));

    let ours: BTreeSet<_> = target.links().map(|settings| settings.link.as_str()).collect();
    let stale: BTreeSet<_> =
        observed.addresses.iter().filter(|a| ours.contains(a.link.as_str()) && !target.addresses.contains(a)).collect();
    actions.extend(stale.into_iter().cloned().map(Action::DeleteAddress));

    for link in stale_links(target, desired, observed) {
        // Deleted already, to make room for the new one.
        if !actions.iter().any(|action| matches!(action, Action::DeleteLink { link: deleted } if *deleted == link)) {
            actions.push(Action::DeleteLink { link });
        }
    }
    if target.nft.is_none() && observed.nft.is_some() {
        actions.push(Action::DeleteNftTable);
    }
}

/// Links of ours that nothing wants any more.
fn stale_links(target: &Target, desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let wanted: BTreeSet<_> = target.links().map(|settings| &settings.link).collect();
    // Even where an obstacle keeps it from use.
    let tunnel = desired.tunnel.as_ref().map(|tunnel| &tunnel.link);
    let unmarked_tunnel = |link: &Link| {
        link.alias.is_none() && link.kind == LinkKind::Layer3(Layer3::Tun) && desired.stale_tunnels.contains(&link.name)
    };
    let is_left = |link: &Link| link.is_ours() || unmarked_tunnel(link) || is_unmarked_vxlan(link, desired);
    let links = observed.links.iter().filter(|link| is_left(link));
    links.map(|link| &link.name).filter(|name| !wanted.contains(name) && Some(*name) != tunnel).cloned().collect()
}
