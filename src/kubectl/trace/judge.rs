//! Between which places packets are lost.

use controller::node::counters::{Hook, Link};

use super::{Counted, Loss, Spot, Way};

/// How exact counters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// Each packet is counted as one everywhere: small ones.
    Each,
    /// Segmentation offload may count many as one: only none at all tells something.
    Any,
}

/// The first place at which packets are missing. `asked` packets were sent, where somebody knows.
pub fn judge(spots: &[Counted], asked: Option<u64>, exactness: Exactness) -> Option<Loss> {
    let seen: Vec<(&Spot, u64)> = spots.iter().filter_map(|one| Some((&one.spot, one.packets?))).collect();
    let first = seen.first()?;
    let expected = asked.unwrap_or(1);
    if first.1 == 0 || (exactness == Exactness::Each && first.1 < expected) {
        return Some(nothing_sent(first.0, first.1, asked));
    }
    let is_less = |before: u64, behind: u64| match exactness {
        Exactness::Each => behind < before,
        Exactness::Any => before > 0 && behind == 0,
    };
    seen.windows(2).find(|pair| is_less(pair[0].1, pair[1].1)).map(|pair| lost(pair[0], pair[1]))
}

fn nothing_sent(spot: &Spot, packets: u64, asked: Option<u64>) -> Loss {
    let (cause, fix) = match (asked, spot.link) {
        (Some(_), _) => (
            "echo requests do not leave the node: a packet filter drops them, or there is no route",
            "see `kubectl linkspan why` for the same ends, and `kubectl linkspan diagnose cni`",
        ),
        (None, _) => (
            "the client sent nothing to this address while it was counted, or it was dropped before it came to its node",
            "let it call meanwhile: `kubectl linkspan trace FROM to TO -- COMMAND` runs a command in its pod; if it did call, \
             see that its name resolves, and `kubectl linkspan why` for NetworkPolicies and kube-proxy",
        ),
    };
    Loss {
        reason: "NothingSent".to_owned(),
        between: format!("the client and {}", place(spot)),
        before: asked.unwrap_or_default(),
        behind: packets,
        cause: cause.to_owned(),
        fix: fix.to_owned(),
    }
}

fn lost((before, sent): (&Spot, u64), (behind, came): (&Spot, u64)) -> Loss {
    let (reason, cause, fix) = match (before, behind) {
        (a, b) if a.way == Way::There && b.way == Way::Back => (
            "NoAnswer",
            "packets reach the server, and it does not answer".to_owned(),
            format!(
                "see that it listens on this port and address, and the NetworkPolicies of its namespace in {}; what answers \
                 from another address is not counted",
                a.cluster
            ),
        ),
        (a, b) if a.node == b.node && a.cluster == b.cluster => (
            "OnNode",
            format!("node {} drops them, or gives them another source: a packet filter, or a missing route", a.node),
            format!("see `kubectl linkspan diagnose cni firewall --context {}`", a.cluster),
        ),
        (a, b) if a.link == Link::Tunnel && b.link == Link::Tunnel => (
            "InTunnel",
            format!("they are lost between the gateways {} and {}", a.node, b.node),
            "see `kubectl linkspan show connections`, and drops by reason in `linkspan status -o wide` on both gateways"
                .to_owned(),
        ),
        (a, b) if a.link == Link::Vxlan => (
            "BetweenNodes",
            format!("VXLAN packets from {} do not come to {}: something blocks their UDP port", a.node, b.node),
            format!("see `kubectl linkspan diagnose firewall --context {}`", a.cluster),
        ),
        (a, b) => (
            "BetweenNodes",
            format!("the network plugin of {} does not bring them from {} to {}", a.cluster, a.node, b.node),
            "see that pods of these nodes reach each other without Linkspan".to_owned(),
        ),
    };
    Loss {
        reason: reason.to_owned(),
        between: format!("{} and {}", place(before), place(behind)),
        before: sent,
        behind: came,
        cause,
        fix,
    }
}

/// A place in words.
pub fn place(spot: &Spot) -> String {
    format!("{} on {} of {}", words(spot), spot.node, spot.cluster)
}

/// What happens there, in words.
pub fn words(spot: &Spot) -> &'static str {
    match (spot.hook, spot.link) {
        (Hook::In, Link::Tunnel) => "in from the tunnel",
        (Hook::Out, Link::Tunnel) => "out into the tunnel",
        (Hook::In, Link::Vxlan) => "in from a node",
        (Hook::Out, Link::Vxlan) => "out to a node",
        (Hook::In, Link::Other) => "in from the network plugin",
        (Hook::Out, Link::Other) => "out to the network plugin",
    }
}
