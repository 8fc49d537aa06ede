//! Joins that create overlaps, also at the same time and over a broker that loses writes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::ObjectMeta;
use proptest::prelude::*;

use super::super::condition::Holds;
use super::super::judge::seniority;
use super::super::{ANNOTATION_JOINED_AT, Claim, ClusterId, Overrides, View, judge, own};
use super::*;
use crate::api::{Gateway, Member, RestingCidr, VirtualCidr};

/// A cluster with its own API server.
struct Cluster {
    id: ClusterId,
    pods: Vec<&'static str>,
    services: &'static str,
    pool: Vec<IpNet>,
    /// The local copy of its own Member.
    local: Option<MemberSpec>,
    /// What the broker answered when it took the Member.
    joined: Option<ObjectMeta>,
    /// What it has last seen on the broker.
    seen: BTreeMap<String, Member>,
    finding: Option<Finding>,
    departed: Vec<IpNet>,
    /// Whether it has left.
    away: bool,
}

/// Clusters and what is on the broker.
#[derive(Default)]
struct Fleet {
    clusters: Vec<Cluster>,
    broker: BTreeMap<String, Member>,
    /// What was there before each write.
    earlier: Vec<BTreeMap<String, Member>>,
    created: i64,
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Lost,
    /// It arrives, and the answer is lost.
    Unanswered,
    Answered,
}

fn key(number: usize) -> String {
    use tunnel::config::PrivateKey;
    PrivateKey::from_bytes([u8::try_from(number).unwrap() + 1; 32]).public_key().to_string()
}

impl Fleet {
    fn add(&mut self, name: &str, pods: &[&'static str], services: &'static str) -> usize {
        let number = self.clusters.len();
        self.clusters.push(Cluster {
            id: name.parse().unwrap(),
            pods: pods.to_vec(),
            services,
            pool: default_pool(),
            local: None,
            joined: None,
            seen: BTreeMap::new(),
            finding: None,
            departed: Vec::new(),
            away: false,
        });
        number
    }

    fn of(clusters: &[(&str, &[&'static str], &'static str)]) -> Self {
        let mut fleet = Self::default();
        for (name, pods, services) in clusters {
            let number = fleet.add(name, pods, services);
            fleet.settle(number);
        }
        fleet
    }

    /// What the broker had so many writes ago.
    fn ago(&self, writes: usize) -> &BTreeMap<String, Member> {
        let all: Vec<_> = self.earlier.iter().chain([&self.broker]).collect();
        all[all.len() - 1 - writes.min(self.earlier.len())]
    }

    /// One pass of a cluster's controller: it looks at the broker, if it can, and writes its Member, if that arrives.
    fn pass(&mut self, number: usize, looks: bool, arrives: bool) {
        let write = if arrives { Write::Answered } else { Write::Lost };
        self.pass_with(number, looks.then_some(0), write, 0);
    }

    /// As [`Fleet::pass`]: it sees the broker as it was so many writes ago, and the policies there see others' Members as
    /// they were `judged` writes ago.
    fn pass_with(&mut self, number: usize, looks: Option<usize>, write: Write, judged: usize) {
        if self.clusters[number].away {
            return;
        }
        if let Some(writes) = looks {
            self.look(number, self.ago(writes).clone());
        }
        let spec = self.describe(number);
        if write != Write::Lost {
            self.write(number, spec, write, judged);
        }
    }

    /// A cluster sees what is on the broker, and who has left.
    fn look(&mut self, number: usize, seen: BTreeMap<String, Member>) {
        let cluster = &mut self.clusters[number];
        let before = std::mem::replace(&mut cluster.seen, seen);
        let gone = before.iter().filter(|(name, _)| {
            let stays = self.broker.contains_key(*name) || cluster.seen.contains_key(*name);
            !stays && name.as_str() != cluster.id.as_str()
        });
        let had = gone.flat_map(|(_, member)| {
            let blocks = member.spec.virtual_cidrs.iter().map(|block| block.r#virtual.parse::<IpNet>().unwrap());
            blocks.chain(resting::told(&member.spec, NOW))
        });
        cluster.departed = had.collect();
    }

    /// A cluster leaves, and begins anew when it comes again.
    fn leave(&mut self, number: usize) {
        self.earlier.push(self.broker.clone());
        let cluster = &mut self.clusters[number];
        self.broker.remove(cluster.id.as_str());
        (cluster.local, cluster.joined, cluster.away) = (None, None, true);
        cluster.seen.clear();
    }

    /// What a cluster says of itself, from what it has last seen. It is virtual to all on the broker before it is so at home.
    fn describe(&mut self, number: usize) -> MemberSpec {
        let cluster = &mut self.clusters[number];
        let name = cluster.id.to_string();
        let published = cluster.seen.get(&name).map(|member| member.metadata.clone());
        let heard = published.is_some() || cluster.joined.is_none();
        let metadata = published.or_else(|| cluster.joined.clone());
        let metadata = metadata.unwrap_or(ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() });
        let others = cluster.seen.values().filter(|member| member.name_any() != name);
        let neighbours: Vec<Neighbour> =
            others.map(|other| Neighbour::of(other, seniority(&other.metadata) < seniority(&metadata), NOW)).collect();
        let overrides = Overrides {
            pod_cidrs: Ok(cluster.pods.iter().map(|text| text.parse().unwrap()).collect()),
            service_cidrs: Ok(vec![cluster.services.parse().unwrap()]),
            virtual_pool: cluster.pool.clone(),
            allowed: Vec::new(),
        };
        let mut own = own(&Discovery {
            cluster: &cluster.id,
            cluster_uid: "uid",
            version: "",
            overrides: &overrides,
            nodes: &[],
            service_cidrs: &[],
            gateways: &[],
            selector: &crate::members::Selector::default(),
            lease: None,
            silence: None,
            before: cluster.local.as_ref(),
            published: cluster.seen.get(&name).map(|member| &member.spec),
            heard,
            neighbours: &neighbours,
            departed: &std::mem::take(&mut cluster.departed),
            now: NOW,
        });
        own.spec.gateways = vec![Gateway {
            node: "node".into(),
            public_key: key(number),
            endpoints: Vec::new(),
            lanes: 1,
            active: true,
        }];
        cluster.finding = own.findings.iter().find(|finding| finding.kind == "Virtual").cloned();
        cluster.local = Some(own.spec.clone());
        own.spec.virtual_only |= own.turns_virtual;
        own.spec
    }

    /// The broker takes a Member, or refuses it. Some come in the same second.
    fn write(&mut self, number: usize, spec: MemberSpec, write: Write, judged: usize) {
        let name = self.clusters[number].id.to_string();
        self.created += 1;
        let mut member = Member::new(&name, spec);
        member.metadata = self.broker.get(&name).map(|member| member.metadata.clone()).unwrap_or_else(|| {
            let joined = Timestamp::from_second(self.created / 3).unwrap().to_string();
            let annotations = BTreeMap::from([(ANNOTATION_JOINED_AT.to_owned(), joined)]);
            ObjectMeta { name: Some(name.clone()), annotations: Some(annotations), ..ObjectMeta::default() }
        });
        if !self.refuses(&member, self.ago(judged)) {
            if write == Write::Answered {
                self.clusters[number].joined = Some(member.metadata.clone());
            }
            self.earlier.push(self.broker.clone());
            self.broker.insert(name, member);
        }
    }

    /// What `deploy/broker/policy-claims.yaml` says, without keys and endpoints, and that who is virtual stays so. It sees the
    /// `others` some time later.
    fn refuses(&self, member: &Member, others: &BTreeMap<String, Member>) -> bool {
        let old = self.broker.get(&member.name_any());
        if old.is_some_and(|old| old.spec.virtual_only && !member.spec.virtual_only) {
            return true;
        }
        let natives = |member: &Member| -> Vec<IpNet> {
            let spec = &member.spec;
            spec.pod_cidrs.iter().filter(|_| !spec.virtual_only).map(|net| net.parse().unwrap()).collect()
        };
        let all = |member: &Member| {
            let blocks = member.spec.virtual_cidrs.iter().map(|block| block.r#virtual.parse().unwrap());
            natives(member).into_iter().chain(blocks).collect::<Vec<IpNet>>()
        };
        let had = old.map(all).unwrap_or_default();
        let added: Vec<IpNet> = all(member).into_iter().filter(|net| !had.contains(net)).collect();
        let age = |member: &Member| seniority(&member.metadata).0;
        others.values().filter(|other| other.name_any() != member.name_any()).any(|other| {
            let counts = old.is_some() || age(other) >= age(member);
            let before = old.is_some_and(|old| any_overlap(natives(old), &natives(other)));
            counts && !before && any_overlap(added.iter().copied(), &all(other))
        })
    }

    /// A cluster's controller runs until nothing changes, then those of all others.
    fn settle(&mut self, first: usize) {
        self.pass(first, true, true);
        for _ in 0..4 {
            for number in 0..self.clusters.len() {
                self.pass(number, true, true);
            }
        }
    }

    fn claim(&self, number: usize) -> Claim {
        Claim::check(&self.broker[self.clusters[number].id.as_str()]).unwrap()
    }

    /// How one cluster reaches another: its routes, or why not.
    fn routes(&self, from: usize, to: usize) -> Result<Vec<String>, String> {
        let members: Vec<Member> = self.broker.values().cloned().collect();
        let verdicts = judge(&self.clusters[from].id, &members, &[]);
        match &verdicts[self.clusters[to].id.as_str()] {
            super::super::Verdict::Accepted(admitted) => Ok(admitted.routes.iter().map(IpNet::to_string).collect()),
            super::super::Verdict::Refused(refusal) => Err(refusal.message.clone()),
        }
    }

    fn is_virtual(&self, from: usize, to: usize) -> bool {
        View::of(&self.claim(to), &self.claim(from)).is_virtual()
    }
}

/// When everything happens.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const K3S: (&[&str], &str) = (&["10.42.0.0/24", "10.42.1.0/24"], "10.43.0.0/16");
const OTHER: (&[&str], &str) = (&["10.52.0.0/24"], "10.53.0.0/16");

#[test]
fn clusters_that_share_nothing_have_no_virtual_addresses() {
    let fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("rome", OTHER.0, OTHER.1)]);
    assert_eq!(fleet.claim(0).blocks, []);
    assert_eq!(fleet.routes(0, 1).unwrap(), ["10.52.0.0/24", "10.53.0.0/16"]);
    assert_eq!(fleet.routes(1, 0).unwrap(), ["10.42.0.0/23", "10.43.0.0/16"]);
}

#[test]
fn who_joins_with_anothers_prefixes_is_virtual_to_all_and_changes_nothing_between_the_others() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("rome", OTHER.0, OTHER.1)]);
    let before = (fleet.routes(0, 1), fleet.routes(1, 0));
    let berlin = fleet.add("berlin", K3S.0, K3S.1);
    fleet.settle(berlin);
    assert_eq!((fleet.routes(0, 1), fleet.routes(1, 0)), before);
    assert!(fleet.claim(berlin).virtual_only && !fleet.claim(0).virtual_only);
    for (from, to, is_virtual) in
        [(0, 2, true), (1, 2, true), (2, 0, true), (2, 1, false), (1, 0, false), (0, 1, false)]
    {
        assert_eq!(fleet.is_virtual(from, to), is_virtual, "{from} to {to}");
        assert!(!fleet.routes(from, to).unwrap().is_empty());
    }
    // Only what collides is virtual: berlin's services are paris's too, and rome's are nobody else's.
    assert!(fleet.routes(0, 2).unwrap().iter().all(|net| net.starts_with("100.")));
    assert_eq!(fleet.routes(2, 1).unwrap(), ["10.52.0.0/24", "10.53.0.0/16"]);
    assert_eq!(fleet.clusters[1].finding.as_ref().unwrap().reason, "NotNeeded");
    assert_eq!(fleet.clusters[0].finding.as_ref().unwrap().reason, "Allocated");
}

#[test]
fn services_alone_that_collide_need_no_virtual_addresses() {
    let fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("rome", OTHER.0, K3S.1)]);
    assert_eq!(fleet.routes(0, 1).unwrap(), ["10.52.0.0/24"]);
    assert_eq!(fleet.routes(1, 0).unwrap(), ["10.42.0.0/23"]);
}

#[test]
fn pods_that_are_anothers_services_are_virtual_to_that_one() {
    let fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("rome", &["10.43.7.0/24"], "10.53.0.0/16")]);
    assert!(fleet.routes(0, 1).unwrap()[0].starts_with("100."), "{:?}", fleet.routes(0, 1));
    assert_eq!(fleet.routes(1, 0).unwrap(), ["10.42.0.0/23"]);
}

#[test]
fn a_node_that_comes_gets_a_block_and_leaves_the_others_theirs() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    let before = fleet.claim(1).blocks;
    fleet.clusters[1].pods.push("10.42.9.0/24");
    fleet.settle(1);
    let after = fleet.claim(1).blocks;
    assert!(before.iter().all(|block| after.contains(block)), "{before:?} {after:?}");
    assert_eq!(after.len(), 3);
}

#[test]
fn who_gets_anothers_prefix_later_becomes_virtual_and_not_the_other() {
    let mut fleet = Fleet::of(&[("paris", &["10.42.0.0/24"], K3S.1), ("rome", OTHER.0, OTHER.1)]);
    fleet.clusters[0].pods.push("10.52.0.0/24");
    fleet.settle(0);
    assert!(fleet.claim(0).virtual_only && !fleet.claim(1).virtual_only);
    // rome's services are no address of paris, and yet no way there: paris knows rome's pods by virtual addresses.
    assert_eq!(fleet.routes(0, 1).unwrap().len(), 1, "{:?}", fleet.routes(0, 1));
}

#[test]
fn who_grows_into_anothers_prefix_while_nobody_hears_it_becomes_virtual_when_they_do() {
    let mut fleet = Fleet::of(&[("paris", &["10.42.0.0/24"], K3S.1), ("rome", OTHER.0, OTHER.1)]);
    fleet.clusters[0].pods.push("10.42.3.0/24");
    fleet.pass(0, true, false);
    let berlin = fleet.add("berlin", &["10.42.3.0/24"], "10.63.0.0/16");
    fleet.settle(berlin);
    assert!(fleet.claim(0).virtual_only && !fleet.claim(berlin).virtual_only);
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        assert!(fleet.routes(from, to).is_ok(), "{from} to {to}: {:?}", fleet.routes(from, to));
    }
}

#[test]
fn a_member_that_is_not_heard_stays_what_the_others_know() {
    let mut fleet = Fleet::of(&[("paris", &["10.42.0.0/24"], K3S.1), ("rome", OTHER.0, OTHER.1)]);
    // The broker is away: what was seen of the others is still there.
    let mut without = fleet.broker.clone();
    without.remove("paris");
    fleet.clusters[0].seen = without;
    fleet.clusters[0].pods.push("10.52.0.0/24");
    fleet.pass(0, false, false);
    assert!(!fleet.clusters[0].local.as_ref().unwrap().virtual_only);
    fleet.settle(0);
    assert!(fleet.claim(0).virtual_only);
}

#[test]
fn who_gets_anothers_prefix_while_the_broker_is_away_stays_what_the_others_know_and_keeps_all_but_that_one() {
    let prefixes: [&'static [&'static str]; 3] = [&["10.42.0.0/24"], OTHER.0, &["10.62.0.0/24"]];
    // Whether it is the older or the younger one of those that collide.
    for [paris, rome, oslo] in [[0, 1, 2], [1, 0, 2]] {
        let mut names = [""; 3];
        (names[paris], names[rome], names[oslo]) = ("paris", "rome", "oslo");
        let mut pods = prefixes;
        (pods[paris], pods[rome], pods[oslo]) = (prefixes[0], prefixes[1], prefixes[2]);
        let services = ["10.43.0.0/16", "10.53.0.0/16", "10.63.0.0/16"];
        let mut fleet = Fleet::of(&[0, 1, 2].map(|number| (names[number], pods[number], services[number])));
        fleet.clusters[paris].pods.push("10.52.0.0/24");
        for _ in 0..3 {
            fleet.pass(paris, false, false);
        }
        let local = fleet.clusters[paris].local.clone().unwrap();
        assert_eq!((local.virtual_only, local.pod_cidrs.len(), local.virtual_cidrs.len()), (false, 2, 2));
        // What its nodes make of it, which have its Member as it is at home.
        let mut members = fleet.broker.clone();
        members.get_mut("paris").unwrap().spec = local;
        let verdicts = judge(&fleet.clusters[paris].id, members.values(), &[]);
        let used = verdicts.into_iter().filter(|(_, verdict)| verdict.accepted().is_some());
        assert_eq!(used.map(|(name, _)| name).collect::<Vec<_>>(), ["oslo", "paris"]);
        fleet.pass(paris, true, true);
        let is_virtual = |fleet: &Fleet| fleet.clusters[paris].local.as_ref().unwrap().virtual_only;
        assert!(fleet.claim(paris).virtual_only && !is_virtual(&fleet), "the broker has it first");
        fleet.settle(paris);
        assert!(is_virtual(&fleet));
        assert!(fleet.routes(paris, rome).is_ok() && fleet.routes(rome, paris).is_ok());
    }
}

#[test]
fn pods_where_another_has_a_block_are_told() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    let block = fleet.claim(1).blocks[0].r#virtual.to_string();
    let rome = fleet.add("rome", &[block.clone().leak()], OTHER.1);
    fleet.settle(rome);
    let finding = fleet.clusters[rome].finding.clone().unwrap();
    assert_eq!((finding.holds, finding.reason), (Holds::False, "PoolOverlaps"));
    assert!(finding.message.contains(&block) && finding.message.contains("berlin"), "{}", finding.message);
}

#[test]
fn pods_that_are_services_of_an_older_one_take_no_route_away() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("rome", OTHER.0, OTHER.1)]);
    let before = fleet.routes(0, 1);
    let berlin = fleet.add("berlin", &["10.53.0.0/24"], "10.63.0.0/16");
    fleet.settle(berlin);
    assert_eq!(fleet.routes(0, 1), before, "10.53.0.0/16 is still rome's");
    assert!(fleet.routes(0, berlin).unwrap().iter().all(|net| net.starts_with("100.")));
}

#[test]
fn a_younger_one_with_the_same_prefixes_never_makes_the_older_one_virtual() {
    let mut fleet = Fleet::of(&[("paris", &["10.42.0.0/24"], K3S.1)]);
    // One that does not give way: of an older version, or malicious.
    let greedy = fleet.add("greedy", &["10.42.0.0/16"], OTHER.1);
    fleet.pass(greedy, false, true);
    fleet.clusters[0].pods.push("10.42.1.0/24");
    fleet.pass(0, true, true);
    assert!(!fleet.claim(0).virtual_only);
    assert_eq!(fleet.claim(0).pod_cidrs.len(), 1, "aggregated");
    assert!(fleet.routes(0, greedy).unwrap_err().contains("which was here first"));
}

#[test]
fn a_block_that_the_broker_does_not_have_yet_yields_to_who_was_faster() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    // paris, the older, takes a block at home while it cannot write; then berlin publishes the same.
    fleet.clusters[0].pods.push("10.42.9.0/24");
    fleet.pass(0, true, false);
    let taken = fleet.clusters[0].local.clone().unwrap().virtual_cidrs;
    let taken = taken.iter().find(|block| block.pods == "10.42.9.0/24").unwrap().r#virtual.clone();
    let berlin = fleet.broker.get_mut("berlin").unwrap();
    berlin.spec.virtual_cidrs.push(VirtualCidr { pods: "10.42.8.0/24".into(), r#virtual: taken.clone() });
    fleet.pass(0, true, true);
    let blocks = fleet.claim(0).blocks;
    assert_eq!(blocks.len(), 3);
    assert!(!blocks.iter().any(|block| block.r#virtual.to_string() == taken), "{blocks:?}");
}

#[test]
fn what_a_cluster_that_is_virtual_has_itself_takes_no_block_away() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1), ("rome", K3S.0, K3S.1)]);
    let before = fleet.claim(2).blocks;
    let pods = before[0].r#virtual.to_string();
    fleet.broker.get_mut("berlin").unwrap().spec.pod_cidrs.push(pods);
    fleet.pass(2, true, true);
    assert_eq!(fleet.claim(2).blocks, before);
}

#[test]
fn more_nodes_than_there_may_be_blocks_leave_the_rest_of_the_member_alone() {
    let nets: Vec<&'static str> = (0..1030).map(|i| &*format!("10.{}.{}.0/24", 44 + i / 256, i % 256).leak()).collect();
    let mut fleet = Fleet::of(&[("paris", &["10.44.0.0/14"], K3S.1)]);
    let many = fleet.add("many", &nets, OTHER.1);
    fleet.pass(many, true, true);
    assert_eq!(fleet.claim(many).blocks.len(), 256);
    assert_eq!(fleet.clusters[many].finding.as_ref().unwrap().reason, "TooManyBlocks");
}

#[test]
fn a_block_that_a_living_cluster_gives_up_rests_and_a_node_that_comes_gets_another() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    let freed = fleet.claim(1).blocks[1];
    assert_eq!(freed.native.to_string(), "10.42.1.0/24");
    fleet.clusters[1].pods.pop();
    fleet.settle(1);
    let resting = |fleet: &Fleet| -> Vec<String> {
        fleet.broker["berlin"].spec.resting_cidrs.iter().map(|cidr| cidr.r#virtual.clone()).collect()
    };
    assert_eq!(resting(&fleet), [freed.r#virtual.to_string()]);
    fleet.clusters[1].pods.push("10.42.1.0/24");
    fleet.settle(1);
    assert!(!fleet.claim(1).blocks.contains(&freed), "{:?}", fleet.claim(1).blocks);
    assert_eq!(resting(&fleet), [freed.r#virtual.to_string()], "the new one is in use");
}

#[test]
fn clusters_with_different_pools_are_told_of_each_other() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    fleet.clusters[1].pool = vec!["100.96.0.0/11".parse().unwrap()];
    fleet.settle(1);
    let block = fleet.claim(0).blocks[0].r#virtual;
    let inside = fleet.clusters[1].pool[0].contains(&block);
    assert!(!inside, "the test needs a block of paris outside of the pool of berlin, and not {block}");
    let finding = fleet.clusters[1].finding.clone().unwrap();
    assert_eq!((finding.holds, finding.reason), (Holds::False, "PoolDiffers"));
    assert!(finding.message.contains(&block.to_string()) && finding.message.contains("paris"), "{}", finding.message);
    assert_eq!(fleet.clusters[0].finding.as_ref().unwrap().reason, "Allocated", "berlin's are in the pool of paris");
}

#[test]
fn a_pool_that_is_of_no_use_is_told_and_the_others_say_what_they_miss() {
    for (pool, reason) in
        [("100.64.0.0/25", "PoolTooSmall"), ("100.64.0.0/24", "PoolExhausted"), ("10.40.0.0/13", "PoolOverlaps")]
    {
        let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1)]);
        let berlin = fleet.add("berlin", K3S.0, K3S.1);
        fleet.clusters[berlin].pool = vec![pool.parse().unwrap()];
        fleet.settle(berlin);
        let finding = fleet.clusters[berlin].finding.clone().unwrap();
        assert_eq!((finding.holds, finding.reason), (Holds::False, reason), "{}", finding.message);
        assert!(finding.message.contains("LINKSPAN_VIRTUAL_POOL"), "{}", finding.message);
        if reason == "PoolTooSmall" {
            assert!(fleet.routes(0, 1).unwrap_err().contains("condition Virtual"));
            assert!(fleet.routes(1, 1).unwrap_err().contains("condition Virtual"));
        }
    }
}

#[test]
fn who_leaves_frees_the_blocks_and_nobody_takes_them_at_once() {
    let mut fleet = Fleet::of(&[("paris", K3S.0, K3S.1), ("berlin", K3S.0, K3S.1)]);
    let freed: Vec<IpNet> = fleet.claim(1).blocks.iter().map(|block| block.r#virtual).collect();
    fleet.leave(1);
    fleet.pass(0, true, true);
    assert_eq!(fleet.claim(0).blocks, [], "nobody shares its addresses any more");
    // It begins anew as another cluster: alone, it would choose the same.
    fleet.clusters[1].away = false;
    fleet.settle(1);
    let anew: Vec<IpNet> = fleet.claim(1).blocks.iter().map(|block| block.r#virtual).collect();
    assert!(anew.len() == 2 && anew.iter().all(|net| !freed.contains(net)), "{anew:?}");
    // Where there is nothing else, it is taken.
    let small = Fleet::of(&[("paris", K3S.0, K3S.1)]);
    let mut small = Fleet { broker: small.broker.clone(), created: 9, ..small };
    let resting = RestingCidr { r#virtual: "100.64.0.0/10".into(), until: Time(Timestamp::MAX) };
    small.broker.get_mut("paris").unwrap().spec.resting_cidrs = vec![resting];
    let berlin = small.add("berlin", K3S.0, K3S.1);
    small.pass(berlin, true, true);
    assert_eq!(small.claim(berlin).blocks.len(), 2);
}

/// A pass of one of the clusters: who, how long ago what it sees was, if it sees anything, its write, how long ago what
/// the policies see was, and which node it gets before, if any.
type Step = (usize, Option<usize>, Write, usize, usize);

fn any_step() -> impl Strategy<Value = Step> {
    let ago = || prop_oneof![3 => Just(0_usize), 1 => 1_usize..12];
    let write = prop_oneof![1 => Just(Write::Lost), 1 => Just(Write::Unanswered), 3 => Just(Write::Answered)];
    (0_usize..10, proptest::option::weighted(0.7, ago()), write, ago(), 0_usize..12)
}

impl Fleet {
    /// All blocks on the broker, each with its cluster.
    fn blocks(&self) -> Vec<(usize, IpNet)> {
        let of = |number| self.claim(number).blocks.into_iter().map(move |block| (number, block.r#virtual));
        (0..self.clusters.len()).flat_map(of).collect()
    }

    /// Who has a block of these on the broker.
    fn holder(&self, nets: &[IpNet]) -> Option<&String> {
        let mut holders = self.broker.iter().filter(|(_, member)| {
            let blocks = member.spec.virtual_cidrs.iter().map(|block| block.r#virtual.parse::<IpNet>().unwrap());
            any_overlap(blocks, nets)
        });
        holders.next().map(|(name, _)| name)
    }

    /// Passes in which nothing is lost or late, until nothing moves any more.
    fn calm_down(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..12 {
            let before = self.broker.clone();
            for number in 0..self.clusters.len() {
                self.pass(number, true, true);
            }
            if self.broker == before {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("it never comes to rest"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Up to ten clusters join at once and get nodes. What they see may be old, as may be what the policies see; writes are
    /// lost, or their answers, or they are refused. Then things calm down.
    #[test]
    fn joins_at_the_same_time_end_with_unique_addresses_for_all(
        kinds in proptest::collection::vec(0_usize..3, 2..10),
        steps in proptest::collection::vec(any_step(), 0..60),
        contended in proptest::bool::weighted(0.8),
    ) {
        let choices = [K3S, OTHER, (&["10.42.0.0/24"][..], "10.53.0.0/16")];
        let mut fleet = Fleet::default();
        for (i, kind) in kinds.iter().enumerate() {
            let number = fleet.add(&format!("c{i}"), choices[*kind].0, choices[*kind].1);
            if contended {
                // One window, in which all look for the same slots first; room for all there is.
                fleet.clusters[number].pool = vec!["100.64.0.0/18".parse().unwrap()];
            }
        }
        let grown = ["10.42.1.0/24", "10.42.2.0/24", "10.52.0.0/24", "10.53.7.0/24"];
        for (number, looks, write, judged, node) in steps {
            let number = number % kinds.len();
            let pods = &mut fleet.clusters[number].pods;
            pods.extend(grown.get(node).filter(|net| !pods.contains(net) && choices[kinds[number]].1 != "10.53.0.0/16"));
            fleet.pass_with(number, looks, write, judged);
        }
        fleet.calm_down()?;
        let blocks = fleet.blocks();
        for (i, (one, net)) in blocks.iter().enumerate() {
            let twin = blocks[i + 1..].iter().find(|(_, other)| overlap(*other, *net));
            prop_assert!(twin.is_none(), "{net} is of c{one} and of c{}", twin.unwrap().0);
        }
        for from in 0..kinds.len() {
            let mut known: Vec<IpNet> = fleet.claim(from).prefixes().collect();
            for to in (0..kinds.len()).filter(|to| *to != from) {
                let routes = fleet.routes(from, to);
                prop_assert!(routes.is_ok(), "{from} to {to}: {routes:?}");
                for net in routes.unwrap() {
                    let net: IpNet = net.parse().unwrap();
                    let twin = known.iter().find(|other| overlap(**other, net));
                    prop_assert!(twin.is_none(), "{from} knows {net} twice");
                    known.push(net);
                }
            }
        }
    }

    /// One of several clusters with equal prefixes leaves. The others get nodes while what they see is old and writes are lost.
    /// When all have told what rests, it comes again, to which everything is new, and so does another one.
    #[test]
    fn what_one_had_that_has_left_is_nobodys_as_long_as_it_rests(
        count in 3_usize..7,
        leaver in 0_usize..7,
        steps in proptest::collection::vec(any_step(), 0..30),
    ) {
        let leaver = leaver % count;
        let mut fleet = Fleet::default();
        let join = |fleet: &mut Fleet, name: &str| {
            let number = fleet.add(name, K3S.0, K3S.1);
            // One window, in which all look for the same slots first; room for all, and for what rests.
            fleet.clusters[number].pool = vec!["100.64.0.0/17".parse().unwrap()];
        };
        (0..count).for_each(|i| join(&mut fleet, &format!("c{i}")));
        fleet.calm_down()?;
        // What was before is nobody's view any more.
        fleet.earlier.clear();
        let had: Vec<IpNet> = fleet.claim(leaver).blocks.iter().map(|block| block.r#virtual).collect();
        prop_assert_eq!(had.len(), 2);
        fleet.leave(leaver);
        let grown = ["10.42.2.0/24", "10.42.3.0/24"];
        for (number, looks, write, judged, node) in steps {
            let number = number % count;
            let pods = &mut fleet.clusters[number].pods;
            pods.extend(grown.get(node).filter(|net| !pods.contains(net)));
            fleet.pass_with(number, looks, write, judged);
            prop_assert_eq!(fleet.holder(&had), None);
        }
        fleet.calm_down()?;
        fleet.clusters[leaver].away = false;
        join(&mut fleet, "new");
        fleet.calm_down()?;
        prop_assert_eq!(fleet.holder(&had), None);
        prop_assert_eq!(fleet.broker.len(), count + 1);
    }
}
