//! How traces are shown.

use super::judge::words;
use super::{Trace, Way};
use crate::kubectl::output::{self, Field, Format, Listing, Screen, Tone};

/// All traces in a format; `name` lists where packets are lost.
///
/// # Errors
/// Never in practice: traces have a form in JSON and YAML.
pub fn render(traces: &[Trace], format: Format, screen: Screen) -> anyhow::Result<String> {
    match format {
        Format::Json => output::json(&traces),
        Format::Yaml => output::yaml(&traces),
        Format::Name => {
            let losses = traces.iter().filter_map(|trace| trace.loss.as_ref());
            Ok(losses.map(|loss| format!("{}\n", loss.reason)).collect())
        }
        Format::Table | Format::Wide => {
            Ok(traces.iter().map(|trace| one(trace, format, screen)).collect::<Vec<_>>().join("\n"))
        }
    }
}

fn one(trace: &Trace, format: Format, screen: Screen) -> String {
    let mut out = format!("{} -> {}: {}\n", trace.from, trace.to, trace.sent);
    let mut listing = Listing::new(&["WAY", "CLUSTER", "NODE", "PLACE", "PACKETS"], &["WHY NOT"]);
    for counted in &trace.spots {
        let way = match counted.spot.way {
            Way::There => "there",
            Way::Back => "back",
        };
        let packets = match counted.packets {
            None => Field::new("?", Tone::Warning),
            Some(0) => Field::new("0", Tone::Bad),
            Some(packets) => packets.into(),
        };
        let spot = &counted.spot;
        let (cluster, node, unseen) = (spot.cluster.as_str(), spot.node.as_str(), counted.unseen.as_str());
        listing.rows.push(vec![way.into(), cluster.into(), node.into(), words(spot).into(), packets, unseen.into()]);
    }
    out += &listing.draw(format, screen);
    out += &match &trace.loss {
        Some(loss) => format!(
            "\nLost between {}: {} of {} came.\n  {}\n  fix: {}\n",
            loss.between, loss.behind, loss.before, loss.cause, loss.fix
        ),
        None if trace.is_blind() => "\nNothing is lost where it could be counted.\n".to_owned(),
        None => "\nNothing is lost.\n".to_owned(),
    };
    out
}
