//! Which findings are about what.

use std::collections::BTreeMap;

use crate::kubectl::diagnose::{Check, Finding, State};

/// Checks whose findings about another cluster are about the tunnel to it. All others are about that cluster.
const OF_LINKS: [Check; 3] = [Check::Connections, Check::Firewall, Check::Mtu];
/// Findings about a gateway without which no tunnel of its cluster works.
const OF_GATEWAYS: [&str; 2] = ["GatewayPodDead", "NoActiveGateway"];

/// Which findings are about what.
pub(super) struct Index<'a> {
    pub(super) findings: &'a [Finding],
    clusters: BTreeMap<&'a str, Vec<usize>>,
    links: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    /// By cluster and object.
    objects: BTreeMap<(&'a str, &'a str), Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(findings: &'a [Finding]) -> Self {
        let mut index = Self { findings, clusters: BTreeMap::new(), links: BTreeMap::new(), objects: BTreeMap::new() };
        for (at, finding) in findings.iter().enumerate() {
            let near = finding.cluster.as_str();
            match finding.object.strip_prefix("cluster/") {
                Some(far) if OF_LINKS.contains(&finding.check) => {
                    index.links.entry(ordered(near, far)).or_default().push(at);
                }
                Some(far) => index.clusters.entry(far).or_default().push(at),
                None => {
                    index.clusters.entry(near).or_default().push(at);
                    index.objects.entry((near, &finding.object)).or_default().push(at);
                }
            }
        }
        index
    }

    pub(super) fn of_cluster(&self, name: &str) -> Vec<usize> {
        self.clusters.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn of_object(&self, cluster: &str, object: &str) -> Vec<usize> {
        self.objects.get(&(cluster, object)).cloned().unwrap_or_default()
    }

    /// What is about the tunnel, and what stops all tunnels of either cluster.
    pub(super) fn of_link(&self, a: &str, b: &str) -> Vec<usize> {
        let mut found = self.links.get(&ordered(a, b)).cloned().unwrap_or_default();
        for cluster in [a, b] {
            let gateway = |at: &&usize| OF_GATEWAYS.contains(&self.findings[**at].reason.as_str());
            found.extend(self.clusters.get(cluster).into_iter().flatten().filter(gateway));
        }
        found
    }

    pub(super) fn worst(&self, found: &[usize]) -> State {
        found.iter().map(|at| self.findings[*at].state).min().unwrap_or(State::Ok)
    }
}

pub(super) fn ordered<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    if a <= b { (a, b) } else { (b, a) }
}
