//! The report as a table for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::report::{PassReport, PeerReport, Report, TranslatedReport, TunnelReport};
use super::units::{bytes, milliseconds, percent, span};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// One line for each peer.
    Normal,
    /// Also lanes, keys, prefixes, every offload and reason.
    Wide,
}

/// Renders a report. `colour` marks states; `width` is the terminal's, if there is one.
pub fn table(report: &Report, detail: Detail, colour: bool, width: Option<u16>) -> String {
    let mut out = String::new();
    header(&mut out, report);
    if let Some(tunnel) = &report.tunnel {
        section(&mut out, peers(tunnel, detail, colour, width));
        if detail == Detail::Wide {
            section(&mut out, lanes(tunnel, width));
        }
        link(&mut out, tunnel, detail);
        drops(&mut out, tunnel, detail);
    }
    for pair in &report.addresses.translation {
        line(&mut out, "Virtual", &format!("{} is known as {}", pair.native, pair.r#virtual));
    }
    names(&mut out, report);
    if let Some(pass) = &report.pass {
        last_pass(&mut out, pass);
    }
    for task in &report.restarts {
        line(&mut out, "Restarted", &format!("{} ({} times): {}", task.task, task.restarts, task.error));
    }
    out
}

fn line(out: &mut String, name: &str, text: &str) {
    for (i, text) in text.lines().enumerate() {
        let name = if i == 0 { name } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<11}{text}");
    }
}

fn section(out: &mut String, table: Table) {
    let _ = writeln!(out, "\n{}\n", table.trim_fmt());
}

fn header(out: &mut String, report: &Report) {
    let role = if report.gateway { "gateway" } else { "worker" };
    let up = span(report.uptime_seconds as f64);
    line(out, "Node", &format!("{}/{} ({role}), linkspan {}, up {up}", report.cluster, report.node, report.version));
    let ready = if report.ready { "yes".to_owned() } else { format!("no: {}", report.not_ready_because.join("; ")) };
    line(out, "Ready", &ready);
    line(out, "Site", &format!("{}, read {} ago", report.site.file, span(report.site.loaded_seconds_ago as f64)));
    if let Some(refused) = &report.site.refused {
        line(out, "REFUSED", &format!("a newer version of the site file; the one before stays in use:\n{refused}"));
    }
}

fn new_table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // Without a terminal, lines are as long as they need to be, for grep and awk.
    match width {
        Some(width) => table.set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

fn peers(tunnel: &TunnelReport, detail: Detail, colour: bool, width: Option<u16>) -> Table {
    let mut table = new_table(width);
    let mut head =
        vec!["PEER", "STATE", "ENDPOINT", "LANES", "HANDSHAKE", "RTT", "JITTER", "LOSS", "MTU", "RX", "TX", "REASON"];
    if detail == Detail::Wide {
        head.extend(["PUBLIC KEY", "ALLOWED IPS"]);
    }
    table.set_header(head);
    for peer in &tunnel.peers {
        let mut row = peer_row(peer, colour);
        if detail == Detail::Wide {
            row.extend([Cell::new(&peer.public_key), Cell::new(peer.allowed_ips.join(" "))]);
        }
        table.add_row(row);
    }
    for column in 3..11 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn peer_row(peer: &PeerReport, colour: bool) -> Vec<Cell> {
    let state = Cell::new(&peer.state);
    let state = match peer.state.as_str() {
        _ if !colour => state,
        "up" => state.fg(Color::Green),
        "down" => state.fg(Color::Red),
        "connecting" => state.fg(Color::Yellow),
        _ => state,
    };
    vec![
        Cell::new(&peer.name),
        state,
        Cell::new(peer.endpoint.as_deref().unwrap_or("-")),
        Cell::new(peer.lanes.len()),
        Cell::new(peer.handshake_seconds.map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age)))),
        Cell::new(milliseconds(peer.rtt_ms)),
        Cell::new(milliseconds(peer.jitter_ms)),
        Cell::new(percent(peer.loss)),
        Cell::new(peer.mtu),
        Cell::new(bytes(peer.rx_bytes)),
        Cell::new(bytes(peer.tx_bytes)),
        Cell::new(&peer.reason),
    ]
}

fn lanes(tunnel: &TunnelReport, width: Option<u16>) -> Table {
    let mut table = new_table(width);
    table.set_header(["PEER", "LANE", "HANDSHAKE", "RTT", "JITTER", "LOSS", "MTU", "RX", "TX"]);
    for peer in &tunnel.peers {
        for lane in &peer.lanes {
            let age = lane.handshake_seconds.map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age)));
            table.add_row([
                peer.name.clone(),
                lane.lane.to_string(),
                age,
                milliseconds(lane.rtt_ms),
                milliseconds(lane.jitter_ms),
                percent(lane.loss),
                lane.mtu.to_string(),
                bytes(lane.rx_bytes),
                bytes(lane.tx_bytes),
            ]);
        }
    }
    table
}

fn link(out: &mut String, tunnel: &TunnelReport, detail: Detail) {
    let vanilla = tunnel.vanilla_port.map_or_else(String::new, |port| format!(", vanilla port {port}"));
    let link = format!(
        "{}, {} lanes, MTU {}, UDP port {}{vanilla}, public key {}",
        tunnel.link, tunnel.lanes, tunnel.mtu, tunnel.listen_port, tunnel.public_key
    );
    line(out, "Link", &link);
    let offloads = tunnel.offloads.iter().map(|offload| match (offload.active, detail) {
        (true, _) if offload.reason.is_empty() => offload.name.clone(),
        (true, _) => format!("{} ({})", offload.name, offload.reason),
        (false, Detail::Normal) => format!("no {}", offload.name),
        (false, Detail::Wide) => format!("no {} ({})", offload.name, offload.reason),
    });
    line(out, "Offloads", &offloads.collect::<Vec<_>>().join(", "));
}

fn drops(out: &mut String, tunnel: &TunnelReport, detail: Detail) {
    let shown = tunnel.drops.iter().filter(|drop| drop.count > 0 || detail == Detail::Wide);
    let drops: Vec<String> = shown.map(|drop| format!("{} {}", drop.reason, drop.count)).collect();
    line(out, "Drops", if drops.is_empty() { "none".to_owned() } else { drops.join(", ") }.as_str());
    let TranslatedReport { outward, inward } = tunnel.translated;
    if outward + inward > 0 {
        line(out, "Translated", &format!("{outward} packets out, {inward} in"));
    }
}

fn names(out: &mut String, report: &Report) {
    let Some(names) = &report.names else { return };
    let state = match names.synced {
        true => format!("{} names, serial {}", names.names, names.serial),
        false => "not published yet".to_owned(),
    };
    let listeners = names.listeners.iter().map(|listener| match &listener.waiting {
        None => listener.address.clone(),
        Some(why) => format!("{} (not yet: {why})", listener.address),
    });
    let listeners: Vec<String> = listeners.collect();
    let on = if listeners.is_empty() { "no address of this node".to_owned() } else { listeners.join(", ") };
    line(out, "Names", &format!("{}: {state}, on {on}", names.zone));
    if !names.paths.known && !names.paths.source.is_empty() {
        line(out, "", &format!("path states are unknown, so that every cluster is named: {}", names.paths.source));
    }
    for skipped in &names.skipped {
        line(out, "", skipped);
    }
}

fn last_pass(out: &mut String, pass: &PassReport) {
    let changes = pass.applied.len();
    let result = match (pass.failed.len(), changes) {
        (0, 0) => "nothing to do".to_owned(),
        (0, _) => format!("{changes} changes"),
        (failed, _) => format!("{changes} changes, {failed} FAILED, {} times in a row", pass.failures_in_row),
    };
    let ago = span(pass.seconds_ago as f64);
    line(out, "Pass", &format!("{result}, {ago} ago in {} ms, because of {}", pass.took_ms, pass.trigger));
    for failed in pass.failed.iter().chain(&pass.obstacles) {
        line(out, "", failed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::*;
    use super::*;

    fn report() -> Report {
        let peer = PeerReport {
            name: "berlin".to_owned(),
            state: "up".to_owned(),
            reason: "probes come back".to_owned(),
            endpoint: Some("198.51.100.7:51820".to_owned()),
            handshake_seconds: Some(7.0),
            rtt_ms: Some(0.5),
            mtu: 1420,
            rx_bytes: 2048,
            lanes: vec![LaneReport::default(), LaneReport { lane: 1, ..Default::default() }],
            ..Default::default()
        };
        let tunnel = TunnelReport {
            link: "linkspan0".to_owned(),
            lanes: 2,
            peers: vec![peer],
            drops: vec![DropReport { reason: "replay".to_owned(), count: 3 }],
            ..Default::default()
        };
        Report {
            cluster: "paris".to_owned(),
            node: "paris-gw".to_owned(),
            gateway: true,
            tunnel: Some(tunnel),
            not_ready_because: vec!["the first pass has not run".to_owned()],
            ..Default::default()
        }
    }

    #[test]
    fn a_table_tells_each_peer_on_one_line() {
        let text = table(&report(), Detail::Normal, false, None);
        let row: Vec<&str> =
            text.lines().find(|line| line.contains("berlin")).expect("a row").split_whitespace().collect();
        assert_eq!(row.join(" "), "berlin up 198.51.100.7:51820 2 7s ago 0.50ms - 0% 1420 2.0KiB 0B probes come back");
        assert!(text.contains("Ready      no: the first pass has not run"), "{text}");
        assert!(text.contains("Drops      replay 3"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour unless asked for");
    }

    #[test]
    fn a_refused_site_file_stands_out() {
        let site = SiteReport { refused: Some("site.yaml:3:1: wrong".to_owned()), ..Default::default() };
        let text = table(&Report { site, ..Default::default() }, Detail::Wide, false, Some(80));
        assert!(text.contains("REFUSED") && text.contains("site.yaml:3:1: wrong"), "{text}");
    }
}
