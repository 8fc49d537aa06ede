//! An API server with the loop of cluster `c1` for all tests, and a namespace for each.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use controller::api::names::record_name;
use controller::api::{GatewayNode, Member, ServiceExport, ServiceImport, ServiceRecord};
use controller::cluster::lease::{Elector, Holding, LeaseConfig, Standing};
use controller::cluster::services::{ServicesConfig, run};
use controller::services::derived::derived_name;
use controller::services::{ClusterId, ServiceKey};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt as _, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::ApiServer;
pub use testbed::wait::PATIENCE;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub const SYSTEM: &str = "linkspan-system";

/// The API server of most tests, with the loop of `c1`.
static SHARED: LazyLock<ApiServer> = LazyLock::new(|| {
    let server = ApiServer::start().unwrap();
    let kubeconfig = server.kubeconfig().to_owned();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let client = client(&kubeconfig).await;
            run(client, ServicesConfig::new(ClusterId::new("c1").unwrap()), std::future::pending()).await;
        });
    });
    let kubeconfig = server.kubeconfig().to_owned();
    let prepare = std::thread::spawn(move || {
        runtime().block_on(async {
            let client = client(&kubeconfig).await;
            prepare(&client).await;
            // The loop sees Members in their order: when it imports from the last one, it knows all of them.
            let shop = Shop::open_on(client, "begun").await;
            shop.remote("c4", "2020-01-01T00:00:00Z", json!({})).await;
            shop.imported_from(&["c4"]).await;
        });
    });
    prepare.join().unwrap();
    server
});

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub async fn client(kubeconfig: &str) -> Client {
    Client::try_from(config(kubeconfig).await).unwrap()
}

pub async fn config(kubeconfig: &str) -> Config {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

/// How the shared API server is reached.
pub async fn shared_config() -> Config {
    config(SHARED.kubeconfig()).await
}

/// The kinds, Linkspan's namespace, and the Members.
pub async fn prepare(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
    let crds: Api<Crd> = Api::all(client.clone());
    let upstream = [
        include_str!("../../../deploy/crds/multicluster.x-k8s.io_serviceexports.yaml"),
        include_str!("../../../deploy/crds/multicluster.x-k8s.io_serviceimports.yaml"),
    ];
    let upstream = upstream.into_iter().map(|yaml| serde_saphyr::from_str::<Crd>(yaml).unwrap());
    let own = [Member::crd(), ServiceRecord::crd(), GatewayNode::crd()];
    for crd in upstream.chain(own) {
        let name = crd.metadata.name.clone().unwrap();
        crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(crd)).await.unwrap();
        until("the kind is served", async || {
            let crd = crds.get(&name).await.unwrap();
            let conditions = crd.status?.conditions?;
            conditions.iter().find(|told| told.type_ == "Established" && told.status == "True").cloned()
        })
        .await;
    }
    // Established kinds are served a moment later, in their order.
    let gateways = Api::<GatewayNode>::all(client.clone());
    until("the last kind is served", async || gateways.list(&ListParams::default()).await.ok()).await;
    create_namespace(client, SYSTEM).await;
    let spec = json!({ "ipFamilyPolicy": "PreferDualStack", "ports": [{ "port": 1 }] });
    let probe: Service = serde_json::from_value(json!({ "metadata": { "name": "probe" }, "spec": spec })).unwrap();
    let services = Api::<Service>::namespaced(client.clone(), SYSTEM);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("an API server that has just started has addresses", async || services.create(&dry, &probe).await.ok()).await;
    join(client).await;
    for (number, cluster) in ["c1", "c2", "c3", "c4"].into_iter().enumerate() {
        let number = number + 1;
        create::<Member>(client, SYSTEM, json!({
            "metadata": { "name": cluster },
            "spec": {
                "clusterID": cluster, "clusterUID": "u", "podCIDRs": [format!("10.{number}.0.0/16"), format!("fd0{number}::/48")],
                "serviceCIDRs": if number == 1 { vec!["10.43.0.0/16", "fd43::/112"] } else { vec![] }
            }
        }))
        .await;
    }
}

/// Gives the cluster a credential.
pub async fn join(client: &Client) {
    create::<Secret>(client, SYSTEM, json!({ "metadata": { "name": "linkspan-broker" } })).await;
}

/// Runs a loop of `c1` until it is stopped.
pub fn start_loop(client: &Client, config: ServicesConfig) -> (JoinHandle<()>, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let client = client.clone();
    let task = tokio::spawn(async move {
        run(client, config, async {
            let _ = stopped.await;
        })
        .await;
    });
    (task, stop)
}

/// A client with the token that a pod of this ServiceAccount has on this node.
pub async fn pod(server: &ApiServer, account: &str, node: &str) -> Client {
    let admin = client(server.kubeconfig()).await;
    let name = format!("{account}-{node}");
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "linkspan-system");
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": node, "serviceAccountName": account, "containers": [{ "name": "linkspan", "image": "linkspan" }],
        },
    });
    let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, "linkspan-system");
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": { "audiences": [], "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.metadata.uid,
        } },
    }))
    .unwrap();
    let token = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    let mut kubeconfig = Kubeconfig::from_yaml(server.kubeconfig()).unwrap();
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = serde_json::from_value(json!({ "token": token.status.as_ref().unwrap().token })).unwrap();
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// An API server with the roles and policies of `deploy/member`.
pub async fn installed() -> ApiServer {
    let start = || {
        let server = ApiServer::start().unwrap();
        for base in ["crds", "member"] {
            server.apply_base(base).unwrap();
        }
        server
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

async fn create_namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

/// Makes an object out of its JSON, without `apiVersion` and `kind`.
pub async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let mut object = object;
    let kind = K::DynamicType::default();
    object["apiVersion"] = json!(K::api_version(&kind));
    object["kind"] = json!(K::kind(&kind));
    let object: K = serde_json::from_value(object).unwrap();
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &object).await.unwrap()
}

/// Waits until `look` sees something.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whatever would happen has happened by then.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(800)).await;
}

/// Somebody who competes for a Lease.
pub struct Candidate {
    pub holding: watch::Receiver<Holding>,
    pub standing: watch::Sender<Standing>,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<()>,
}

impl Candidate {
    /// For the gateway Lease in the namespace of a shop.
    pub fn start(shop: &Shop, holder: &str) -> Self {
        Self::of(&shop.client, &shop.namespace, "linkspan-gateway", holder)
    }

    pub fn of(client: &Client, namespace: &str, name: &str, holder: &str) -> Self {
        Self::lasting(client, namespace, name, holder, Duration::from_secs(15))
    }

    /// [`Candidate::of`], with a Lease that lasts so long.
    pub fn lasting(client: &Client, namespace: &str, name: &str, holder: &str, duration: Duration) -> Self {
        let config = LeaseConfig {
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            duration,
            renew_period: Duration::from_millis(200),
        };
        let (elector, holding) = Elector::new(client.clone(), config).unwrap();
        let (standing, stands) = watch::channel(Standing::Candidate);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(elector.run(stands, async {
            let _ = stopped.await;
        }));
        Self { holding, standing, stop, task }
    }

    pub async fn sees(&mut self, wanted: &Holding) {
        let seen = self.holding.wait_for(|holding| holding == wanted);
        tokio::time::timeout(PATIENCE, seen).await.expect("in time").unwrap();
    }
}

/// The service `web` in a namespace of its own.
pub struct Shop {
    pub client: Client,
    pub namespace: String,
}

impl Shop {
    /// On the shared API server.
    pub async fn open(namespace: &str) -> Self {
        Self::open_on(client(SHARED.kubeconfig()).await, namespace).await
    }

    /// What kubectl prints about the shared API server, which tells of new kinds some time after it serves them.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        until(&format!("kubectl {}", args.join(" ")), async || SHARED.kubectl(args).unwrap().stdout().ok()).await
    }

    pub async fn open_on(client: Client, namespace: &str) -> Self {
        create_namespace(&client, namespace).await;
        Self { client, namespace: namespace.to_owned() }
    }

    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.namespace, "web")
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn system<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    // === What people and Kubernetes write ===

    /// A Service with one port, `http` 80, and these fields.
    pub async fn service(&self, spec: Value) -> Service {
        let mut whole = json!({ "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        create(&self.client, &self.namespace, json!({ "metadata": { "name": "web" }, "spec": whole })).await
    }

    pub async fn patch_service(&self, spec: Value) {
        self.api::<Service>()
            .patch("web", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec })))
            .await
            .unwrap();
    }

    /// A slice of the Service with these ports and endpoints.
    pub async fn slice(&self, name: &str, ports: Value, endpoints: Value) {
        let first = endpoints[0]["addresses"][0].as_str().unwrap_or_default();
        let family = if first.contains(':') { "IPv6" } else { "IPv4" };
        create::<EndpointSlice>(
            &self.client,
            &self.namespace,
            json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } },
                "addressType": family, "ports": ports, "endpoints": endpoints
            }),
        )
        .await;
    }

    pub async fn export(&self) -> ServiceExport {
        self.export_with(json!({})).await
    }

    pub async fn export_with(&self, spec: Value) -> ServiceExport {
        create(&self.client, &self.namespace, json!({ "metadata": { "name": "web" }, "spec": spec })).await
    }

    /// A Service with one endpoint, exported.
    pub async fn open_for_sale(&self) {
        self.service(json!({})).await;
        self.slice("web-1", http(8080), json!([{ "addresses": ["10.1.0.1"], "conditions": { "ready": true } }])).await;
        self.export().await;
    }

    pub async fn delete<K>(&self)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.api::<K>().delete("web", &DeleteParams::default()).await.unwrap();
    }

    /// A record of another cluster, with the port `http` 80, one endpoint `10.N.0.1`, and these fields of its spec.
    pub async fn remote(&self, cluster: &str, exported_at: &str, spec: Value) {
        self.remote_of("web", cluster, exported_at, spec).await;
    }

    /// [`Shop::remote`], of another service.
    pub async fn remote_of(&self, service: &str, cluster: &str, exported_at: &str, spec: Value) {
        let address = format!("10.{}.0.1", &cluster[1..]);
        let mut whole = json!({
            "clusterID": cluster, "namespace": self.namespace, "name": service, "type": "ClusterSetIP",
            "exportedAt": exported_at, "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }], "ipFamilies": ["IPv4"],
            "slices": [{
                "addressType": "IPv4", "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
                "endpoints": [{ "addresses": [address], "ready": true, "serving": true, "terminating": false }]
            }]
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let name = record_name(cluster, &self.namespace, service);
        let record = json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "ServiceRecord",
            "metadata": { "name": name, "labels": { "linkspan.dev/cluster": cluster } }, "spec": whole
        });
        let params = PatchParams::apply("test").force();
        self.system::<ServiceRecord>().patch(&name, &params, &Patch::Apply(record)).await.unwrap();
    }

    pub async fn withdraw(&self, cluster: &str) {
        self.withdraw_of("web", cluster).await;
    }

    /// [`Shop::withdraw`], of another service.
    pub async fn withdraw_of(&self, service: &str, cluster: &str) {
        let name = record_name(cluster, &self.namespace, service);
        self.system::<ServiceRecord>().delete(&name, &DeleteParams::default()).await.unwrap();
    }

    /// What the mirror to the broker says of our own record.
    pub async fn publish(&self, status: &str, message: &str) {
        let condition = json!({
            "type": "Accepted", "status": status, "reason": "Test", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        });
        let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
        self.system::<ServiceRecord>()
            .patch_status(&self.record_name("c1"), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// What the mirror does with a record that it refuses.
    pub async fn refuse(&self, cluster: &str) {
        let condition = json!({
            "type": "Accepted", "status": "False", "reason": "ForeignAddress", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        });
        let (name, records) = (self.record_name(cluster), self.system::<ServiceRecord>());
        let status = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
        records.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
        let spec = Patch::Merge(json!({ "spec": { "slices": [] } }));
        records.patch(&name, &PatchParams::default(), &spec).await.unwrap();
    }

    fn record_name(&self, cluster: &str) -> String {
        record_name(cluster, &self.namespace, "web")
    }

    // === What the loop has made of it ===

    pub async fn record(&self) -> Option<ServiceRecord> {
        self.system().get_opt(&self.record_name("c1")).await.unwrap()
    }

    pub async fn import(&self) -> Option<ServiceImport> {
        self.api().get_opt("web").await.unwrap()
    }

    pub async fn derived(&self) -> Option<Service> {
        self.api().get_opt(&derived_name(&self.key())).await.unwrap()
    }

    /// The imported slices, by source cluster and name.
    pub async fn slices(&self) -> Vec<EndpointSlice> {
        let ours = ListParams::default().labels("endpointslice.kubernetes.io/managed-by=linkspan.dev");
        self.api().list(&ours).await.unwrap().items
    }

    /// Source cluster and addresses of all imported endpoints, with those that are not ready marked.
    pub async fn endpoints(&self) -> Vec<String> {
        let mut endpoints = Vec::new();
        for slice in self.slices().await {
            let labels = slice.metadata.labels.unwrap();
            for endpoint in slice.endpoints {
                let ready = endpoint.conditions.as_ref().and_then(|told| told.ready).unwrap_or(true);
                let mark = if ready { "" } else { " not ready" };
                let cluster = &labels["multicluster.kubernetes.io/source-cluster"];
                endpoints.push(format!("{cluster} {}{mark}", endpoint.addresses[0]));
            }
        }
        endpoints.sort();
        endpoints
    }

    /// Waits until the import can be used and the exporting clusters are these.
    pub async fn imported_from(&self, clusters: &[&str]) -> ServiceImport {
        until(&format!("{} is imported from {clusters:?}", self.namespace), async || {
            let import = self.import().await?;
            let status = import.status.clone()?;
            let told: Vec<_> = status.clusters.iter().map(|cluster| cluster.cluster.as_str()).collect();
            let ready = condition(&status.conditions, "Ready")?;
            (told == clusters && ready.status == "True").then_some(import)
        })
        .await
    }

    /// Waits until a condition of the export is `Type=Status/Reason`, and returns its message.
    pub async fn export_says(&self, wanted: &str) -> String {
        until(&format!("the export in {} says {wanted}", self.namespace), async || {
            let export = self.api::<ServiceExport>().get_opt("web").await.unwrap()?;
            let conditions = export.status?.conditions;
            conditions
                .into_iter()
                .find(|told| format!("{}={}/{}", told.type_, told.status, told.reason) == wanted)
                .filter(|told| told.observed_generation == export.metadata.generation)
                .map(|told| told.message)
        })
        .await
    }

    pub async fn endpoints_become(&self, wanted: &[&str]) {
        until(&format!("the endpoints in {} become {wanted:?}", self.namespace), async || {
            (self.endpoints().await == wanted).then_some(())
        })
        .await;
    }

    /// Waits until nothing that the loop makes is left.
    pub async fn everything_is_gone(&self) {
        until(&format!("nothing of ours is left in {}", self.namespace), async || {
            let gone = self.import().await.is_none()
                && self.derived().await.is_none()
                && self.slices().await.is_empty()
                && self.record().await.is_none();
            gone.then_some(())
        })
        .await;
    }

    /// Waits until nothing has been written here for three seconds, since a last write may come late. What
    /// [`Shop::versions`] says then.
    pub async fn quiet(&self) -> BTreeMap<String, Option<String>> {
        until(&format!("nothing more is written in {}", self.namespace), async || {
            let before = self.versions().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            (self.versions().await == before).then_some(before)
        })
        .await
    }

    /// Name and version of everything that the loop writes here.
    pub async fn versions(&self) -> BTreeMap<String, Option<String>> {
        let mut versions = BTreeMap::new();
        let mut add = |kind: &str, metadata: kube::api::ObjectMeta| {
            versions.insert(format!("{kind} {}", metadata.name.unwrap_or_default()), metadata.resource_version);
        };
        self.import().await.into_iter().for_each(|object| add("import", object.metadata));
        self.derived().await.into_iter().for_each(|object| add("derived", object.metadata));
        self.record().await.into_iter().for_each(|object| add("record", object.metadata));
        self.slices().await.into_iter().for_each(|object| add("slice", object.metadata));
        let export = self.api::<ServiceExport>().get_opt("web").await.unwrap();
        export.into_iter().for_each(|object| add("export", object.metadata));
        versions
    }
}

/// The port `http` of a slice.
pub fn http(number: u16) -> Value {
    json!([{ "name": "http", "protocol": "TCP", "port": number }])
}

pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|told| told.type_ == kind)
}
