//! Since when other clusters are down. Whoever begins to carry the traffic, or is started anew, goes on from what was told
//! before: a cluster that is lost does not come back by that.

use std::collections::BTreeMap;

use controller::api::{GatewayNode, PeerState, PeerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The clusters that are down, and since when.
#[derive(Debug, Default)]
pub(super) struct DownSince(BTreeMap<String, Time>);

impl DownSince {
    /// Takes over what a gateway tells. One that stands by sees nobody.
    pub(super) fn learn(&mut self, gateway: &GatewayNode) {
        if let Some(status) = gateway.status.as_ref().filter(|status| status.active) {
            let down = status.peers.iter().filter_map(|peer| Some((peer.cluster.clone(), peer.down_since.clone()?)));
            self.0 = down.collect();
        }
    }

    /// Completes what the gateway that carries the traffic sees now. A cluster is down until it is up, whatever it is called
    /// in between. As long as the device knows no peers yet, those that were down before are.
    pub(super) fn complete(&self, mut peers: Vec<PeerStatus>, now: Timestamp) -> Vec<PeerStatus> {
        if peers.is_empty() {
            let unseen = |cluster: &String| PeerStatus {
                cluster: cluster.clone(),
                reason: "this gateway has just begun to carry the traffic".to_owned(),
                ..PeerStatus::default()
            };
            peers.extend(self.0.keys().map(unseen));
        }
        for peer in &mut peers {
            let before = self.0.get(&peer.cluster).cloned();
            peer.down_since = match peer.state {
                PeerState::Up => None,
                PeerState::Down => Some(before.unwrap_or(Time(now))),
                PeerState::Idle | PeerState::Connecting | PeerState::Unknown => before,
            };
        }
        peers
    }
}

#[cfg(test)]
mod tests {
    use controller::api::{GatewayNodeSpec, GatewayNodeStatus};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn seen(peers: &[(&str, PeerState)]) -> Vec<PeerStatus> {
        let peer = |(cluster, state): &(&str, PeerState)| PeerStatus {
            cluster: (*cluster).to_owned(),
            state: *state,
            ..PeerStatus::default()
        };
        peers.iter().map(peer).collect()
    }

    fn since(peers: &[PeerStatus]) -> Vec<(&str, Option<i64>)> {
        let since = |peer: &PeerStatus| peer.down_since.as_ref().map(|since| since.0.as_second());
        peers.iter().map(|peer| (peer.cluster.as_str(), since(peer))).collect()
    }

    fn gateway(active: bool, peers: Vec<PeerStatus>) -> GatewayNode {
        let spec = GatewayNodeSpec { public_key: String::new(), endpoints: Vec::new(), lanes: 1 };
        let mut gateway = GatewayNode::new("a", spec);
        gateway.status = Some(GatewayNodeStatus { active, peers, ..GatewayNodeStatus::default() });
        gateway
    }

    #[test]
    fn a_cluster_is_down_from_when_it_is_first_seen_so_until_it_is_up() {
        use PeerState::{Connecting, Down, Idle, Up};
        let mut known = DownSince::default();
        let mut see = |state, second| {
            let peers = known.complete(seen(&[("rome", state)]), at(second));
            let since = since(&peers)[0].1;
            known.learn(&gateway(true, peers));
            since
        };
        assert_eq!([see(Idle, 1), see(Connecting, 2)], [None, None], "nothing is known against it");
        assert_eq!([see(Down, 3), see(Down, 4), see(Connecting, 5), see(Idle, 6), see(Down, 7)], [Some(3); 5]);
        assert_eq!([see(Up, 8), see(Connecting, 9)], [None, None]);
        assert_eq!(see(Down, 10), Some(10));
    }

    #[test]
    fn who_begins_to_carry_the_traffic_goes_on_from_what_the_one_before_told() {
        use PeerState::{Connecting, Down, Up};
        let mut known = DownSince::default();
        let before = known.complete(seen(&[("bern", Down), ("rome", Up)]), at(3));
        known.learn(&gateway(true, before));
        known.learn(&gateway(false, Vec::new()));
        let first = known.complete(Vec::new(), at(400));
        assert_eq!(since(&first), [("bern", Some(3))], "before the device has peers");
        known.learn(&gateway(true, first));
        let then = known.complete(seen(&[("bern", Connecting), ("rome", Connecting)]), at(401));
        assert_eq!(since(&then), [("bern", Some(3)), ("rome", None)]);
    }
}
