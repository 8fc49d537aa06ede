//! Reads what a cluster has of Linkspan: objects, logs, and what its nodes say.

use controller::api::names::{BROKER_NAMESPACE, SYSTEM_NAMESPACE};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::archive::part;
use crate::kubectl::errors::{explain, is_not_found};
use crate::kubectl::exec;

/// Lines of each log, the newest ones, and the most bytes of it.
const LOG_LINES: i64 = 20_000;
const LOG_BYTES: i64 = 8 << 20;
/// Pods that are asked at a time.
const AT_ONCE: usize = 8;

/// Which objects are read.
struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// None: of the whole cluster.
    namespace: Option<&'static str>,
    labels: Option<&'static str>,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespace: None, labels: None }
}

impl Kind {
    const fn within(self, namespace: &'static str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    const fn labelled(self, labels: &'static str) -> Self {
        Self { labels: Some(labels), ..self }
    }

    fn path(&self) -> String {
        let place = self.namespace.unwrap_or("cluster");
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("objects/{place}/{}{group}.yaml", self.plural)
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICIES: &str = "admissionregistration.k8s.io";
const OURS: &str = "app.kubernetes.io/name=linkspan";
const PART: &str = "app.kubernetes.io/part-of=linkspan";

/// Secrets are not among them: see [`secrets`].
const KINDS: [Kind; 34] = [
    kind("linkspan.dev", "v1alpha1", "Member", "members").within(SYSTEM_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "GatewayNode", "gatewaynodes").within(SYSTEM_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "ServiceRecord", "servicerecords").within(SYSTEM_NAMESPACE),
    kind("multicluster.x-k8s.io", "v1beta1", "ServiceExport", "serviceexports"),
    kind("multicluster.x-k8s.io", "v1beta1", "ServiceImport", "serviceimports"),
    kind("about.k8s.io", "v1alpha1", "ClusterProperty", "clusterproperties"),
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions").labelled(PART),
    kind("", "v1", "Node", "nodes"),
    kind("", "v1", "Namespace", "namespaces"),
    kind("", "v1", "Pod", "pods").within(SYSTEM_NAMESPACE),
    kind("", "v1", "ConfigMap", "configmaps").within(SYSTEM_NAMESPACE),
    kind("", "v1", "Service", "services").within(SYSTEM_NAMESPACE),
    kind("", "v1", "ServiceAccount", "serviceaccounts").within(SYSTEM_NAMESPACE),
    kind("events.k8s.io", "v1", "Event", "events").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "DaemonSet", "daemonsets").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "Deployment", "deployments").within(SYSTEM_NAMESPACE),
    kind("apps", "v1", "ReplicaSet", "replicasets").within(SYSTEM_NAMESPACE),
    kind("coordination.k8s.io", "v1", "Lease", "leases").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "Role", "roles").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "RoleBinding", "rolebindings").within(SYSTEM_NAMESPACE),
    kind(RBAC, "v1", "ClusterRole", "clusterroles").labelled(OURS),
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings").labelled(OURS),
    kind(POLICIES, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies").labelled(PART),
    kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs"),
    // What is made of imports, and cluster DNS, which forwards to us.
    kind("", "v1", "Service", "services").labelled("app.kubernetes.io/managed-by=linkspan.dev"),
    kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .labelled("endpointslice.kubernetes.io/managed-by=linkspan.dev"),
    kind("", "v1", "ConfigMap", "configmaps").within("kube-system"),
    kind("linkspan.dev", "v1alpha1", "Member", "members").within(BROKER_NAMESPACE),
    kind("linkspan.dev", "v1alpha1", "ServiceRecord", "servicerecords").within(BROKER_NAMESPACE),
    kind("coordination.k8s.io", "v1", "Lease", "leases").within(BROKER_NAMESPACE),
    kind("", "v1", "ServiceAccount", "serviceaccounts").within(BROKER_NAMESPACE),
    kind("", "v1", "ConfigMap", "configmaps").within(BROKER_NAMESPACE),
    kind(RBAC, "v1", "RoleBinding", "rolebindings").within(BROKER_NAMESPACE),
    kind(RBAC, "v1", "Role", "roles").within(BROKER_NAMESPACE),
];

/// Something of a cluster, with its path.
#[derive(Debug)]
pub(super) enum Piece {
    /// A list of objects.
    Objects(String, Value),
    /// A text: a log, or what a node says.
    Text(String, String),
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
    pub names: Vec<(String, Value)>,
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
    let mut missing = Vec::new();
    for kind in &KINDS {
        match list(client, kind).await {
            Ok(items) if items.is_empty() => {}
            Ok(items) => {
                let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
                take(Piece::Objects(kind.path(), list))?;
            }
            Err(why) => missing.push(format!("{}: {why}", kind.path())),
        }
    }
    let pods = pods(client, &mut missing).await;
    // Nodes first: they tell public keys that stand in logs.
    let nodes = pods.iter().flat_map(Asked::questions).map(Ask::answer);
    let room = answers(nodes, Room::Left, take, &mut missing).await?;
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
async fn answers<F: Future<Output = Result<String, String>>>(
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
            Some((path, Ok(text))) => room = take(Piece::Text(path, text))?,
            Some((path, Err(why))) => missing.push(format!("{path}: {why}")),
        }
    }
}

async fn list(client: &Client, kind: &Kind) -> Result<Vec<Value>, String> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind), kind.plural);
    let api: Api<DynamicObject> = match kind.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = kind.labels.map_or_else(ListParams::default, |labels| ListParams::default().labels(labels));
    match api.list(&params).await {
        // A list's items do not say what they are.
        Ok(list) => Ok(list.items.iter().filter_map(|item| typed(item, kind)).collect()),
        // A kind that is not there has no objects; that Linkspan is not, the others tell.
        Err(error) if is_not_found(&error) => Ok(Vec::new()),
        Err(error) => Err(explain(&error)),
    }
}

fn typed(item: &DynamicObject, kind: &Kind) -> Option<Value> {
    let mut value = serde_json::to_value(item).ok()?;
    let group = if kind.group.is_empty() { String::new() } else { format!("{}/", kind.group) };
    value["apiVersion"] = format!("{group}{}", kind.version).into();
    value["kind"] = kind.kind.into();
    Some(value)
}

/// Names and keys of Secrets go into the archive; their values serve to be recognized elsewhere.
async fn secrets(client: &Client, known: &mut Foreknown) {
    for namespace in [SYSTEM_NAMESPACE, BROKER_NAMESPACE] {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let path = format!("objects/{namespace}/secrets.yaml");
        match api.list(&ListParams::default()).await {
            Ok(list) if list.items.is_empty() => {}
            Ok(list) => {
                let names = list.items.iter().map(described);
                let names = json!({ "apiVersion": "v1", "kind": "List", "items": names.collect::<Vec<_>>() });
                known.names.push((path, names));
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
    fn answer(self) -> (String, impl Future<Output = Result<String, String>> + use<'a>) {
        let Self { path, pod, what } = self;
        let answer = async move {
            let (api, name) = (&pod.api, pod.pod.name_any());
            match what {
                What::Log { container, previous } => log(api, &name, container, previous).await,
                What::Question(question) => {
                    exec::output(api, &name, "node", &["linkspan", question, "-o", "json"]).await
                }
            }
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
    use controller::api::names::{LABEL_MANAGED_BY, MANAGED_BY};

    use super::*;

    #[test]
    fn labels_are_those_that_objects_bear_and_no_secret_is_read_as_a_whole() {
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        assert!(KINDS.iter().any(|kind| kind.kind == "Service" && kind.labels == Some(ours.as_str())));
        assert!(KINDS.iter().all(|kind| kind.kind != "Secret"));
        let mut paths: Vec<String> = KINDS.iter().map(Kind::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), KINDS.len(), "each list has a file of its own");
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_not_asked_but_told() {
        let asked = (0..20).map(|number| {
            (format!("{number}.log"), async move {
                assert!(number < 10, "after two answers no more are asked for than those under way");
                if number == 0 { Err("refused".to_owned()) } else { Ok("x".to_owned()) }
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
