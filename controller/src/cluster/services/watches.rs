//! One stream of what happens to all kinds of objects that services are made of.

use std::fmt::Debug;

use futures::stream::{BoxStream, SelectAll, Stream, StreamExt as _, select_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::api::names::{LEASE_GATEWAY, SECRET_BROKER, SYSTEM_NAMESPACE};
use crate::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use crate::cluster::watching::{self, bulky, prompt};
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
    let credential = prompt().fields(&format!("metadata.name={SECRET_BROKER}"));
    select_all([
        watch_all_of::<Namespace>(Api::all(client()), Kind::Namespace, Object::Namespace),
        watch_all_of::<Service>(Api::all(client()), Kind::Service, Object::Service),
        watch_all_of::<EndpointSlice>(Api::all(client()), Kind::Slice, Object::Slice),
        watch_all_of::<ServiceExport>(Api::all(client()), Kind::Export, Object::Export),
        watch_all_of::<ServiceImport>(Api::all(client()), Kind::Import, Object::Import),
        watch_all_of::<ServiceRecord>(ours(client()), Kind::Record, Object::Record),
        watch_all_of::<Member>(ours(client()), Kind::Member, Object::Member),
        watch_all_of::<GatewayNode>(ours(client()), Kind::Gateway, Object::Gateway),
        events(watching::watch_lease(ours(client()), LEASE_GATEWAY), Kind::Lease, Object::Lease),
        // The credential itself is not read.
        watch::<PartialObjectMeta<Secret>>(ours(client()), credential, Kind::Credential, Object::Credential),
    ])
}

fn ours<K>(client: Client) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client, SYSTEM_NAMESPACE)
}

fn watch_all_of<K>(api: Api<K>, kind: Kind, object: fn(Box<K>) -> Object) -> BoxStream<'static, Event>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    watch(api, bulky(), kind, object)
}

fn watch<K>(api: Api<K>, config: watcher::Config, kind: Kind, object: fn(Box<K>) -> Object) -> BoxStream<'static, Event>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    events(watching::watch(api, config), kind, object)
}

fn events<K: Resource + Send + 'static>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    kind: Kind,
    object: fn(Box<K>) -> Object,
) -> BoxStream<'static, Event> {
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
    events.modify(|object| object.managed_fields_mut().clear()).filter_map(event).boxed()
}
