//! Watches what the zone is made from.

use controller::api::names::{LABEL_SERVICE_NAME, LABEL_SLICE_SERVICE, SYSTEM_NAMESPACE};
use controller::api::{GatewayNode, ServiceImport};
use controller::cluster::pulse::Pulse;
use controller::cluster::watching::prompt;
use controller::services::reach::holder;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::roles::watched::{Kind, News, events_of, events_of_lease};

/// The newest state of all watched objects.
pub(super) struct Watched {
    events: SelectAll<BoxStream<'static, Result<Seen, watcher::Error>>>,
    pub(super) imports: Kind<ServiceImport>,
    pub(super) slices: Kind<EndpointSlice>,
    pub(super) namespaces: Kind<()>,
    pub(super) gateways: Kind<GatewayNode>,
    /// Who holds the gateway Lease. What is named waits for everything but this: without it the gateways' clocks decide.
    pub(super) holders: Kind<String>,
    /// Whether that Lease is renewed.
    pub(super) pulse: Pulse,
}

enum Seen {
    Import(Event<ServiceImport>),
    Slice(Event<EndpointSlice>),
    Namespace(Event<Namespace>),
    Gateway(Event<GatewayNode>),
    Lease(Event<Lease>),
    /// The watch of the gateway Lease broke off.
    LeaseBroken(watcher::Error),
}

impl Watched {
    pub(super) fn start(client: &Client) -> Self {
        // Every imported slice has the first label (KEP-1645), no other one has. The second have those of clusterset IPs,
        // whose endpoints have no names.
        let imported = prompt().labels(&format!("{LABEL_SERVICE_NAME},!{LABEL_SLICE_SERVICE}"));
        let mut events = SelectAll::new();
        events.push(events_of(Api::all(client.clone()), prompt(), Seen::Import));
        events.push(events_of(Api::all(client.clone()), imported, Seen::Slice));
        events.push(events_of(Api::all(client.clone()), prompt(), Seen::Namespace));
        events.push(events_of(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), prompt(), Seen::Gateway));
        let leases = events_of_lease(client, Seen::Lease);
        events.push(leases.map(|event| Ok(event.unwrap_or_else(Seen::LeaseBroken))).boxed());
        Self {
            events,
            imports: Kind::default(),
            slices: Kind::default(),
            namespaces: Kind::default(),
            gateways: Kind::default(),
            holders: Kind::default(),
            pulse: Pulse::default(),
        }
    }

    /// Waits for an event. Tells whether it may have changed the zone.
    ///
    /// Safe to cancel. A failed watch goes on by itself, and is told.
    pub(super) async fn changed(&mut self) -> Result<News, watcher::Error> {
        let Some(event) = self.events.try_next().await? else { return std::future::pending().await };
        Ok(match event {
            Seen::Import(event) => self.imports.take(event, |mut import| {
                import.metadata.managed_fields = None;
                Some(import)
            }),
            Seen::Slice(event) => self.slices.take(event, |mut slice| {
                slice.metadata.managed_fields = None;
                Some(slice)
            }),
            Seen::Namespace(event) => self.namespaces.take(event, |_| Some(())),
            Seen::Gateway(event) => self.gateways.take(event, |mut gateway| {
                gateway.metadata.managed_fields = None;
                Some(gateway)
            }),
            Seen::Lease(event) => {
                let turned = self.pulse.note(&event, Instant::now());
                let news = self.holders.take(event, |lease| holder(&lease));
                if turned { News::Changed } else { news }
            }
            Seen::LeaseBroken(error) => {
                self.pulse.fail();
                return Err(error);
            }
        })
    }

    /// What has not been listed yet; none when everything has.
    pub(super) fn missing(&self) -> Option<String> {
        let kinds = [
            ("ServiceImports", self.imports.synced),
            ("EndpointSlices", self.slices.synced),
            ("Namespaces", self.namespaces.synced),
            ("GatewayNodes", self.gateways.synced),
        ];
        let missing: Vec<&str> = kinds.iter().filter(|(_, synced)| !synced).map(|(kind, _)| *kind).collect();
        (!missing.is_empty()).then(|| format!("the API server has not told all {} yet", missing.join(", ")))
    }
}
