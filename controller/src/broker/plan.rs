//! What is written next: a pure function of everything that is watched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::action::Action;
use super::apply::Outcome;
use super::config::BrokerConfig;
use super::connection::Connection;
use super::down::{self, Other};
use super::store::Store;
use super::up;
use super::world::{Key, World};
use crate::api::{Member, MemberSpec};
use crate::members::condition::{Finding, says};
use crate::members::{
    ANNOTATION_ALLOWED_PREFIXES, ANNOTATION_BROKER_ADDRESS, ANNOTATION_JOINED_AT, Discovery, Neighbour, OwnMember,
    Refusal, Verdict, Verdicts, addresses, judge, own as describe_itself, seniority, told_to_rest,
};

/// What a pass works with.
pub(super) struct Pass<'a> {
    pub config: &'a BrokerConfig,
    pub connection: &'a Connection,
    /// Namespace of the broker; `None` while not joined.
    pub broker: Option<&'a str>,
    pub now: Timestamp,
}

/// Plans the keys that are dirty, each with what is to be written, or with nothing. What cannot be planned before a list is complete is marked again when it is.
///
/// `court` is kept from pass to pass; it sits again when a Member may have changed.
pub(super) fn plan(world: &mut World, court: &mut Option<Court>, pass: &Pass<'_>) -> Vec<(Key, Vec<Action>)> {
    if world.dirty.contains(&Key::Members) {
        // Who goes is forgotten when the own Member tells what rests after it.
        world.mark([Key::Own]);
    }
    let stale = [Key::Own, Key::Members].iter().any(|key| world.dirty.contains(key));
    let court = match court {
        Some(court) if !stale => court,
        _ => {
            let next = Court::new(world, pass);
            let before = court.take();
            mark_judged_anew(world, before.as_ref(), &next);
            court.insert(next)
        }
    };
    let mut plans = Vec::new();
    for key in std::mem::take(&mut world.dirty) {
        let actions = match &key {
            Key::Own => own(world, pass, court),
            Key::Publish => publish(world, pass, court),
            Key::Members => members(world, pass, court),
            Key::RecordUp(name) => record_up(world, pass, name),
            Key::RecordDown(name) => record_down(world, pass, court, name),
            Key::RecordSay(name) => record_say(world, name),
        };
        plans.push((key, actions));
    }
    plans
}

/// Another verdict on a Member is another one on its records.
fn mark_judged_anew(world: &mut World, before: Option<&Court>, next: &Court) {
    let same = |cluster: &str| before.is_some_and(|court| court.verdicts.get(cluster) == next.verdicts.get(cluster));
    let records = world.remote.records.iter().filter(|(_, seen)| !same(&seen.cluster));
    let mut keys: Vec<Key> = records.map(|(name, _)| Key::RecordDown(name.clone())).collect();
    if next.forgets && !before.is_some_and(|court| court.forgets) {
        keys.extend(world.records.iter().map(|(name, _)| Key::RecordDown(name.clone())));
    }
    world.mark(keys);
}

/// All Members as their copies should be, and what is made of each.
pub(super) struct Court {
    copies: BTreeMap<String, Member>,
    verdicts: Verdicts,
    own: Option<OwnMember>,
    /// Whether the others' copies follow the broker; otherwise they are what they were.
    follows: bool,
    /// Whether what is gone from the broker goes here, too. Where this cluster itself is gone, so may be the broker: it
    /// was emptied or set up anew, and its emptiness says nothing about the others.
    forgets: bool,
    /// When the first prefix that rests may be taken again. Then the own Member may say something else.
    pub rest_ends: Option<Timestamp>,
}

impl Court {
    fn new(world: &World, pass: &Pass<'_>) -> Self {
        let own_name = pass.config.cluster.as_str();
        let remote = &world.remote;
        let follows = pass.connection.is_ours() && remote.members.is_synced() && world.members.is_synced();
        let forgets = follows && remote.members.get(own_name).is_some();
        let mut copies = BTreeMap::new();
        let mut unreadable = Verdicts::new();
        if follows {
            for (name, seen) in remote.members.iter().filter(|(name, _)| *name != own_name) {
                match down::member_copy(name, seen, &pass.config.namespace) {
                    Some(copy) => drop(copies.insert(name.clone(), copy)),
                    None => unreadable.extend(unreadable_copy(name, world, &mut copies)),
                }
            }
        }
        if !forgets {
            // What this cluster said of itself under an earlier ID is not another cluster with the same prefixes.
            let is_other =
                |name: &str, member: &Member| name != own_name && member.spec.cluster_uid != pass.config.cluster_uid;
            let last = world.members.iter().filter(|(name, member)| is_other(name, member));
            for (name, member) in last {
                copies.entry(name.clone()).or_insert_with(|| member.clone());
            }
        }
        let metadata = own_metadata(world, pass);
        let own = world.knows_itself().then(|| describe(world, pass, &copies, &metadata));
        let own_copy = |own: &OwnMember| Member { metadata, spec: own.spec.clone(), status: None };
        copies.extend(own.as_ref().map(|own| (own_name.to_owned(), own_copy(own))));
        let list: Vec<Member> = copies.values().cloned().collect();
        let mut verdicts = judge(&pass.config.cluster, &list, &underlay(world));
        verdicts.extend(unreadable);
        let resting = copies.values().flat_map(|copy| &copy.spec.resting_cidrs).map(|cidr| cidr.until.0);
        let rest_ends = resting.filter(|until| *until > pass.now).min();
        Self { copies, verdicts, own, follows, forgets, rest_ends }
    }

    /// Whether the own Member of this name tells here what must rest after those who go, after these writes: it is the one
    /// memory of what they had. As long as this cluster does not know itself, nothing does.
    pub fn remembers(&self, own: &str, members: &Store<Member>, outcomes: &[Outcome]) -> bool {
        let Some(wanted) = self.own.as_ref().map(|own| &own.spec) else { return false };
        let is_own = |action: &Action| matches!(action, Action::CopyMember(member) if member.name_any() == own);
        members.get(own).is_some_and(|have| have.spec == *wanted)
            || outcomes.iter().any(|outcome| is_own(&outcome.action) && outcome.result.is_ok())
    }
}

/// A Member that cannot be read keeps its last copy, which is refused.
fn unreadable_copy(name: &str, world: &World, copies: &mut BTreeMap<String, Member>) -> Option<(String, Verdict)> {
    let last = world.members.get(name)?;
    copies.insert(name.to_owned(), last.clone());
    let message = "the object on the broker cannot be read; upgrade one of the clusters".to_owned();
    Some((name.to_owned(), Verdict::Refused(Refusal { reason: "Invalid", message })))
}

/// Addresses of the own nodes, which no other cluster's prefix may hold. That of the broker is on the own Member, where
/// nodes see it, too.
fn underlay(world: &World) -> Vec<IpAddr> {
    world.nodes.iter().flat_map(|(_, node)| addresses(node)).collect()
}

/// The others that can be read, as neighbours of who has this metadata.
fn neighbours(copies: &BTreeMap<String, Member>, own: &ObjectMeta, now: Timestamp) -> Vec<Neighbour> {
    copies.values().map(|copy| Neighbour::of(copy, seniority(&copy.metadata) < seniority(own), now)).collect()
}

/// Virtual prefixes of Members that go with this pass, or that have left and come again without them; and those at rest of
/// which they alone may have told.
fn departed(world: &World, copies: &BTreeMap<String, Member>, own: &str, now: Timestamp) -> Vec<IpNet> {
    let others = world.members.iter().filter(|(name, _)| *name != own);
    let lost = others.flat_map(|(name, had)| {
        let copy = copies.get(name);
        let gone = copy.is_none_or(|copy| down::is_of_an_earlier(had, copy));
        let has: Vec<IpNet> = copy.into_iter().flat_map(|copy| held(&copy.spec, now)).collect();
        // What this cluster tells of itself does not begin to rest anew.
        let told = world.members.get(own).into_iter().flat_map(|own| told_to_rest(&own.spec, now));
        let known: Vec<IpNet> = has.into_iter().chain(told).collect();
        held(&had.spec, now).filter(move |net| gone && !known.contains(net))
    });
    lost.collect()
}

/// The virtual prefixes that a Member has or lets rest.
fn held(spec: &MemberSpec, now: Timestamp) -> impl Iterator<Item = IpNet> {
    let has = spec.virtual_cidrs.iter().filter_map(|block| block.r#virtual.parse().ok());
    has.chain(told_to_rest(spec, now))
}

/// The own Member as the broker has it.
fn published<'a>(world: &'a World, own: &str) -> Option<&'a MemberSpec> {
    world.remote.members.get(own)?.spec.as_ref().ok()
}

/// The own Member as it was. What a rebuilt cluster has forgotten the broker still knows: its pods are known by that.
fn before(world: &World, own: &str) -> Option<MemberSpec> {
    let local = world.members.get(own).map(|member| &member.spec);
    let published = published(world, own);
    let mut before = local.or(published)?.clone();
    if let Some(published) = published {
        before.virtual_only |= published.virtual_only;
        if before.virtual_cidrs.is_empty() {
            before.virtual_cidrs.clone_from(&published.virtual_cidrs);
        }
        // So that they stay as they were where nobody can tell them now.
        if before.pod_cidrs.is_empty() {
            before.pod_cidrs.clone_from(&published.pod_cidrs);
        }
        if before.service_cidrs.is_empty() {
            before.service_cidrs.clone_from(&published.service_cidrs);
        }
    }
    Some(before)
}

fn describe(world: &World, pass: &Pass<'_>, copies: &BTreeMap<String, Member>, metadata: &ObjectMeta) -> OwnMember {
    let own = pass.config.cluster.as_str();
    let published = published(world, own);
    let joined = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ANNOTATION_JOINED_AT));
    fn all<T: Clone>(store: &Store<T>) -> Vec<T> {
        store.iter().map(|(_, object)| object.clone()).collect()
    }
    describe_itself(&Discovery {
        cluster: &pass.config.cluster,
        cluster_uid: &pass.config.cluster_uid,
        version: &pass.config.version,
        overrides: &pass.config.overrides,
        nodes: &all(&world.nodes),
        service_cidrs: &all(&world.service_cidrs),
        gateways: &all(&world.gateways),
        selector: &pass.config.gateways,
        lease: world.gateway_lease(),
        silence: world.pulse.silence(),
        before: before(world, own).as_ref(),
        published,
        heard: !joined || published.is_some(),
        neighbours: &neighbours(copies, metadata, pass.now),
        departed: &departed(world, copies, own, pass.now),
        now: pass.now,
    })
}

fn own_metadata(world: &World, pass: &Pass<'_>) -> ObjectMeta {
    let name = pass.config.cluster.to_string();
    let created = world.remote.members.get(&name).and_then(|seen| seen.created).or(world.remote.joined);
    let on_broker = created.map(|created| created.to_string());
    // Without a broker, what was known of it stays.
    let before = |key: &str| world.members.get(&name)?.annotations().get(key).cloned();
    let joined = on_broker.or_else(|| before(ANNOTATION_JOINED_AT));
    let known: Vec<String> = pass.connection.addresses.iter().map(IpAddr::to_string).collect();
    let address = if known.is_empty() { before(ANNOTATION_BROKER_ADDRESS) } else { Some(known.join(",")) };
    let allowed: Vec<String> = pass.config.overrides.allowed.iter().map(IpNet::to_string).collect();
    // One that is there is emptied, not left behind.
    let allowed = (!allowed.is_empty() || before(ANNOTATION_ALLOWED_PREFIXES).is_some()).then(|| allowed.join(","));
    let annotations =
        [(ANNOTATION_JOINED_AT, joined), (ANNOTATION_BROKER_ADDRESS, address), (ANNOTATION_ALLOWED_PREFIXES, allowed)];
    let annotations = annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(pass.config.namespace.clone()),
        labels: Some(down::labels(&name, None)),
        annotations: Some(annotations.collect()),
        ..ObjectMeta::default()
    }
}

fn own(world: &World, pass: &Pass<'_>, court: &Court) -> Vec<Action> {
    let name = pass.config.cluster.as_str();
    let (Some(own), Some(copy)) = (&court.own, court.copies.get(name)) else { return Vec::new() };
    let mut actions = Vec::new();
    let have = world.members.get(name);
    if !have.is_some_and(|have| have.spec == copy.spec && down::has_metadata(&have.metadata, &copy.metadata)) {
        actions.push(Action::CopyMember(Box::new(copy.clone())));
    }
    let ready = pass.connection.obstacle().unwrap_or_else(|| down::ready(court.verdicts.get(name)));
    let mut findings: Vec<Finding> = own.findings.clone();
    findings.extend(pass.connection.findings(published(world, name).is_some()));
    findings.push(ready);
    if !says(have.map_or(&[], down::member_conditions), &findings) {
        actions.push(Action::TellMember(name.to_owned(), findings));
    }
    actions
}

fn publish(world: &World, pass: &Pass<'_>, court: &Court) -> Vec<Action> {
    let Some(namespace) = pass.broker.filter(|_| pass.connection.is_open()) else { return Vec::new() };
    let own = &pass.config.cluster;
    // What changes with this pass is published when it is written here: who joins shall not claim for a moment what
    // another one has.
    let is_current = |local: &&Member| court.own.as_ref().is_none_or(|own| own.spec == local.spec);
    match world.members.get(own.as_str()).filter(is_current) {
        Some(local) if world.remote.members.is_synced() && local.spec.cluster_uid == pass.config.cluster_uid => {
            let refused = pass.connection.refused.is_some();
            up::member(own, namespace, &outward(world, Some(court), local), &world.remote.members, refused)
        }
        _ => Vec::new(),
    }
}

/// The own Member as the broker is to have it. That it is virtual to all the broker has first, and this cluster's nodes when
/// it does: until the others hear of it, they know its pods by their own addresses, and take all else for spoofed.
pub(super) fn outward(world: &World, court: Option<&Court>, local: &Member) -> Member {
    let turns = court.and_then(|court| court.own.as_ref()).is_some_and(|own| own.turns_virtual);
    let is_known = published(world, &local.name_any()).is_some_and(|published| published.virtual_only);
    let mut outward = local.clone();
    outward.spec.virtual_only |= turns || is_known;
    outward
}

fn members(world: &World, pass: &Pass<'_>, court: &Court) -> Vec<Action> {
    if !court.follows {
        return Vec::new();
    }
    let liveness = &world.remote.liveness;
    let refused = |name: &str| {
        let mut of_it = world.refused.iter().filter(|(record, _)| record.split('.').next() == Some(name));
        let first = of_it.next()?.1.clone();
        Some((1 + of_it.count(), first))
    };
    let other = |name: &str| Other {
        alive: liveness.is_alive(name, pass.now),
        last: liveness.last(name),
        refused: refused(name),
    };
    down::members(&pass.config.cluster, &court.copies, &world.members, &court.verdicts, other)
}

fn record_up(world: &mut World, pass: &Pass<'_>, name: &str) -> Vec<Action> {
    let ready = pass.connection.is_open() && world.records.is_synced() && world.remote.records.is_synced();
    match pass.broker.filter(|_| ready) {
        Some(namespace) => {
            let seen = world.remote.records.get(name);
            let actions = up::record(&pass.config.cluster, namespace, name, world.records.get(name), seen);
            // One that an earlier process has published may not have been told of.
            let is_there = seen.is_some_and(|seen| seen.cluster == pass.config.cluster.as_str());
            if actions.is_empty() && is_there && !record_say(world, name).is_empty() {
                // In the next pass, and so only once when the broker has just said something.
                world.dirty.insert(Key::RecordSay(name.to_owned()));
            }
            actions
        }
        None => Vec::new(),
    }
}

/// What the broker said of an own record is said on the record.
fn record_say(world: &World, name: &str) -> Vec<Action> {
    let finding = match world.refused_upward.get(name) {
        Some(reason) => Finding::bad("Accepted", "RefusedByBroker", format!("the broker refuses it: {reason}")),
        None => Finding::good("Accepted", "Published", "the others see it"),
    };
    let Some(record) = world.records.get(name) else { return Vec::new() };
    let before = record.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let findings = vec![finding];
    if says(before, &findings) { Vec::new() } else { vec![Action::TellRecord(name.to_owned(), findings)] }
}

fn record_down(world: &mut World, pass: &Pass<'_>, court: &Court, name: &str) -> Vec<Action> {
    if !(court.follows && world.records.is_synced() && world.remote.records.is_synced()) {
        return Vec::new();
    }
    let seen = world.remote.records.get(name);
    if seen.is_none() && !court.forgets {
        return Vec::new();
    }
    let record = down::Record {
        own: &pass.config.cluster,
        namespace: &pass.config.namespace,
        name,
        seen,
        local: world.records.get(name),
        excess: seen.and_then(|seen| world.remote.tally.excess(&seen.cluster)),
    };
    let (actions, refused) = down::record(&record, &court.copies, &court.verdicts, &pass.config.policy);
    let changed = match refused {
        Some(reason) => world.refused.insert(name.to_owned(), reason.clone()) != Some(reason),
        None => world.refused.remove(name).is_some(),
    };
    if changed {
        // Its Member's copy tells of it, in the next pass.
        world.dirty.insert(Key::Members);
    }
    actions
}

#[cfg(test)]
mod tests;
