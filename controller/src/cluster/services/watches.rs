//! One stream of what happens to all kinds of objects that services are made of.

use std::fmt::Debug;

use futures::stream::{BoxStream, SelectAll, StreamExt as _, select_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Duration;
use tracing::warn;

use crate::api::names::{LEASE_GATEWAY, SECRET_BROKER, SYSTEM_NAMESPACE};
use crate::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use crate::services::index::{Kind, Object};

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A list begins.
    Begin(Kind),
    /// A list is complete.
    Listed(Kind),
    /// An object is there, new or changed.
    There(Object),
    /// An object is gone.
    Gone(Object),
}

/// Watches everything. The stream never ends; broken watches begin anew.
pub(super) fn watch_all(client: &Client) -> SelectAll<BoxStream<'static, Event>> {
    let client = || client.clone();
    select_all([
        watch_all_of::<Namespace>(Api::all(client()), Kind::Namespace, Object::Namespace),
        watch_all_of::<Service>(Api::all(client()), Kind::Service, Object::Service),
        watch_all_of::<EndpointSlice>(Api::all(client()), Kind::Slice, Object::Slice),
        watch_all_of::<ServiceExport>(Api::all(client()), Kind::Export, Object::Export),
        watch_all_of::<ServiceImport>(Api::all(client()), Kind::Import, Object::Import),
        watch_all_of::<ServiceRecord>(ours(client()), Kind::Record, Object::Record),
        watch_all_of::<Member>(ours(client()), Kind::Member, Object::Member),
        watch_all_of::<GatewayNode>(ours(client()), Kind::Gateway, Object::Gateway),
        watch(ours(client()), named(LEASE_GATEWAY), Kind::Lease, Object::Lease),
        // The credential itself is not read.
        watch::<PartialObjectMeta<Secret>>(ours(client()), named(SECRET_BROKER), Kind::Credential, Object::Credential),
    ])
}

fn ours<K>(client: Client) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client, SYSTEM_NAMESPACE)
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

fn watch_all_of<K>(api: Api<K>, kind: Kind, object: fn(Box<K>) -> Object) -> BoxStream<'static, Event>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    watch(api, watcher::Config::default(), kind, object)
}

fn watch<K>(api: Api<K>, config: watcher::Config, kind: Kind, object: fn(Box<K>) -> Object) -> BoxStream<'static, Event>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let events = watcher(api, config).modify(|object| object.managed_fields_mut().clear());
    let event = move |event| {
        let event = match event {
            Ok(watcher::Event::Init) => Some(Event::Begin(kind)),
            Ok(watcher::Event::InitDone) => Some(Event::Listed(kind)),
            Ok(watcher::Event::InitApply(seen) | watcher::Event::Apply(seen)) => {
                Some(Event::There(object(Box::new(seen))))
            }
            Ok(watcher::Event::Delete(gone)) => Some(Event::Gone(object(Box::new(gone)))),
            Err(error) => {
                warn!(?kind, %error, "a watch broke off and begins anew");
                None
            }
        };
        std::future::ready(event)
    };
    events.backoff(Growing::default()).filter_map(event).boxed()
}

/// Twice as long each time, within bounds: an API server that comes back is found soon.
#[derive(Debug)]
struct Growing(Duration);

impl Growing {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);
}

impl Default for Growing {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

impl Iterator for Growing {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.0;
        self.0 = (delay * 2).min(Self::LONGEST);
        Some(delay)
    }
}

impl Backoff for Growing {
    fn reset(&mut self) {
        *self = Self::default();
    }
}
