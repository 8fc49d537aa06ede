//! What a device tells about itself: plain values, read without touching the packet path.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::{PublicKey, Translation};

/// A snapshot of a running device.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the TUN link.
    pub link: String,
    /// The gateway's own public key.
    #[serde(serialize_with = "as_text")]
    pub public_key: PublicKey,
    /// UDP port that Linkspan peers use.
    pub listen_port: u16,
    /// UDP port that vanilla peers use.
    pub vanilla_port: Option<u16>,
    /// MTU of the TUN link in bytes.
    pub mtu: u16,
    /// Lanes that run.
    pub lanes: u8,
    /// Each offload: in use, or why it is not.
    pub offloads: Vec<OffloadStatus>,
    /// Peers in the order of their names.
    pub peers: Vec<PeerStatus>,
    /// Packets dropped, by reason, over all lanes and peers; reasons with 0 are included.
    pub drops: Vec<DropCount>,
    /// Prefixes that others know by virtual addresses.
    pub translation: Vec<Translation>,
    /// Packets that were translated.
    pub translated: TranslatedCount,
}

/// How many packets were translated since the device was opened, a super-packet counting once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TranslatedCount {
    /// Sent with a virtual source.
    pub outward: u64,
    /// Received with a virtual destination.
    pub inward: u64,
}

/// One offload of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OffloadStatus {
    /// `tun-tso`, `tun-uso`, `udp-gso`, `udp-gro` or `steering`.
    pub name: &'static str,
    /// Whether packets use it now.
    pub active: bool,
    /// Why it is not in use, or not towards every peer or in one direction only, for people; otherwise empty.
    pub reason: String,
    /// How often it was given up at run time.
    pub fallbacks: u64,
}

/// How many packets were dropped for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DropCount {
    /// Stable name of the reason, for example `spoofed-source`.
    pub reason: &'static str,
    /// Packets since the device was opened.
    pub count: u64,
}

/// One peer as its lanes see it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// The configured name.
    pub name: String,
    /// The peer's static public key.
    #[serde(serialize_with = "as_text")]
    pub public_key: PublicKey,
    /// Where packets are sent now, after roaming.
    pub endpoint: Option<SocketAddr>,
    /// Prefixes of the peer.
    pub allowed_ips: Vec<IpNet>,
    /// Overall state: the best of its lanes.
    pub state: PeerState,
    /// Why the peer is in this state, one sentence for people.
    pub reason: String,
    /// Bytes of inner packets sent.
    pub tx_bytes: u64,
    /// Bytes of inner packets received.
    pub rx_bytes: u64,
    /// Largest inner packet that reaches the peer, in bytes.
    pub mtu: u16,
    /// Each lane's session and path.
    pub lanes: Vec<LaneStatus>,
}

/// One WireGuard session and the path under it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStatus {
    /// Number of the lane, from 0.
    pub lane: u8,
    /// Age of the newest handshake; `None` before the first.
    pub handshake_age: Option<Duration>,
    /// Smoothed round-trip time of probes (RFC 6298 weights).
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub jitter: Option<Duration>,
    /// Share of the last 100 probes that were lost, 0.0 to 1.0.
    pub loss: f64,
    /// Largest inner packet that reaches the peer, in bytes; 0 before it is known.
    pub mtu: u16,
    /// Inner bytes sent.
    pub tx_bytes: u64,
    /// Inner bytes received.
    pub rx_bytes: u64,
    /// Age of the newest authentic message of the peer, to about a second; `None` before the first.
    pub heard: Option<Duration>,
    /// Handshake initiations sent.
    pub calls_sent: u64,
    /// Authentic handshake initiations received: the peer's calls arrive.
    pub calls_heard: u64,
}

/// Whether traffic reaches a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerState {
    /// Probes, or for vanilla peers packets, come back.
    Up,
    /// No session yet, or an idle one that has not been tried since; neither good nor bad news.
    Idle,
    /// A handshake has been sent and not answered yet.
    Connecting,
    /// The peer does not answer.
    Down,
}

fn as_text<S: serde::Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}
