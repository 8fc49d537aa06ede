//! Which Members are used, and which are refused for what they claim.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use tunnel::config::PublicKey;

use super::claim::{Claim, Stakes, check_protocol, virtual_stakes};
use super::id::ClusterId;
use super::prefixes::{Holders, any_overlap};
use super::view::View;
use crate::api::Member;

/// Annotation of local copies: when the Member was created on the broker. The older one of two keeps what both claim.
pub const ANNOTATION_JOINED_AT: &str = "linkspan.dev/joined-at";

/// Annotation of the own Member in its own cluster: addresses of the broker's API server, with commas between.
pub const ANNOTATION_BROKER_ADDRESS: &str = "linkspan.dev/broker-address";

/// Annotation of the own Member in its own cluster: the prefixes, with commas between, in which others' have to be. Missing
/// or empty: all are allowed.
pub const ANNOTATION_ALLOWED_PREFIXES: &str = "linkspan.dev/allowed-prefixes";

/// What is made of one Member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is used.
    Accepted(Admitted),
    /// It is not used.
    Refused(Refusal),
}

/// A Member that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What it claims.
    pub claim: Claim,
    /// By which addresses this cluster knows its pods.
    pub view: View,
    /// The prefixes that lead to it from here, pods first.
    pub routes: Vec<IpNet>,
}

/// Why a Member is not used: the reason of its condition, and a sentence with a fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `Invalid`, `NotAllowed`, `Overlap` or `DuplicateKey`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// Verdicts by cluster ID (the name of the object).
pub type Verdicts = BTreeMap<String, Verdict>;

impl Verdict {
    /// What it claims and how it is reached, when it is used.
    pub fn accepted(&self) -> Option<&Admitted> {
        match self {
            Self::Accepted(admitted) => Some(admitted),
            Self::Refused(_) => None,
        }
    }
}

/// Judges all Members, own and others, from the local copies.
///
/// Pods of another cluster are known by their own addresses, or by virtual ones where [`View`] says so. The older Member
/// (by its creation on the broker, ties by ID) keeps a prefix, key or gateway address that two of them claim; who has not
/// been seen on the broker is younger than all. A Member that is virtual to all does not claim the prefixes of its pods.
/// Virtual blocks that are claimed already are left out, and its Member chooses others. Services claim nothing: they are
/// reached by clusterset IPs, and those whose addresses are anything else's are left out. The own prefixes are nobody else's here, and neither are `underlay`, addresses of this
/// cluster's own nodes, nor the broker's address ([`ANNOTATION_BROKER_ADDRESS`] of the own Member). A cluster may allow
/// some prefixes only ([`ANNOTATION_ALLOWED_PREFIXES`]).
///
/// # Guarantees
/// The order of `members` does not matter. Every cluster that has the same copies gives the same verdicts, but for what
/// concerns its own prefixes and underlay, and what it allows.
///
/// Whether a Member is refused depends on itself and on older ones alone, and on what those claim rather than on whether
/// they are used. So nobody becomes refused by what happens to the claim of a third one. The broker's policy
/// (`deploy/broker/policy-claims.yaml`) lets no update bring about a conflict that was not there, and no Member begin
/// with one in the second in which the other began: together, nobody can get a Member refused that was here before.
pub fn judge<'a>(own: &ClusterId, members: impl IntoIterator<Item = &'a Member>, underlay: &[IpAddr]) -> Verdicts {
    let mut by_age: Vec<&Member> = members.into_iter().collect();
    by_age.sort_by_key(|member| seniority(&member.metadata));
    let object = by_age.iter().find(|member| member.metadata.name.as_deref() == Some(own.as_str())).copied();
    let mut court = Court::new(own, object, underlay);
    let mut verdicts: Vec<(String, Verdict)> =
        by_age.into_iter().map(|member| (member.name_any(), court.hear(member))).collect();
    for (_, verdict) in &mut verdicts {
        if let Verdict::Accepted(admitted) = verdict {
            court.add_services(admitted);
        }
    }
    verdicts.into_iter().collect()
}

/// What Members are sorted by, older ones first: when each was created on the broker, then its ID. A copy that does not say
/// is younger than all others.
pub(crate) fn seniority(copy: &ObjectMeta) -> (Timestamp, String) {
    let text = copy.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION_JOINED_AT));
    let joined = text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::MAX);
    (joined, copy.name.clone().unwrap_or_default())
}

/// The prefixes of a list. What is none allows nothing.
fn allowed(text: &str) -> Option<Vec<IpNet>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parsed: Vec<Option<IpNet>> = parts.map(|part| part.parse().ok()).collect();
    (!parsed.is_empty()).then(|| parsed.into_iter().flatten().collect())
}

/// What has been claimed so far.
struct Court<'a> {
    own: &'a ClusterId,
    claim: Option<Claim>,
    /// What nobody else may have here, with what it is.
    reserved: Holders<&'static str>,
    /// Where prefixes of others have to be; anywhere, if nothing is said.
    allowed: Option<Vec<IpNet>>,
    prefixes: Holders<String>,
    /// Those of `prefixes` that are virtual.
    blocks: Holders<()>,
    endpoints: Holders<String>,
    keys: BTreeMap<PublicKey, String>,
    services: Holders<()>,
}

impl<'a> Court<'a> {
    fn new(own: &'a ClusterId, object: Option<&Member>, underlay: &[IpAddr]) -> Self {
        let claim = object.and_then(|own| Claim::check(own).ok());
        let mut reserved = Holders::new();
        for address in underlay {
            reserved.insert((*address).into(), "a node of this cluster");
        }
        let broker = object.and_then(|own| own.annotations().get(ANNOTATION_BROKER_ADDRESS));
        for address in broker.iter().flat_map(|list| list.split(',')).filter_map(|text| text.parse::<IpAddr>().ok()) {
            reserved.insert(address.into(), "the broker");
        }
        for net in claim.iter().flat_map(Claim::prefixes) {
            reserved.insert(net, "this cluster's pods or services");
        }
        Self {
            own,
            claim,
            reserved,
            allowed: object.and_then(|own| allowed(own.annotations().get(ANNOTATION_ALLOWED_PREFIXES)?)),
            prefixes: Holders::new(),
            blocks: Holders::new(),
            endpoints: Holders::new(),
            keys: BTreeMap::new(),
            services: Holders::new(),
        }
    }

    fn hear(&mut self, member: &Member) -> Verdict {
        let verdict = match Claim::check(member) {
            Ok(claim) => {
                let admitted = self.admit(claim);
                match self.objection(&admitted) {
                    Some(refusal) => Verdict::Refused(refusal),
                    None => Verdict::Accepted(admitted),
                }
            }
            Err(error) => {
                let reason = if check_protocol(&member.spec).is_err() { "Protocol" } else { "Invalid" };
                Verdict::Refused(Refusal { reason, message: error.to_string() })
            }
        };
        self.note(member);
        verdict
    }

    /// What a refused Member claims is claimed as well: else it could make itself refused, wait until somebody else has
    /// it, and then take it away by mending itself.
    fn note(&mut self, member: &Member) {
        let (stakes, holder) = (Stakes::of(&member.spec), member.name_any());
        for net in stakes.prefixes {
            self.prefixes.insert(net, holder.clone());
        }
        for net in virtual_stakes(&member.spec) {
            self.blocks.insert(net, ());
        }
        for endpoint in stakes.endpoints {
            self.endpoints.insert(endpoint.into(), holder.clone());
        }
        for key in stakes.keys {
            self.keys.entry(key).or_insert_with(|| holder.clone());
        }
    }

    fn is_free(&self, net: IpNet) -> bool {
        self.prefixes.overlapping(net).is_none() && self.endpoints.overlapping(net).is_none()
    }

    /// How the Member is reached, if it is admitted.
    fn admit(&self, mut claim: Claim) -> Admitted {
        claim.blocks.retain(|block| self.is_free(block.r#virtual));
        if claim.cluster == *self.own {
            let routes = claim.prefixes().collect();
            return Admitted { claim, view: View::Native, routes };
        }
        // Its services follow when all pods are known.
        let view = match &self.claim {
            Some(own) => View::of(&claim, own),
            None if claim.virtual_only => View::Virtual(claim.blocks.clone()),
            None => View::Native,
        };
        let routes = view.pods(&claim);
        Admitted { claim, view, routes }
    }

    fn add_services(&mut self, admitted: &mut Admitted) {
        // Answers of a service have its own address, which no block stands for.
        if admitted.claim.cluster == *self.own || admitted.view.is_virtual() {
            return;
        }
        for net in &admitted.claim.service_cidrs {
            let free = self.is_free(*net) && self.reserved.overlapping(*net).is_none() && self.allows(*net);
            if free && self.services.overlapping(*net).is_none() {
                self.services.insert(*net, ());
                admitted.routes.push(*net);
            }
        }
    }

    fn objection(&self, admitted: &Admitted) -> Option<Refusal> {
        let claim = &admitted.claim;
        self.pods_objection(claim)
            .or_else(|| self.view_objection(admitted))
            .or_else(|| self.allowance_objection(admitted))
            .or_else(|| self.endpoint_objection(claim))
            .or_else(|| self.key_objection(claim))
    }

    /// What is said alike everywhere, but for what the others have not heard of yet: the pods' own prefixes are an older
    /// Member's, or there is nothing in their place.
    fn pods_objection(&self, claim: &Claim) -> Option<Refusal> {
        if claim.virtual_only {
            return Self::lacks_blocks(claim);
        }
        let fix = "its controller takes virtual addresses instead where it can; see condition Virtual of its own Member \
                   there";
        for net in &claim.pod_cidrs {
            let held = self.prefixes.overlapping(*net).filter(|_| !self.is_unheard(claim, *net));
            if let Some((other, holder)) = held {
                return overlap(format!("{net} overlaps {other} of cluster {holder}, which was here first; {fix}"));
            }
            if let Some((endpoint, holder)) = self.endpoints.overlapping(*net) {
                let address = endpoint.addr();
                let fix = "give one of the clusters other prefixes";
                return overlap(format!("{net} holds the gateway address {address} of cluster {holder}; {fix}"));
            }
        }
        None
    }

    /// Whether this cluster's own prefix is an older Member's, too, and has virtual addresses in its place. The others know
    /// this cluster by what it had until they hear that it is virtual to all, and so do its nodes: they lose no other one.
    fn is_unheard(&self, claim: &Claim, net: IpNet) -> bool {
        let has_block = claim.blocks.iter().any(|block| net.contains(&block.native) || block.native.contains(&net));
        claim.cluster == *self.own && has_block && self.blocks.overlapping(net).is_none()
    }

    /// Whoever has an unheard prefix natively, too, still knows this cluster natively, and takes all else for spoofed.
    fn unheard_objection(&self, claim: &Claim) -> Option<Refusal> {
        let own = self.claim.as_ref().filter(|own| !own.virtual_only && !claim.virtual_only)?;
        let is_theirs = |net: &&IpNet| any_overlap([**net], &claim.pod_cidrs) && self.is_unheard(own, **net);
        let net = own.pod_cidrs.iter().find(is_theirs)?;
        overlap(format!(
            "{net} is this cluster's, too; it is reached when the broker has it that this cluster is virtual to all: see \
             conditions BrokerReachable and Published of the own Member"
        ))
    }

    /// What concerns this cluster: its own addresses are nobody else's.
    fn view_objection(&self, admitted: &Admitted) -> Option<Refusal> {
        let claim = &admitted.claim;
        if claim.cluster == *self.own {
            return None;
        }
        if admitted.view.is_virtual()
            && let Some(refusal) = Self::lacks_blocks(claim)
        {
            return Some(refusal);
        }
        if let Some(refusal) = self.unheard_objection(claim).or_else(|| self.own_prefix_objection(claim)) {
            return Some(refusal);
        }
        let fix = match admitted.view {
            View::Native => "give one of the clusters other prefixes",
            View::Virtual(_) => "set LINKSPAN_VIRTUAL_POOL there to another pool",
        };
        admitted.view.pods(claim).into_iter().find_map(|net| {
            let (found, whose) = self.reserved.overlapping(net)?;
            let address = if found.prefix_len() == found.max_prefix_len() {
                format!("the address {}", found.addr())
            } else {
                found.to_string()
            };
            overlap(format!("{net} holds {address} of {whose}; {fix}"))
        })
    }

    fn allows(&self, net: IpNet) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|range| range.contains(&net)))
    }

    /// What this cluster lets nobody have.
    fn allowance_objection(&self, admitted: &Admitted) -> Option<Refusal> {
        let mut others = admitted.routes.iter().filter(|_| admitted.claim.cluster != *self.own);
        let net = others.find(|net| !self.allows(**net))?;
        let message = format!(
            "{net} is in none of the prefixes that this cluster allows to others; if it is right, add it to \
             LINKSPAN_ALLOWED_PREFIXES in ConfigMap linkspan here"
        );
        Some(Refusal { reason: "NotAllowed", message })
    }

    /// Packets of the tunnel would go to own pods or services.
    fn own_prefix_objection(&self, claim: &Claim) -> Option<Refusal> {
        let mut own = self.claim.iter().flat_map(Claim::prefixes);
        let endpoints: Vec<IpAddr> =
            claim.gateways.iter().flat_map(|gateway| &gateway.endpoints).map(std::net::SocketAddr::ip).collect();
        let (net, at) = own.find_map(|net| Some((net, endpoints.iter().find(|at| net.contains(*at))?)))?;
        overlap(format!(
            "its gateway address {at} is inside {net} of this cluster's pods or services; name another address there, or \
             give this cluster other prefixes"
        ))
    }

    fn lacks_blocks(claim: &Claim) -> Option<Refusal> {
        let lacks = claim.blocks.is_empty() && !claim.pod_cidrs.is_empty();
        lacks.then(|| Refusal {
            reason: "Overlap",
            message: "its pods have addresses that are others' too, and it has no virtual ones; see condition Virtual of its \
                      own Member there"
                .to_owned(),
        })
    }

    fn endpoint_objection(&self, claim: &Claim) -> Option<Refusal> {
        let endpoints = claim.gateways.iter().flat_map(|gateway| &gateway.endpoints);
        endpoints.into_iter().find_map(|endpoint| {
            let (net, holder) = self.prefixes.overlapping(endpoint.ip().into())?;
            overlap(format!(
                "its gateway address {endpoint} is inside {net} of cluster {holder}; name an address outside of it"
            ))
        })
    }

    fn key_objection(&self, claim: &Claim) -> Option<Refusal> {
        claim.gateways.iter().find_map(|gateway| {
            let holder = self.keys.get(&gateway.public_key)?;
            let message = format!(
                "the key {} of its gateway {:?} is that of cluster {holder}, which was here first; delete the key file \
                 on the node, and it makes a new one",
                gateway.public_key, gateway.node
            );
            Some(Refusal { reason: "DuplicateKey", message })
        })
    }
}

fn overlap(message: String) -> Option<Refusal> {
    Some(Refusal { reason: "Overlap", message })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{GATEWAY_KEYS, member};
    use super::*;
    use crate::api::VirtualCidr;

    fn own() -> ClusterId {
        "paris".parse().unwrap()
    }

    fn refusal(verdicts: &Verdicts, name: &str) -> (&'static str, String) {
        match &verdicts[name] {
            Verdict::Refused(refusal) => (refusal.reason, refusal.message.clone()),
            Verdict::Accepted(admitted) => panic!("{admitted:?}"),
        }
    }

    #[test]
    fn the_older_of_two_overlapping_members_is_used_whatever_the_order() {
        let old = member("zurich", 100, "10.42.0.0/16", GATEWAY_KEYS[0]);
        let young = member("berlin", 200, "10.42.7.0/24", GATEWAY_KEYS[1]);
        for list in [[old.clone(), young.clone()], [young, old]] {
            let verdicts = judge(&own(), &list, &[]);
            assert!(verdicts["zurich"].accepted().is_some());
            let (reason, message) = refusal(&verdicts, "berlin");
            assert_eq!(reason, "Overlap");
            assert!(message.starts_with("10.42.7.0/24 overlaps 10.42.0.0/16 of cluster zurich, which was here first"));
        }
    }

    #[test]
    fn members_of_the_same_age_are_told_apart_by_id() {
        let list =
            [member("b", 100, "10.42.0.0/16", GATEWAY_KEYS[0]), member("a", 100, "10.42.0.0/16", GATEWAY_KEYS[1])];
        let verdicts = judge(&own(), &list, &[]);
        assert!(verdicts["a"].accepted().is_some());
        assert_eq!(refusal(&verdicts, "b").0, "Overlap");
    }

    #[test]
    fn a_copy_without_age_takes_nothing_from_others() {
        let mut ageless = member("a", 0, "10.42.0.0/16", GATEWAY_KEYS[0]);
        ageless.annotations_mut().clear();
        let verdicts = judge(&own(), &[ageless, member("b", 900, "10.42.0.0/16", GATEWAY_KEYS[1])], &[]);
        assert_eq!(refusal(&verdicts, "a").0, "Overlap");
    }

    #[test]
    fn a_cluster_that_has_got_an_older_ones_prefix_and_has_a_block_for_it_is_refused_by_others_and_not_at_home() {
        let block =
            |pods: &str, r#virtual: &str| VirtualCidr { pods: pods.to_owned(), r#virtual: r#virtual.to_owned() };
        let mut berlin = member("berlin", 100, "10.42.0.0/16", GATEWAY_KEYS[0]);
        berlin.spec.virtual_cidrs = vec![block("10.42.0.0/24", "100.64.0.0/24")];
        let rome = member("rome", 150, "10.62.0.0/16", GATEWAY_KEYS[1]);
        let mut paris = member("paris", 200, "10.42.7.0/24", GATEWAY_KEYS[2]);
        let accepted = |viewer: &str, paris: &Member| -> Vec<String> {
            let verdicts = judge(&viewer.parse().unwrap(), [&berlin, &rome, paris], &[]);
            verdicts.into_iter().filter(|(_, verdict)| verdict.accepted().is_some()).map(|(name, _)| name).collect()
        };
        assert_eq!(accepted("paris", &paris), ["berlin", "rome"], "nothing is in its place");
        paris.spec.virtual_cidrs = vec![block("10.41.0.0/24", "100.64.6.0/24")];
        assert_eq!(accepted("paris", &paris), ["berlin", "rome"], "what it has stands for something else");
        paris.spec.virtual_cidrs = vec![block("10.42.7.0/24", "100.64.7.0/24")];
        assert_eq!(accepted("paris", &paris), ["paris", "rome"], "to berlin it is native, and is taken for spoofed");
        assert_eq!(accepted("rome", &paris), ["berlin", "rome"]);
        // Who has pods inside of an older one's block does not become virtual by that.
        paris.spec.pod_cidrs = vec!["100.64.0.0/24".to_owned()];
        paris.spec.virtual_cidrs = vec![block("100.64.0.0/24", "100.64.7.0/24")];
        assert_eq!(accepted("paris", &paris), ["berlin", "rome"]);
    }

    #[test]
    fn what_a_refused_member_claims_is_no_younger_ones() {
        let first = member("a", 100, "10.42.0.0/16", GATEWAY_KEYS[0]);
        let mut second = member("b", 200, "10.0.0.0/8", GATEWAY_KEYS[1]);
        second.spec.gateways[0].endpoints = vec!["198.51.100.7:51820".into()];
        let third = member("c", 300, "10.43.0.0/16", GATEWAY_KEYS[2]);
        for protocol in [1, 2] {
            // As it is, or malformed on purpose.
            second.spec.protocol = protocol;
            let verdicts = judge(&own(), &[first.clone(), second.clone(), third.clone()], &[]);
            assert!(verdicts["a"].accepted().is_some());
            assert!(verdicts["b"].accepted().is_none());
            let (_, message) = refusal(&verdicts, "c");
            assert!(message.contains("10.43.0.0/16 overlaps 10.0.0.0/8 of cluster b"), "{message}");
        }
    }

    #[test]
    fn a_member_that_mends_itself_gets_nobody_refused() {
        // Refused for its key at first, which it changes when somebody has come to have the prefix.
        let (mut thief, victim) =
            (member("b", 200, "10.42.0.0/16", GATEWAY_KEYS[0]), member("c", 300, "10.42.0.0/16", GATEWAY_KEYS[2]));
        let first = member("a", 100, "10.1.0.0/16", GATEWAY_KEYS[0]);
        let before = judge(&own(), &[first.clone(), thief.clone(), victim.clone()], &[]);
        thief.spec.gateways[0].public_key = GATEWAY_KEYS[1].to_owned();
        let after = judge(&own(), &[first, thief, victim], &[]);
        assert_eq!(before["c"], after["c"]);
    }

    #[test]
    fn a_key_of_another_member_is_refused() {
        let list = [member("a", 100, "10.1.0.0/16", GATEWAY_KEYS[0]), member("b", 200, "10.2.0.0/16", GATEWAY_KEYS[0])];
        let (reason, message) = refusal(&judge(&own(), &list, &[]), "b");
        assert_eq!(reason, "DuplicateKey");
        assert!(message.contains("is that of cluster a"), "{message}");
    }

    #[test]
    fn a_prefix_that_swallows_a_gateway_address_is_refused() {
        let mut a = member("a", 100, "10.1.0.0/16", GATEWAY_KEYS[0]);
        a.spec.gateways[0].endpoints = vec!["198.51.100.7:51820".into()];
        let b = member("b", 200, "198.51.100.0/24", GATEWAY_KEYS[1]);
        let (reason, message) = refusal(&judge(&own(), &[a, b], &[]), "b");
        assert_eq!(reason, "Overlap");
        assert!(message.contains("198.51.100.7 of cluster a"), "{message}");
    }

    #[test]
    fn a_gateway_inside_own_prefixes_is_refused_here_however_old() {
        let mut a = member("a", 1, "10.1.0.0/16", GATEWAY_KEYS[0]);
        a.spec.gateways[0].endpoints = vec!["10.42.9.5:51820".into()];
        let mut paris = member("paris", 100, "10.42.0.0/16", GATEWAY_KEYS[1]);
        paris.spec.virtual_only = true;
        let block = VirtualCidr { pods: "10.42.0.0/24".into(), r#virtual: "100.64.0.0/24".into() };
        paris.spec.virtual_cidrs = vec![block];
        let verdicts = judge(&own(), &[a, paris], &[]);
        assert!(refusal(&verdicts, "a").1.contains("10.42.9.5 is inside 10.42.0.0/16"), "{verdicts:?}");
        assert!(verdicts["paris"].accepted().is_some());
    }

    #[test]
    fn services_give_way_to_pods_of_younger_ones_and_to_services_of_older_ones() {
        let mut a = member("a", 1, "10.1.0.0/16", GATEWAY_KEYS[0]);
        a.spec.service_cidrs = vec!["10.2.0.0/16".into(), "10.3.0.0/16".into()];
        let mut b = member("b", 2, "10.2.7.0/24", GATEWAY_KEYS[1]);
        b.spec.service_cidrs = vec!["10.3.9.0/24".into(), "10.4.0.0/16".into()];
        let verdicts = judge(&own(), &[a, b], &[]);
        let routes = |name: &str| -> Vec<String> {
            verdicts[name].accepted().unwrap().routes.iter().map(IpNet::to_string).collect()
        };
        assert_eq!(routes("a"), ["10.1.0.0/16", "10.3.0.0/16"]);
        assert_eq!(routes("b"), ["10.2.7.0/24", "10.4.0.0/16"]);
    }

    #[test]
    fn a_prefix_that_holds_an_own_node_is_refused_here_however_old() {
        let list =
            [member("a", 1, "192.168.0.0/16", GATEWAY_KEYS[0]), member("paris", 100, "10.2.0.0/16", GATEWAY_KEYS[1])];
        let verdicts = judge(&own(), &list, &["192.168.7.2".parse().unwrap()]);
        assert!(refusal(&verdicts, "a").1.contains("192.168.7.2 of a node of this cluster"), "{verdicts:?}");
        assert!(verdicts["paris"].accepted().is_some());
    }

    #[test]
    fn a_prefix_that_holds_the_broker_is_refused_here_but_for_the_own_one() {
        let thief = member("a", 1, "203.0.113.0/24", GATEWAY_KEYS[0]);
        let mut paris = member("paris", 100, "10.2.0.0/16", GATEWAY_KEYS[1]);
        for (address, refused) in
            [("203.0.113.9", true), ("2001:db8::9,203.0.113.9", true), ("2001:db8::9", false), ("nonsense", false)]
        {
            paris.annotations_mut().insert(ANNOTATION_BROKER_ADDRESS.to_owned(), address.to_owned());
            let verdicts = judge(&own(), &[thief.clone(), paris.clone()], &[]);
            assert_eq!(verdicts["a"].accepted().is_none(), refused, "{address}");
            assert!(verdicts["paris"].accepted().is_some());
        }
        paris.annotations_mut().insert(ANNOTATION_BROKER_ADDRESS.to_owned(), "203.0.113.9".to_owned());
        let message = refusal(&judge(&own(), &[thief, paris.clone()], &[]), "a").1;
        assert!(message.contains("203.0.113.9 of the broker"), "{message}");
        // A broker behind an address of the own services is this cluster's own business.
        paris.annotations_mut().insert(ANNOTATION_BROKER_ADDRESS.to_owned(), "10.2.0.1".to_owned());
        assert!(judge(&own(), &[paris], &[])["paris"].accepted().is_some());
    }

    #[test]
    fn a_cluster_may_allow_some_prefixes_only() {
        let thief = member("a", 1, "198.51.100.0/24", GATEWAY_KEYS[0]);
        let mut good = member("b", 2, "10.3.0.0/16", GATEWAY_KEYS[2]);
        good.spec.service_cidrs = vec!["203.0.113.0/24".into(), "10.4.0.0/16".into()];
        let mut paris = member("paris", 100, "172.32.0.0/16", GATEWAY_KEYS[1]);
        let accepted = |paris: &Member| -> Vec<String> {
            let verdicts = judge(&own(), &[thief.clone(), good.clone(), paris.clone()], &[]);
            verdicts.into_iter().filter(|(_, verdict)| verdict.accepted().is_some()).map(|(name, _)| name).collect()
        };
        assert_eq!(accepted(&paris), ["a", "b", "paris"], "without a word, everything");
        for (text, wanted) in [
            ("", &["a", "b", "paris"][..]),
            ("10.0.0.0/8, fc00::/7", &["b", "paris"]),
            ("10.0.0.0/8,198.51.100.0/24", &["a", "b", "paris"]),
            // Part of a prefix is not enough, and what is no prefix allows nothing.
            ("10.3.0.0/17,198.51.100.128/25", &["paris"]),
            ("nonsense", &["paris"]),
        ] {
            paris.annotations_mut().insert(ANNOTATION_ALLOWED_PREFIXES.to_owned(), text.to_owned());
            assert_eq!(accepted(&paris), wanted, "{text}");
        }
        paris.annotations_mut().insert(ANNOTATION_ALLOWED_PREFIXES.to_owned(), "10.0.0.0/8".to_owned());
        let verdicts = judge(&own(), &[thief, good, paris], &[]);
        let (reason, message) = refusal(&verdicts, "a");
        assert_eq!(reason, "NotAllowed");
        assert!(
            message.starts_with("198.51.100.0/24 is in none of the prefixes that this cluster allows"),
            "{message}"
        );
        let nets = |list: [&str; 2]| list.map(|net| net.parse::<IpNet>().unwrap());
        assert_eq!(verdicts["b"].accepted().unwrap().routes, nets(["10.3.0.0/16", "10.4.0.0/16"]), "a service less");
    }

    #[test]
    fn what_is_malformed_is_refused_and_named() {
        let bad = |change: fn(&mut Member)| {
            let mut bad = member("a", 100, "10.1.0.0/16", GATEWAY_KEYS[0]);
            change(&mut bad);
            let verdicts = judge(&own(), &[bad], &[]);
            let (reason, message) = refusal(&verdicts, "a");
            assert_eq!(reason, if message.contains("protocol") { "Protocol" } else { "Invalid" });
            message
        };
        assert!(bad(|member| member.spec.pod_cidrs = vec!["127.0.0.0/8".into()]).contains("loopback"));
        assert!(bad(|member| member.spec.pod_cidrs = vec!["0.0.0.0/0".into()]).contains("unspecified"));
        assert!(bad(|member| member.spec.service_cidrs = vec!["10.1.7.0/24".into()]).contains("overlap"));
        assert!(bad(|member| member.spec.cluster_id = "b".into()).contains("speaks for cluster b"));
        let newer = bad(|member| member.spec.protocol = 2);
        assert_eq!(newer, "it speaks protocol 2 and this cluster 1; upgrade one of them");
        let newer = bad(|member| (member.spec.min_protocol, member.spec.protocol) = (Some(2), 3));
        assert_eq!(newer, "it speaks protocol 2 to 3 and this cluster 1; upgrade one of them");
        assert!(bad(|member| member.spec.gateways[0].public_key = "x".into()).contains("publicKey"));
        assert!(bad(|member| member.spec.gateways[0].lanes = 0).contains("lanes"));
        assert!(bad(|member| member.spec.gateways[0].endpoints = vec!["127.0.0.1:1".into()]).contains("loopback"));
        assert!(bad(|member| member.spec.gateways[0].endpoints = vec!["10.1.0.9:1".into()]).contains("inside"));
        assert!(bad(|member| member.spec.pod_cidrs = vec!["x".repeat(5000)]).len() < 200);
    }

    #[test]
    fn a_newer_member_that_speaks_an_older_protocol_too_is_accepted() {
        let mut newer = member("a", 100, "10.1.0.0/16", GATEWAY_KEYS[0]);
        (newer.spec.min_protocol, newer.spec.protocol) = (Some(1), 3);
        assert!(matches!(judge(&own(), &[newer], &[])["a"], Verdict::Accepted(_)));
    }
}
