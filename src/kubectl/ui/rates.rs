//! How much traffic each tunnel carries, from what its counters said in two rounds.

use std::collections::BTreeMap;

use controller::api::PeerState;
use kube::ResourceExt as _;

use super::data::End;
use crate::kubectl::picture::{ClusterPicture, Picture};
use crate::status::{PeerReport, state_name};

/// Counters and rates of all tunnels, as each gateway sees them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates(BTreeMap<Key, Rate>);

/// Cluster, its gateway, and the other cluster: another gateway has counters of its own.
type Key = (String, String, String);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    /// When the counters were read, by the gateway's clock. Milliseconds since 1970.
    at: i64,
    rx_bytes: u64,
    tx_bytes: u64,
    /// Bytes per second received and sent; none before there were two readings.
    per_second: Option<(f64, f64)>,
}

impl Rates {
    /// The rates after what `picture` tells.
    pub fn after(&self, picture: &Picture) -> Self {
        let mut rates = BTreeMap::new();
        for cluster in &picture.clusters {
            for (end, at) in readings(cluster) {
                let Some(at) = at else { continue };
                let key = (end.cluster, end.gateway, end.far);
                let rate = Rate { at, rx_bytes: end.rx_bytes, tx_bytes: end.tx_bytes, per_second: None };
                let rate = self.0.get(&key).map_or(rate, |before| rate.since(before));
                rates.insert(key, rate);
            }
        }
        Self(rates)
    }

    /// All ends of tunnels in this cluster, with their rates.
    pub(super) fn ends(&self, cluster: &ClusterPicture) -> Vec<End> {
        let with_rate = |(mut end, _): (End, Option<i64>)| {
            let key = (end.cluster.clone(), end.gateway.clone(), end.far.clone());
            let rate = self.0.get(&key).and_then(|rate| rate.per_second);
            (end.rx_rate, end.tx_rate) = (rate.map(|(rx, _)| rx), rate.map(|(_, tx)| tx));
            end
        };
        readings(cluster).into_iter().map(with_rate).collect()
    }
}

impl Rate {
    fn since(self, before: &Self) -> Self {
        let milliseconds = self.at - before.at;
        // The same reading again: API objects are written now and then.
        if milliseconds <= 0 {
            return Self { per_second: before.per_second, ..self };
        }
        let grown = |now: u64, then: u64| {
            // A smaller counter belongs to a device that was opened anew.
            now.checked_sub(then).map(|bytes| bytes as f64 * 1000.0 / milliseconds as f64)
        };
        Self { per_second: grown(self.rx_bytes, before.rx_bytes).zip(grown(self.tx_bytes, before.tx_bytes)), ..self }
    }
}

/// What the active gateway says of its peers, with the time: its process, or else its GatewayNode.
fn readings(cluster: &ClusterPicture) -> Vec<(End, Option<i64>)> {
    let Some(gateway) = cluster.active_gateway() else { return Vec::new() };
    if let Some(tunnel) = cluster.tunnel() {
        let at = cluster.asked(&gateway).and_then(|node| node.clock).map(|clock| clock.from);
        // Gateways that stand by are `cluster/node`.
        let peers = tunnel.peers.iter().filter(|peer| !peer.name.contains('/'));
        return peers.map(|peer| (of_report(cluster, &gateway, peer), at)).collect();
    }
    let found = cluster.gateways.all().iter().find(|found| found.name_any() == gateway);
    let Some(status) = found.and_then(|found| found.status.as_ref()) else { return Vec::new() };
    let at = status.observed.as_ref().map(|time| time.0.as_millisecond());
    status.peers.iter().map(|peer| (of_status(cluster, &gateway, peer), at)).collect()
}

fn of_report(cluster: &ClusterPicture, gateway: &str, peer: &PeerReport) -> End {
    End {
        cluster: cluster.name().to_owned(),
        far: peer.name.clone(),
        gateway: gateway.to_owned(),
        state: peer.state.clone(),
        reason: peer.reason.clone(),
        rtt_milliseconds: peer.rtt_ms,
        loss: peer.loss,
        mtu: peer.mtu,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        handshake_seconds: peer.handshake_seconds,
        endpoint: peer.endpoint.clone(),
        ..End::default()
    }
}

fn of_status(cluster: &ClusterPicture, gateway: &str, peer: &controller::api::PeerStatus) -> End {
    let state = match peer.state {
        PeerState::Up => tunnel::status::PeerState::Up,
        PeerState::Idle => tunnel::status::PeerState::Idle,
        PeerState::Connecting => tunnel::status::PeerState::Connecting,
        PeerState::Down | PeerState::Unknown => tunnel::status::PeerState::Down,
    };
    End {
        cluster: cluster.name().to_owned(),
        far: peer.cluster.clone(),
        gateway: gateway.to_owned(),
        state: state_name(state).to_owned(),
        reason: peer.reason.clone(),
        rtt_milliseconds: peer.rtt_microseconds.map(|rtt| rtt as f64 / 1000.0),
        loss: f64::from(peer.loss_permille) / 1000.0,
        mtu: peer.mtu,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        handshake_seconds: peer.handshake_age_seconds.map(|age| age as f64),
        ..End::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::picture::samples::{alter, alter_peer, healthy};

    /// Paris' counters towards berlin, read at this time.
    fn paris(at: i64, rx: u64, tx: u64) -> Picture {
        let mut picture = healthy();
        let paris = &mut picture.clusters[0];
        alter_peer(paris, "berlin", |peer| (peer.rx_bytes, peer.tx_bytes) = (rx, tx));
        alter(paris, "paris-1", |node| node.clock.as_mut().unwrap().from = at);
        picture
    }

    fn told(rates: &Rates, picture: &Picture) -> (Option<f64>, Option<f64>) {
        let end = rates.ends(&picture.clusters[0]).remove(0);
        (end.rx_rate, end.tx_rate)
    }

    #[test]
    fn a_rate_is_what_was_counted_between_two_readings() {
        let [first, second] = [paris(10_000, 500, 0), paris(12_000, 4_500, 1_000)];
        let rates = Rates::default().after(&first);
        assert_eq!(told(&rates, &first), (None, None));
        let rates = rates.after(&second);
        assert_eq!(told(&rates, &second), (Some(2_000.0), Some(500.0)));
        assert_eq!(
            told(&rates.after(&second), &second),
            (Some(2_000.0), Some(500.0)),
            "the same reading tells no news"
        );
    }

    #[test]
    fn a_device_that_was_opened_anew_has_no_rate_at_first() {
        let rates = Rates::default().after(&paris(10_000, 500, 500));
        let again = paris(12_000, 100, 900);
        assert_eq!(told(&rates.after(&again), &again), (None, None));
    }

    #[test]
    fn a_gateway_that_was_not_asked_is_known_by_its_object() {
        let mut picture = healthy();
        picture.clusters[0].inspections.clear();
        let Some(gateways) = picture.clusters[0].gateways.seen().cloned() else { panic!("seen") };
        let mut gateways = gateways;
        gateways[0].status = Some(
            serde_json::from_value(serde_json::json!({
                "active": true, "observed": "1970-01-01T00:00:10Z",
                "peers": [{ "cluster": "berlin", "state": "Up", "rttMicroseconds": 1500, "lossPermille": 20, "rxBytes": 7 }],
            }))
            .unwrap(),
        );
        picture.clusters[0].gateways = crate::kubectl::picture::Part::Seen(gateways);
        let end = Rates::default().ends(&picture.clusters[0]).remove(0);
        assert_eq!((end.gateway.as_str(), end.state.as_str()), ("paris-1", "up"));
        assert_eq!((end.rtt_milliseconds, end.loss, end.rx_bytes), (Some(1.5), 0.02, 7));
    }
}
