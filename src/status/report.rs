//! The report. Its JSON is a public interface: fields are added, never renamed, and readers ignore what they do not
//! know, so that `linkspan status` of one version reads a process of another.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnel::status::{LaneStatus, PeerStatus};

use super::addresses::AddressesReport;
use super::controller::ControllerReport;

/// Everything that one process tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Version of the process.
    pub version: String,
    /// The cluster's ID.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Whether the node is its cluster's gateway.
    pub gateway: bool,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Whether everything that was asked for is in place.
    pub ready: bool,
    /// What is missing, one sentence each; empty when ready.
    pub not_ready_because: Vec<String>,
    /// What a rollout has to wait for although everything is in place: no tunnel has come up since the start.
    pub rollout_waits_for: Option<String>,
    /// Whether the API server of the own cluster answers; none where no one is watched.
    pub api_answers: Option<bool>,
    /// The site file.
    pub site: SiteReport,
    /// By which addresses clusters know each other.
    pub addresses: AddressesReport,
    /// The newest pass; none before the first.
    pub pass: Option<PassReport>,
    /// The tunnel device; gateways only.
    pub tunnel: Option<TunnelReport>,
    /// The name server; none without a listen address.
    pub names: Option<NamesReport>,
    /// The controller.
    pub controller: Option<ControllerReport>,
    /// The export to an OTLP collector; none without one.
    pub otlp: Option<crate::otlp::OtlpReport>,
    /// Parts of the process that failed and were started anew.
    pub restarts: Vec<RestartReport>,
}

/// The site file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SiteReport {
    /// Its name.
    pub file: String,
    /// Seconds since the version in use was read.
    pub loaded_seconds_ago: u64,
    /// Why a newer version is not in use.
    pub refused: Option<String>,
}

/// One node pass.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PassReport {
    /// Seconds since it ended.
    pub seconds_ago: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What made it run.
    pub trigger: String,
    /// What it changed.
    pub applied: Vec<String>,
    /// What it could not do, with the reasons.
    pub failed: Vec<String>,
    /// What stands in the way although nothing failed.
    pub obstacles: Vec<String>,
    /// Passes since the start.
    pub passes: u64,
    /// Failed passes in a row.
    pub failures_in_row: u64,
}

/// The tunnel device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelReport {
    /// Whether this gateway carries its cluster's traffic; others stand by.
    pub active: bool,
    /// Name of the TUN link.
    pub link: String,
    /// The cluster's public key.
    pub public_key: String,
    /// UDP port for Linkspan peers.
    pub listen_port: u16,
    /// UDP port for plain WireGuard peers.
    pub vanilla_port: Option<u16>,
    /// MTU of the link in bytes.
    pub mtu: u16,
    /// Lanes that run.
    pub lanes: u8,
    /// Kernel offloads.
    pub offloads: Vec<OffloadReport>,
    /// Peers by name.
    pub peers: Vec<PeerReport>,
    /// Dropped packets by reason.
    pub drops: Vec<DropReport>,
    /// Packets whose addresses were translated.
    pub translated: TranslatedReport,
}

/// Translated packets since the device was opened; what the kernel hands over as one counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TranslatedReport {
    /// Sent from a virtual address.
    pub outward: u64,
    /// Received for a virtual address.
    pub inward: u64,
}

/// A kernel offload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OffloadReport {
    /// Its name.
    pub name: String,
    /// Whether it is in use.
    pub active: bool,
    /// Why not, or why not towards every peer.
    pub reason: String,
    /// How often it was given up while running.
    pub fallbacks: u64,
}

/// Packets dropped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DropReport {
    /// The reason.
    pub reason: String,
    /// Packets since the device was opened.
    pub count: u64,
}

/// A peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerReport {
    /// The cluster's ID.
    pub name: String,
    /// `up`, `idle`, `connecting` or `down`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Its public key.
    pub public_key: String,
    /// Where packets go.
    pub endpoint: Option<String>,
    /// Prefixes behind it.
    pub allowed_ips: Vec<String>,
    /// Age of the newest handshake of any lane, in seconds.
    pub handshake_seconds: Option<f64>,
    /// Round-trip time of the best lane, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Jitter of the same lane, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Greatest share of lost probes of any lane, 0 to 1.
    pub loss: f64,
    /// Largest packet that reaches it, in bytes.
    pub mtu: u16,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Seconds since the newest message of it; none before the first. `handshakeSeconds` is older as a rule.
    pub heard_seconds: Option<f64>,
    /// Handshakes sent to it since the device was opened.
    pub calls_sent: u64,
    /// Its own handshakes that arrived.
    pub calls_heard: u64,
    /// Its lanes.
    pub lanes: Vec<LaneReport>,
}

/// A lane of a peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneReport {
    /// Its number.
    pub lane: u8,
    /// Age of the newest handshake in seconds.
    pub handshake_seconds: Option<f64>,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Jitter in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Share of lost probes, 0 to 1.
    pub loss: f64,
    /// Largest packet that reaches the peer, in bytes; 0 before it is known.
    pub mtu: u16,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// The name server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamesReport {
    /// The zone.
    pub zone: String,
    /// Whether a zone is published.
    pub synced: bool,
    /// Serial of the published zone; one more with each change.
    pub serial: u32,
    /// When the zone was published, in seconds since 1970.
    pub published: Option<i64>,
    /// Names in the zone.
    pub names: u64,
    /// Services of unreachable clusters and others that are left out, with the reasons.
    pub skipped: Vec<String>,
    /// Where path states come from.
    pub paths: PathsReport,
    /// Addresses to answer on.
    pub listeners: Vec<ListenerReport>,
    /// Answers by kind since the start.
    pub answers: Vec<DropReport>,
}

/// Where the states of paths come from, by which addresses are named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathsReport {
    /// Whether they are known; when not, every cluster is trusted.
    pub known: bool,
    /// Who tells them, or why nobody does.
    pub source: String,
}

/// An address of the name server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerReport {
    /// Address and port.
    pub address: String,
    /// Why it is not served; none while it is.
    pub waiting: Option<String>,
}

/// A part of the process that failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartReport {
    /// Its name.
    pub task: String,
    /// How often it was started anew.
    pub restarts: u64,
    /// Why the last time.
    pub error: String,
}

impl From<&tunnel::status::Status> for TunnelReport {
    fn from(status: &tunnel::status::Status) -> Self {
        let offloads = status.offloads.iter().map(|offload| OffloadReport {
            name: offload.name.to_owned(),
            active: offload.active,
            reason: offload.reason.clone(),
            fallbacks: offload.fallbacks,
        });
        let drops = status.drops.iter().map(|drop| DropReport { reason: drop.reason.to_owned(), count: drop.count });
        Self {
            active: false,
            link: status.link.clone(),
            public_key: status.public_key.to_string(),
            listen_port: status.listen_port,
            vanilla_port: status.vanilla_port,
            mtu: status.mtu,
            lanes: status.lanes,
            offloads: offloads.collect(),
            peers: status.peers.iter().map(PeerReport::from).collect(),
            drops: drops.collect(),
            translated: TranslatedReport { outward: status.translated.outward, inward: status.translated.inward },
        }
    }
}

impl From<&PeerStatus> for PeerReport {
    fn from(peer: &PeerStatus) -> Self {
        let lanes: Vec<LaneReport> = peer.lanes.iter().map(LaneReport::from).collect();
        let timed = lanes.iter().filter(|lane| lane.rtt_ms.is_some());
        let best = timed.min_by(|a, b| a.rtt_ms.unwrap_or_default().total_cmp(&b.rtt_ms.unwrap_or_default()));
        Self {
            name: peer.name.clone(),
            state: state_name(peer.state).to_owned(),
            reason: peer.reason.clone(),
            public_key: peer.public_key.to_string(),
            endpoint: peer.endpoint.map(|at| at.to_string()),
            allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
            handshake_seconds: lanes.iter().filter_map(|lane| lane.handshake_seconds).min_by(f64::total_cmp),
            rtt_ms: best.and_then(|lane| lane.rtt_ms),
            jitter_ms: best.and_then(|lane| lane.jitter_ms),
            loss: lanes.iter().map(|lane| lane.loss).fold(0.0, f64::max),
            mtu: peer.mtu,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            heard_seconds: peer.lanes.iter().filter_map(|lane| lane.heard).min().map(|age| age.as_secs_f64()),
            calls_sent: peer.lanes.iter().map(|lane| lane.calls_sent).sum(),
            calls_heard: peer.lanes.iter().map(|lane| lane.calls_heard).sum(),
            lanes,
        }
    }
}

/// The state's name in status and metrics.
pub fn state_name(state: tunnel::status::PeerState) -> &'static str {
    use tunnel::status::PeerState;
    match state {
        PeerState::Up => "up",
        PeerState::Idle => "idle",
        PeerState::Connecting => "connecting",
        PeerState::Down => "down",
    }
}

impl From<&LaneStatus> for LaneReport {
    fn from(lane: &LaneStatus) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        Self {
            lane: lane.lane,
            handshake_seconds: lane.handshake_age.map(|age| age.as_secs_f64()),
            rtt_ms: lane.rtt.map(milliseconds),
            jitter_ms: lane.jitter.map(milliseconds),
            loss: lane.loss,
            mtu: lane.mtu,
            rx_bytes: lane.rx_bytes,
            tx_bytes: lane.tx_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_with_what_it_has() {
        let report: Report = serde_json::from_str(r#"{"cluster":"paris","novelty":{"x":1}}"#).expect("tolerant");
        assert_eq!(report.cluster, "paris");
        assert_eq!(report.pass, None);
    }

    #[test]
    fn a_peer_is_as_fast_as_its_best_lane_and_as_lossy_as_its_worst() {
        let lane =
            |rtt: Option<u64>, loss| LaneStatus { rtt: rtt.map(Duration::from_micros), loss, ..Default::default() };
        let peer = PeerStatus {
            name: "berlin".to_owned(),
            public_key: tunnel::config::PublicKey([1; 32]),
            endpoint: None,
            allowed_ips: Vec::new(),
            state: tunnel::status::PeerState::Up,
            reason: String::new(),
            tx_bytes: 1,
            rx_bytes: 2,
            mtu: 1420,
            lanes: vec![lane(None, 0.0), lane(Some(900), 0.25), lane(Some(1500), 0.0)],
        };
        let report = PeerReport::from(&peer);
        assert_eq!((report.rtt_ms, report.loss, report.state.as_str()), (Some(0.9), 0.25, "up"));
    }
}
