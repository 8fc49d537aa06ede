//! Reads what a cluster has of Linkspan: objects, logs, and what its nodes say.

use controller::api::names::{BROKER_NAMESPACE, SYSTEM_NAMESPACE};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::archive::part;
use super::kinds::{KINDS, list};
use super::shared::Shared;
use crate::kubectl::errors::explain;
use crate::kubectl::exec;

/// Lines of each log, the newest ones, and the most bytes of it.
const LOG_LINES: i64 = 20_000;
const LOG_BYTES: i64 = 8 << 20;
/// Pods that are asked at a time.
const AT_ONCE: usize = 8;

/// Something of a cluster.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its path in the archive.
    pub path: String,
    /// What it is.
    pub content: Content,
}

/// What is gathered.
#[derive(Debug)]
pub(super) enum Content {
    /// Objects.
    Objects(Vec<Value>),
    /// What this program makes of something.
    Answer(Value),
    /// A text: a log, or what a node says.
    Text(String),
}

impl Content {
    /// Whether there is nothing that would be worth a file.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Objects(objects) if objects.is_empty())
    }
}

/// What has to be known of all clusters before anything of one may be given away.
#[derive(Debug, Default)]
pub(super) struct Foreknown {
    /// Values of Secrets.
    pub secrets: Vec<Vec<u8>>,
    /// Objects in which public keys are told to be such.
    pub keys: Vec<Value>,
    /// Version of the API server.
    pub version: Option<String>,
    /// Names of Secrets, by their paths.
    pub names: Vec<(String, Vec<Value>)>,
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

/// Reads what is secret in a cluster, and what is known to be public.
///
/// # Errors
/// Its API server cannot be reached: to ask for all the rest would take as many timeouts.
pub(super) async fn foreknow(client: &Client) -> Result<Foreknown, String> {
    let mut known = Foreknown::default();
    match client.apiserver_version().await {
        Ok(version) => known.version = Some(version.git_version),
        Err(error @ kube::Error::Api(_)) => known.missing.push(format!("version.txt: {}", explain(&error))),
        Err(error) => return Err(explain(&error)),
    }
    for kind in KINDS.iter().filter(|kind| matches!(kind.kind, "Member" | "GatewayNode")) {
        // That they cannot be read is told when they are collected.
        known.keys.extend(list(client, kind).await.unwrap_or_default());
    }
    secrets(client, &mut known).await;
    Ok(known)
}

/// Reads everything of a cluster that the person may read, but for Secrets. What it gives is given to `take` at once,
/// which says whether there is room for more.
///
/// # Errors
/// What `take` fails with.
pub(super) async fn collect(
    client: &Client,
    take: &mut impl FnMut(Piece) -> anyhow::Result<Room>,
) -> anyhow::Result<Vec<String>> {
    let (mut missing, mut shared) = (Vec::new(), Shared::default());
    for kind in &KINDS {
        match list(client, kind).await {
            Ok(objects) if objects.is_empty() => {}
            Ok(objects) => {
                shared.note(kind, &objects);
                take(Piece { path: kind.path(), content: Content::Objects(objects) })?;
            }
            Err(why) => missing.push(format!("{}: {why}", kind.path())),
        }
    }
    let pods = pods(client, &mut missing).await;
    // Nodes first: they tell public keys that stand in logs.
    let nodes = pods.iter().flat_map(Asked::questions).map(Ask::answer);
    let room = answers(nodes, Room::Left, take, &mut missing).await?;
    let of_services = shared.kinds().map(|(path, kind)| {
        let objects = async move { list(client, &kind).await.map(Content::Objects) };
        (path, objects)
    });
    let room = answers(of_services, room, take, &mut missing).await?;
    let logs = pods.iter().flat_map(Asked::logs).map(Ask::answer);
    answers(logs, room, take, &mut missing).await?;
    Ok(missing)
}

/// Whether more of a cluster is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It is.
    Left,
    /// So many bytes were taken, which is enough.
    Full(usize),
}

/// Asks a few at a time; what there is no room for is not asked.
async fn answers<F: Future<Output = Result<Content, String>>>(
    asked: impl Iterator<Item = (String, F)>,
    mut room: Room,
    take: &mut impl FnMut(Piece) -> anyhow::Result<Room>,
    missing: &mut Vec<String>,
) -> anyhow::Result<Room> {
    let mut asked = asked.fuse();
    let mut waited = FuturesUnordered::new();
    loop {
        while waited.len() < AT_ONCE
            && let Some((path, answer)) = asked.next()
        {
            match room {
                Room::Left => waited.push(async move { (path, answer.await) }),
                Room::Full(bytes) => {
                    missing.push(format!("{path}: left out, this cluster gave {} MiB already", bytes >> 20));
                }
            }
        }
        match waited.next().await {
            None => return Ok(room),
            Some((_, Ok(content))) if content.is_empty() => {}
            Some((path, Ok(content))) => room = take(Piece { path, content })?,
            Some((path, Err(why))) => missing.push(format!("{path}: {why}")),
        }
    }
}

/// Names and keys of Secrets go into the archive; their values serve to be recognized elsewhere.
async fn secrets(client: &Client, known: &mut Foreknown) {
    for namespace in [SYSTEM_NAMESPACE, BROKER_NAMESPACE] {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let path = format!("objects/{namespace}/secrets.yaml");
        match api.list(&ListParams::default()).await {
            Ok(list) if list.items.is_empty() => {}
            Ok(list) => {
                known.names.push((path, list.items.iter().map(described).collect()));
                let data = list.items.into_iter().flat_map(|secret| secret.data.unwrap_or_default());
                known.secrets.extend(data.map(|(_, value)| value.0));
            }
            Err(error) => known.missing.push(format!("{path}: {}", explain(&error))),
        }
    }
}

fn described(secret: &Secret) -> Value {
    let keys = secret.data.iter().flat_map(|data| data.keys()).map(|key| (key.clone(), super::scrub::REMOVED.into()));
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name_any(),
            "namespace": secret.namespace(),
            "creationTimestamp": secret.metadata.creation_timestamp,
            "labels": secret.metadata.labels,
        },
        "type": secret.type_,
        "data": keys.collect::<serde_json::Map<_, _>>(),
    })
}

/// A pod, and the API that has it.
struct Asked {
    api: Api<Pod>,
    namespace: &'static str,
    pod: Pod,
}

/// Something that a pod is asked for.
struct Ask<'a> {
    /// Where the answer goes.
    path: String,
    pod: &'a Asked,
    what: What<'a>,
}

enum What<'a> {
    Log { container: &'a str, previous: bool },
    Question(&'static str),
}

/// All pods of Linkspan, and of cluster DNS.
async fn pods(client: &Client, missing: &mut Vec<String>) -> Vec<Asked> {
    let mut pods = Vec::new();
    for (namespace, labels) in [(SYSTEM_NAMESPACE, None), ("kube-system", Some("k8s-app=kube-dns"))] {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let params = labels.map_or_else(ListParams::default, |labels| ListParams::default().labels(labels));
        match api.list(&params).await {
            Ok(list) => pods.extend(list.items.into_iter().map(|pod| Asked { api: api.clone(), namespace, pod })),
            Err(error) => missing.push(format!("logs/{namespace}: {}", explain(&error))),
        }
    }
    pods
}

impl Asked {
    fn containers(&self) -> impl Iterator<Item = &str> {
        self.pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.as_str())
    }

    /// What the program in a node's own pod says.
    fn questions(&self) -> Vec<Ask<'_>> {
        if self.namespace != SYSTEM_NAMESPACE || !self.containers().any(|name| name == "node") {
            return Vec::new();
        }
        let name = self.pod.name_any();
        let node = part(self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or(&name));
        let ask = |question| {
            let path = format!("nodes/{node}/{question}.json");
            Ask { path, pod: self, what: What::Question(question) }
        };
        ["status", "inspect"].map(ask).into()
    }

    fn logs(&self) -> Vec<Ask<'_>> {
        let mut asked = Vec::new();
        for container in self.containers() {
            let path = format!("logs/{}/{}/{}", self.namespace, part(&self.pod.name_any()), part(container));
            let ask = |path, previous| Ask { path, pod: self, what: What::Log { container, previous } };
            asked.push(ask(format!("{path}.log"), false));
            let mut statuses = self.pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            if statuses.any(|status| status.name == container && status.restart_count > 0) {
                asked.push(ask(format!("{path}.previous.log"), true));
            }
        }
        asked
    }
}

impl<'a> Ask<'a> {
    /// Its path, and the answer to come.
    fn answer(self) -> (String, impl Future<Output = Result<Content, String>> + use<'a>) {
        let Self { path, pod, what } = self;
        let answer = async move {
            let (api, name) = (&pod.api, pod.pod.name_any());
            let said = match what {
                What::Log { container, previous } => log(api, &name, container, previous).await,
                What::Question(question) => {
                    exec::output(api, &name, "node", &["linkspan", question, "-o", "json"]).await
                }
            };
            said.map(Content::Text)
        };
        (path, answer)
    }
}

async fn log(api: &Api<Pod>, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let params = LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        timestamps: true,
        ..LogParams::default()
    };
    api.logs(pod, &params).await.map_err(|error| explain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_there_is_no_room_for_is_not_asked_but_told() {
        let asked = (0..20).map(|number| {
            (format!("{number}.log"), async move {
                assert!(number < 10, "after two answers no more are asked for than those under way");
                if number == 0 { Err("refused".to_owned()) } else { Ok(Content::Text("x".to_owned())) }
            })
        });
        let (mut taken, mut missing) = (0, Vec::new());
        let mut take = |_: Piece| {
            taken += 1;
            Ok(if taken < 2 { Room::Left } else { Room::Full(3 << 20) })
        };
        let room = answers(asked, Room::Left, &mut take, &mut missing).await.unwrap();
        assert_eq!(room, Room::Full(3 << 20));
        assert_eq!(taken + missing.len(), 20);
        assert!(missing.contains(&"0.log: refused".to_owned()), "{missing:?}");
        assert_eq!(missing.last().unwrap(), "19.log: left out, this cluster gave 3 MiB already");
    }

    #[test]
    fn a_pod_is_asked_for_its_logs_and_a_node_for_more() {
        let pod = |namespace, container: &str, restarts: i32| {
            let pod = serde_json::from_value(json!({
                "metadata": { "name": "x" },
                "spec": { "nodeName": "n1", "containers": [{ "name": container }] },
                "status": { "containerStatuses": [{
                    "name": container, "image": "", "imageID": "", "ready": true, "restartCount": restarts,
                }] },
            }));
            let client = Client::try_from(kube::Config::new("http://192.0.2.1".parse().unwrap())).unwrap();
            Asked { api: Api::namespaced(client, namespace), namespace, pod: pod.unwrap() }
        };
        let paths = |asked: Vec<Ask<'_>>| asked.into_iter().map(|ask| ask.path).collect::<Vec<_>>();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let node = pod(SYSTEM_NAMESPACE, "node", 1);
        assert_eq!(paths(node.questions()), ["nodes/n1/status.json", "nodes/n1/inspect.json"]);
        let logs = ["logs/linkspan-system/x/node.log", "logs/linkspan-system/x/node.previous.log"];
        assert_eq!(paths(node.logs()), logs);
        let dns = pod("kube-system", "coredns", 0);
        assert!(dns.questions().is_empty());
        assert_eq!(paths(dns.logs()), ["logs/kube-system/x/coredns.log"]);
    }
}
