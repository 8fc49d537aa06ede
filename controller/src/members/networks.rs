//! Prefixes of a cluster's pods and services: found, or set by hand, and what is wrong with them.

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt as _;

use super::condition::Finding;
use super::own::Discovery;
use super::prefixes;

/// Most prefixes that a Member may have, as its CRD says. What two Members have is compared each with each, and the
/// broker's API server spends no more on that: see `deploy/broker/policy-claims.yaml`.
pub(super) const MAX_POD_CIDRS: usize = 256;
const MAX_SERVICE_CIDRS: usize = 16;
/// Prefix of flannel's annotations on nodes. It takes its prefixes from `spec.podCIDRs`.
const FLANNEL: &str = "flannel.alpha.coreos.com/";
/// Annotations by which CNIs tell that they may give pods other prefixes than `spec.podCIDRs`, and their names.
const OWN_IPAM: [(&str, &str); 4] = [
    ("projectcalico.org/", "Calico"),
    ("network.cilium.io/", "Cilium"),
    ("io.cilium.", "Cilium"),
    ("k8s.ovn.org/", "OVN-Kubernetes"),
];
/// Condition of nodes that the same CNIs set, also where they annotate nothing, and its reasons then.
pub(crate) const CNI_CONDITION: &str = "NetworkUnavailable";
const OWN_IPAM_REASONS: [&str; 3] = ["CalicoIsUp", "CiliumIsUp", "WeaveIsUp"];

const PODS: Kind = Kind {
    variable: "LINKSPAN_POD_CIDRS",
    fix: "set LINKSPAN_POD_CIDRS to the prefixes of all pods, such as 10.42.0.0/16",
    most: MAX_POD_CIDRS,
    too_many: "TooManyPodCIDRs",
};
const SERVICES: Kind = Kind {
    variable: "LINKSPAN_SERVICE_CIDRS",
    fix: "set LINKSPAN_SERVICE_CIDRS to the prefixes of all services, such as 10.43.0.0/16",
    most: MAX_SERVICE_CIDRS,
    too_many: "TooManyServiceCIDRs",
};

/// What is told of pods and of services alike.
struct Kind {
    /// What sets them by hand.
    variable: &'static str,
    /// What to do where they are not known.
    fix: &'static str,
    /// How many there may be.
    most: usize,
    /// Reason where there are more.
    too_many: &'static str,
}

/// Reason and message of a condition.
#[derive(Debug)]
pub(super) struct Problem(&'static str, String);

/// Prefixes of pods or of services.
#[derive(Debug)]
pub(super) struct Found {
    pub nets: Vec<IpNet>,
    /// Where they come from.
    from: String,
    /// Why they are used and wrong all the same.
    wrong: Option<Problem>,
}

impl Kind {
    /// What is set by hand; `None` where nothing is.
    ///
    /// What is set and cannot be used is not replaced by what is found: blocks of what was set would change under running
    /// connections, and a claim that collides makes a cluster virtual for good. So the cluster stays what it was; a new one
    /// claims nothing yet.
    fn by_hand(&self, set: &Result<Vec<IpNet>, String>) -> Result<Option<Vec<IpNet>>, Problem> {
        let usable = set.as_ref().map_err(String::clone).and_then(|nets| {
            for net in nets {
                prefixes::routable(*net)?;
            }
            Ok(IpNet::aggregate(nets))
        });
        match usable {
            Err(error) => Err(Problem(
                "InvalidCIDRs",
                format!(
                    "{} cannot be used, so this cluster keeps the prefixes that it had; correct it in ConfigMap linkspan, \
                     and restart linkspan-controller: {error}",
                    self.variable
                ),
            )),
            Ok(nets) if nets.is_empty() => Ok(None),
            Ok(nets) => self.few(nets).map(Some),
        }
    }

    /// The prefixes, if a Member may have so many.
    fn few(&self, nets: Vec<IpNet>) -> Result<Vec<IpNet>, Problem> {
        if nets.len() <= self.most {
            return Ok(nets);
        }
        let message = format!(
            "{} prefixes are more than the {} that a Member may have; set {} to wider ones that hold them",
            nets.len(),
            self.most,
            self.variable
        );
        Err(Problem(self.too_many, message))
    }

    /// Prefixes that are set by hand. They are used even where there is something `outside`: a prefix, and whose it is.
    fn set(&self, nets: Vec<IpNet>, reason: &'static str, outside: Option<(String, IpNet)>) -> Found {
        let variable = self.variable;
        let wrong = outside.map(|(whose, net)| {
            let message = format!(
                "{whose} has {net}, which {variable} ({}) does not hold, so that no other cluster reaches what is there; add \
                 it or a wider one to {variable} in ConfigMap linkspan, or remove {variable} where prefixes are found by \
                 themselves, and restart linkspan-controller",
                list(&nets)
            );
            Problem(reason, message)
        });
        Found { nets, from: "as set by hand".to_owned(), wrong }
    }
}

/// Condition `Networks`.
pub(super) fn finding(pods: &Result<Found, Problem>, services: &Result<Found, Problem>) -> Finding {
    let told = |found: &Result<Found, Problem>| match found {
        Ok(found) => format!("{} {}", list(&found.nets), found.from),
        Err(_) => String::new(),
    };
    let problems: Vec<&Problem> = [pods, services].into_iter().filter_map(problem).collect();
    match problems.as_slice() {
        [] => Finding::good("Networks", "Found", format!("pods {}; services {}", told(pods), told(services))),
        [first, ..] => {
            let messages: Vec<&str> = problems.iter().map(|problem| problem.1.as_str()).collect();
            Finding::bad("Networks", first.0, messages.join("; "))
        }
    }
}

fn problem(found: &Result<Found, Problem>) -> Option<&Problem> {
    match found {
        Ok(found) => found.wrong.as_ref(),
        Err(problem) => Some(problem),
    }
}

/// Prefixes of all pods.
pub(super) fn pods(seen: &Discovery<'_>) -> Result<Found, Problem> {
    if let Some(nets) = PODS.by_hand(&seen.overrides.pod_cidrs)? {
        let outside = if has_own_ipam(seen.nodes) { None } else { pods_outside(seen.nodes, &nets) };
        return Ok(PODS.set(nets, "WrongPodCIDRs", outside));
    }
    let fix = PODS.fix;
    if let Some(cni) = own_ipam(seen.nodes) {
        let message = format!("{cni} may give pods other prefixes than the nodes' spec.podCIDRs; {fix}");
        return Err(Problem("UnknownPodCIDRs", message));
    }
    let mut nets = BTreeSet::new();
    for node in seen.nodes {
        for text in pod_cidrs_of(node) {
            let net = prefixes::routed(text)
                .map_err(|reason| Problem("InvalidPodCIDR", format!("node {}: {reason}; {fix}", node.name_any())))?;
            nets.insert(net);
        }
    }
    // One that has just come: its prefixes follow, and it shall not take those of all others along.
    let without = seen.nodes.iter().find(|node| pod_cidrs_of(node).is_empty());
    if let Some(node) = without.filter(|_| nets.is_empty()) {
        let message = format!("node {} has no spec.podCIDRs: nobody allocates them; {fix}", node.name_any());
        return Err(Problem("NoPodCIDRs", message));
    }
    let nets = PODS.few(IpNet::aggregate(&nets.into_iter().collect()))?;
    if nets.is_empty() {
        return Err(Problem("NoPodCIDRs", format!("no node has prefixes for pods yet; {fix}")));
    }
    let from = if has_annotation(seen.nodes, FLANNEL) { "of the nodes (flannel)" } else { "of the nodes" };
    let waiting = without.map(|node| format!(", but for node {}, which has none yet", node.name_any()));
    Ok(Found { nets, from: format!("{from}{}", waiting.unwrap_or_default()), wrong: None })
}

/// The prefixes of pods node by node, or as set by hand: each of them has a block of its own.
pub(super) fn parts(seen: &Discovery<'_>) -> Vec<IpNet> {
    match &seen.overrides.pod_cidrs {
        Ok(nets) if !nets.is_empty() => nets.clone(),
        _ => of_nodes(seen.nodes).collect(),
    }
}

/// The prefixes of pods that nodes have.
pub(super) fn of_nodes(nodes: &[Node]) -> impl Iterator<Item = IpNet> {
    nodes.iter().flat_map(pod_cidrs_of).filter_map(|text| prefixes::routed(text).ok())
}

/// The first prefix of a node that is in none of `nets`, and whose it is. What is wider than the nodes' is fine.
fn pods_outside(nodes: &[Node], nets: &[IpNet]) -> Option<(String, IpNet)> {
    let outside = |node: &Node| Some((format!("node {}", node.name_any()), first_outside(&pod_cidrs_of(node), nets)?));
    nodes.iter().filter_map(outside).min()
}

/// As [`pods_outside`], of ServiceCIDRs.
fn services_outside(objects: &[ServiceCIDR], nets: &[IpNet]) -> Option<(String, IpNet)> {
    let outside = |object: &ServiceCIDR| {
        Some((format!("ServiceCIDR {}", object.name_any()), first_outside(&cidrs_of(object), nets)?))
    };
    objects.iter().filter_map(outside).min()
}

fn first_outside(texts: &[&str], nets: &[IpNet]) -> Option<IpNet> {
    let mut known = texts.iter().filter_map(|text| prefixes::routed(text).ok());
    // Whoever sets one family may want that one alone.
    let is_meant = |net: &IpNet| nets.iter().any(|set| set.addr().is_ipv4() == net.addr().is_ipv4());
    known.find(|net| is_meant(net) && !nets.iter().any(|wider| wider.contains(net)))
}

fn pod_cidrs_of(node: &Node) -> Vec<&str> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match spec.pod_cidrs.as_deref() {
        Some(list) if !list.is_empty() => list.iter().map(String::as_str).collect(),
        _ => spec.pod_cidr.as_deref().into_iter().collect(),
    }
}

fn own_ipam(nodes: &[Node]) -> Option<&'static str> {
    if has_annotation(nodes, FLANNEL) {
        return None;
    }
    OWN_IPAM.iter().find(|(prefix, _)| has_annotation(nodes, prefix)).map(|(_, name)| *name)
}

/// Whether `spec.podCIDRs` may say nothing about pods, so that what is set by hand cannot be wrong by them. Conditions alone
/// are no reason to doubt them where nothing is set: with `ipam: kubernetes` Cilium takes those prefixes. A cluster that has
/// left flannel may still have its annotations.
fn has_own_ipam(nodes: &[Node]) -> bool {
    let tells = |node: &Node| {
        let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            condition.type_ == CNI_CONDITION && OWN_IPAM_REASONS.contains(&reason)
        })
    };
    OWN_IPAM.iter().any(|(prefix, _)| has_annotation(nodes, prefix)) || nodes.iter().any(tells)
}

fn has_annotation(nodes: &[Node], prefix: &str) -> bool {
    nodes.iter().any(|node| node.annotations().keys().any(|key| key.starts_with(prefix)))
}

/// Prefixes of all services.
pub(super) fn services(seen: &Discovery<'_>) -> Result<Found, Problem> {
    if let Some(nets) = SERVICES.by_hand(&seen.overrides.service_cidrs)? {
        let outside = services_outside(seen.service_cidrs, &nets);
        return Ok(SERVICES.set(nets, "WrongServiceCIDRs", outside));
    }
    let fix = SERVICES.fix;
    let mut nets = BTreeSet::new();
    for object in seen.service_cidrs {
        for text in cidrs_of(object) {
            let net = prefixes::routed(text).map_err(|reason| {
                Problem("InvalidServiceCIDR", format!("ServiceCIDR {}: {reason}; {fix}", object.name_any()))
            })?;
            nets.insert(net);
        }
    }
    let nets = SERVICES.few(IpNet::aggregate(&nets.into_iter().collect()))?;
    if nets.is_empty() {
        return Err(Problem("NoServiceCIDRs", format!("the API server has no ServiceCIDR objects; {fix}")));
    }
    Ok(Found { nets, from: "of the ServiceCIDRs".to_owned(), wrong: None })
}

fn cidrs_of(object: &ServiceCIDR) -> Vec<&str> {
    object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).map(String::as_str).collect()
}

/// The first prefixes, and how many more there are.
pub(super) fn list(nets: &[IpNet]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = nets.iter().take(SHOWN).map(IpNet::to_string).collect();
    let more = nets.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(" ") } else { format!("{} and {more} more", shown.join(" ")) }
}
