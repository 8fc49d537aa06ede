//! Asks a cluster for what is to be shown of it.

use std::fmt::Debug;

use controller::api::names::SYSTEM_NAMESPACE;
use controller::api::{GatewayNode, Member, ServiceExport, ServiceImport};
use controller::broker::cluster_id;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::Topic;
use crate::kubectl::contexts::Target;
use crate::kubectl::errors::{explain, is_cut_off, is_not_found};
use crate::kubectl::speech::Speech;

/// What one cluster says.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What the cluster is called in the kubeconfig.
    pub context: String,
    /// The time that ages are told for; without it, that of the observation.
    pub now: Option<Timestamp>,
    /// How who reads it calls the program.
    pub speech: Speech,
    /// Its cluster ID, once it has one.
    pub own: Option<String>,
    /// The clusters that it knows, itself among them.
    pub members: Vec<Member>,
    /// Its gateway nodes.
    pub gateways: Vec<GatewayNode>,
    /// Services that it exports.
    pub exports: Vec<ServiceExport>,
    /// Services that it imports.
    pub imports: Vec<ServiceImport>,
    /// Linkspan's own workloads.
    pub workloads: Vec<Workload>,
    /// Version of its API server.
    pub kubernetes: Option<String>,
    /// What could not be seen, and why.
    pub missing: Vec<String>,
    /// Whether the API server does not answer, so that it was asked for nothing more.
    pub is_cut_off: bool,
}

/// A Deployment or DaemonSet of Linkspan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Image of its first container.
    pub image: String,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that should be.
    pub wanted: i32,
}

/// Asks a cluster for what these topics need. What it refuses is told, and the rest is asked for nevertheless; where nobody
/// answers, that is told once.
pub async fn see(target: &Target, topics: &[Topic], namespace: Option<&str>) -> Seen {
    let client = &target.client;
    let mut seen = Seen { context: target.name.clone(), ..Seen::default() };
    let needs = |wanted: &[Topic]| topics.iter().any(|topic| wanted.contains(topic));
    if needs(&[Topic::Versions]) {
        seen.see_versions(client).await;
    }
    if needs(&[Topic::Members, Topic::Networks, Topic::Versions]) && !seen.is_cut_off {
        seen.see_members(client).await;
    }
    if needs(&[Topic::Gateways, Topic::Connections]) && !seen.is_cut_off {
        let found = list(&Api::namespaced(client.clone(), SYSTEM_NAMESPACE)).await;
        seen.gateways = seen.note("list GatewayNodes", found).unwrap_or_default();
    }
    if needs(&[Topic::Exports]) && !seen.is_cut_off {
        let found = list(&spread(client, namespace)).await;
        seen.exports = seen.note("list ServiceExports", found).unwrap_or_default();
    }
    if needs(&[Topic::Imports]) && !seen.is_cut_off {
        let found = list(&spread(client, namespace)).await;
        seen.imports = seen.note("list ServiceImports", found).unwrap_or_default();
    }
    seen
}

impl Seen {
    /// A cluster whose API server does not answer, as somebody has found out.
    pub fn cut_off(context: &str) -> Self {
        Self { context: context.to_owned(), is_cut_off: true, ..Self::default() }
    }

    async fn see_versions(&mut self, client: &Client) {
        let version = client.apiserver_version().await;
        self.kubernetes = self.note("ask for the version", version).map(|version| version.git_version);
        if !self.is_cut_off {
            let found = workloads(client).await;
            self.workloads = self.note("list Linkspan's workloads", found).unwrap_or_default();
        }
    }

    async fn see_members(&mut self, client: &Client) {
        let found = list(&Api::namespaced(client.clone(), SYSTEM_NAMESPACE)).await;
        self.members = self.note("list Members", found).unwrap_or_default();
        if !self.is_cut_off {
            let found = cluster_id(client).await;
            self.own = self.note("read its cluster ID", found).flatten();
        }
    }

    /// The answer, or a note why there is none.
    fn note<T>(&mut self, what: &str, answer: Result<T, kube::Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.is_cut_off |= is_cut_off(&error);
                let why = match &error {
                    error if is_not_found(error) => {
                        "Linkspan is not in this cluster; see `kubectl linkspan join --help`".to_owned()
                    }
                    error => format!("failed to {what}: {}", explain(error)),
                };
                if !self.missing.contains(&why) {
                    self.missing.push(why);
                }
                None
            }
        }
    }
}

async fn list<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Of one namespace, or of all.
fn spread<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn workloads(client: &Client) -> Result<Vec<Workload>, kube::Error> {
    let daemons = list(&Api::<DaemonSet>::namespaced(client.clone(), SYSTEM_NAMESPACE)).await?;
    let deployments = list(&Api::<Deployment>::namespaced(client.clone(), SYSTEM_NAMESPACE)).await?;
    let image = |spec: Option<PodSpec>| {
        let containers = spec.map(|spec| spec.containers).unwrap_or_default();
        containers.into_iter().next().and_then(|container| container.image).unwrap_or_default()
    };
    let daemons = daemons.into_iter().map(|daemon| {
        let status = daemon.status.clone().unwrap_or_default();
        Workload {
            name: daemon.name_any(),
            image: image(daemon.spec.and_then(|spec| spec.template.spec)),
            ready: status.number_ready,
            wanted: status.desired_number_scheduled,
        }
    });
    let deployments = deployments.into_iter().map(|deployment| {
        let (name, ready) = (deployment.name_any(), deployment.status.and_then(|status| status.ready_replicas));
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let image = image(deployment.spec.and_then(|spec| spec.template.spec));
        Workload { name, image, ready: ready.unwrap_or(0), wanted: wanted.unwrap_or(1) }
    });
    Ok(daemons.chain(deployments).collect())
}
