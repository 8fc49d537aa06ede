//! What a check needs to see of a cluster. That nothing stands out means something only where somebody has looked.

use std::collections::BTreeMap;

use super::{Check, Finding};
use crate::kubectl::inspect::is_of_filter;
use crate::kubectl::picture::{ClusterPicture, NodePicture, Part, Unseen};

/// The reason of findings about nodes that nobody has asked, as opposed to those that were asked and told nothing.
pub(crate) const NOT_ASKED: &str = "NotAsked";

/// Nodes that are named where several tell nothing.
const NAMED: usize = 3;

/// What a check could not see, each reason once.
pub(super) fn blind(check: Check, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for unseen in parts(check, cluster).into_iter().flatten() {
        let what: &mut Vec<&str> = by_reason.entry(&unseen.why).or_default();
        if !what.contains(&unseen.what.as_str()) {
            what.push(&unseen.what);
        }
    }
    let parts = by_reason
        .into_iter()
        .map(|(why, what)| Finding::unseen(check, cluster, &Unseen { what: what.join(", "), why: why.to_owned() }));
    parts.chain(nodes(check, cluster)).collect()
}

/// Parts of the picture that a check reads.
fn parts(check: Check, cluster: &ClusterPicture) -> Vec<Option<&Unseen>> {
    let ClusterPicture { server, id, configs, members, gateways, leases, records, .. } = cluster;
    let ClusterPicture { exports, imports, nodes, namespaces, pods, services, slices, policies, roles, .. } = cluster;
    let (id, members, exports) = (id.unseen(), members.unseen(), exports.unseen());
    // Either tells which node is the active gateway.
    let gateway = leases.unseen().filter(|_| gateways.seen().is_none());
    let (imports, slices, nodes) = (imports.unseen(), slices.unseen(), nodes.unseen());
    let (pods, services) = (pods.unseen(), services.unseen());
    let (namespaces, policies, server) = (namespaces.unseen(), policies.unseen(), server.unseen());
    // Either tells which nodes there are to be asked.
    let asked = pods.filter(|_| nodes.is_some() && needs_nodes(check));
    let mut parts = match check {
        Check::Broker => vec![id, members],
        // Each clock is told by itself.
        Check::Clock => Vec::new(),
        Check::Cni | Check::Connections => vec![id, members, gateway],
        Check::Dns => vec![id, members, configs.unseen(), services, slices, imports],
        Check::Firewall if exports.is_none() && cluster.exports.all().is_empty() => vec![id, members, gateway],
        Check::Firewall => vec![id, members, gateway, exports, services, pods, policies, namespaces],
        Check::KubeProxy => vec![imports],
        Check::Mtu => vec![gateway],
        Check::Nodes => vec![nodes, pods, gateway],
        Check::Overlap => vec![id, members, nodes],
        Check::Rbac => {
            let others = [configs.unseen(), gateways.unseen(), leases.unseen(), records.unseen(), roles.unseen()];
            let these = [server, id, members, exports, imports, nodes, namespaces, pods, services, slices, policies];
            these.into_iter().chain(others).collect()
        }
        Check::Services => vec![exports, imports, slices],
        Check::Version => vec![id, members, server, pods],
    };
    parts.push(asked);
    parts
}

/// Nodes that a check depends on, and that told nothing or not everything.
fn nodes(check: Check, cluster: &ClusterPicture) -> Vec<Finding> {
    let names = cluster.node_names();
    let mut by_reason: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for name in &names {
        let why = match cluster.inspections.get(name) {
            None if needs_nodes(check) || check == Check::Nodes => {
                vec![(NOT_ASKED, "the node was not asked".to_owned())]
            }
            Some(Part::Unseen(unseen)) if needs_nodes(check) => vec![("Unseen", unseen.why.clone())],
            Some(Part::Seen(seen)) => gaps(check, cluster, name, seen),
            _ => Vec::new(),
        };
        why.into_iter().for_each(|why| by_reason.entry(why).or_default().push(name));
    }
    let told = |((reason, why), nodes): ((&str, String), Vec<&str>)| Finding {
        reason: reason.to_owned(),
        ..Finding::unseen(check, cluster, &Unseen { what: list(&nodes, names.len()), why })
    };
    by_reason.into_iter().map(told).collect()
}

/// Checks of what nodes answer. [`Check::Nodes`] tells of each node by itself that it did not.
fn needs_nodes(check: Check) -> bool {
    matches!(check, Check::Cni | Check::Dns | Check::Firewall | Check::KubeProxy | Check::Mtu)
}

/// What is missing in the answer of a node.
fn gaps(check: Check, cluster: &ClusterPicture, node: &str, seen: &NodePicture) -> Vec<(&'static str, String)> {
    let mut why: Vec<String> = Vec::new();
    why.extend(seen.unanswered.clone().filter(|_| needs_nodes(check) || check == Check::Nodes));
    let is_of_check = |text: &&String| match is_of_filter(text) {
        true => matches!(check, Check::Cni | Check::Firewall | Check::KubeProxy),
        false => check == Check::Nodes,
    };
    why.extend(seen.inspection.unseen.iter().filter(is_of_check).cloned());
    // The gateway's process knows what its tunnel takes.
    let is_gateway = check == Check::Mtu && cluster.active_gateway().as_deref() == Some(node);
    let process = seen.status.unseen().filter(|_| is_gateway || check == Check::Nodes);
    why.extend(process.map(|unseen| unseen.why.clone()));
    why.into_iter().map(|why| ("Unseen", why)).collect()
}

fn list(nodes: &[&str], all: usize) -> String {
    match nodes {
        [one] => format!("node {one}"),
        some if some.len() == all => format!("all {all} nodes"),
        some if some.len() > NAMED => format!("nodes {} and {} more", some[..NAMED].join(", "), some.len() - NAMED),
        some => format!("nodes {}", some.join(", ")),
    }
}
