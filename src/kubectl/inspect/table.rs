//! An inspection for people.

use std::fmt::Write as _;

use super::{Inspection, Probe};

/// Renders an inspection, one fact a line.
pub fn table(seen: &Inspection) -> String {
    let mut out = String::new();
    for link in &seen.links {
        let state = if link.up { "up" } else { "DOWN" };
        line(&mut out, "Link", &format!("{}, {state}, MTU {}", link.name, link.mtu));
    }
    lines(&mut out, "Address", &seen.addresses);
    lines(&mut out, "Rule", &seen.rules);
    lines(&mut out, "Route", &seen.routes);
    if seen.pending.is_empty() {
        line(&mut out, "Pass", "would change nothing");
    }
    lines(&mut out, "PENDING", &seen.pending);
    lines(&mut out, "OBSTACLE", &seen.obstacles);
    let ports: Vec<String> = seen.udp_ports.iter().map(u16::to_string).collect();
    line(&mut out, "UDP ports", &ports.join(" "));
    answers(&mut out, seen);
    lines(&mut out, "UNSEEN", &seen.unseen);
    out
}

fn answers(out: &mut String, seen: &Inspection) {
    for found in &seen.lookups {
        let way = match (&found.way.link, &found.way.refused) {
            (Some(link), _) => {
                let node = found.way.node.map_or_else(String::new, |node| format!(" to node {node}"));
                format!("{link}{node}, table {}", found.way.table)
            }
            (None, refused) => format!("NO WAY: {}", refused.as_deref().unwrap_or("no link")),
        };
        line(out, "To", &format!("{}: {way}", found.of.to));
    }
    for found in &seen.packets {
        let what = format!("{} to {}", found.of.from, found.of.to);
        if found.hits.is_empty() {
            line(out, "Filter", &format!("{what}: no rule touches it"));
        }
        for hit in &found.hits {
            let perhaps = if hit.certain { "" } else { "perhaps " };
            line(out, "Filter", &format!("{what}: {} {perhaps}{} it: {}", hit.place, hit.effect, hit.rule));
        }
    }
    for found in &seen.services {
        let known = match found.programmed {
            Some(true) => "known to kube-proxy",
            Some(false) => "UNKNOWN to kube-proxy",
            None => "cannot be told",
        };
        line(out, "Service", &format!("{}: {known} ({})", found.address, found.by));
    }
    for found in &seen.probes {
        let what = match found.of {
            Probe::Ping { to, size: 0 } => format!("ping {to}"),
            Probe::Ping { to, size } => format!("ping {to} with {size} bytes"),
            Probe::Tcp { to } => format!("connect to {to}"),
        };
        line(out, "Probe", &format!("{what}: {}", found.detail));
    }
    for found in &seen.names {
        let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        line(
            out,
            "Name",
            &format!("{} at {}: {} {}", found.of.name, found.of.server, found.answer, addresses.join(" ")),
        );
    }
}

fn lines(out: &mut String, name: &str, texts: &[String]) {
    texts.iter().for_each(|text| line(out, name, text));
}

fn line(out: &mut String, name: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:<10}{text}");
}
