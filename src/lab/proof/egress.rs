//! What Linkspan must not change: sites are apart without it, and pods go out to the Internet as their node.

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::lab::pod::{Question, Transport};
use crate::lab::{Lab, Row, Site, each};

/// Before Linkspan runs no pod reaches another site, or the later proofs would prove nothing.
///
/// # Errors
/// A client cannot be run.
pub fn isolation(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    let mut rows = each(&lab.plan.sites, |site| {
        let from = site.pods().next().context("a site has pods")?;
        let others = lab.plan.sites.iter().filter(|other| other.name != site.name);
        let targets = others.filter_map(|other| other.pods().next()).flat_map(|place| place.addresses_seen_from(site));
        let questions: Vec<_> = targets.map(|to| Question { over: Transport::Tcp, to }).collect();
        let answers = lab.ask(&from.pod.netns, &questions)?;
        let reached = answers.iter().filter(|answer| answer.seen.is_ok());
        let failures = reached.map(|answer| format!("{} reaches {}", from.label(), answer.question.to)).collect();
        Ok(Row::counted("apart before", &site.name, "other sites", questions.len(), "pods unreachable", failures))
    })?;
    rows.extend(seen_as_nodes(lab, "masquerade before")?);
    Ok(rows)
}

/// Pods go out to the world with their node's address, as the CNI's masquerade has it, while Linkspan runs.
///
/// # Errors
/// A client cannot be run.
pub fn egress(lab: &mut Lab) -> Result<Vec<Row>> {
    seen_as_nodes(lab, "masquerade still")
}

fn seen_as_nodes(lab: &Lab, check: &str) -> Result<Vec<Row>> {
    let hosts: Vec<_> = lab.plan.world_hosts.iter().map(IpNet::addr).collect();
    each(&lab.plan.sites, |site: &Site| {
        let mut failures = Vec::new();
        let mut total = 0;
        for place in site.pods() {
            let questions: Vec<_> = hosts.iter().map(|to| Question { over: Transport::Tcp, to: *to }).collect();
            let answers = lab.ask(&place.pod.netns, &questions)?;
            for (answer, node) in answers.iter().zip(&place.node.addresses) {
                total += 1;
                match &answer.seen {
                    Ok(source) if *source == node.addr() => {}
                    Ok(source) => {
                        failures.push(format!("{} seen as {source} instead of {}", place.label(), node.addr()))
                    }
                    Err(error) => failures.push(format!("{}: {error}", place.label())),
                }
            }
        }
        Ok(Row::counted(check, &site.name, "the world", total, "pods seen as their node", failures))
    })
}
