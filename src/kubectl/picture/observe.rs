//! Reads what API servers have. Every part by itself: what the person may not see is told, and the rest is seen.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use controller::api::names::SYSTEM_NAMESPACE;
use controller::broker::cluster_id;
use http_body_util::BodyExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Clock, ClusterPicture, Part, Partly, Server, Unseen};
use crate::kubectl::errors::{MissingPermission, explain, is_cut_off, is_not_found};

/// Objects that one request brings; more come with further ones.
const PAGE: u32 = 500;
/// Annotation with a second copy of what was applied, which nobody needs here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The person's clock. Milliseconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Looks at one cluster. Never fails: what cannot be seen is told in the picture. `namespaces` are those whose objects are
/// listed by themselves where the person may not list those of all.
pub async fn observe(context: &str, client: &Client, namespaces: &[String]) -> ClusterPicture {
    let gone = OnceLock::new();
    let (all, system) = (AllOf(client, &gone, namespaces), SystemOf(client, &gone));
    // Asked first and alone: where nobody answers, it is waited for once, and not for every part.
    let server = match ask_server(client).await {
        Err(error) if is_cut_off(&error) => return ClusterPicture::dark(context, &explain(&error)),
        answer => part("the API server", answer),
    };
    let (id, configs, roles) = tokio::join!(id(client), configs(client), roles(client));
    let (members, gateways, leases, records) = tokio::join!(system.list(), system.list(), system.list(), system.list());
    let (exports, imports, services, slices) = tokio::join!(all.list(), all.list(), all.list(), all.list());
    let (nodes, namespaces) = (Api::all(client.clone()), Api::all(client.clone()));
    let (nodes, namespaces) = (part_of(&nodes, &gone), part_of(&namespaces, &gone));
    let (nodes, namespaces, pods, policies) = tokio::join!(nodes, namespaces, all.list(), all.list());
    let mut cluster = ClusterPicture {
        context: context.to_owned(),
        server,
        id: Part::default(),
        configs,
        members,
        gateways,
        leases,
        records,
        exports,
        imports,
        nodes,
        namespaces,
        pods,
        services,
        slices,
        policies,
        roles,
        inspections: BTreeMap::new(),
        known: None,
    };
    cluster.id = match (id, cluster.configured_id()) {
        // Before joining there is no property.
        (Part::Seen(None) | Part::Unseen(_), Some(configured)) => Part::Seen(Some(configured)),
        (id, _) => id,
    };
    cluster
}

/// Why the API server does not answer any more, once it does not: nothing else is asked then.
type Gone = OnceLock<String>;

/// Lists in all namespaces, or in some where the person may not list in all.
struct AllOf<'a>(&'a Client, &'a Gone, &'a [String]);

impl AllOf<'_> {
    async fn list<K>(&self) -> Part<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let Self(client, gone, namespaces) = *self;
        let rest = match list_of(&Api::all(client.clone()), gone).await {
            Ok(all) => return Part::Seen(all),
            Err(failure) => failure,
        };
        let (mut seen, mut those) = (Vec::new(), Vec::new());
        for namespace in namespaces.iter().filter(|_| rest.lacks_right) {
            if let Ok(found) = list_of(&Api::namespaced(client.clone(), namespace), gone).await {
                seen.extend(found);
                those.push(namespace.clone());
            }
        }
        let rest = rest.unseen(&K::plural(&()));
        if those.is_empty() { Part::Unseen(rest) } else { Part::Partly(Partly { seen, namespaces: those, rest }) }
    }
}

/// Lists in Linkspan's namespace.
struct SystemOf<'a>(&'a Client, &'a Gone);

impl SystemOf<'_> {
    async fn list<K>(&self) -> Part<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        part_of(&Api::namespaced(self.0.clone(), SYSTEM_NAMESPACE), self.1).await
    }
}

async fn part_of<K>(api: &Api<K>, gone: &Gone) -> Part<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match list_of(api, gone).await {
        Ok(all) => Part::Seen(all),
        Err(failure) => Part::Unseen(failure.unseen(&K::plural(&()))),
    }
}

/// Why a list did not come.
struct Failure {
    why: String,
    /// Whether a right is all that the person lacks.
    lacks_right: bool,
}

impl Failure {
    fn unseen(self, what: &str) -> Unseen {
        Unseen { what: what.to_owned(), why: self.why }
    }
}

async fn list_of<K>(api: &Api<K>, gone: &Gone) -> Result<Vec<K>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    if let Some(why) = gone.get() {
        return Err(Failure { why: why.clone(), lacks_right: false });
    }
    list(api).await.map_err(|error| {
        let why = explain(&error);
        if is_cut_off(&error) {
            gone.get_or_init(|| why.clone());
        }
        Failure { why, lacks_right: MissingPermission::of(&error).is_some() }
    })
}

fn part<T>(what: &str, answer: kube::Result<T>) -> Part<T> {
    match answer {
        Ok(seen) => Part::Seen(seen),
        Err(error) => Part::Unseen(Unseen { what: what.to_owned(), why: explain(&error) }),
    }
}

async fn list<K>(api: &Api<K>) -> kube::Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut how = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&how).await {
            Ok(page) => page,
            // The kind does not exist here: there is none of it.
            Err(error) if is_not_found(&error) => return Ok(found),
            Err(error) => return Err(error),
        };
        how.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        found.extend(page.items.into_iter().map(bare));
        if how.continue_token.is_none() {
            return Ok(found);
        }
    }
}

/// Without what is only for machines.
fn bare<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
    object
}

async fn ask_server(client: &Client) -> kube::Result<Server> {
    let request = hyper::Request::get("/version").body(Vec::new()).map_err(kube::Error::HttpError)?;
    let before = now();
    let answer = client.send(request.map(kube::client::Body::from)).await?;
    let after = now();
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp().as_millisecond());
    // The header tells whole seconds.
    let clock = date.map(|from| Clock { before, from, to: from + 999, after });
    let body = answer.into_body().collect().await?.to_bytes();
    let version: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Server { version: version["gitVersion"].as_str().unwrap_or_default().to_owned(), clock })
}

async fn id(client: &Client) -> Part<Option<String>> {
    part("the cluster ID", cluster_id(client).await)
}

async fn configs(client: &Client) -> Part<BTreeMap<String, ConfigMap>> {
    part("configmaps", read_configs(client).await)
}

async fn read_configs(client: &Client) -> kube::Result<BTreeMap<String, ConfigMap>> {
    let mut found = BTreeMap::new();
    for (namespace, name) in
        [(SYSTEM_NAMESPACE, "linkspan"), ("kube-system", "coredns"), ("kube-system", "coredns-custom")]
    {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        if let Some(config) = api.get_opt(name).await? {
            found.insert(format!("{namespace}/{name}"), bare(config));
        }
    }
    Ok(found)
}

async fn roles(client: &Client) -> Part<Vec<String>> {
    part("roles", list_roles(client).await)
}

/// Linkspan's own roles and bindings, by kind and name.
async fn list_roles(client: &Client) -> kube::Result<Vec<String>> {
    let system = || client.clone();
    let mut found = Vec::new();
    found.extend(names(list::<ClusterRole>(&Api::all(system())).await?));
    found.extend(names(list::<ClusterRoleBinding>(&Api::all(system())).await?));
    found.extend(names(list::<Role>(&Api::all(system())).await?));
    found.extend(names(list::<RoleBinding>(&Api::all(system())).await?));
    Ok(found)
}

fn names<K: Resource<DynamicType = ()>>(objects: Vec<K>) -> Vec<String> {
    let ours = objects.iter().map(ResourceExt::name_any).filter(|name| name.starts_with("linkspan-"));
    ours.map(|name| format!("{}/{name}", K::kind(&()))).collect()
}
