//! Which clusters a command speaks to, as kubectl's options say it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use futures::StreamExt as _;
use hyper::{Request, Response, Uri};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, service_fn};

use super::limits::raise_open_files;
use super::proxy::proxy;
use super::timeout::RequestTimeout;

/// Contexts that are prepared at a time: each may start a program that gets a token.
const AT_ONCE: usize = 16;

use super::gather::part;

/// Options of commands that speak to API servers.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Clusters")]
pub struct Contexts {
    /// A kubeconfig file; may be given again for more clusters. Default: KUBECONFIG, else ~/.kube/config, else that of the
    /// pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Vec<PathBuf>,
    /// A context of it, with commas or again for more. Default: the current one of each file.
    #[arg(long = "context", value_name = "NAME", value_delimiter = ',')]
    contexts: Vec<String>,
    /// All contexts of the kubeconfig.
    #[arg(long, conflicts_with = "contexts")]
    all_contexts: bool,
    /// How long an API server may take to answer: 10s, 1m, or a number of seconds; 0 for ever. Commands in pods, logs and
    /// watches are not meant.
    #[arg(long, value_name = "DURATION", default_value_t)]
    request_timeout: RequestTimeout,
    #[command(flatten)]
    identity: Identity,
}

/// Whose rights are used.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Clusters")]
pub struct Identity {
    /// The user to act as; needs the right to impersonate.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// A group to act as, together with --as; may be given again.
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
}

/// The namespace of a command's objects.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Clusters")]
pub struct Namespace {
    /// The namespace. Default: that of the context, else `default`.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

/// One cluster, ready to be spoken to.
#[derive(Clone)]
pub struct Target {
    /// What it is called in what is printed: the name of its context. Where two are the same, as K3s makes them, that of
    /// the file goes before it.
    pub name: String,
    /// A client with the rights of the person.
    pub client: Client,
    /// Namespace of the context.
    pub namespace: String,
    /// How its API server is reached.
    pub config: Config,
}

/// Several clusters were named for a command that works on one.
#[derive(Debug, thiserror::Error)]
#[error("this command works on one cluster at a time, and these were named: {0}")]
pub struct TooMany(String);

impl Contexts {
    /// Another cluster, for the same person: a context of `file`, or of these files where there is none.
    pub fn elsewhere(&self, file: Option<PathBuf>, context: Option<String>) -> Self {
        Self {
            kubeconfig: file.map_or_else(|| self.kubeconfig.clone(), |file| vec![file]),
            contexts: context.into_iter().collect(),
            all_contexts: false,
            request_timeout: self.request_timeout,
            identity: self.identity.clone(),
        }
    }

    /// Whether anything was asked for but the default.
    pub fn is_given(&self) -> bool {
        !self.kubeconfig.is_empty() || !self.contexts.is_empty() || self.all_contexts || self.identity.user.is_some()
    }

    /// The one cluster of a command that works on one.
    ///
    /// # Errors
    /// There is none, or more than one, or the kubeconfig cannot be read.
    pub async fn one(&self) -> anyhow::Result<Target> {
        let mut targets = self.targets().await?;
        match (targets.pop(), targets.len()) {
            (Some(target), 0) => Ok(target),
            (last, _) => {
                let names: Vec<String> = targets.into_iter().chain(last).map(|target| target.name).collect();
                Err(TooMany(names.join(", ")).into())
            }
        }
    }

    /// All clusters that were asked for, at least one. One of many whose context is of no use is a target nevertheless,
    /// which answers every request with the reason.
    ///
    /// # Errors
    /// A kubeconfig cannot be read, or has no such context; or there is one cluster only, and its context is of no use.
    pub async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        // Who speaks to clusters begins here; each takes several connections.
        raise_open_files();
        let files = self.files()?;
        if files.is_empty() {
            return Ok(vec![self.in_cluster()?]);
        }
        let chosen = choose(&files, &self.contexts, self.all_contexts)?;
        let names = names(&files, &chosen);
        let is_only = chosen.len() == 1;
        let prepared =
            chosen.iter().zip(names).map(|((file, context), name)| self.of_context(&files[*file], context, name));
        let prepared: Vec<_> = futures::stream::iter(prepared).buffered(AT_ONCE).collect().await;
        let dark = |(target, error): (Target, Option<anyhow::Error>)| match error {
            Some(error) if is_only => Err(error),
            _ => Ok(target),
        };
        prepared.into_iter().map(dark).collect()
    }

    /// A context as a target, and what is wrong with it if it is of no use.
    async fn of_context(&self, file: &File, context: &str, name: String) -> (Target, Option<anyhow::Error>) {
        match self.prepare(file, context, name.clone()).await {
            Ok(target) => (target, None),
            Err(error) => {
                let namespace = file.context(context).and_then(|context| context.namespace.clone());
                let why = format!("{error:#}");
                (Target::dark(name, namespace, why), Some(error))
            }
        }
    }

    async fn prepare(&self, file: &File, context: &str, name: String) -> anyhow::Result<Target> {
        let told = || format!("context {context} of {} is of no use", file.name);
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(file.content.clone(), &options).await.map_err(outermost);
        let (mut config, this) = (config.with_context(told)?, self.clone());
        let own = file.cluster(context).and_then(|cluster| cluster.proxy_url.as_deref());
        config.proxy_url = proxy(own, &config.cluster_url, |name| std::env::var(name).ok()).with_context(told)?;
        // A program that gets a token is waited for in here.
        let target = tokio::task::spawn_blocking(move || this.target(name, config)).await;
        target.context("the context was not prepared to the end")?.with_context(told)
    }

    fn target(&self, name: String, mut config: Config) -> anyhow::Result<Target> {
        if let Some(user) = &self.identity.user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups =
                Some(self.identity.groups.clone()).filter(|groups| !groups.is_empty());
        }
        if let Some(limit) = self.request_timeout.limit() {
            // Streams are not limited, and have to begin nevertheless. What is limited ends first, with a better reason.
            config.connect_timeout = Some(limit + Duration::from_millis(100));
        }
        let builder = ClientBuilder::try_from(config.clone()).map_err(outermost)?;
        let client = builder.with_layer(&self.request_timeout).build();
        Ok(Target { name, client, namespace: config.default_namespace.clone(), config })
    }

    /// The cluster in which this process is a pod.
    fn in_cluster(&self) -> anyhow::Result<Target> {
        let Ok(config) = Config::incluster() else {
            bail!("no API server is named: give --kubeconfig, or set KUBECONFIG");
        };
        if let Some(context) = self.contexts.first() {
            bail!("there is no kubeconfig that could have a context {context}: give --kubeconfig, or set KUBECONFIG");
        }
        self.target("in-cluster".to_owned(), config).context("failed to prepare for the API server of this pod")
    }

    /// The kubeconfigs; several files of KUBECONFIG are one, as they are for kubectl.
    fn files(&self) -> anyhow::Result<Vec<File>> {
        let named = |path: &PathBuf| {
            let content = Kubeconfig::read_from(path).with_context(|| format!("failed to read {}", path.display()))?;
            Ok(File { name: path.display().to_string(), content })
        };
        if !self.kubeconfig.is_empty() {
            return self.kubeconfig.iter().map(named).collect();
        }
        if let Some(content) = of_environment(std::env::var_os("KUBECONFIG").as_deref())? {
            return Ok(vec![File { name: "KUBECONFIG".to_owned(), content }]);
        }
        match Kubeconfig::read() {
            Ok(content) => Ok(vec![File { name: "~/.kube/config".to_owned(), content }]),
            // A pod, or a machine that was never set up.
            Err(KubeconfigError::FindPath) => Ok(Vec::new()),
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("failed to read ~/.kube/config"),
        }
    }
}

impl Target {
    /// A cluster that cannot be spoken to: whoever asks for anything is told why.
    fn dark(name: String, namespace: Option<String>, why: String) -> Self {
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let refuse =
            service_fn(move |_: Request<Body>| std::future::ready(Err::<Response<Body>, BoxError>(why.clone().into())));
        // RFC 6761, section 6.4: no such host exists.
        let config = Config::new(Uri::from_static("https://invalid"));
        Self { name, client: Client::new(refuse, namespace.clone()), namespace, config }
    }
}

/// An error that tells its source itself, without telling it twice.
fn outermost(error: impl std::error::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

impl Namespace {
    /// The one that was given, or that of the context.
    pub fn of(&self, target: &Target) -> String {
        self.namespace.clone().unwrap_or_else(|| target.namespace.clone())
    }

    /// The one that was given.
    pub fn given(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// The files of KUBECONFIG as one. Those that do not exist are passed over, as kubectl does; nothing without any name.
fn of_environment(value: Option<&OsStr>) -> anyhow::Result<Option<Kubeconfig>> {
    let Some(value) = value else { return Ok(None) };
    let mut whole = None;
    for path in std::env::split_paths(value).filter(|path| !path.as_os_str().is_empty()) {
        let read = match Kubeconfig::read_from(&path) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => Kubeconfig::default(),
            read => read.with_context(|| format!("failed to read {}, which KUBECONFIG names", path.display()))?,
        };
        let together = whole.unwrap_or_default();
        whole = Some(Kubeconfig::merge(together, read).context("failed to put the files of KUBECONFIG together")?);
    }
    Ok(whole)
}

/// Names of all contexts of the default kubeconfig, to be proposed; none where it cannot be read.
pub fn known() -> Vec<String> {
    let files = Contexts::default().files().unwrap_or_default();
    files.iter().flat_map(File::contexts).map(str::to_owned).collect()
}

struct File {
    name: String,
    content: Kubeconfig,
}

impl File {
    fn contexts(&self) -> impl Iterator<Item = &str> {
        self.content.contexts.iter().map(|context| context.name.as_str())
    }

    fn cluster(&self, context: &str) -> Option<&kube::config::Cluster> {
        let name = &self.context(context)?.cluster;
        self.content.clusters.iter().find(|cluster| cluster.name == *name)?.cluster.as_ref()
    }

    fn context(&self, name: &str) -> Option<&kube::config::Context> {
        self.content.contexts.iter().find(|context| context.name == name)?.context.as_ref()
    }
}

/// Which context of which file: the named ones in the order of their names, else the current one of each file.
fn choose(files: &[File], named: &[String], all: bool) -> anyhow::Result<Vec<(usize, String)>> {
    let mut chosen = Vec::new();
    if all {
        for (at, file) in files.iter().enumerate() {
            chosen.extend(file.contexts().map(|context| (at, context.to_owned())));
        }
        if chosen.is_empty() {
            bail!("{} has no contexts", list(files.iter().map(|file| file.name.as_str())));
        }
        return Ok(chosen);
    }
    for name in named {
        let before = chosen.len();
        let having = files.iter().enumerate().filter(|(_, file)| file.contexts().any(|context| context == name));
        chosen.extend(having.map(|(at, _)| (at, name.clone())));
        if chosen.len() == before {
            let known: BTreeSet<&str> = files.iter().flat_map(File::contexts).collect();
            bail!("the kubeconfig has no context {name}; it has {}", list(known.into_iter()));
        }
    }
    if named.is_empty() {
        for (at, file) in files.iter().enumerate() {
            let current = file.content.current_context.clone().filter(|current| !current.is_empty());
            let current = current.with_context(|| {
                format!(
                    "{} has no current context: choose one with --context from {}",
                    file.name,
                    list(file.contexts())
                )
            })?;
            chosen.push((at, current));
        }
    }
    let mut seen = BTreeSet::new();
    chosen.retain(|one| seen.insert(one.clone()));
    Ok(chosen)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What the chosen ones are called: their contexts; where that is ambiguous, with the names of their files, of the folders
/// of these, and at last with a number. No two are the same, also not as folders of an archive.
fn names(files: &[File], chosen: &[(usize, String)]) -> Vec<String> {
    let wide = |(file, context): &(usize, String), level: usize| {
        let path = Path::new(&files[*file].name).with_extension("");
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let parts = &parts[parts.len().saturating_sub(level)..];
        parts
            .iter()
            .map(String::as_str)
            .filter(|part| *part != "/")
            .chain([context.as_str()])
            .collect::<Vec<_>>()
            .join("/")
    };
    let mut names: Vec<String> = chosen.iter().map(|one| wide(one, 0)).collect();
    let deepest = files.iter().map(|file| Path::new(&file.name).iter().count()).max().unwrap_or_default();
    for level in 1..=deepest {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        names.iter().for_each(|name| *counts.entry(part(name)).or_default() += 1);
        for (name, one) in names.iter_mut().zip(chosen) {
            if counts.get(&part(name)).is_some_and(|count| *count > 1) {
                *name = wide(one, level);
            }
        }
    }
    let mut taken: BTreeSet<String> = names.iter().map(|name| part(name)).collect();
    let mut seen = BTreeSet::new();
    for name in &mut names {
        if seen.insert(part(name)) {
            continue;
        }
        let numbered = (2..).map(|number| format!("{name}#{number}")).find(|wide| !taken.contains(&part(wide)));
        if let Some(numbered) = numbered {
            taken.insert(part(&numbered));
            *name = numbered;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, contexts: &[&str], current: &str) -> File {
        let contexts: Vec<_> = contexts.iter().map(|name| serde_json::json!({ "name": name })).collect();
        let content = serde_json::json!({ "contexts": contexts, "current-context": current });
        File { name: name.to_owned(), content: serde_json::from_value(content).expect("a kubeconfig") }
    }

    fn chosen(files: &[File], named: &[&str], all: bool) -> Result<Vec<String>, String> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        let chosen = choose(files, &named, all).map_err(|error| error.to_string())?;
        Ok(names(files, &chosen))
    }

    /// A kubeconfig with contexts of these names, clusters and users.
    fn written(folder: &Path, of: &[(&str, serde_json::Value, serde_json::Value)]) -> PathBuf {
        let list = |key: &str, each: &dyn Fn(usize) -> serde_json::Value| -> Vec<serde_json::Value> {
            of.iter().enumerate().map(|(at, one)| serde_json::json!({ "name": one.0, key: each(at) })).collect()
        };
        let config = serde_json::json!({
            "clusters": list("cluster", &|at| of[at].1.clone()),
            "users": list("user", &|at| of[at].2.clone()),
            "contexts": list("context", &|at| serde_json::json!({ "cluster": of[at].0, "user": of[at].0, "namespace": "shop" })),
        });
        let path = folder.join("config");
        std::fs::write(&path, config.to_string()).expect("the folder is there");
        path
    }

    #[test]
    fn files_of_the_environment_that_do_not_exist_are_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = written(folder.path(), &[("a", serde_json::json!({}), serde_json::json!({}))]);
        let of = |paths: &[&Path]| {
            let value = std::env::join_paths(paths).expect("no colons");
            of_environment(Some(&value)).map(|found| found.map(|config| config.contexts.len()))
        };
        let gone = folder.path().join("gone");
        assert_eq!(of(&[&gone, Path::new(""), &there]).expect("read"), Some(1));
        assert_eq!(of(&[&gone]).expect("read"), Some(0));
        assert_eq!(of(&[Path::new("")]).expect("read"), None);
        assert_eq!(of_environment(None).expect("read").map(|_| ()), None);
        let broken = folder.path().join("broken");
        std::fs::write(&broken, "contexts: 7").expect("the folder is there");
        let error = of(&[&broken, &there]).expect_err("it is no kubeconfig");
        assert!(error.to_string().contains("broken, which KUBECONFIG names"), "{error}");
    }

    async fn why(target: &Target) -> String {
        let error = target.client.apiserver_version().await.expect_err("nobody answers");
        super::super::errors::explain(&error)
    }

    #[tokio::test]
    async fn programs_that_get_tokens_run_side_by_side_and_one_context_of_no_use_spoils_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        // Each waits for the other one, for ten seconds at most.
        let meeting = |own: &str, other: &str| {
            let token =
                r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}"#;
            let script = format!(
                "cd {}; : >{own}; for i in $(seq 100); do if [ -e {other} ]; then echo '{token}'; exit; fi; sleep 0.1; done; exit 1",
                folder.path().display()
            );
            serde_json::json!({ "exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh", "args": ["-c", script],
            } })
        };
        let server = || serde_json::json!({ "server": "https://127.0.0.1:1" });
        let lost =
            serde_json::json!({ "server": "https://127.0.0.1:1", "certificate-authority": "/nonexistent/ca.crt" });
        let file = written(
            folder.path(),
            &[
                ("a", server(), meeting("1", "2")),
                ("lost", lost, serde_json::json!({})),
                ("b", server(), meeting("2", "1")),
            ],
        );
        let all = Contexts { kubeconfig: vec![file.clone()], all_contexts: true, ..Contexts::default() };
        let targets = all.targets().await.expect("two of three are well");
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["a", "lost", "b"]);
        for at in [0, 2] {
            assert!(why(&targets[at]).await.contains("refused"), "{}", why(&targets[at]).await);
        }
        let expected = format!(
            "context lost of {} is of no use: failed to load certificate authority: failed to read file",
            file.display()
        );
        assert!(why(&targets[1]).await.starts_with(&expected), "{}", why(&targets[1]).await);
        assert_eq!(targets[1].namespace, "shop");

        let one = Contexts { kubeconfig: vec![file], contexts: vec!["lost".to_owned()], ..Contexts::default() };
        let error = one.targets().await.err().expect("there is no other");
        assert!(format!("{error:#}").starts_with(&expected), "{error:#}");
    }

    #[test]
    fn without_names_it_is_the_current_context_of_each_file() {
        let files = [file("fleet.yaml", &["paris", "berlin"], "berlin"), file("rome.yaml", &["rome"], "rome")];
        assert_eq!(chosen(&files, &[], false).expect("both have one"), ["berlin", "rome"]);
        let error = chosen(&[file("a.yaml", &["x", "y"], "")], &[], false).expect_err("none is current");
        assert_eq!(error, "a.yaml has no current context: choose one with --context from x, y");
    }

    #[test]
    fn named_contexts_come_in_the_order_of_their_names_and_once() {
        let files = [file("fleet.yaml", &["paris", "berlin"], "paris")];
        assert_eq!(chosen(&files, &["berlin", "paris", "berlin"], false).expect("known"), ["berlin", "paris"]);
        let error = chosen(&files, &["rome"], false).expect_err("unknown");
        assert_eq!(error, "the kubeconfig has no context rome; it has berlin, paris");
    }

    #[test]
    fn contexts_of_the_same_name_are_told_apart_by_their_files() {
        let files =
            [file("/etc/paris.yaml", &["default"], "default"), file("berlin.yaml", &["default", "x"], "default")];
        assert_eq!(chosen(&files, &[], false).expect("as K3s has them"), ["paris/default", "berlin/default"]);
        assert_eq!(chosen(&files, &[], true).expect("all"), ["paris/default", "berlin/default", "x"]);
        assert_eq!(chosen(&files, &["x"], false).expect("one"), ["x"]);
    }

    #[test]
    fn no_two_have_the_same_name_nor_the_same_folder_in_an_archive() {
        let of = |names: &[&str], context: &str| {
            names.iter().map(|name| file(name, &[context], context)).collect::<Vec<_>>()
        };
        let files = of(&["/etc/paris/k3s.yaml", "/etc/berlin/k3s.yaml"], "default");
        assert_eq!(chosen(&files, &[], false).unwrap(), ["paris/k3s/default", "berlin/k3s/default"]);
        let files = of(&["/a/x/k3s.yaml", "/b/x/k3s.yaml", "/b/y/k3s.yaml"], "default");
        assert_eq!(chosen(&files, &[], false).unwrap(), ["a/x/k3s/default", "b/x/k3s/default", "y/k3s/default"]);
        let files = of(&["k3s.yaml", "k3s.yml", "k3s"], "default");
        assert_eq!(chosen(&files, &[], false).unwrap(), ["k3s/default", "k3s/default#2", "k3s/default#3"]);
        // `a/b` and `a-b` are one folder.
        let files = [file("x.yaml", &["a/b", "a-b", "x-a-b-2"], "a/b")];
        assert_eq!(chosen(&files, &[], true).unwrap(), ["x/a/b", "x/a-b#3", "x-a-b-2"]);
    }
}
