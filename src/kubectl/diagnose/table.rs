//! Findings for people.

use std::collections::BTreeMap;

use super::{Check, Finding, State};
use crate::kubectl::output::{Field, Format, Listing, Screen, Tone};

/// Renders findings: those that are not good with evidence, cause and fix, and a line of numbers at the end. Wide tables
/// list what is good, too.
pub fn table(findings: &[Finding], format: Format, screen: Screen) -> String {
    let mut listing = Listing::new(&["STATE", "CHECK", "CLUSTER", "OBJECT", "EVIDENCE"], &[]);
    for (finding, checks) in rows(findings, format) {
        listing.rows.push(vec![
            state(finding.state),
            checks.into(),
            finding.cluster.clone().into(),
            finding.object.clone().into(),
            finding.evidence.clone().into(),
        ]);
    }
    let mut out = listing.draw(format, screen);
    for finding in findings.iter().filter(|finding| matches!(finding.state, State::Failed | State::Warning)) {
        let mark = if finding.state == State::Failed { "✘" } else { "!" };
        out += &format!("\n{mark} {} {} ({}): {}\n", finding.cluster, finding.object, finding.reason, finding.cause);
        if !finding.fix.is_empty() {
            out += &format!("  fix: {}\n", finding.fix);
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (good, warnings, failed, unknown) =
        (count(State::Ok), count(State::Warning), count(State::Failed), count(State::Unknown));
    if !out.is_empty() {
        out.push('\n');
    }
    out += &format!("{good} ok, {warnings} warnings, {failed} failed, {unknown} could not be seen\n");
    out
}

/// What is not good, for scripts: CLUSTER/CHECK/OBJECT, each once.
pub fn names(findings: &[Finding]) -> String {
    let bad = findings.iter().filter(|finding| finding.state != State::Ok);
    let mut lines: Vec<String> = Vec::new();
    for Finding { cluster, check, object, .. } in bad {
        let line = format!("{cluster}/{check}/{object}\n");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

/// What is listed, with the names of the checks. What several checks could not see for one reason is one row.
fn rows(findings: &[Finding], format: Format) -> Vec<(&Finding, String)> {
    let mut rows: Vec<(&Finding, Vec<Check>)> = Vec::new();
    let mut unseen: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.state != State::Ok || format == Format::Wide) {
        let key = (finding.cluster.as_str(), finding.object.as_str(), finding.evidence.as_str());
        match unseen.get(&key) {
            Some(at) if finding.state == State::Unknown => rows[*at].1.push(finding.check),
            _ => {
                if finding.state == State::Unknown {
                    unseen.insert(key, rows.len());
                }
                rows.push((finding, vec![finding.check]));
            }
        }
    }
    let named = |checks: Vec<Check>| match checks.len() == Check::ALL.len() {
        true => "all".to_owned(),
        false => checks.iter().map(|check| check.name()).collect::<Vec<_>>().join(","),
    };
    rows.into_iter().map(|(finding, checks)| (finding, named(checks))).collect()
}

fn state(state: State) -> Field {
    match state {
        State::Ok => Field::new("✔ ok", Tone::Good),
        State::Warning => Field::new("! warning", Tone::Warning),
        State::Failed => Field::new("✘ failed", Tone::Bad),
        State::Unknown => Field::new("? unknown", Tone::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::diagnose::diagnose;
    use crate::kubectl::picture::samples::{alter_peer, healthy};
    use crate::kubectl::picture::{Part, Unseen};

    #[test]
    fn names_are_those_of_what_is_not_good_with_their_clusters_and_each_once() {
        let mut picture = healthy();
        assert_eq!(names(&diagnose(&picture)), "");
        for (near, far) in [(0, "berlin"), (1, "paris")] {
            alter_peer(&mut picture.clusters[near], far, |peer| {
                peer.state = "down".to_owned();
                peer.heard_seconds = None;
            });
        }
        assert_eq!(names(&diagnose(&picture)), "berlin/firewall/cluster/paris\nparis/firewall/cluster/berlin\n");
        let mut findings = diagnose(&picture);
        let twice = Finding { reason: "Another".to_owned(), ..findings[0].clone() };
        findings.retain(|finding| finding.state == State::Ok);
        findings.extend([true, false].map(|_| Finding { state: State::Warning, ..twice.clone() }));
        assert_eq!(names(&findings).lines().count(), 1);
        let mut blind = healthy();
        let unseen = Unseen { what: "members".to_owned(), why: "missing permission".to_owned() };
        blind.clusters[0].members = Part::Unseen(unseen);
        assert!(names(&diagnose(&blind)).contains("paris/broker/members\n"), "what could not be seen is not good");
    }
}
