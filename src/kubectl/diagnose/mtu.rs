//! Packets of full size.

use super::{Check, Fault, Finding};
use crate::kubectl::inspect::{Outcome, Probe, ProbeSeen};
use crate::kubectl::picture::{ClusterPicture, Picture};
use crate::status::PeerReport;

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    let peers = cluster.tunnel().map_or(&[][..], |tunnel| &tunnel.peers).iter();
    let peers: Vec<&PeerReport> = peers.filter(|peer| !peer.name.contains('/')).collect();
    for peer in &peers {
        let object = format!("cluster/{}", peer.name);
        findings.extend(narrow(cluster, peer).map(|fault| Finding::bad(Check::Mtu, cluster, &object, fault)));
    }
    for node in cluster.node_names() {
        let Some(seen) = cluster.inspection(&node) else { continue };
        if let Some(fault) = black_hole(&seen.probes) {
            findings.push(Finding::bad(Check::Mtu, cluster, format!("node/{node}"), fault));
        }
    }
    if let (true, Some(tunnel)) = (findings.is_empty(), cluster.tunnel()) {
        // Of one that is not up, nothing is known here.
        let (up, all) = (peers.iter().filter(|peer| peer.state == "up").count(), peers.len());
        let who = if up == all { "every peer" } else { "every peer that is up" };
        let evidence = format!("packets of {} bytes reach {who}", tunnel.mtu);
        findings.extend((up > 0 || all == 0).then(|| Finding::good(Check::Mtu, cluster, "tunnel", evidence)));
    }
    findings
}

/// A path that takes less than the links promise: the tunnel has found out by probing, because nobody has told.
pub(crate) fn narrow(cluster: &ClusterPicture, peer: &PeerReport) -> Option<Fault> {
    let link = cluster.tunnel()?.mtu;
    if peer.state != "up" || peer.mtu == 0 || peer.mtu >= link {
        return None;
    }
    let evidence = format!("packets of up to {} bytes reach {}, and the link takes {link}", peer.mtu, peer.name);
    let cause = format!(
        "something on the way to {} drops larger datagrams; the tunnel has found the size that passes, and pods are told",
        peer.name
    );
    let fix = "let ICMP \"fragmentation needed\" through, or raise the MTU on the way; or set LINKSPAN_MTU to the size that passes; the \
               tunnel tries larger ones every ten minutes";
    Some(Fault::warning("MtuBlackHole", evidence, cause, fix))
}

/// A small echo comes back from where a large one does not, and nobody says why.
pub(crate) fn black_hole<'a>(probes: impl IntoIterator<Item = &'a ProbeSeen>) -> Option<Fault> {
    let probes: Vec<&ProbeSeen> = probes.into_iter().collect();
    let outcome = |of: Probe| probes.iter().find(|probe| probe.of == of).map(|probe| probe.outcome);
    let lost = probes.iter().find_map(|probe| match probe.of {
        Probe::Ping { to, size } if size > 0 && probe.outcome == Outcome::Silent => {
            (outcome(Probe::Ping { to, size: 0 }) == Some(Outcome::Answered)).then_some((to, size))
        }
        _ => None,
    });
    let (to, size) = lost?;
    let evidence =
        format!("{to} answers small echo requests and none of {size} bytes, and nobody says that they are too big");
    Some(Fault::failed(
        "MtuBlackHole",
        evidence,
        "something on the way drops packets of full size without a word: connections hang once they send much",
        "let ICMP \"fragmentation needed\" through, or raise the MTU between the nodes, or set LINKSPAN_MTU lower",
    ))
}
