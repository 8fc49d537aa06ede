//! Findings for people.

use super::{Finding, State};
use crate::kubectl::output::{Field, Format, Listing, Screen, Tone};

/// Renders findings: those that are not good with evidence, cause and fix, and a line of numbers at the end. Wide tables
/// list what is good, too.
pub fn table(findings: &[Finding], format: Format, screen: Screen) -> String {
    let mut listing = Listing::new(&["STATE", "CHECK", "CLUSTER", "OBJECT", "EVIDENCE"], &[]);
    let shown = findings.iter().filter(|finding| finding.state != State::Ok || format == Format::Wide);
    for finding in shown {
        listing.rows.push(vec![
            state(finding.state),
            finding.check.into(),
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

fn state(state: State) -> Field {
    match state {
        State::Ok => Field::new("✔ ok", Tone::Good),
        State::Warning => Field::new("! warning", Tone::Warning),
        State::Failed => Field::new("✘ failed", Tone::Bad),
        State::Unknown => Field::new("? unknown", Tone::Plain),
    }
}
