//! Keeps cluster DNS forwarding names of the clusterset; the decisions are [`controller::coredns`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use controller::api::names::{FIELD_MANAGER, LABEL_MANAGED_BY, MANAGED_BY, REPORTER, SECRET_BROKER, SYSTEM_NAMESPACE};
use controller::cluster::watching::named;
use controller::coredns::{Action, CorefileError, Custom, KEY_OVERRIDE, KEY_SERVER, Observed, plan};
use controller::events::{News as Told, Teller, Weight};
use futures::TryStreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference, Secret, Service};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use crate::roles::watched::{Kind, News, events_of};

/// Namespace of cluster DNS.
const NAMESPACE: &str = "kube-system";
/// ConfigMap with the Corefile.
const COREDNS: &str = "coredns";
/// ConfigMap whose keys K3s imports.
const CUSTOM: &str = "coredns-custom";
/// Reason of Events about cluster DNS that somebody has to do something about; `linkspan diagnose` calls it the same.
const NOT_WIRED: &str = "CoreDnsNotWired";
/// Service of `linkspan dns`.
const DNS: &str = "linkspan-dns";

/// How long the first failed write waits; each further one waits twice as long. Somebody else may have written at the same
/// moment, and while Linkspan is being removed there is little time.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Longest wait.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Watches and writes until it is cancelled. Names are forwarded from joining to leaving: while the cluster has a
/// credential for its broker, and nobody removes Linkspan. Who does so takes the right to write away as well, a moment later.
pub(super) async fn follow(client: Client) -> Infallible {
    let mut watched = Watched::start(&client);
    let events = Teller::new(client.clone(), REPORTER, None);
    let configs: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut told = String::new();
    let mut failures = 0u32;
    loop {
        let error = match watched.observed() {
            Some(observed) => pass(&configs, &observed, &watched.objects()).await.err(),
            None => None,
        };
        let text = error.as_ref().map(|error| format!("{error:#}")).unwrap_or_default();
        if !text.is_empty() && text != told {
            tracing::warn!("cluster DNS does not forward clusterset.local as it should: {text}");
            if error.as_ref().is_some_and(|error| error.is::<CorefileError>()) {
                events.tell(&corefile(), &[Told::new(Weight::Warning, NOT_WIRED, "Forward", &text)]).await;
            }
        }
        told = text;
        failures = if error.is_some() { failures + 1 } else { 0 };
        let retry = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_RETRY);
        tokio::select! {
            () = watched.changed() => {}
            () = tokio::time::sleep(retry), if failures > 0 => {}
        }
    }
}

/// The ConfigMap that people look at.
fn corefile() -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        name: Some(COREDNS.to_owned()),
        ..ObjectReference::default()
    }
}

#[expect(clippy::large_enum_variant, reason = "one at a time, and moved once")]
enum Seen {
    Corefile(Event<ConfigMap>),
    Custom(Event<ConfigMap>),
    Service(Event<Service>),
    Secret(Event<Secret>),
    Namespace(Event<PartialObjectMeta<Namespace>>),
}

struct Watched {
    events: SelectAll<BoxStream<'static, Result<Seen, watcher::Error>>>,
    corefile: Kind<ConfigMap>,
    custom: Kind<ConfigMap>,
    services: Kind<Service>,
    /// Whether there is a credential; the credential itself is not kept.
    credential: Kind<()>,
    /// Linkspan's namespace while it is being deleted.
    terminating: Kind<()>,
}

impl Watched {
    fn start(client: &Client) -> Self {
        let mut events = SelectAll::new();
        events.push(events_of(Api::namespaced(client.clone(), NAMESPACE), named(COREDNS), Seen::Corefile));
        events.push(events_of(Api::namespaced(client.clone(), NAMESPACE), named(CUSTOM), Seen::Custom));
        events.push(events_of(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), named(DNS), Seen::Service));
        events.push(events_of(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), named(SECRET_BROKER), Seen::Secret));
        events.push(events_of(Api::all(client.clone()), named(SYSTEM_NAMESPACE), Seen::Namespace));
        Self {
            events,
            corefile: Kind::default(),
            custom: Kind::default(),
            services: Kind::default(),
            credential: Kind::default(),
            terminating: Kind::default(),
        }
    }

    /// Waits until one of the objects has changed. Safe to cancel; a failed watch goes on by itself.
    async fn changed(&mut self) {
        loop {
            let news = match self.events.try_next().await {
                Ok(Some(Seen::Corefile(event))) => self.corefile.take(event, Some),
                Ok(Some(Seen::Custom(event))) => self.custom.take(event, Some),
                Ok(Some(Seen::Service(event))) => self.services.take(event, Some),
                Ok(Some(Seen::Secret(event))) => self.credential.take(event, |_| Some(())),
                Ok(Some(Seen::Namespace(event))) => {
                    self.terminating.take(event, |home| home.metadata.deletion_timestamp.map(drop))
                }
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    tracing::debug!(%error, "a watch is started anew");
                    News::Same
                }
            };
            if news == News::Changed {
                return;
            }
        }
    }

    /// What there is; none until all of it is known.
    fn observed(&self) -> Option<Observed> {
        if !(self.corefile.synced && self.custom.synced && self.services.synced && self.credential.synced) {
            return None;
        }
        let wanted = self.terminating.current.is_empty() && !self.credential.current.is_empty();
        let data = |config: &ConfigMap| config.data.clone().unwrap_or_default();
        let custom = self.custom.current.values().next().map(|custom| Custom {
            data: data(custom),
            made_by_us: custom.metadata.labels.iter().flatten().any(|(k, v)| k == LABEL_MANAGED_BY && v == MANAGED_BY),
        });
        Some(Observed {
            corefile: self.corefile.current.values().next().and_then(|config| data(config).remove("Corefile")),
            custom,
            forward_to: if wanted { self.services.current.values().flat_map(addresses).collect() } else { Vec::new() },
        })
    }

    /// What is written over what was seen.
    fn objects(&self) -> Objects {
        let corefile = self.corefile.current.values().next().cloned();
        let custom = self.custom.current.values().next().map(|custom| custom.metadata.clone()).unwrap_or_default();
        Objects { corefile, custom }
    }
}

/// Objects as they were seen, with the versions by which an edit in between is noticed.
struct Objects {
    corefile: Option<ConfigMap>,
    custom: ObjectMeta,
}

async fn pass(configs: &Api<ConfigMap>, observed: &Observed, objects: &Objects) -> anyhow::Result<()> {
    let planned = plan(observed);
    for action in planned.as_ref().map_or_else(CorefileError::removal, Vec::as_slice) {
        objects.apply(configs, action).await.with_context(|| format!("failed to {action}"))?;
        tracing::info!("{action}");
    }
    planned?;
    Ok(())
}

impl Objects {
    async fn apply(&self, configs: &Api<ConfigMap>, action: &Action) -> kube::Result<()> {
        match action {
            Action::ApplyCustom { data, made_by_us } => {
                let ours = BTreeMap::from([(LABEL_MANAGED_BY, MANAGED_BY)]);
                let labels = if *made_by_us { ours } else { BTreeMap::new() };
                let object = serde_json::json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": CUSTOM, "labels": labels }, "data": data,
                });
                let how = PatchParams::apply(FIELD_MANAGER).force();
                configs.patch(CUSTOM, &how, &Patch::Apply(&object)).await.map(drop)
            }
            Action::ClearCustom => {
                let none = serde_json::json!({ "data": { KEY_SERVER: null, KEY_OVERRIDE: null } });
                configs.patch(CUSTOM, &PatchParams::default(), &Patch::Merge(&none)).await.map(drop)
            }
            Action::DeleteCustom => {
                // Only as it was seen: meanwhile somebody may have put something into it.
                let seen = &self.custom;
                let preconditions =
                    Preconditions { uid: seen.uid.clone(), resource_version: seen.resource_version.clone() };
                let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                configs.delete(CUSTOM, &how).await.map(drop)
            }
            Action::ReplaceCorefile(text) => {
                // With the version that was read: an edit in between is not lost.
                let Some(mut config) = self.corefile.clone() else { return Ok(()) };
                config.data.get_or_insert_default().insert("Corefile".to_owned(), text.clone());
                configs.replace(COREDNS, &PostParams::default(), &config).await.map(drop)
            }
        }
    }
}

/// The addresses of a Service; none while it has no virtual one.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.cluster_ips.clone());
    let one = || spec.and_then(|spec| spec.cluster_ip.clone()).into_iter().collect();
    all.unwrap_or_else(one).iter().filter_map(|address| address.parse().ok()).collect()
}
