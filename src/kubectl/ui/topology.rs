//! What the page shows, from what was seen and found: pure.

use std::collections::{BTreeMap, BTreeSet};

use controller::api::Member;
use kube::ResourceExt as _;

use super::data::{Cluster, End, Gateway, Link, Sight, Topology};
use super::exports::{Records, exports};
use super::index::{Index, ordered};
use super::rates::Rates;
use crate::kubectl::diagnose::{Check, Fault, Finding, NOT_ASKED, State};
use crate::kubectl::picture::{ClusterPicture, Picture};
use crate::kubectl::speech::Speech;

/// What the page shows.
pub fn topology(picture: &Picture, findings: &[Finding], rates: &Rates) -> Topology {
    let findings = shown(picture, findings);
    let (index, records) = (Index::of(&findings), Records::of(picture));
    Topology {
        clusters: clusters(picture, &records, &index),
        links: links(picture, rates, &index),
        exports: exports(picture, &records, &index),
        findings,
    }
}

/// The same in words of who reads it: conditions of objects are quoted, and say `linkspan`.
pub fn spoken(mut topology: Topology, speech: &Speech) -> Topology {
    let said = |text: &mut String| *text = speech.spoken(text);
    topology.findings.iter_mut().for_each(|finding| finding.speak(speech));
    topology.clusters.iter_mut().map(|cluster| &mut cluster.note).for_each(said);
    topology.exports.iter_mut().map(|export| &mut export.note).for_each(said);
    topology
}

/// What is not as it should be. That a dark cluster is dark is told once, and not for each of its parts.
fn shown(picture: &Picture, findings: &[Finding]) -> Vec<Finding> {
    let dark: Vec<&ClusterPicture> = picture.clusters.iter().filter(|cluster| cluster.is_dark()).collect();
    let is_of_dark = |finding: &Finding| dark.iter().any(|cluster| cluster.name() == finding.cluster);
    // Nodes that were not asked are those of the rounds to come, or the person wants it so.
    let is_told = |finding: &&Finding| finding.state != State::Ok && finding.reason != NOT_ASKED;
    let mut shown: Vec<Finding> =
        findings.iter().filter(is_told).filter(|finding| !is_of_dark(finding)).cloned().collect();
    // What several checks could not see for one reason is shown once.
    let mut unseen = BTreeSet::new();
    shown.retain(|Finding { state, cluster, object, evidence, .. }| {
        *state != State::Unknown || unseen.insert((cluster.clone(), object.clone(), evidence.clone()))
    });
    shown.extend(dark.iter().map(|cluster| unreachable(cluster)));
    shown.sort_by(|a, b| (a.state, &a.cluster, &a.object).cmp(&(b.state, &b.cluster, &b.object)));
    shown
}

fn unreachable(cluster: &ClusterPicture) -> Finding {
    let context = &cluster.context;
    let fault = Fault {
        state: State::Unknown,
        reason: "Unreachable",
        evidence: cluster.server.unseen().map(|unseen| unseen.why.clone()).unwrap_or_default(),
        cause: format!("the API server of context {context} tells nothing, which need not stop its traffic"),
        fix: format!("see whether `kubectl --context {context} version` works from here"),
    };
    Finding::bad(Check::Rbac, cluster, "cluster", fault)
}

// === Clusters ===

fn clusters(picture: &Picture, records: &Records, index: &Index) -> Vec<Cluster> {
    let members = members(picture);
    let asked = |cluster| asked(cluster, &members, records, index);
    let mut clusters: Vec<Cluster> = picture.clusters.iter().map(asked).collect();
    let known: BTreeSet<String> = clusters.iter().map(|cluster| cluster.name.clone()).collect();
    let heard_of = members.iter().filter(|(name, _)| !known.contains(**name));
    clusters.extend(heard_of.map(|(name, member)| Cluster {
        sight: Sight::HeardOf,
        exports: records.exported(name).count(),
        ..of_member(name, Some(member), index)
    }));
    for cluster in &mut clusters {
        if cluster.sight == Sight::HeardOf && cluster.state == State::Ok {
            cluster.state = State::Unknown;
            cluster.note = "no context of it was named".to_owned();
        }
    }
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    clusters
}

/// All Members that somebody knows, each once, as the first says who knows it.
pub(super) fn members(picture: &Picture) -> BTreeMap<&str, &Member> {
    let all = picture.clusters.iter().flat_map(|cluster| cluster.members.all());
    let mut members = BTreeMap::new();
    for member in all {
        members.entry(member.spec.cluster_id.as_str()).or_insert(member);
    }
    members
}

fn asked(cluster: &ClusterPicture, members: &BTreeMap<&str, &Member>, records: &Records, index: &Index) -> Cluster {
    let name = cluster.name();
    let dark = cluster.is_dark();
    let member = cluster.own_member().or_else(|| members.get(name).copied());
    let mut shown = of_member(name, member, index);
    if let Some(gateways) = cluster.gateways.seen().filter(|gateways| !gateways.is_empty()) {
        let active = cluster.active_gateway();
        shown.gateways = sorted(gateways.iter().map(|gateway| Gateway {
            node: gateway.name_any(),
            active: Some(gateway.name_any()) == active,
            state: gateway_state(name, &gateway.name_any(), index),
            endpoints: gateway.spec.endpoints.clone(),
            lanes: gateway.spec.lanes,
        }));
    }
    Cluster {
        context: Some(cluster.context.clone()),
        sight: if dark { Sight::Unreachable } else { Sight::Asked },
        kubernetes: cluster.server.seen().map(|server| server.version.clone()).unwrap_or_default(),
        nodes: cluster.nodes.seen().map(Vec::len),
        exports: cluster.exports.seen().map_or_else(|| records.exported(name).count(), Vec::len),
        imports: cluster.imports.seen().map(Vec::len),
        ..shown
    }
}

/// What its Member tells of a cluster.
fn of_member(name: &str, member: Option<&Member>, index: &Index) -> Cluster {
    let spec = member.map(|member| &member.spec);
    let gateways = spec.into_iter().flat_map(|spec| &spec.gateways).map(|gateway| Gateway {
        node: gateway.node.clone(),
        active: gateway.active,
        state: gateway_state(name, &gateway.node, index),
        endpoints: gateway.endpoints.clone(),
        lanes: gateway.lanes,
    });
    let findings = index.of_cluster(name);
    Cluster {
        name: name.to_owned(),
        context: None,
        sight: Sight::Asked,
        state: index.worst(&findings),
        note: findings.first().map(|at| index.findings[*at].cause.clone()).unwrap_or_default(),
        kubernetes: String::new(),
        version: spec.map(|spec| spec.version.clone()).unwrap_or_default(),
        nodes: None,
        exports: 0,
        imports: None,
        pod_cidrs: spec.map(|spec| spec.pod_cidrs.clone()).unwrap_or_default(),
        gateways: sorted(gateways),
        findings,
    }
}

fn gateway_state(cluster: &str, node: &str, index: &Index) -> State {
    index.worst(&index.of_object(cluster, &format!("node/{node}")))
}

fn sorted(gateways: impl Iterator<Item = Gateway>) -> Vec<Gateway> {
    let mut gateways: Vec<Gateway> = gateways.collect();
    gateways.sort_by(|a, b| (!a.active, &a.node).cmp(&(!b.active, &b.node)));
    gateways
}

// === Links ===

fn links(picture: &Picture, rates: &Rates, index: &Index) -> Vec<Link> {
    let mut found: BTreeMap<(String, String), Vec<End>> = BTreeMap::new();
    let pair = |a: &str, b: &str| {
        let (a, b) = ordered(a, b);
        (a.to_owned(), b.to_owned())
    };
    for cluster in picture.clusters.iter().filter(|cluster| !cluster.is_dark()) {
        for far in cluster.others() {
            found.entry(pair(cluster.name(), &far)).or_default();
        }
        for end in rates.ends(cluster) {
            found.entry(pair(&end.cluster, &end.far)).or_default().push(end);
        }
    }
    found.into_iter().map(|((a, b), ends)| link(a, b, ends, index)).collect()
}

fn link(a: String, b: String, ends: Vec<End>, index: &Index) -> Link {
    let findings = index.of_link(&a, &b);
    let has = |word: &str| ends.iter().any(|end| end.state == word);
    let state = match index.worst(&findings) {
        State::Ok if has("down") => State::Failed,
        State::Ok if has("connecting") => State::Warning,
        State::Ok if ends.is_empty() => State::Unknown,
        found => found,
    };
    let worst = ["down", "connecting", "idle", "up"].into_iter().find(|word| has(word));
    let word = match state {
        State::Failed => "down",
        _ => worst.unwrap_or("unknown"),
    };
    Link { a, b, state, word: word.to_owned(), ends, findings }
}

#[cfg(test)]
mod tests;
