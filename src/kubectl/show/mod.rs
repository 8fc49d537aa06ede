//! `show`: how the clusterset stands, as each cluster sees it.
//!
//! `seen` asks the clusters, `entries` turns the answers into rows without asking anybody, and this prints.

mod entries;
mod seen;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

pub use entries::{Entry, Sheet};
pub use seen::{Seen, Workload, see};

use crate::kubectl::contexts::Target;
use crate::kubectl::output::{self, Field, Format, Listing, Screen, Written};
use crate::kubectl::speech::Speech;

/// How often `--watch` asks.
const WATCH_PERIOD: Duration = Duration::from_secs(2);
/// Clears the screen and the scroll-back, and goes home (ECMA-48 ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Topic {
    /// The clusters of the clusterset, and whether each is used.
    Members,
    /// Nodes that end tunnels.
    Gateways,
    /// Tunnels of the active gateways: state, round-trip time, loss, MTU, bytes.
    Connections,
    /// Services that are given to the clusterset.
    Exports,
    /// Services that the clusterset has.
    Imports,
    /// Prefixes of each cluster.
    Networks,
    /// Versions of everything.
    Versions,
    /// All of these.
    All,
}

impl Topic {
    const EACH: [Self; 7] = [
        Self::Members,
        Self::Gateways,
        Self::Connections,
        Self::Exports,
        Self::Imports,
        Self::Networks,
        Self::Versions,
    ];

    /// The topics that it stands for.
    pub fn each(self) -> Vec<Self> {
        if self == Self::All { Self::EACH.to_vec() } else { vec![self] }
    }

    /// Its name in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Gateways => "gateways",
            Self::Connections => "connections",
            Self::Exports => "exports",
            Self::Imports => "imports",
            Self::Networks => "networks",
            Self::Versions => "versions",
            Self::All => "all",
        }
    }
}

/// What is shown, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// What.
    pub topic: Topic,
    /// The namespace of exports and imports; all where there is none.
    pub namespace: Option<String>,
    /// How.
    pub format: Format,
    /// How its reader calls the program.
    pub speech: Speech,
}

/// Shows it once.
///
/// # Errors
/// A cluster could not be asked for something: the rest is shown nevertheless.
pub async fn show(targets: &[Target], order: &Order) -> anyhow::Result<()> {
    let (text, missing) = {
        let _progress = output::Progress::start("asking the clusters");
        render(targets, order, Some(Timestamp::now())).await?
    };
    output::print(&text)?;
    if !missing.is_empty() {
        bail!("{}", missing.join("\nlinkspan: "))
    }
    // As kubectl tells it.
    if text.is_empty() && order.format.is_table() {
        match order.namespace.as_ref().filter(|_| matches!(order.topic, Topic::Exports | Topic::Imports)) {
            Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
            None => eprintln!("No resources found"),
        }
    }
    Ok(())
}

/// Shows it again and again, until it is interrupted or nobody reads any more: on a terminal in place, elsewhere when
/// something has changed.
///
/// # Errors
/// Standard output cannot be written.
pub async fn watch(targets: &[Target], order: &Order) -> anyhow::Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut before = (String::new(), Vec::new());
    loop {
        // Elsewhere than on a terminal, that time goes by is no change.
        let now = is_terminal.then(Timestamp::now);
        let (mut text, missing) = render(targets, order, now).await?;
        let is_screen = is_terminal && order.format.is_table();
        if is_screen {
            for line in &missing {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{line}");
            }
        }
        let written = match is_terminal {
            true => output::write(&format!("{CLEAR}{text}"))?,
            false if text != before.0 => output::write(&text)?,
            false => Written::Whole,
        };
        if written == Written::NobodyReads {
            return Ok(());
        }
        // A terminal was cleared, and with it what was told before.
        if !is_screen && (is_terminal || missing != before.1) {
            missing.iter().for_each(|line| eprintln!("linkspan: {line}"));
        }
        before = (text, missing);
        tokio::select! {
            () = tokio::time::sleep(WATCH_PERIOD) => {}
            () = output::nobody_reads() => return Ok(()),
        }
    }
}

/// What is printed, and what could not be seen.
async fn render(targets: &[Target], order: &Order, now: Option<Timestamp>) -> anyhow::Result<(String, Vec<String>)> {
    let topics = order.topic.each();
    let asked = targets.iter().map(|target| seen::see(target, &topics, order.namespace.as_deref()));
    let told = |seen| Seen { now, speech: order.speech.clone(), ..seen };
    let seen: Vec<Seen> = join_all(asked).await.into_iter().map(told).collect();
    let missing = seen.iter().flat_map(|seen| seen.missing.iter().map(|why| format!("{}: {why}", seen.context)));
    Ok((draw(&seen, &topics, order.format, Screen::of_stdout())?, missing.collect()))
}

/// All that was seen, as text. Pure.
///
/// # Errors
/// It cannot be written as JSON or YAML.
pub fn draw(seen: &[Seen], topics: &[Topic], format: Format, screen: Screen) -> anyhow::Result<String> {
    let sheets = topics.iter().map(|topic| (*topic, entries::sheet(*topic, seen)));
    match format {
        Format::Table | Format::Wide => Ok(tables(sheets, seen.len() > 1, format, screen)),
        Format::Name => Ok(names(sheets, seen.len() > 1)),
        Format::Json => output::json(&values(sheets)),
        Format::Yaml => output::yaml(&values(sheets)),
    }
}

fn tables(sheets: impl Iterator<Item = (Topic, Sheet)>, many: bool, format: Format, screen: Screen) -> String {
    let mut text = String::new();
    let sheets: Vec<_> = sheets.collect();
    let titled = sheets.len() > 1;
    for (topic, sheet) in sheets {
        let drawn = listing(sheet, many).draw(format, screen);
        if titled {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{}", topic.name().to_uppercase());
        }
        match drawn.as_str() {
            // With nothing below the title, that it was looked for is told.
            "" if titled => text.push_str("none\n"),
            drawn => text.push_str(drawn),
        }
    }
    text
}

/// With a column for the context where there are many.
fn listing(sheet: Sheet, many: bool) -> Listing {
    let context = many.then_some("CONTEXT");
    let mut listing =
        Listing { columns: context.into_iter().chain(sheet.columns).collect(), wide: sheet.wide, rows: Vec::new() };
    for entry in sheet.entries {
        let context = many.then(|| Field::from(&entry.context));
        listing.rows.push(context.into_iter().chain(entry.fields).collect());
    }
    listing
}

/// One name a line, with the context before it where there are many. The same Member, seen by many clusters, is one.
fn names(sheets: impl Iterator<Item = (Topic, Sheet)>, many: bool) -> String {
    let (mut text, mut members) = (String::new(), BTreeSet::new());
    for entry in sheets.flat_map(|(_, sheet)| sheet.entries) {
        let is_member = entry.name.starts_with("member/");
        if many && !is_member {
            text.push_str(&format!("{}/{}\n", entry.context, entry.name));
        } else if !is_member || members.insert(entry.name.clone()) {
            text.push_str(&format!("{}\n", entry.name));
        }
    }
    text
}

/// A list for one topic, and lists by their names for many.
fn values(sheets: impl Iterator<Item = (Topic, Sheet)>) -> Value {
    let list = |sheet: Sheet| Value::Array(sheet.entries.into_iter().map(Entry::into_value).collect());
    let mut lists: Vec<(Topic, Value)> = sheets.map(|(topic, sheet)| (topic, list(sheet))).collect();
    match (lists.pop(), lists.is_empty()) {
        (Some((_, only)), true) => only,
        (last, _) => {
            let all = lists.into_iter().chain(last).map(|(topic, list)| (topic.name().to_owned(), list));
            Value::Object(all.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_many_contexts_are_told_apart_and_a_member_is_named_once() {
        let seen = |context: &str| Seen {
            context: context.to_owned(),
            members: ["berlin", "paris"]
                .map(|id| {
                    let member = json!({ "metadata": { "name": id }, "spec": { "clusterID": id, "clusterUID": "x" } });
                    serde_json::from_value(member).unwrap()
                })
                .into(),
            exports: vec![
                serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "shop" } })).unwrap(),
            ],
            ..Seen::default()
        };
        let topics = [Topic::Members, Topic::Exports];
        let drawn = |seen: &[Seen]| draw(seen, &topics, Format::Name, Screen::default()).unwrap();
        assert_eq!(drawn(&[seen("a")]), "member/berlin\nmember/paris\nserviceexport/shop/web\n");
        assert_eq!(
            drawn(&[seen("a"), seen("b")]),
            "member/berlin\nmember/paris\na/serviceexport/shop/web\nb/serviceexport/shop/web\n"
        );
    }
}
