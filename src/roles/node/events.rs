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
        let was_down = |peer: &PeerStatus| {
            was.peers.iter().any(|known| known.cluster == peer.cluster && known.down_since.is_some())
        };
        news.extend(is.peers.iter().filter_map(|peer| change(was_down(peer), peer)));
    }
    news
}

/// That a path comes up for the first time is what is expected, and so is that it rests. One that went down is down until it
/// is up, whatever it is called in between ([`super::down`]).
fn change(was_down: bool, peer: &PeerStatus) -> Option<News> {
    let PeerStatus { cluster, state, reason, .. } = peer;
    match (was_down, state) {
        (true, PeerState::Up) => {
            Some(News::new(Weight::Normal, "PeerUp", cluster, &format!("{cluster} is reached again")))
        }
        (false, PeerState::Down) => {
            Some(News::new(Weight::Warning, "PeerDown", cluster, &format!("{cluster} is not reached: {reason}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(active: bool, peers: &[(&str, &str)]) -> GatewayNode {
        let peer = |(cluster, state): &(&str, &str)| {
            let (state, since) = match state.strip_prefix("still ") {
                Some(state) => (state, Some("2026-11-01T00:00:00Z")),
                None => (*state, None),
            };
            serde_json::json!({ "cluster": cluster, "state": state, "reason": "no answer", "downSince": since })
        };
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
        let up = "PeerUp (berlin): berlin is reached again";
        assert_eq!(told(Some(&with("Up")), &with("still Down")), [down]);
        assert_eq!(told(Some(&with("Connecting")), &with("still Down")), [down], "it never came up");
        assert_eq!(told(Some(&with("still Down")), &with("still Down")), [""; 0]);
        assert_eq!(told(Some(&with("still Down")), &with("Up")), [up]);
        // As where another gateway of that cluster takes over.
        assert_eq!(told(Some(&with("still Down")), &with("still Connecting")), [""; 0]);
        assert_eq!(told(Some(&with("still Connecting")), &with("still Down")), [""; 0]);
        assert_eq!(told(Some(&with("still Connecting")), &with("Up")), [up]);
        assert_eq!(told(Some(&with("Connecting")), &with("Up")), [""; 0], "it comes up for the first time");
        let standby = |state| gateway(false, &[("berlin", state)]);
        assert_eq!(told(Some(&standby("Up")), &standby("still Down")), [""; 0], "it carries nothing");
    }
}
