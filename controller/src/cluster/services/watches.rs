//! One stream of what happens to all kinds of objects that services are made of.

use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{self, BoxStream, SelectAll, Stream, StreamExt as _, select_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Duration, sleep, timeout};
use tracing::{debug, warn};

use crate::api::names::{LEASE_GATEWAY, SECRET_BROKER, SYSTEM_NAMESPACE};
use crate::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use crate::cluster::watching::{self, Growing, bulky, named};
use crate::services::index::{Kind, Object};
use crate::services::version::ServerVersion;

/// How long an answer about the version may take, and after what time it is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(600);

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
    /// The API server is of this version.
    Version(ServerVersion),
    /// A watch broke off and begins anew.
    Broken(Kind),
}

/// Watches everything. The stream never ends; broken watches begin anew.
pub(super) fn watch_all(client: &Client) -> SelectAll<BoxStream<'static, Event>> {
    let broken = Arc::new(Notify::new());
    let versions = versions(client.clone(), Arc::clone(&broken));
    let client = || client.clone();
    let watches = [
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
        watch::<PartialObjectMeta<Secret>>(ours(client()), named(SECRET_BROKER), Kind::Credential, Object::Credential),
    ];
    let noting = watches.map(|watch| {
        let broken = Arc::clone(&broken);
        let note = move |event: &Event| {
            if matches!(event, Event::Broken(_)) {
                broken.notify_one();
            }
        };
        watch.inspect(note).boxed()
    });
    select_all(noting.into_iter().chain([versions]))
}

/// The version of the API server: at the start, after a watch has broken off, since another one may answer then, and now
/// and then, since several may.
fn versions(client: Client, broken: Arc<Notify>) -> BoxStream<'static, Event> {
    let ask = |(client, broken, first): (Client, Arc<Notify>, bool)| async move {
        if !first {
            // Whichever comes first.
            let _ = timeout(ASK_AGAIN, broken.notified()).await;
        }
        Some((Event::Version(version(&client).await), (client, broken, false)))
    };
    stream::unfold((client, broken, true), ask).boxed()
}

/// Asks until there is an answer. Who may not ask is told nothing, and takes the oldest.
async fn version(client: &Client) -> ServerVersion {
    let mut delays = Growing::default();
    loop {
        match timeout(PATIENCE, client.apiserver_version()).await {
            Ok(Ok(info)) => return ServerVersion::of(&info).unwrap_or_default(),
            Ok(Err(Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                warn!(error = status.message, "the API server does not tell its version");
                return ServerVersion::default();
            }
            Ok(Err(error)) => debug!(%error, "failed to ask for the API server's version, trying again"),
            Err(_) => debug!("failed to ask for the API server's version, trying again: no answer"),
        }
        sleep(delays.next().unwrap_or(Growing::LONGEST)).await;
    }
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
    let event = move |event| match event {
        Ok(watcher::Event::Init) => Event::Begin(kind),
        Ok(watcher::Event::InitDone) => Event::Listed(kind),
        Ok(watcher::Event::InitApply(seen) | watcher::Event::Apply(seen)) => Event::There(object(Box::new(seen))),
        Ok(watcher::Event::Delete(gone)) => Event::Gone(object(Box::new(gone))),
        Err(error) => {
            warn!(?kind, %error, "a watch broke off and begins anew");
            Event::Broken(kind)
        }
    };
    events.modify(|object| object.managed_fields_mut().clear()).map(event).boxed()
}
