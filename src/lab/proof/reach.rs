//! Every pod to every other pod over TCP, UDP and ICMP, and whose address the other end sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use crate::lab::pod::{Question, Transport};
use crate::lab::{Lab, Place, Row, Run, Site, each};

/// How many pings of one pod run at the same time.
const PINGS: usize = 16;

/// One direction between two pods in one address family.
#[derive(Clone, Copy)]
struct Pair<'a> {
    from: Place<'a>,
    to: Place<'a>,
    /// Where `from` reaches `to`.
    address: IpAddr,
    /// What `to` must see.
    source: IpAddr,
}

impl Pair<'_> {
    fn failure(&self, found: &str) -> String {
        format!("{} to {} at {}: {found}", self.from.label(), self.to.label(), self.address)
    }

    fn judge(&self, seen: &Result<IpAddr, String>) -> Option<String> {
        match seen {
            Ok(source) if *source == self.source => None,
            Ok(source) => Some(self.failure(&format!("seen as {source} instead of {}", self.source))),
            Err(error) => Some(self.failure(error)),
        }
    }
}

/// Proves it for all pairs, one row for each two sites and protocol.
///
/// # Errors
/// A client cannot be run.
pub fn reach(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    forget_pings(lab)?;
    let sources: Vec<_> = lab.plan.pods().collect();
    let found = each(&sources, |from| Ok((asked(lab, *from)?, pinged(lab, *from)?)))?;
    let witnesses = witnesses(lab)?;
    let mut rows = Vec::new();
    for from in &lab.plan.sites {
        for to in &lab.plan.sites {
            rows.extend(rows_of(from, to, &found, &witnesses));
        }
    }
    Ok(rows)
}

type Asked<'a> = Vec<(Pair<'a>, Transport, Result<IpAddr, String>)>;
type Pinged<'a> = Vec<(Pair<'a>, Result<(), String>)>;
type Witnesses = BTreeMap<String, BTreeSet<IpAddr>>;

fn rows_of(from: &Site, to: &Site, found: &[(Asked<'_>, Pinged<'_>)], witnesses: &Witnesses) -> Vec<Row> {
    let between = |pair: &Pair<'_>| pair.from.site.name == from.name && pair.to.site.name == to.name;
    let row = |check: &str, judged: Vec<Option<String>>| {
        let total = judged.len();
        let failures = judged.into_iter().flatten().collect();
        Row::counted(check, &from.name, &to.name, total, "pod pairs, source kept", failures)
    };
    let over = |transport| {
        let asked = found.iter().flat_map(|(asked, _)| asked);
        let mine = asked.filter(|(pair, over, _)| *over == transport && between(pair));
        mine.map(|(pair, _, seen)| pair.judge(seen)).collect()
    };
    let pings = found.iter().flat_map(|(_, pinged)| pinged).filter(|(pair, _)| between(pair));
    let icmp = pings.map(|(pair, answer)| match answer {
        Err(error) => Some(pair.failure(error)),
        Ok(()) if witnesses.get(&pair.to.pod.netns).is_some_and(|seen| seen.contains(&pair.source)) => None,
        Ok(()) => Some(pair.failure(&format!("answered, but {} is not the source that arrived", pair.source))),
    });
    vec![row("tcp", over(Transport::Tcp)), row("udp", over(Transport::Udp)), row("ping", icmp.collect())]
}

/// All pairs from one pod. A pod is not asked to reach itself.
fn pairs<'a>(lab: &'a Lab, from: Place<'a>) -> Vec<Pair<'a>> {
    let others = lab.plan.pods().filter(|to| to.pod.netns != from.pod.netns);
    let pairs = others.flat_map(|to| {
        let sources = from.addresses_seen_from(to.site);
        let addresses = to.addresses_seen_from(from.site);
        addresses.into_iter().zip(sources).map(move |(address, source)| Pair { from, to, address, source })
    });
    pairs.collect()
}

fn asked<'a>(lab: &'a Lab, from: Place<'a>) -> Result<Asked<'a>> {
    let both = [Transport::Tcp, Transport::Udp];
    let pairs: Vec<_> = pairs(lab, from).into_iter().flat_map(|pair| both.map(|over| (pair, over))).collect();
    let questions: Vec<_> = pairs.iter().map(|(pair, over)| Question { over: *over, to: pair.address }).collect();
    let answers = lab.ask(&from.pod.netns, &questions)?;
    Ok(pairs.into_iter().zip(answers).map(|((pair, over), answer)| (pair, over, answer.seen)).collect())
}

fn pinged<'a>(lab: &'a Lab, from: Place<'a>) -> Result<Pinged<'a>> {
    let pairs = pairs(lab, from);
    let mut results = Vec::new();
    for group in pairs.chunks(PINGS) {
        let ping = |pair: &Pair<'a>| {
            let to = pair.address.to_string();
            let output = Run::in_pod(&from.pod.netns, "ping", ["-n", "-q", "-c", "1", "-W", "3", &to]).output()?;
            Ok((*pair, if output.status.success() { Ok(()) } else { Err("no answer to a ping".to_owned()) }))
        };
        results.extend(each(group, ping)?);
    }
    Ok(results)
}

fn forget_pings(lab: &Lab) -> Result<()> {
    each(lab.plan.pods(), |place| {
        let script = "flush set inet witness pings4\nflush set inet witness pings6\n";
        Run::in_netns(&place.pod.netns, "nft", ["-f", "-"]).input(script).done()
    })?;
    Ok(())
}

/// The sources from which each pod was pinged, by the pod's namespace.
fn witnesses(lab: &Lab) -> Result<Witnesses> {
    let seen = each(lab.plan.pods(), |place| {
        let listed = Run::in_netns(&place.pod.netns, "nft", ["-j", "list", "ruleset"]).stdout()?;
        let seen = sources(&listed).with_context(|| format!("failed to read the witness of {}", place.label()))?;
        Ok((place.pod.netns.clone(), seen))
    })?;
    Ok(seen.into_iter().collect())
}

/// The elements of all sets in what `nft -j` lists: plain strings, or objects `{"elem": {"val": "…"}}`.
fn sources(listed: &str) -> Result<BTreeSet<IpAddr>> {
    let listed: serde_json::Value = serde_json::from_str(listed)?;
    let objects = listed["nftables"].as_array().context("no list `nftables`")?;
    let elements = objects.iter().filter_map(|object| object["set"]["elem"].as_array()).flatten();
    let texts = elements.filter_map(|element| element.as_str().or(element["elem"]["val"].as_str()));
    texts.map(|text| text.parse().with_context(|| format!("`{text}` is no address"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_elements_are_read_in_both_forms() {
        let listed = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "pings4", "elem": ["10.42.0.2"]}},
            {"set": {"name": "pings6", "elem": [{"elem": {"val": "fd42::2", "timeout": 60}}]}}, {"set": {"name": "x"}}]}"#;
        let expected: BTreeSet<IpAddr> = ["10.42.0.2", "fd42::2"].map(|text| text.parse().expect("an address")).into();
        assert_eq!(sources(listed).expect("valid"), expected);
        assert!(sources("{}").is_err());
    }
}
