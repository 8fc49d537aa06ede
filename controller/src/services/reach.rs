//! Which Members can be reached, and which speak for addresses at all.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;

use super::validate::MemberNetworks;
use crate::api::{GatewayNode, Member, PeerState, PeerStatus};
use crate::members::ANNOTATION_JOINED_AT;
use crate::names::Reachability;

/// Reasons of a Member's condition `Ready` for which nothing that it says counts. Others pass by themselves.
const REFUSED: [&str; 6] = ["Overlap", "DuplicateID", "DuplicateKey", "Invalid", "NotAllowed", "Protocol"];

/// How long a cluster must have been down until its endpoints are taken away, in seconds: KEP-1645 recommends a lease on
/// them, and leaves its length open.
pub const ENDPOINT_LEASE_SECONDS: i64 = 300;

/// What a Member may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exporter {
    /// The addresses that it may speak for; none while it is refused.
    pub networks: Option<MemberNetworks>,
    /// When it joined, by the broker's clock; none before it has been seen there.
    pub joined_at: Option<Timestamp>,
}

impl Exporter {
    /// What `member` may say.
    pub fn of(member: &Member) -> Self {
        let conditions = member.status.iter().flat_map(|status| &status.conditions);
        let refused = conditions
            .into_iter()
            .any(|told| told.type_ == "Ready" && told.status == "False" && REFUSED.contains(&told.reason.as_str()));
        let joined_at = member.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION_JOINED_AT));
        Self {
            networks: (!refused).then(|| MemberNetworks::of(member)),
            joined_at: joined_at.and_then(|text| text.parse().ok()),
        }
    }
}

/// Who holds a Lease; none when nobody does. That it has expired is the business of those who might take it.
pub fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

/// Which clusters can be reached, as the active gateway says. Where two say that they are active, one has just taken over
/// from the other, which may be gone: the `holder` of the gateway Lease counts, and while that is neither, who has written
/// last. Where none is active, nothing is known against anyone.
pub fn reachability<'a>(
    gateways: impl IntoIterator<Item = &'a GatewayNode>,
    holder: Option<&str>,
) -> BTreeMap<String, Reachability> {
    let active = gateways.into_iter().filter_map(|gateway| {
        let status = gateway.status.as_ref().filter(|status| status.active)?;
        let name = gateway.metadata.name.as_deref();
        let observed = status.observed.as_ref().map(|time| time.0);
        // The name last, so that the order does not matter.
        Some(((holder.is_some() && name == holder, observed, name), status))
    });
    let Some(((_, observed, _), status)) = active.max_by(|(a, _), (b, _)| a.cmp(b)) else { return BTreeMap::new() };
    status.peers.iter().map(|peer| (peer.cluster.clone(), judge(peer, observed))).collect()
}

/// What is `known` of clusters while nobody renews the gateway Lease: no traffic reaches any of the `others`, whatever the
/// last gateway has said. What is lost is so.
pub fn cut_off(
    mut known: BTreeMap<String, Reachability>,
    others: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Reachability> {
    for other in others {
        let reachability = known.entry(other).or_insert(Reachability::Unreachable);
        *reachability = (*reachability).max(Reachability::Unreachable);
    }
    known
}

/// All clusters that a gateway has told of.
pub fn peers<'a>(gateways: impl IntoIterator<Item = &'a GatewayNode>) -> impl Iterator<Item = String> {
    let peers = gateways.into_iter().flat_map(|gateway| gateway.status.iter().flat_map(|status| &status.peers));
    peers.map(|peer| peer.cluster.clone())
}

/// What is down stays so until it is up: a gateway that has just begun calls everybody anew. For how long is told by the
/// gateway's own clock. A state that this version does not know is not up.
fn judge(peer: &PeerStatus, observed: Option<Timestamp>) -> Reachability {
    let since = peer.down_since.as_ref().map(|since| since.0);
    let down = since.zip(observed).map(|(since, now)| now.duration_since(since).as_secs());
    match (peer.state, down) {
        (PeerState::Up, _) => Reachability::Reachable,
        (_, Some(ENDPOINT_LEASE_SECONDS..)) => Reachability::Lost,
        (PeerState::Idle | PeerState::Connecting, None) if since.is_none() => Reachability::Reachable,
        _ => Reachability::Unreachable,
    }
}

/// [`reachability`] from one change to the next.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    nodes: BTreeMap<String, GatewayNode>,
    holder: Option<String>,
    /// Whether nobody renews the gateway Lease.
    silent: bool,
    others: BTreeSet<String>,
    clusters: BTreeMap<String, Reachability>,
}

impl Reach {
    /// What is known of each cluster. One that is missing is reachable.
    pub fn clusters(&self) -> &BTreeMap<String, Reachability> {
        &self.clusters
    }

    /// A gateway node says this. Returns the clusters whose reachability has changed.
    pub fn insert(&mut self, gateway: &GatewayNode) -> BTreeSet<String> {
        self.nodes.insert(gateway.metadata.name.clone().unwrap_or_default(), gateway.clone());
        self.update()
    }

    /// A gateway node is no more. Returns the clusters whose reachability has changed.
    pub fn remove(&mut self, name: &str) -> BTreeSet<String> {
        self.nodes.remove(name);
        self.update()
    }

    /// The gateway Lease has this holder. Returns the clusters whose reachability has changed.
    pub fn set_holder(&mut self, holder: Option<String>) -> BTreeSet<String> {
        self.holder = holder;
        self.update()
    }

    /// Whether nobody renews the gateway Lease. Returns the clusters whose reachability has changed.
    pub fn set_silent(&mut self, silent: bool) -> BTreeSet<String> {
        self.silent = silent;
        self.update()
    }

    /// These are the other Members. Returns the clusters whose reachability has changed.
    pub fn set_others(&mut self, others: BTreeSet<String>) -> BTreeSet<String> {
        self.others = others;
        self.update()
    }

    fn update(&mut self) -> BTreeSet<String> {
        let mut clusters = reachability(self.nodes.values(), self.holder.as_deref());
        if self.silent {
            clusters = cut_off(clusters, peers(self.nodes.values()).chain(self.others.iter().cloned()));
        }
        let before = std::mem::replace(&mut self.clusters, clusters);
        let against = |known: &BTreeMap<String, Reachability>| -> BTreeSet<(String, Reachability)> {
            let bad = known.iter().filter(|(_, reachability)| **reachability != Reachability::Reachable);
            bad.map(|(cluster, reachability)| (cluster.clone(), *reachability)).collect()
        };
        let (before, now) = (against(&before), against(&self.clusters));
        before.symmetric_difference(&now).map(|(cluster, _)| cluster.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(name: &str, active: bool, peers: &[(&str, &str)]) -> GatewayNode {
        let peers: Vec<_> =
            peers.iter().map(|(cluster, state)| json!({ "cluster": cluster, "state": state })).collect();
        serde_json::from_value(json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": name },
            "spec": { "publicKey": "", "lanes": 1 }, "status": { "active": active, "peers": peers }
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_is_down_when_the_active_gateway_says_so_and_changes_are_told_once() {
        let mut reach = Reach::default();
        assert_eq!(reach.insert(&gateway("n1", true, &[("b", "Up"), ("c", "Idle")])), BTreeSet::new());
        assert_eq!(reach.insert(&gateway("n1", true, &[("b", "Down"), ("c", "Up")])), ["b".to_owned()].into());
        assert_eq!(reach.clusters()["b"], Reachability::Unreachable);
        assert_eq!(reach.insert(&gateway("n1", true, &[("b", "Down"), ("c", "Connecting")])), BTreeSet::new());
        assert_eq!(reach.insert(&gateway("n1", false, &[("b", "Down")])), ["b".to_owned()].into());
        assert_eq!(reach.clusters(), &BTreeMap::new());
    }

    #[test]
    fn without_a_gateway_that_works_all_others_are_out_of_reach() {
        let mut reach = Reach::default();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(reach.set_others(names(&["b", "c", "new"])), names(&[]));
        reach.set_holder(Some("n1".to_owned()));
        reach.insert(&gateway("n1", true, &[("b", "Up"), ("c", "Down")]));
        assert_eq!(reach.set_silent(true), names(&["b", "new"]), "the gateway does not know one that came later");
        assert_eq!(reach.set_others(names(&["b", "c", "new", "newer"])), names(&["newer"]));
        assert_eq!(reach.set_silent(true), names(&[]));
        assert!(reach.clusters().values().all(|known| *known == Reachability::Unreachable), "{:?}", reach.clusters());
        assert_eq!(reach.set_silent(false), names(&["b", "new", "newer"]));
        let known = [("b".to_owned(), Reachability::Lost)].into();
        assert_eq!(cut_off(known, peers([&gateway("n1", true, &[("b", "Up")])]))["b"], Reachability::Lost);
    }

    fn at(time: &str, mut gateway: GatewayNode) -> GatewayNode {
        let status = gateway.status.as_mut().expect("it has one");
        status.observed = Some(serde_json::from_value(json!(time)).expect("a time"));
        gateway
    }

    #[test]
    fn the_holder_of_the_lease_counts_and_without_it_who_wrote_last() {
        let lost = at("2026-01-01T00:00:09Z", gateway("lost", true, &[("b", "Up")]));
        let now = at("2026-01-01T00:00:05Z", gateway("now", true, &[("b", "Down")]));
        let standby = at("2026-01-01T00:00:10Z", gateway("standby", false, &[("b", "Down")]));
        let all = [lost, standby, now];
        let says = |holder| {
            let told = reachability(&all, holder);
            assert_eq!(reachability(all.iter().rev(), holder), told);
            told["b"]
        };
        assert_eq!(says(Some("now")), Reachability::Unreachable, "although its clock is behind");
        assert_eq!(says(Some("lost")), Reachability::Reachable);
        assert_eq!(says(None), Reachability::Reachable, "it wrote last");
        assert_eq!(says(Some("standby")), Reachability::Reachable, "the holder does not carry traffic yet");
        assert_eq!(reachability(&all[1..2], None), BTreeMap::new());
    }

    #[test]
    fn a_lease_that_passes_on_changes_who_is_believed() {
        let mut reach = Reach::default();
        reach.insert(&at("2026-01-01T00:00:09Z", gateway("lost", true, &[("b", "Up")])));
        assert_eq!(reach.insert(&at("2026-01-01T00:00:05Z", gateway("now", true, &[("b", "Down")]))), BTreeSet::new());
        assert_eq!(reach.set_holder(Some("now".to_owned())), ["b".to_owned()].into());
        assert_eq!(reach.clusters()["b"], Reachability::Unreachable);
        assert_eq!(reach.remove("now"), ["b".to_owned()].into());
        let lease = |holder: &str| -> Lease {
            serde_json::from_value(json!({ "spec": { "holderIdentity": holder } })).expect("a Lease")
        };
        assert_eq!((holder(&lease("n1")).as_deref(), holder(&lease(""))), (Some("n1"), None));
    }

    #[test]
    fn row_81_a_cluster_is_lost_when_its_lease_on_endpoints_has_run_out() {
        let with = |state: &str, since: Option<&str>| {
            let mut gateway = at("2026-01-01T00:05:00Z", gateway("n1", true, &[("b", state)]));
            gateway.status.as_mut().expect("it has one").peers[0].down_since =
                since.map(|time| serde_json::from_value(json!(time)).expect("a time"));
            reachability(&[gateway], None)["b"]
        };
        let (short, long) = (Some("2026-01-01T00:00:01Z"), Some("2026-01-01T00:00:00Z"));
        assert_eq!(with("Down", short), Reachability::Unreachable);
        assert_eq!(with("Down", long), Reachability::Lost);
        assert_eq!(with("Down", None), Reachability::Unreachable, "nobody knows for how long");
        assert_eq!(with("Resting", short), Reachability::Unreachable, "a state of another version is not up");
        assert_eq!(with("Resting", long), Reachability::Lost);
        assert_eq!(with("Up", long), Reachability::Reachable);
        // A gateway that has just begun has not called it yet, or has no answer yet.
        for state in ["Idle", "Connecting"] {
            assert_eq!(with(state, None), Reachability::Reachable, "nothing is known against it");
            assert_eq!(with(state, short), Reachability::Unreachable);
            assert_eq!(with(state, long), Reachability::Lost);
        }
    }

    #[test]
    fn a_lost_cluster_stays_lost_when_another_gateway_takes_over() {
        let says = |name: &str, state: &str, time: &str| {
            let mut gateway = at(time, gateway(name, true, &[("b", state)]));
            gateway.status.as_mut().expect("it has one").peers[0].down_since =
                Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
            gateway
        };
        let mut reach = Reach::default();
        assert_eq!(reach.insert(&says("n1", "Down", "2026-01-01T00:06:00Z")), ["b".to_owned()].into());
        for state in ["Idle", "Connecting", "Down"] {
            assert_eq!(reach.insert(&says("n2", state, "2026-01-01T00:06:05Z")), BTreeSet::new(), "{state}");
        }
        assert_eq!(reach.clusters()["b"], Reachability::Lost);
    }

    #[test]
    fn a_refused_member_speaks_for_no_address_and_an_unreachable_one_does() {
        let member = |reason: &str| -> Member {
            serde_json::from_value(json!({
                "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member", "metadata": { "name": "b" },
                "spec": { "clusterID": "b", "clusterUID": "u", "podCIDRs": ["10.52.0.0/16"] },
                "status": { "conditions": [{
                    "type": "Ready", "status": "False", "reason": reason, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"
                }] }
            }))
            .unwrap()
        };
        assert_eq!(Exporter::of(&member("Overlap")).networks, None);
        assert_eq!(Exporter::of(&member("NotAllowed")).networks, None);
        assert_eq!(Exporter::of(&member("NoGateway")).networks.unwrap().cluster, "b");
    }
}
