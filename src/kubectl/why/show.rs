//! A story for people.

use super::{Hop, Story};
use crate::kubectl::diagnose::State;
use crate::kubectl::output::{Format, Screen};

/// Renders a story: a line for each hop, and at the end what is broken, why, and what to do. Wide, each hop that is not as
/// it should be tells its reason and its fix.
pub fn show(story: &Story, format: Format, screen: Screen) -> String {
    let mut out = format!("{} -> {}\n", story.from, story.to);
    let width = story.hops.iter().map(|hop| hop.cluster.len()).max().unwrap_or_default();
    for hop in &story.hops {
        let mark = paint(hop.state, screen);
        out += &format!("{mark} {:width$}  {}: {}\n", hop.cluster, hop.what, hop.evidence);
        if format == Format::Wide && !hop.cause.is_empty() {
            out += &format!("  {:width$}    {}: {}\n", "", hop.reason, hop.cause);
            out += &fix(hop);
        }
    }
    let warnings = story.hops.iter().filter(|hop| hop.state == State::Warning);
    match story.broken() {
        Some(hop) => out += &format!("\nBroken at {} of {}: {}\n{}", hop.what, hop.cluster, hop.cause, fix(hop)),
        None if story.hops.iter().any(|hop| hop.state == State::Unknown) => {
            out += "\nNothing that was seen is broken; what is marked with ? could not be seen.\n";
        }
        None => out += "\nNothing is broken.\n",
    }
    for hop in warnings {
        out += &format!("\nNote on {} of {}: {}\n{}", hop.what, hop.cluster, hop.cause, fix(hop));
    }
    out
}

fn fix(hop: &Hop) -> String {
    if hop.fix.is_empty() { String::new() } else { format!("  fix: {}\n", hop.fix) }
}

fn paint(state: State, screen: Screen) -> String {
    // ECMA-48 SGR: green, yellow, red.
    let (mark, colour) = match state {
        State::Ok => ("✔", "32"),
        State::Warning => ("!", "33"),
        State::Failed => ("✘", "31"),
        State::Unknown => ("?", "39"),
    };
    if screen.colour { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() }
}
