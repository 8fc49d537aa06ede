//! Prometheus metrics, made from the report at each scrape. Series are bounded: one set for each configured peer and
//! lane, and lists that are fixed in the code.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::report::{LaneReport, NamesReport, PassReport, PeerReport, Report, TunnelReport};
use super::socket::Source;

/// What [`encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders the metrics of now in OpenMetrics text.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn encode(source: Source) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("linkspan");
    registry.register_collector(Box::new(Scrape(source)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Scrape(Source);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let report = (self.0)();
        let mut out = Out(encoder);
        process(&mut out, &report)?;
        if let Some(pass) = &report.pass {
            passes(&mut out, pass)?;
        }
        if let Some(tunnel) = &report.tunnel {
            device(&mut out, tunnel)?;
            peers(&mut out, tunnel)?;
            lanes(&mut out, tunnel)?;
        }
        report.names.as_ref().map_or(Ok(()), |names| zone(&mut out, names))
    }
}

type Label<'a> = (&'static str, &'a str);

/// Writes families of constant values.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge<'s>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<Label<'s>>, f64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            MetricType::Gauge,
            series.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))),
        )
    }

    fn counter<'s>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<Label<'s>>, u64)>,
    ) -> fmt::Result {
        let series = series.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, series)
    }

    fn family<'s, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl Iterator<Item = (Vec<Label<'s>>, M)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in series {
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn one(value: f64) -> [(Vec<Label<'static>>, f64); 1] {
    [(Vec::new(), value)]
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn process(out: &mut Out<'_>, report: &Report) -> fmt::Result {
    let info = vec![("version", report.version.as_str()), ("cluster", &report.cluster), ("node", &report.node)];
    out.gauge("build", "1, with the version, cluster ID and node name as labels", [(info, 1.0)])?;
    out.gauge("ready", "1 when device, passes and zone are as asked for", one(truth(report.ready)))?;
    out.gauge("uptime_seconds", "Seconds since the process started", one(report.uptime_seconds as f64))?;
    let refused = truth(report.site.refused.is_some());
    out.gauge("site_file_refused", "1 while a newer site file is not in use because it is wrong", one(refused))?;
    let restarts = report.restarts.iter().map(|task| (vec![("task", task.task.as_str())], task.restarts));
    out.counter("task_restarts", "Parts of the process that failed and were started anew", restarts)
}

fn passes(out: &mut Out<'_>, pass: &PassReport) -> fmt::Result {
    out.counter("passes", "Node passes since the start", [(Vec::new(), pass.passes)])?;
    let failures = pass.failures_in_row as f64;
    out.gauge("pass_failures_in_row", "Failed node passes since the last one without a failure", one(failures))?;
    out.gauge("pass_seconds_ago", "Seconds since the last node pass ended", one(pass.seconds_ago as f64))?;
    out.gauge("pass_duration_seconds", "How long the last node pass took", one(pass.took_ms as f64 / 1000.0))?;
    let failed = pass.failed.len() as f64;
    out.gauge("pass_failed_actions", "What the last node pass could not do", one(failed))
}

fn device(out: &mut Out<'_>, tunnel: &TunnelReport) -> fmt::Result {
    out.gauge("lanes", "Lanes that run", one(f64::from(tunnel.lanes)))?;
    out.gauge("link_mtu_bytes", "MTU of the TUN link", one(f64::from(tunnel.mtu)))?;
    let active =
        tunnel.offloads.iter().map(|offload| (vec![("offload", offload.name.as_str())], truth(offload.active)));
    out.gauge("offload_active", "1 while a kernel offload is in use", active)?;
    let fallbacks = tunnel.offloads.iter().map(|offload| (vec![("offload", offload.name.as_str())], offload.fallbacks));
    out.counter("offload_fallbacks", "How often a kernel offload was given up while running", fallbacks)?;
    let drops = tunnel.drops.iter().map(|drop| (vec![("reason", drop.reason.as_str())], drop.count));
    out.counter("dropped_packets", "Packets dropped, by reason", drops)
}

fn peers(out: &mut Out<'_>, tunnel: &TunnelReport) -> fmt::Result {
    let each = |value: fn(&PeerReport) -> f64| {
        tunnel.peers.iter().map(move |peer| (vec![("peer", peer.name.as_str())], value(peer))).collect::<Vec<_>>()
    };
    out.gauge("peer_up", "1 while traffic reaches the peer", each(|peer| truth(peer.state == "up")))?;
    let states = tunnel.peers.iter().map(|peer| (vec![("peer", peer.name.as_str()), ("state", &peer.state)], 1.0));
    out.gauge("peer_state", "1, with the peer's state as a label", states)?;
    out.gauge("peer_mtu_bytes", "Largest packet that reaches the peer", each(|peer| f64::from(peer.mtu)))?;
    let sent = tunnel.peers.iter().map(|peer| (vec![("peer", peer.name.as_str())], peer.tx_bytes));
    out.counter("peer_tx_bytes", "Bytes of packets sent to the peer, before encryption", sent)?;
    let received = tunnel.peers.iter().map(|peer| (vec![("peer", peer.name.as_str())], peer.rx_bytes));
    out.counter("peer_rx_bytes", "Bytes of packets received from the peer, after decryption", received)
}

fn lanes(out: &mut Out<'_>, tunnel: &TunnelReport) -> fmt::Result {
    let each = |value: fn(&LaneReport) -> Option<f64>| {
        let mut series = Vec::new();
        for peer in &tunnel.peers {
            for (lane, number) in peer.lanes.iter().zip(LANE_NUMBERS) {
                series.extend(value(lane).map(|value| (vec![("peer", peer.name.as_str()), ("lane", number)], value)));
            }
        }
        series
    };
    let age = each(|lane| lane.handshake_seconds);
    out.gauge("lane_handshake_age_seconds", "Seconds since the newest handshake; absent before the first", age)?;
    let rtt = each(|lane| lane.rtt_ms.map(|ms| ms / 1000.0));
    out.gauge("lane_rtt_seconds", "Round-trip time of probes; absent while there is none", rtt)?;
    let jitter = each(|lane| lane.jitter_ms.map(|ms| ms / 1000.0));
    out.gauge("lane_jitter_seconds", "Mean deviation of the round-trip time", jitter)?;
    out.gauge("lane_loss_ratio", "Share of the last probes that were lost, 0 to 1", each(|lane| Some(lane.loss)))
}

/// Lanes are listed in the order of their numbers.
const LANE_NUMBERS: [&str; tunnel::config::MAX_LANES as usize] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

fn zone(out: &mut Out<'_>, names: &NamesReport) -> fmt::Result {
    out.gauge("dns_synced", "1 once a zone is published", one(truth(names.synced)))?;
    out.gauge("dns_names", "Names in the zone", one(names.names as f64))?;
    out.gauge("dns_serial", "Serial of the zone; one more with each change", one(f64::from(names.serial)))?;
    let waiting = names.listeners.iter().filter(|listener| listener.waiting.is_some()).count();
    out.gauge("dns_waiting_listeners", "Addresses that cannot be served yet", one(waiting as f64))?;
    let answers = names.answers.iter().map(|answer| (vec![("kind", answer.reason.as_str())], answer.count));
    out.counter("dns_answers", "Queries and answers by kind", answers)
}
