//! How figures are shown.

use super::Figures;
use crate::echo::client::Times;
use crate::kubectl::output::{self, Format, Listing, Screen};

/// All figures in a format.
///
/// # Errors
/// Never in practice: figures have a form in JSON and YAML.
pub fn render(figures: &[Figures], format: Format, screen: Screen) -> anyhow::Result<String> {
    match format {
        Format::Json => return output::json(&figures),
        Format::Yaml => return output::yaml(&figures),
        Format::Name => return Ok(figures.iter().map(|one| format!("{} {}\n", one.from, one.to)).collect()),
        Format::Table | Format::Wide => {}
    }
    let columns = ["FROM", "TO", "TCP MBIT/S", "RTT P50 µs", "RTT P99 µs", "NAME P50 µs", "NAME P99 µs"];
    let mut listing = Listing::new(&columns, &["FROM NODE"]);
    let of = |times: Option<Times>, which: fn(Times) -> u64| times.map_or_else(String::new, |t| which(t).to_string());
    for one in figures {
        listing.rows.push(vec![
            (&one.from).into(),
            (&one.to).into(),
            one.tcp_mbps.map_or_else(String::new, |rate| format!("{rate:.0}")).into(),
            of(one.round_trip, |times| times.p50).into(),
            of(one.round_trip, |times| times.p99).into(),
            of(one.name, |times| times.p50).into(),
            of(one.name, |times| times.p99).into(),
            (&one.from_node).into(),
        ]);
    }
    Ok(listing.draw(format, screen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_left_open() {
        let trips = Times { count: 2000, min: 200, p50: 300, p99: 900 };
        let figures = Figures {
            from: "paris/probe-0".to_owned(),
            from_node: "paris-1".to_owned(),
            to: "berlin/probe-0".to_owned(),
            tcp_mbps: Some(4210.4),
            round_trip: Some(trips),
            name: None,
            failures: Vec::new(),
        };
        let drawn = render(&[figures], Format::Table, Screen::default()).expect("a table");
        assert_eq!(
            drawn,
            "FROM           TO              TCP MBIT/S  RTT P50 µs  RTT P99 µs  NAME P50 µs  NAME P99 µs\n\
             paris/probe-0  berlin/probe-0  4210        300         900         -            -\n"
        );
    }
}
