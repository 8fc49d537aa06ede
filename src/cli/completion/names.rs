//! Names that only a kubeconfig or an API server knows, for who presses Tab: what is not there in a moment is not waited
//! for, and what goes wrong is not told.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use controller::api::names::BROKER_NAMESPACE;
use controller::api::{Member, ServiceExport, ServiceImport};
use controller::broker::token;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::kubectl::contexts::{self, Contexts, Target};

/// How long API servers are waited for, and before that those who get a token.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most names of one kind in one cluster.
const MOST: u32 = 500;

/// What is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Contexts of the kubeconfig.
    Contexts,
    /// Contexts of the broker's kubeconfig.
    BrokerContexts,
    Namespaces,
    Services,
    Exports,
    /// Those who call.
    Pods,
    /// Those who are called.
    PodsAndImports,
    /// Clusters with a join token.
    Tokens,
    /// Members of a broker.
    Members,
}

impl Wanted {
    /// By the command and the argument.
    pub(super) fn of(command: &str, argument: &str) -> Option<Self> {
        Some(match (command, argument) {
            (_, "contexts") => Self::Contexts,
            (_, "broker_context") => Self::BrokerContexts,
            (_, "namespace" | "broker_namespace") => Self::Namespaces,
            ("export", "service") => Self::Services,
            ("unexport", "service") => Self::Exports,
            ("why" | "trace", "from") => Self::Pods,
            ("why" | "trace", "arrow" | "to") => Self::PodsAndImports,
            ("token revoke", "cluster") => Self::Tokens,
            ("member remove", "cluster") => Self::Members,
            _ => return None,
        })
    }
}

/// Which names, and of which clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) wanted: Wanted,
    /// Options that say which clusters, as they were typed.
    pub(super) contexts: Vec<String>,
    pub(super) namespace: Option<String>,
    broker_namespace: String,
    broker_kubeconfig: Option<PathBuf>,
}

impl Question {
    /// With options that were typed: each with its ID, its long name and its value.
    pub(super) fn new<'a>(wanted: Wanted, given: impl Iterator<Item = (String, Option<&'a str>, &'a str)>) -> Self {
        let mut question = Self {
            wanted,
            contexts: Vec::new(),
            namespace: None,
            broker_namespace: BROKER_NAMESPACE.to_owned(),
            broker_kubeconfig: None,
        };
        for (id, long, value) in given {
            match (id.as_str(), long) {
                ("namespace", _) => question.namespace = Some(value.to_owned()),
                ("broker_namespace", _) => question.broker_namespace = value.to_owned(),
                ("broker_kubeconfig", _) => question.broker_kubeconfig = Some(value.into()),
                ("all_contexts", Some(long)) => question.contexts.push(format!("--{long}")),
                ("kubeconfig" | "contexts" | "user" | "groups", Some(long)) => {
                    question.contexts.push(format!("--{long}={value}"));
                }
                _ => {}
            }
        }
        question
    }

    fn read(&self) -> Option<Contexts> {
        let command = Contexts::augment_args(Command::new("contexts")).no_binary_name(true);
        let matches = command.try_get_matches_from(&self.contexts).ok()?;
        Contexts::from_arg_matches(&matches).ok()
    }

    /// Files of `--kubeconfig`.
    fn files(&self) -> Vec<PathBuf> {
        self.contexts.iter().filter_map(|option| option.strip_prefix("--kubeconfig=")).map(PathBuf::from).collect()
    }
}

/// The names; none where they cannot be had.
pub(super) fn ask(question: &Question) -> Vec<String> {
    match question.wanted {
        Wanted::Contexts => contexts_of(&question.files()),
        Wanted::BrokerContexts => {
            contexts_of(&question.broker_kubeconfig.clone().map_or_else(|| question.files(), |file| vec![file]))
        }
        _ => in_time(of_clusters(question)),
    }
}

fn contexts_of(files: &[PathBuf]) -> Vec<String> {
    if files.is_empty() {
        return contexts::known();
    }
    let read = files.iter().filter_map(|file| Kubeconfig::read_from(file).ok());
    read.flat_map(|config| config.contexts).map(|context| context.name).collect()
}

fn in_time(names: impl Future<Output = BTreeSet<String>>) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = runtime.block_on(names);
    // A program that gets a token may go on for longer than anybody waits.
    runtime.shutdown_background();
    names.into_iter().collect()
}

async fn of_clusters(question: &Question) -> BTreeSet<String> {
    let Some(contexts) = question.read() else { return BTreeSet::new() };
    let Ok(Ok(targets)) = tokio::time::timeout(PATIENCE, contexts.targets()).await else { return BTreeSet::new() };
    let lists = targets.iter().map(|target| tokio::time::timeout(PATIENCE, of_cluster(target, question)));
    join_all(lists).await.into_iter().flat_map(Result::unwrap_or_default).collect()
}

async fn of_cluster(target: &Target, question: &Question) -> Vec<String> {
    let client = &target.client;
    let namespace = question.namespace.as_deref().unwrap_or(&target.namespace);
    let broker = question.broker_namespace.as_str();
    match question.wanted {
        Wanted::Contexts | Wanted::BrokerContexts => Vec::new(),
        Wanted::Namespaces => list(Api::<Namespace>::all(client.clone())).await,
        Wanted::Services => within::<Service>(client, namespace).await,
        Wanted::Exports => within::<ServiceExport>(client, namespace).await,
        Wanted::Pods => within::<Pod>(client, namespace).await,
        Wanted::PodsAndImports => {
            let both = futures::join!(within::<Pod>(client, namespace), within::<ServiceImport>(client, namespace));
            [both.0, both.1].concat()
        }
        Wanted::Tokens => {
            let tokens = token::list(client, broker, Timestamp::now()).await.unwrap_or_default();
            tokens.into_iter().map(|token| token.cluster).collect()
        }
        Wanted::Members => within::<Member>(client, broker).await,
    }
}

async fn within<K>(client: &Client, namespace: &str) -> Vec<String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    list(Api::<K>::namespaced(client.clone(), namespace)).await
}

async fn list<K>(api: Api<K>) -> Vec<String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let listed = api.list_metadata(&ListParams::default().limit(MOST)).await;
    listed.map(|list| list.items.iter().map(|item| item.name_any()).collect()).unwrap_or_default()
}
