//! Everything that is watched, and what has to be looked at again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::apply::Written;
use super::remote::Remote;
use super::seen::Seen;
use super::store::Store;
use crate::api::names::{LEASE_GATEWAY, MEMBER_ACCOUNT_PREFIX};
use crate::api::{GatewayNode, Member, ServiceRecord};
use crate::cluster::pulse::Pulse;
use crate::members::CNI_CONDITION;

/// How failures of the watch of the gateway Lease are told.
pub(super) const GATEWAY_LEASE: &str = "the gateway Lease";

/// Something that a watch has shown.
#[derive(Debug)]
pub(super) enum Input {
    Node(Box<Event<Node>>),
    ServiceCidr(Event<ServiceCIDR>),
    /// The API server has no ServiceCIDRs.
    NoServiceCidrs,
    GatewayNode(Event<GatewayNode>),
    Lease(Event<Lease>),
    Member(Event<Member>),
    Record(Event<ServiceRecord>),
    JoinSecret(Event<Secret>),
    BrokerSecret(Event<Secret>),
    Property(Event<DynamicObject>),
    BrokerMember(Event<DynamicObject>),
    BrokerRecord(Event<DynamicObject>),
    /// A record of a cluster that has too much no more.
    BrokerRecordAgain(Box<DynamicObject>),
    /// All records of such a cluster have been listed.
    BrokerRecordsAgain(String),
    BrokerLease(Event<Lease>),
    /// A watch failed, and is tried again.
    Broken(&'static str, String),
}

/// What has to be planned again. Ordered, so that members come before records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The own Member in the local API server.
    Own,
    /// The own Member on the broker.
    Publish,
    /// The copies of all other Members.
    Members,
    /// An own ServiceRecord on the broker.
    RecordUp(String),
    /// The copy of another cluster's ServiceRecord.
    RecordDown(String),
    /// What the broker said of an own ServiceRecord.
    RecordSay(String),
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The own cluster's ID.
    pub own: String,
    pub nodes: Store<Node>,
    pub service_cidrs: Store<ServiceCIDR>,
    pub gateways: Store<GatewayNode>,
    pub leases: Store<Lease>,
    /// Whether the gateway Lease is renewed.
    pub pulse: Pulse,
    pub members: Store<Member>,
    pub records: Store<ServiceRecord>,
    pub join_secret: Store<Secret>,
    pub broker_secret: Store<Secret>,
    pub remote: Remote,
    pub dirty: BTreeSet<Key>,
    /// Whether a ClusterProperty has changed since it was last looked at.
    pub properties_changed: bool,
    /// Records of others that are refused, whole or in part, by name, with the reason.
    pub refused: BTreeMap<String, String>,
    /// Why the broker refuses own records, by name.
    pub refused_upward: BTreeMap<String, String>,
}

impl World {
    /// Takes in what a watch has shown.
    pub fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Node(event) => {
                self.nodes.take((*event).modify(slim), |node| node);
                self.mark([Key::Own, Key::Members]);
            }
            Input::ServiceCidr(event) => {
                self.service_cidrs.take(event, |object| object);
                self.mark([Key::Own]);
            }
            Input::NoServiceCidrs => {
                self.service_cidrs.set_absent();
                self.mark([Key::Own]);
            }
            Input::GatewayNode(event) => {
                self.gateways.take(event, |object| object);
                self.mark([Key::Own]);
            }
            Input::Lease(event) => {
                // It is renewed twice a second, and who holds it is all that is read.
                let before = self.gateway_holder();
                self.leases.take(event, |object| object);
                if self.gateway_holder() != before {
                    self.mark([Key::Own]);
                }
            }
            Input::Member(event) => {
                self.members.take(event.modify(forget_managers), |object| object);
                self.mark([Key::Own, Key::Publish, Key::Members]);
            }
            Input::Record(event) => self.take_record(event),
            Input::JoinSecret(event) => {
                self.join_secret.take(event, |object| object);
            }
            Input::BrokerSecret(event) => {
                self.broker_secret.take(event, |object| object);
            }
            Input::Property(event) => self.properties_changed |= matches!(event, Event::Apply(_) | Event::Delete(_)),
            Input::BrokerMember(event) => self.take_broker_member(event),
            Input::BrokerRecord(event) => self.take_broker_record(event),
            Input::BrokerRecordAgain(record) => {
                let name = self.remote.take_record_again(*record);
                self.mark_records(name);
            }
            Input::BrokerRecordsAgain(cluster) => self.remote.end_again(&cluster),
            Input::BrokerLease(event) => self.take_broker_lease(event, now),
            Input::Broken(what, error) => tracing::debug!("watch of {what} failed, trying again: {error}"),
        }
    }

    /// Notes whether the gateway Lease is renewed. Its own clock, because that of the wall may jump.
    pub fn note_pulse(&mut self, input: &Input, now: Instant) {
        match input {
            Input::Lease(event) if self.pulse.note(event, now) => self.mark([Key::Own]),
            Input::Broken(GATEWAY_LEASE, _) => self.pulse.fail(),
            _ => {}
        }
    }

    /// Begins to look at a broker anew. Nothing goes until its lists are complete.
    pub fn reset_remote(&mut self, now: Timestamp) {
        let mut liveness = std::mem::take(&mut self.remote.liveness);
        liveness.grace(now);
        self.remote = Remote::new(liveness);
        self.refused.clear();
    }

    /// Looks at everything again.
    pub fn mark_all(&mut self) {
        let local = self.records.iter().map(|(name, _)| name);
        let names: BTreeSet<String> = local.chain(self.remote.records.iter().map(|(name, _)| name)).cloned().collect();
        self.mark_records(names);
        self.mark([Key::Own, Key::Publish, Key::Members]);
    }

    pub fn mark(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.dirty.extend(keys);
    }

    /// Keeps what was written, without waiting for the watch to show it.
    pub fn keep(&mut self, written: Written) {
        match written {
            Written::Member(member) => self.members.keep(*member),
            Written::Record(record) => self.records.keep(*record),
            Written::Published(created) => self.remote.joined = created.or(self.remote.joined),
            Written::Nothing => {}
        }
    }

    /// Takes in what the broker said of an own record.
    pub fn note_upward(&mut self, name: String, refusal: Option<String>) {
        match refusal {
            Some(reason) => self.refused_upward.insert(name.clone(), reason),
            None => self.refused_upward.remove(&name),
        };
        self.dirty.insert(Key::RecordSay(name));
    }

    /// Whether enough is known of the own cluster to describe it.
    pub fn knows_itself(&self) -> bool {
        self.nodes.is_synced()
            && self.service_cidrs.is_synced()
            && self.gateways.is_synced()
            && self.leases.is_synced()
            && self.members.is_synced()
    }

    /// The Lease of the active gateway.
    pub fn gateway_lease(&self) -> Option<&Lease> {
        self.leases.get(LEASE_GATEWAY)
    }

    /// Whether the Lease of the active gateway is known, and who holds it.
    fn gateway_holder(&self) -> (bool, Option<String>) {
        let holder = self.gateway_lease().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        (self.leases.is_synced(), holder)
    }

    fn take_record(&mut self, event: Event<ServiceRecord>) {
        let done = matches!(event, Event::InitDone);
        let mut names = self.records.take(event.modify(forget_managers), |object| object);
        // What is not exported any more is not refused either.
        for name in names.iter().filter(|name| self.records.get(name).is_none()) {
            self.refused_upward.remove(name);
        }
        if done {
            names.extend(self.records.iter().map(|(name, _)| name.clone()));
            names.extend(self.remote.records.iter().map(|(name, _)| name.clone()));
        }
        self.mark_records(names);
    }

    fn take_broker_member(&mut self, event: Event<DynamicObject>) {
        let done = matches!(event, Event::InitDone);
        let names = self.remote.members.take(event, Seen::read);
        let mut owners: BTreeSet<String> = names.into_iter().collect();
        if done {
            owners.extend(self.remote.members.iter().map(|(name, _)| name.clone()));
        }
        let records = self.remote.records.iter().filter(|(_, seen)| owners.contains(&seen.cluster));
        let records: Vec<String> = records.map(|(name, _)| name.clone()).collect();
        self.mark_records(records);
        self.mark([Key::Own, Key::Publish, Key::Members]);
    }

    fn take_broker_record(&mut self, event: Event<DynamicObject>) {
        let done = matches!(event, Event::InitDone);
        // The own ones that are published are compared with what is here.
        let is_published = |name: &str, cluster: &str| cluster == self.own && self.records.get(name).is_some();
        let mut names = self.remote.take_record(event, is_published);
        if done {
            names.extend(self.remote.records.iter().map(|(name, _)| name.clone()));
            names.extend(self.records.iter().map(|(name, _)| name.clone()));
        }
        self.mark_records(names);
    }

    /// A heartbeat of who is alive anyhow changes nothing: with 500 clusters there are 50 of them a second.
    fn take_broker_lease(&mut self, event: Event<Lease>, now: Timestamp) {
        let (lease, is_there) = match event {
            Event::Apply(lease) | Event::InitApply(lease) => (lease, true),
            Event::Delete(lease) => (lease, false),
            Event::Init | Event::InitDone => return,
        };
        let Some(member) = member_of(&lease) else { return };
        let liveness = &mut self.remote.liveness;
        let before = (liveness.is_alive(&member, now), liveness.last(&member).is_some());
        if is_there {
            liveness.hear(&member, &lease, now)
        } else {
            liveness.forget(&member)
        }
        if (liveness.is_alive(&member, now), liveness.last(&member).is_some()) != before {
            self.mark([Key::Members]);
        }
    }

    fn mark_records(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.dirty.insert(Key::RecordUp(name.clone()));
            self.dirty.insert(Key::RecordDown(name));
        }
    }
}

fn member_of(lease: &Lease) -> Option<String> {
    lease.metadata.name.as_deref()?.strip_prefix(MEMBER_ACCOUNT_PREFIX).map(str::to_owned)
}

/// Keeps of a Node what a Member is made of; image lists are many times that.
fn slim(node: &mut Node) {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        let addresses = status.addresses.take();
        let conditions = status.conditions.take().into_iter().flatten();
        let conditions = Some(conditions.filter(|condition| condition.type_ == CNI_CONDITION).collect());
        *status = k8s_openapi::api::core::v1::NodeStatus { addresses, conditions, ..Default::default() };
    }
}

fn forget_managers<K: kube::Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}
