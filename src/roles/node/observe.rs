//! Watches what a node is planned from: Members, Nodes and the gateway Lease.

use std::collections::BTreeMap;

use controller::api::Member;
use controller::api::names::{LEASE_GATEWAY, SYSTEM_NAMESPACE};
use controller::cluster::watching::prompt;
use controller::members::Selector;
use controller::services::reach::holder;
use futures::TryStreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use super::facts::{Facts, NodeFacts};
use crate::roles::watched::{Kind, News, events_of, events_of_lease};

/// The newest state of all watched objects.
pub(super) struct Watched {
    events: SelectAll<BoxStream<'static, Result<Seen, watcher::Error>>>,
    gateways: Selector,
    members: Kind<Member>,
    nodes: Kind<NodeFacts>,
    holders: Kind<String>,
}

#[expect(clippy::large_enum_variant, reason = "one at a time, and moved once")]
enum Seen {
    Member(Event<Member>),
    Node(Event<Node>),
    Lease(Event<Lease>),
}

impl Watched {
    pub(super) fn start(client: &Client, gateways: Selector) -> Self {
        let mut events = SelectAll::new();
        events.push(events_of(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), prompt(), Seen::Member));
        events.push(events_of(Api::all(client.clone()), prompt(), Seen::Node));
        events.push(events_of_lease(client, Seen::Lease));
        Self { events, gateways, members: Kind::default(), nodes: Kind::default(), holders: Kind::default() }
    }

    /// Waits for an event. Tells whether it may have changed the facts.
    ///
    /// Safe to cancel. A failed watch goes on by itself, and is told.
    pub(super) async fn changed(&mut self) -> Result<News, watcher::Error> {
        let Some(event) = self.events.try_next().await? else { return std::future::pending().await };
        Ok(match event {
            Seen::Member(event) => self.members.take(event, |mut member| {
                member.metadata.managed_fields = None;
                Some(member)
            }),
            Seen::Node(event) => {
                let gateways = &self.gateways;
                self.nodes.take(event, |node| Some(NodeFacts::read(&node, gateways)))
            }
            Seen::Lease(event) => self.holders.take(event, |lease| holder(&lease)),
        })
    }

    /// The facts; none until everything has been listed once.
    pub(super) fn facts(&self) -> Option<Facts> {
        let synced = self.members.synced && self.nodes.synced && self.holders.synced;
        synced.then(|| Facts {
            members: by_name(&self.members),
            nodes: by_name(&self.nodes),
            active: by_name(&self.holders).remove(LEASE_GATEWAY),
        })
    }
}

fn by_name<T: Clone>(kind: &Kind<T>) -> BTreeMap<String, T> {
    kind.current.iter().map(|((_, name), value)| (name.clone(), value.clone())).collect()
}
