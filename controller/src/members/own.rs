//! What a cluster says of itself, found by itself or set by hand.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::claim::{OLDEST_PROTOCOL, PROTOCOL};
use super::condition::Finding;
use super::id::ClusterId;
use super::networks::{self, Found, MAX_POD_CIDRS, Problem};
use super::prefixes;
use super::resting::{resting, told};
use super::selector::Selector;
use super::virtuals::{self, Neighbour};
use crate::api::{Gateway, GatewayNode, MemberSpec, VirtualCidr};

/// Most gateways that a Member may have, as its CRD says.
const MAX_GATEWAYS: usize = 32;
/// Endpoints of a gateway. The best ones come first.
const MAX_ENDPOINTS: usize = 8;

/// What is set by hand, and who this cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrides {
    /// Prefixes of all pods, or why what is set is of no use; empty: found.
    pub pod_cidrs: Result<Vec<IpNet>, String>,
    /// Prefixes of all services, likewise.
    pub service_cidrs: Result<Vec<IpNet>, String>,
    /// Where virtual addresses are taken from; see [`default_pool`](super::default_pool).
    pub virtual_pool: Vec<IpNet>,
    /// Where prefixes of other clusters have to be; anywhere, if it is empty.
    pub allowed: Vec<IpNet>,
}

/// What a cluster sees of itself.
#[derive(Debug, Clone, Copy)]
pub struct Discovery<'a> {
    /// Its ID.
    pub cluster: &'a ClusterId,
    /// UID of its namespace `kube-system`.
    pub cluster_uid: &'a str,
    /// Version of this program.
    pub version: &'a str,
    /// What is set by hand.
    pub overrides: &'a Overrides,
    /// All nodes.
    pub nodes: &'a [Node],
    /// All ServiceCIDRs; empty where the API server does not have them (before Kubernetes 1.33).
    pub service_cidrs: &'a [ServiceCIDR],
    /// All gateway nodes.
    pub gateways: &'a [GatewayNode],
    /// Labels of the nodes that people have made gateways.
    pub selector: &'a Selector,
    /// The Lease of the active gateway.
    pub lease: Option<&'a Lease>,
    /// For how long at least nobody has renewed it, where that is too long.
    pub silence: Option<Duration>,
    /// The own Member as it was.
    pub before: Option<&'a MemberSpec>,
    /// The own Member as the broker has it.
    pub published: Option<&'a MemberSpec>,
    /// Whether the others hear of what is decided now. Not so while a Member cannot see itself on the broker: they go on
    /// with what they know.
    pub heard: bool,
    /// The other Members.
    pub neighbours: &'a [Neighbour],
    /// Virtual prefixes of Members that have just left.
    pub departed: &'a [IpNet],
    /// The time.
    pub now: Timestamp,
}

/// The own Member, and what is missing or wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnMember {
    /// What the others get to know.
    pub spec: MemberSpec,
    /// Whether it becomes virtual to all. The broker is to have that first; it is in `spec` when the broker has it.
    pub turns_virtual: bool,
    /// Conditions `Networks`, `Virtual` and `Gateways`.
    pub findings: Vec<Finding>,
}

/// Makes the own Member from what is seen. The order of the inputs does not matter.
///
/// A cluster whose prefixes or gateways are not known yet is a Member without them: others see it, and do not use it. One
/// whose prefixes are known no more, as its last node has gone or what is set by hand is wrong, keeps those that it had: its
/// pods, and what others know them by, have not changed by that.
pub fn own(seen: &Discovery<'_>) -> OwnMember {
    let (pods, services) = (networks::pods(seen), networks::services(seen));
    let (gateways, gateway_finding) = gateways(seen);
    let network_finding = networks::finding(&pods, &services);
    let parts = if pods.is_ok() { Some(networks::parts(seen)) } else { None };
    let had = |list: fn(&MemberSpec) -> &Vec<String>| {
        seen.before.into_iter().flat_map(list).filter_map(|text| prefixes::claimed(text)).take(MAX_POD_CIDRS).collect()
    };
    let known = |nets: Result<Found, Problem>, list| nets.map_or_else(|_| had(list), |found| found.nets);
    let (pods, services) = (known(pods, |spec| &spec.pod_cidrs), known(services, |spec| &spec.service_cidrs));
    let parts = parts.unwrap_or_else(|| parts_before(seen, &pods));
    let natives = virtuals::Natives { pods: &pods, services: &services, parts: &parts, nodes: &node_addresses(seen) };
    let virtuals = virtuals::choose(seen, &natives);
    let texts = |nets: &[IpNet]| nets.iter().map(IpNet::to_string).collect();
    let freed = [seen.departed, &given_up(seen, &virtuals.blocks)].concat();
    let spec = MemberSpec {
        cluster_id: seen.cluster.to_string(),
        cluster_uid: seen.cluster_uid.to_owned(),
        pod_cidrs: texts(&pods),
        service_cidrs: texts(&services),
        virtual_cidrs: virtuals.blocks,
        virtual_only: virtuals.only,
        resting_cidrs: resting(seen.before, &freed, seen.now),
        gateways,
        version: seen.version.to_owned(),
        protocol: PROTOCOL,
        // Only where it says more: a broker of an older version does not know the field.
        min_protocol: (OLDEST_PROTOCOL < PROTOCOL).then_some(OLDEST_PROTOCOL),
    };
    OwnMember {
        spec,
        turns_virtual: virtuals.turns,
        findings: vec![network_finding, virtuals.finding, gateway_finding],
    }
}

/// The blocks by which others have known this cluster, and which it gives up now.
fn given_up(seen: &Discovery<'_>, kept: &[VirtualCidr]) -> Vec<IpNet> {
    let known = seen.published.into_iter().flat_map(|published| &published.virtual_cidrs);
    let gone = known.filter(|known| !kept.iter().any(|kept| kept.r#virtual == known.r#virtual));
    let resting: Vec<IpNet> = seen.before.into_iter().flat_map(|own| told(own, seen.now)).collect();
    gone.filter_map(|cidr| prefixes::claimed(&cidr.r#virtual)).filter(|net| !resting.contains(net)).collect()
}

/// The prefixes that had blocks, and those of nodes inside of what is `kept`.
fn parts_before(seen: &Discovery<'_>, kept: &[IpNet]) -> Vec<IpNet> {
    let blocks = seen.before.into_iter().flat_map(|before| &before.virtual_cidrs);
    let mut parts: Vec<IpNet> = blocks.filter_map(|block| prefixes::claimed(&block.pods)).collect();
    let is_kept = |net: &IpNet| kept.iter().any(|wider| wider.contains(net));
    let without = |net: &IpNet| !prefixes::any_overlap([*net], &parts);
    let more: Vec<IpNet> = networks::of_nodes(seen.nodes).filter(|net| is_kept(net) && without(net)).collect();
    parts.extend(more);
    parts
}

fn node_addresses(seen: &Discovery<'_>) -> Vec<IpAddr> {
    seen.nodes.iter().flat_map(addresses).collect()
}

/// The addresses of a node.
pub fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter(|address| address.type_.ends_with("IP")).filter_map(|address| address.address.parse().ok())
}

fn gateways(seen: &Discovery<'_>) -> (Vec<Gateway>, Finding) {
    let nodes = gateway_nodes(seen);
    let holder = seen.lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default();
    let mut gateways: Vec<Gateway> = seen
        .gateways
        .iter()
        .filter(|gateway| nodes.contains(&gateway.name_any()))
        .map(|gateway| Gateway {
            node: gateway.name_any(),
            public_key: gateway.spec.public_key.clone(),
            endpoints: gateway.spec.endpoints.iter().take(MAX_ENDPOINTS).cloned().collect(),
            lanes: gateway.spec.lanes,
            active: gateway.name_any() == holder,
        })
        .collect();
    // The active one comes first, so that a cluster with very many gateways keeps it.
    gateways.sort_by(|a, b| (!a.active, &a.node).cmp(&(!b.active, &b.node)));
    gateways.truncate(MAX_GATEWAYS);
    let finding = gateway_finding(&gateways, &holder, seen.silence);
    (gateways, finding)
}

/// The nodes whose word counts when they say that they are gateways: those that people have labelled, or all where there
/// are none. So a token that is stolen from a worker makes none of it.
///
/// As nodes see it themselves, one without an InternalIP counts as not labelled.
fn gateway_nodes(seen: &Discovery<'_>) -> BTreeSet<String> {
    let has_address = |node: &&Node| {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        internal.any(|address| address.address.parse::<IpAddr>().is_ok())
    };
    let labelled = seen.nodes.iter().filter(|node| seen.selector.matches(node.labels()));
    let labelled: BTreeSet<String> = labelled.filter(has_address).map(Node::name_any).collect();
    if labelled.is_empty() { seen.nodes.iter().map(Node::name_any).collect() } else { labelled }
}

fn gateway_finding(gateways: &[Gateway], holder: &str, silence: Option<Duration>) -> Finding {
    let log = "see the log of linkspan-node there";
    if gateways.is_empty() {
        let message =
            "no node is a gateway: label one linkspan.dev/gateway=true, and see that linkspan-node runs on it";
        return Finding::bad("Gateways", "NoGateway", message);
    }
    if !gateways.iter().any(|gateway| gateway.active) {
        let message = match holder {
            "" => format!("{} may be a gateway, and none is active; {log}", gateways[0].node),
            _ => format!("node {holder} holds Lease linkspan-gateway and is no gateway; {log}"),
        };
        return Finding::bad("Gateways", "NoActiveGateway", message);
    }
    if let Some(silence) = silence {
        // As others see it, it stays the active one: they notice by themselves, and go on at once when it is back.
        let message = format!(
            "gateway {holder} has not renewed Lease linkspan-gateway for {} s or more, and no other node takes it: see the \
             log of linkspan-node there (kubectl logs -n linkspan-system, with --previous), and whether the node is Ready; \
             a second node labelled linkspan.dev/gateway=true would take over",
            silence.as_secs()
        );
        return Finding::bad("Gateways", "NoActiveGateway", message);
    }
    Finding::good("Gateways", "Active", format!("{} is active, of {}", gateways[0].node, gateways.len()))
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use serde_json::json;

    use super::super::condition::Holds;
    use super::super::test_support::{GATEWAY_KEYS, member};
    use super::*;
    use crate::api::GatewayNodeSpec;

    fn node(name: &str, pods: &[&str], annotations: &[&str]) -> Node {
        let annotations: serde_json::Map<_, _> = annotations.iter().map(|key| ((*key).into(), json!("x"))).collect();
        let metadata = json!({ "name": name, "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "podCIDRs": pods } })).unwrap()
    }

    fn service_cidr(cidrs: &[&str]) -> ServiceCIDR {
        serde_json::from_value(json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": cidrs } })).unwrap()
    }

    fn gateway(name: &str, key: &str) -> GatewayNode {
        let spec = GatewayNodeSpec { public_key: key.into(), endpoints: vec!["198.51.100.7:51820".into()], lanes: 2 };
        GatewayNode::new(name, spec)
    }

    fn lease(holder: &str) -> Lease {
        let spec = json!({ "holderIdentity": holder });
        Lease { metadata: ObjectMeta::default(), spec: serde_json::from_value(spec).unwrap() }
    }

    fn by_hand(texts: &[&str]) -> Result<Vec<IpNet>, String> {
        Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    struct Cluster {
        nodes: Vec<Node>,
        service_cidrs: Vec<ServiceCIDR>,
        gateways: Vec<GatewayNode>,
        lease: Option<Lease>,
        silence: Option<Duration>,
        overrides: Overrides,
    }

    impl Cluster {
        fn k3s() -> Self {
            Self {
                nodes: vec![
                    node("one", &["10.42.0.0/24"], &["flannel.alpha.coreos.com/backend-type"]),
                    node("two", &["10.42.1.0/24"], &["flannel.alpha.coreos.com/backend-type"]),
                ],
                service_cidrs: vec![service_cidr(&["10.43.0.0/16"])],
                gateways: vec![gateway("one", GATEWAY_KEYS[0]), gateway("two", GATEWAY_KEYS[1])],
                lease: Some(lease("two")),
                silence: None,
                overrides: Overrides {
                    pod_cidrs: Ok(Vec::new()),
                    service_cidrs: Ok(Vec::new()),
                    virtual_pool: super::super::default_pool(),
                    allowed: Vec::new(),
                },
            }
        }

        fn own(&self) -> OwnMember {
            self.own_after(None)
        }

        fn own_after(&self, before: Option<&MemberSpec>) -> OwnMember {
            self.own_beside(before, &[])
        }

        fn own_beside(&self, before: Option<&MemberSpec>, neighbours: &[Neighbour]) -> OwnMember {
            own(&Discovery {
                cluster: &"paris".parse().unwrap(),
                cluster_uid: "uid",
                version: "1.2.3",
                overrides: &self.overrides,
                nodes: &self.nodes,
                service_cidrs: &self.service_cidrs,
                gateways: &self.gateways,
                selector: &Selector::default(),
                lease: self.lease.as_ref(),
                silence: self.silence,
                before,
                published: before,
                heard: true,
                neighbours,
                departed: &[],
                now: Timestamp::UNIX_EPOCH,
            })
        }

        /// Reason and message of the condition that does not hold.
        fn problem(&self) -> (&'static str, String) {
            let own = self.own();
            let bad: Vec<_> = own.findings.iter().filter(|finding| finding.holds == Holds::False).collect();
            assert_eq!(bad.len(), 1, "{:?}", own.findings);
            (bad[0].reason, bad[0].message.clone())
        }
    }

    #[test]
    fn a_k3s_cluster_describes_itself_without_a_setting() {
        let own = Cluster::k3s().own();
        assert_eq!(own.spec.pod_cidrs, ["10.42.0.0/23"]);
        assert_eq!(own.spec.service_cidrs, ["10.43.0.0/16"]);
        let gateways: Vec<_> =
            own.spec.gateways.iter().map(|gateway| (gateway.node.as_str(), gateway.active)).collect();
        assert_eq!(gateways, [("two", true), ("one", false)]);
        assert_eq!(own.spec.gateways[0].public_key, GATEWAY_KEYS[1]);
        assert!(own.findings.iter().all(|finding| finding.holds == Holds::True), "{:?}", own.findings);
        assert_eq!(
            own.findings[0].message,
            "pods 10.42.0.0/23 of the nodes (flannel); services 10.43.0.0/16 of the ServiceCIDRs"
        );
    }

    #[test]
    fn both_families_are_found() {
        let mut cluster = Cluster::k3s();
        cluster.nodes = vec![node("two", &["10.42.0.0/24", "fd42::/64"], &[])];
        cluster.service_cidrs = vec![service_cidr(&["10.43.0.0/16", "fd43::/112"])];
        let own = cluster.own();
        assert_eq!(own.spec.pod_cidrs, ["10.42.0.0/24", "fd42::/64"]);
        assert_eq!(own.spec.service_cidrs, ["10.43.0.0/16", "fd43::/112"]);
    }

    #[test]
    fn what_is_set_by_hand_counts_alone() {
        let mut cluster = Cluster::k3s();
        cluster.nodes = vec![node("one", &[], &["projectcalico.org/IPv4Address"])];
        cluster.service_cidrs.clear();
        cluster.lease = Some(lease("one"));
        cluster.overrides.pod_cidrs = by_hand(&["10.200.0.0/16"]);
        cluster.overrides.service_cidrs = by_hand(&["10.201.0.0/16"]);
        let own = cluster.own();
        assert_eq!(
            (own.spec.pod_cidrs[0].as_str(), own.spec.service_cidrs[0].as_str()),
            ("10.200.0.0/16", "10.201.0.0/16")
        );
        assert!(own.findings.iter().all(|finding| finding.holds == Holds::True), "{:?}", own.findings);
    }

    #[test]
    fn what_is_set_by_hand_is_used_and_told_where_it_leaves_something_out() {
        let wrong = |pods: &[&str], services: &[&str]| {
            let mut cluster = Cluster::k3s();
            (cluster.overrides.pod_cidrs, cluster.overrides.service_cidrs) = (by_hand(pods), by_hand(services));
            let own = cluster.own();
            let told = [&own.spec.pod_cidrs, &own.spec.service_cidrs].map(|texts| texts.join(" "));
            (told, cluster.problem())
        };
        let (told, (reason, message)) = wrong(&["10.99.0.0/16"], &["10.43.0.0/16"]);
        assert_eq!((told[0].as_str(), reason), ("10.99.0.0/16", "WrongPodCIDRs"));
        assert!(message.starts_with("node one has 10.42.0.0/24, which LINKSPAN_POD_CIDRS (10.99.0.0/16)"), "{message}");
        let (_, (reason, message)) = wrong(&["10.42.0.0/24"], &[]);
        assert!(reason == "WrongPodCIDRs" && message.starts_with("node two has 10.42.1.0/24"), "{message}");
        let (told, (reason, message)) = wrong(&[], &["10.99.0.0/16"]);
        assert_eq!((told[1].as_str(), reason), ("10.99.0.0/16", "WrongServiceCIDRs"));
        assert!(
            message.starts_with("ServiceCIDR kubernetes has 10.43.0.0/16, which LINKSPAN_SERVICE_CIDRS"),
            "{message}"
        );
        let (_, (reason, message)) = wrong(&["10.99.0.0/16"], &["10.99.0.0/16"]);
        assert!(reason == "WrongPodCIDRs" && message.contains("; ServiceCIDR kubernetes has"), "{message}");
    }

    #[test]
    fn what_is_set_by_hand_may_be_wider_and_need_not_hold_what_the_cni_does_not_use() {
        let good = |cluster: &Cluster| {
            let own = cluster.own();
            assert!(own.findings.iter().all(|finding| finding.holds == Holds::True), "{:?}", own.findings);
        };
        let mut cluster = Cluster::k3s();
        cluster.overrides.service_cidrs = by_hand(&["10.43.0.0/17", "10.43.128.0/17"]);
        for wide in [&["10.0.0.0/8"][..], &["10.42.0.0/25", "10.42.0.128/25", "10.42.1.0/24"], &["10.42.0.0/23"]] {
            cluster.overrides.pod_cidrs = by_hand(wide);
            good(&cluster);
        }
        cluster.overrides.pod_cidrs = by_hand(&["10.99.0.0/16"]);
        let cilium = json!({ "type": "NetworkUnavailable", "status": "False", "reason": "CiliumIsUp" });
        cluster.nodes = vec![node("one", &["10.42.0.0/24"], &[]), node("two", &["10.42.1.0/24"], &[])];
        assert_eq!(cluster.problem().0, "WrongPodCIDRs");
        cluster.nodes[0].status = Some(serde_json::from_value(json!({ "conditions": [cilium] })).unwrap());
        good(&cluster);
        cluster.nodes[0] = node("one", &["10.42.0.0/24"], &["projectcalico.org/IPv4Address"]);
        good(&cluster);
    }

    #[test]
    fn what_is_set_by_hand_and_cannot_be_used_leaves_the_cluster_what_it_was() {
        let mut cluster = Cluster::k3s();
        let before = cluster.own().spec;
        let many = |count: usize| {
            let nets: Vec<String> = (0..count).map(|i| format!("10.{}.{}.0/32", i / 128, i % 128 * 2)).collect();
            by_hand(&nets.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let malformed =
            || -> Result<Vec<IpNet>, String> { Err("10.42.0.1/16 has bits set behind its length".to_owned()) };
        for (pods, services, expected, part) in [
            (malformed(), Ok(Vec::new()), "InvalidCIDRs", "LINKSPAN_POD_CIDRS cannot be used"),
            (Ok(Vec::new()), malformed(), "InvalidCIDRs", "LINKSPAN_SERVICE_CIDRS cannot be used"),
            (by_hand(&["10.0.0.0/7"]), Ok(Vec::new()), "InvalidCIDRs", "10.0.0.0/7 is too wide"),
            (many(257), Ok(Vec::new()), "TooManyPodCIDRs", "257 prefixes are more than the 256"),
            (Ok(Vec::new()), many(17), "TooManyServiceCIDRs", "set LINKSPAN_SERVICE_CIDRS to wider ones"),
        ] {
            (cluster.overrides.pod_cidrs, cluster.overrides.service_cidrs) = (pods, services);
            let (reason, message) = cluster.problem();
            assert!(reason == expected && message.contains(part), "{reason}: {message}");
            let (new, known) = (cluster.own().spec, cluster.own_after(Some(&before)).spec);
            assert!(new.pod_cidrs.is_empty() || new.service_cidrs.is_empty(), "nothing was known of one of them");
            assert_eq!((&known.pod_cidrs, &known.service_cidrs), (&before.pod_cidrs, &before.service_cidrs));
        }
        (cluster.overrides.pod_cidrs, cluster.overrides.service_cidrs) = (many(256), Ok(Vec::new()));
        assert_eq!(cluster.own().spec.pod_cidrs.len(), 256);
    }

    #[test]
    fn who_keeps_its_prefixes_gets_blocks_when_another_one_comes_with_the_same() {
        let mut cluster = Cluster::k3s();
        let before = cluster.own().spec;
        cluster.overrides.pod_cidrs = Err("nonsense".to_owned());
        let berlin = member("berlin", 100, "10.42.0.0/16", GATEWAY_KEYS[2]);
        let neighbours = [Neighbour::of(&berlin, false, Timestamp::UNIX_EPOCH)];
        let own = cluster.own_beside(Some(&before), &neighbours);
        let pods: Vec<&str> = own.spec.virtual_cidrs.iter().map(|block| block.pods.as_str()).collect();
        assert_eq!(pods, ["10.42.0.0/24", "10.42.1.0/24"]);
        // Where no prefix of a node is known any more, that is told.
        cluster.nodes.clear();
        let own = cluster.own_beside(Some(&before), &neighbours);
        let told = own.findings.iter().find(|finding| finding.kind == "Virtual").unwrap();
        assert_eq!((told.holds, told.reason), (Holds::False, "NoPrefixes"));
    }

    #[test]
    fn a_node_that_has_just_come_takes_nothing_from_the_others() {
        let mut cluster = Cluster::k3s();
        let before = cluster.own().spec.pod_cidrs;
        cluster.nodes.push(node("new", &[], &[]));
        let own = cluster.own();
        assert_eq!(own.spec.pod_cidrs, before);
        assert!(own.findings.iter().any(|finding| finding.message.contains("but for node new")), "{:?}", own.findings);
    }

    #[test]
    fn of_a_gateway_with_very_many_endpoints_the_first_are_told() {
        let mut cluster = Cluster::k3s();
        let endpoint = |i: usize| format!("198.51.100.{i}:51820");
        cluster.gateways[0].spec.endpoints = (0..16).map(endpoint).collect();
        let told = &cluster.own().spec.gateways[1];
        assert_eq!((told.node.as_str(), told.endpoints.len(), told.endpoints[7].as_str()), ("one", 8, &*endpoint(7)));
    }

    #[test]
    fn what_was_known_stays_when_it_is_known_no_more() {
        let mut cluster = Cluster::k3s();
        let mut before = cluster.own().spec;
        before.virtual_only = true;
        before.virtual_cidrs =
            vec![VirtualCidr { pods: "10.42.0.0/24".to_owned(), r#virtual: "100.64.3.0/24".to_owned() }];
        cluster.nodes.clear();
        cluster.service_cidrs.clear();
        let after = cluster.own_after(Some(&before));
        assert_eq!((&after.spec.pod_cidrs, &after.spec.service_cidrs), (&before.pod_cidrs, &before.service_cidrs));
        assert_eq!(after.spec.virtual_cidrs, before.virtual_cidrs);
        assert_eq!((after.findings[0].kind, after.findings[0].holds), ("Networks", Holds::False));
    }

    #[test]
    fn each_thing_that_is_missing_is_told_with_a_fix() {
        let told = |change: fn(&mut Cluster), reason: &str, part: &str| {
            let mut cluster = Cluster::k3s();
            change(&mut cluster);
            let (told, message) = cluster.problem();
            assert!(told == reason && message.contains(part), "{told}: {message}");
        };
        told(|it| it.nodes = vec![node("two", &[], &[])], "NoPodCIDRs", "node two has no spec.podCIDRs");
        told(|it| it.nodes[0] = node("one", &["127.0.0.0/8"], &[]), "InvalidPodCIDR", "loopback");
        told(
            |it| {
                it.nodes = vec![node("two", &["10.42.0.0/24"], &["network.cilium.io/ipv4-pod-cidr"])];
            },
            "UnknownPodCIDRs",
            "Cilium may give pods other prefixes",
        );
        told(|it| it.service_cidrs.clear(), "NoServiceCIDRs", "LINKSPAN_SERVICE_CIDRS");
        told(|it| it.gateways.clear(), "NoGateway", "linkspan.dev/gateway=true");
        told(|it| it.lease = None, "NoActiveGateway", "one may be a gateway");
        told(|it| it.lease = Some(lease("three")), "NoActiveGateway", "node three holds Lease linkspan-gateway");
        told(
            |it| it.silence = Some(Duration::from_secs(60)),
            "NoActiveGateway",
            "gateway two has not renewed Lease linkspan-gateway for 60 s or more",
        );
    }

    #[test]
    fn where_nodes_are_labelled_no_other_one_is_a_gateway() {
        let labelled = |name: &str, address: &str| {
            let address = json!([{ "type": "InternalIP", "address": address }]);
            let metadata = json!({ "name": name, "labels": { "linkspan.dev/gateway": "true" } });
            let node = json!({
                "metadata": metadata, "spec": { "podCIDRs": ["10.42.0.0/24"] }, "status": { "addresses": address },
            });
            serde_json::from_value::<Node>(node).unwrap()
        };
        let mut cluster = Cluster::k3s();
        cluster.nodes[0] = labelled("one", "192.168.7.2");
        // `two` has published itself, and taken the Lease.
        let names: Vec<String> = cluster.own().spec.gateways.into_iter().map(|gateway| gateway.node).collect();
        assert_eq!(names, ["one"]);
        assert_eq!(
            cluster.problem().1,
            "node two holds Lease linkspan-gateway and is no gateway; see the log of linkspan-node there"
        );
        cluster.nodes[0] = labelled("one", "unknown");
        assert_eq!(cluster.own().spec.gateways.len(), 2, "a node without an address is no gateway, label or not");
    }

    #[test]
    fn a_gateway_whose_node_is_gone_is_none() {
        let mut cluster = Cluster::k3s();
        cluster.nodes.remove(1);
        let own = cluster.own();
        assert_eq!(own.spec.gateways.len(), 1);
        assert!(!own.spec.gateways[0].active);
    }
}
