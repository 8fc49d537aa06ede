//! What is worth an Event of a GatewayNode: who carries the traffic, and which clusters it reaches.

use controller::api::{GatewayNode, PeerState, PeerStatus};
use controller::events::{News, Weight};

/// What has changed from `before`, which was published last, to `now`.
pub(super) fn news(before: Option<&GatewayNode>, now: &GatewayNode) -> Vec<News> {
    let status = |node: &GatewayNode| node.status.clone().unwrap_or_default();
    let (was, is) = (before.map(status).unwrap_or_default(), status(now));
    let mut news = Vec::new();
    if is.active && !was.active {
        news.push(News::new(Weight::Normal, "Active", "Gateway", "this node carries the cluster's traffic to others"));
    }
    if was.active && !is.active {
        news.push(News::new(Weight::Normal, "Standby", "Gateway", "this node carries the cluster's traffic no more"));
    }
    // Who stands by has no paths that matter.
    if is.active {
        let earlier = |peer: &PeerStatus| was.peers.iter().find(|known| known.cluster == peer.cluster).map(|p| p.state);
        news.extend(is.peers.iter().filter_map(|peer| change(earlier(peer), peer)));
    }
    news
}

/// That a path comes up for the first time is what is expected, and so is that it rests.
fn change(before: Option<PeerState>, peer: &PeerStatus) -> Option<News> {
    let PeerStatus { cluster, state, reason, .. } = peer;
    match (before, state) {
        (Some(PeerState::Down), PeerState::Up) => {
            Some(News::new(Weight::Normal, "PeerUp", cluster, &format!("{cluster} is reached again")))
        }
        (Some(PeerState::Down), _) => None,
        (_, PeerState::Down) => {
            Some(News::new(Weight::Warning, "PeerDown", cluster, &format!("{cluster} is not reached: {reason}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(active: bool, peers: &[(&str, &str)]) -> GatewayNode {
        let peer = |(cluster, state): &(&str, &str)| serde_json::json!({ "cluster": cluster, "state": state, "reason": "no answer" });
        serde_json::from_value(serde_json::json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": "a" },
            "spec": { "publicKey": "", "lanes": 1 },
            "status": { "active": active, "peers": peers.iter().map(peer).collect::<Vec<_>>() },
        }))
        .expect("a GatewayNode")
    }

    fn told(before: Option<&GatewayNode>, now: &GatewayNode) -> Vec<String> {
        news(before, now).iter().map(|news| format!("{} ({}): {}", news.reason, news.action, news.note)).collect()
    }

    #[test]
    fn a_takeover_is_told_by_both_nodes() {
        let (active, standby) = (gateway(true, &[]), gateway(false, &[]));
        let taken = "Active (Gateway): this node carries the cluster's traffic to others";
        assert_eq!(told(None, &active), [taken]);
        assert_eq!(told(Some(&standby), &active), [taken]);
        assert_eq!(told(Some(&active), &active), [""; 0]);
        assert_eq!(
            told(Some(&active), &standby),
            ["Standby (Gateway): this node carries the cluster's traffic no more"]
        );
        assert_eq!(told(None, &standby), [""; 0]);
    }

    #[test]
    fn a_peer_that_goes_and_comes_back_is_told_once_each() {
        let with = |state| gateway(true, &[("berlin", state), ("rome", "Up")]);
        let down = "PeerDown (berlin): berlin is not reached: no answer";
        assert_eq!(told(Some(&with("Up")), &with("Down")), [down]);
        assert_eq!(told(Some(&with("Connecting")), &with("Down")), [down], "it never came up");
        assert_eq!(told(Some(&with("Down")), &with("Down")), [""; 0]);
        assert_eq!(told(Some(&with("Down")), &with("Connecting")), [""; 0]);
        assert_eq!(told(Some(&with("Down")), &with("Up")), ["PeerUp (berlin): berlin is reached again"]);
        assert_eq!(told(Some(&with("Connecting")), &with("Up")), [""; 0]);
        let standby = |state| gateway(false, &[("berlin", state)]);
        assert_eq!(told(Some(&standby("Up")), &standby("Down")), [""; 0], "it carries nothing");
    }
}
