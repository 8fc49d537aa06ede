//! Of every process, and of nodes: passes, the tunnel device, its peers.

use super::super::report::{LaneReport, PassReport, PeerReport, Report, TunnelReport};
use super::{Label, Out, truth};

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Vec<Label> {
    labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

pub(super) fn process(out: &mut Out, report: &Report) {
    let info = labels([("version", &report.version), ("node", &report.node)]);
    out.gauge("build", "1, with the version and the name of node or pod as labels", [(info, 1.0)]);
    out.truth("ready", "1 when device, passes and zone are as asked for", report.ready);
    out.value("uptime_seconds", "Seconds since the process started", report.uptime_seconds as f64);
    if let Some(answers) = report.api_answers {
        out.truth("api_server_answers", "1 while the watches of the cluster's own API server work", answers);
    }
    out.truth(
        "site_file_refused",
        "1 while a newer site is not in use because it is wrong",
        report.site.refused.is_some(),
    );
    let restarts = report.restarts.iter().map(|task| (labels([("task", &task.task)]), task.restarts));
    out.counter("task_restarts", "Parts of the process that failed and were started anew", restarts);
}

pub(super) fn passes(out: &mut Out, pass: &PassReport) {
    out.counter("passes", "Node passes since the start", [(Vec::new(), pass.passes)]);
    let failures = pass.failures_in_row as f64;
    out.value("pass_failures_in_row", "Failed node passes since the last one without a failure", failures);
    out.value("pass_seconds_ago", "Seconds since the last node pass ended", pass.seconds_ago as f64);
    out.value("pass_duration_seconds", "How long the last node pass took", pass.took_ms as f64 / 1000.0);
    out.value("pass_failed_actions", "What the last node pass could not do", pass.failed.len() as f64);
    let obstacles = pass.obstacles.len() as f64;
    out.value("pass_obstacles", "What stands in the way of traffic although no action failed", obstacles);
}

pub(super) fn device(out: &mut Out, tunnel: &TunnelReport) {
    out.truth("gateway_active", "1 on the gateway that carries its cluster's traffic", tunnel.active);
    out.value("lanes", "Lanes that run", f64::from(tunnel.lanes));
    out.value("link_mtu_bytes", "MTU of the TUN link", f64::from(tunnel.mtu));
    let offload = |name: &str| labels([("offload", name)]);
    let active = tunnel.offloads.iter().map(|each| (offload(&each.name), truth(each.active)));
    out.gauge("offload_active", "1 while a kernel offload is in use", active);
    let fallbacks = tunnel.offloads.iter().map(|each| (offload(&each.name), each.fallbacks));
    out.counter("offload_fallbacks", "How often a kernel offload was given up while running", fallbacks);
    let drops = tunnel.drops.iter().map(|drop| (labels([("reason", &drop.reason)]), drop.count));
    out.counter("dropped_packets", "Packets dropped, by reason", drops);
    let translated = [("outward", tunnel.translated.outward), ("inward", tunnel.translated.inward)];
    let translated = translated.map(|(direction, count)| (labels([("direction", direction)]), count));
    out.counter(
        "translated_packets",
        "Packets with a virtual source sent, and with a virtual destination received",
        translated,
    );
}

pub(super) fn peers(out: &mut Out, tunnel: &TunnelReport) {
    let peer = |peer: &PeerReport| labels([("peer", &peer.name)]);
    let each = |value: fn(&PeerReport) -> Option<f64>| {
        let known = |each: &PeerReport| value(each).map(|value| (peer(each), value));
        tunnel.peers.iter().filter_map(known).collect::<Vec<_>>()
    };
    out.gauge("peer_up", "1 while traffic reaches the peer", each(|peer| Some(truth(peer.state == "up"))));
    let states = tunnel.peers.iter().map(|peer| (labels([("peer", &peer.name), ("state", &peer.state)]), 1.0));
    out.gauge("peer_state", "1, with the peer's state as a label", states);
    let age = each(|peer| peer.handshake_seconds);
    out.gauge("peer_handshake_age_seconds", "Seconds since the newest handshake; absent before the first", age);
    let rtt = each(|peer| peer.rtt_ms.map(|ms| ms / 1000.0));
    out.gauge("peer_rtt_seconds", "Round-trip time of the best lane's probes; absent while there is none", rtt);
    let loss = each(|peer| Some(peer.loss));
    out.gauge("peer_loss_ratio", "Greatest share of lost probes of any lane, 0 to 1", loss);
    out.gauge("peer_mtu_bytes", "Largest packet that reaches the peer", each(|peer| Some(f64::from(peer.mtu))));
    let sent = tunnel.peers.iter().map(|each| (peer(each), each.tx_bytes));
    out.counter("peer_tx_bytes", "Bytes of packets sent to the peer, before encryption", sent);
    let received = tunnel.peers.iter().map(|each| (peer(each), each.rx_bytes));
    out.counter("peer_rx_bytes", "Bytes of packets received from the peer, after decryption", received);
}

pub(super) fn lanes(out: &mut Out, tunnel: &TunnelReport) {
    let each = |value: fn(&LaneReport) -> Option<f64>| {
        let mut series = Vec::new();
        for peer in &tunnel.peers {
            for lane in &peer.lanes {
                let name = labels([("peer", &peer.name), ("lane", &lane.lane.to_string())]);
                series.extend(value(lane).map(|value| (name, value)));
            }
        }
        series
    };
    let age = each(|lane| lane.handshake_seconds);
    out.gauge("lane_handshake_age_seconds", "Seconds since the newest handshake; absent before the first", age);
    let rtt = each(|lane| lane.rtt_ms.map(|ms| ms / 1000.0));
    out.gauge("lane_rtt_seconds", "Round-trip time of probes; absent while there is none", rtt);
    let mtu = each(|lane| Some(f64::from(lane.mtu)).filter(|mtu| *mtu > 0.0));
    out.gauge("lane_mtu_bytes", "Largest packet that reaches the peer on this lane; absent before it is known", mtu);
    let jitter = each(|lane| lane.jitter_ms.map(|ms| ms / 1000.0));
    out.gauge("lane_jitter_seconds", "Mean deviation of the round-trip time", jitter);
    out.gauge("lane_loss_ratio", "Share of the last probes that were lost, 0 to 1", each(|lane| Some(lane.loss)));
}
