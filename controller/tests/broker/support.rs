//! API servers, clusters and objects for the tests.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use controller::api::{AddressType, ImportType};
use controller::api::{
    Gateway, Member, MemberSpec, RecordEndpoint, RecordPort, RecordSlice, ServiceRecord, ServiceRecordSpec,
};
use controller::broker::token::{self, Replace, Wanted};
use controller::broker::{BrokerAddress, BrokerConfig, Credential, DryRun, JoinToken, join};
use controller::members::ClusterId;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use testbed::ApiServer;
pub use testbed::wait::PATIENCE;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A Lease by which a cluster counts as alive although a busy machine lets its heartbeats come late.
pub const LASTING: Duration = Duration::from_secs(15);
/// Namespace of the broker.
pub const BROKER: &str = "linkspan-broker";
/// A nonce for those who join alone.
pub const NONCE: &str = "0123456789abcdef0123456789abcdef";
/// Public keys of gateways.
pub const KEYS: [&str; 3] = [
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
];

static SHARED: LazyLock<(ApiServer, ApiServer)> = LazyLock::new(|| {
    let (broker, home) = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
    set_up_broker(&broker);
    set_up_home(&home);
    (broker, home)
});

/// The broker that most tests share.
pub fn broker() -> &'static ApiServer {
    &SHARED.0
}

/// The API server in which most tests have their clusters, each in a namespace of its own.
pub fn home() -> &'static ApiServer {
    &SHARED.1
}

/// An API server of a test's own.
pub async fn start(set_up: fn(&ApiServer)) -> ApiServer {
    tokio::task::spawn_blocking(move || {
        let server = ApiServer::start().unwrap();
        set_up(&server);
        server
    })
    .await
    .unwrap()
}

/// Applies the CRDs and `deploy/broker`, and waits until its policies are in force.
pub fn set_up_broker(server: &ApiServer) {
    set_up_home(server);
    server.apply_base("broker").unwrap();
    wait_for_policies(server);
}

/// Applies the CRDs, as a member cluster has them, and waits until they are served.
pub fn set_up_home(server: &ApiServer) {
    server.apply_base("crds").unwrap();
    let established = ["wait", "crd", "--all", "--for=condition=Established", "--timeout=180s"];
    server.kubectl(established).unwrap().done().unwrap();
    // Established kinds are served a moment later.
    let kinds =
        "clusterproperties.about.k8s.io,gatewaynodes.linkspan.dev,members.linkspan.dev,servicerecords.linkspan.dev";
    server.wait_served(kinds).unwrap();
}

/// The folder of a kustomize base.
pub fn deploy(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(folder).to_string_lossy().into_owned()
}

/// Policies are read by the API server some time after they were written; until then, nothing is proven.
fn wait_for_policies(server: &ApiServer) {
    let (kubeconfig, address) = (server.kubeconfig().to_owned(), address(server));
    // In a thread of its own: the caller may be a runtime already.
    let in_force = move || tokio::runtime::Runtime::new().unwrap().block_on(policies_in_force(&kubeconfig, &address));
    std::thread::spawn(in_force).join().unwrap();
}

async fn policies_in_force(kubeconfig: &str, address: &BrokerAddress) {
    let admin = client(kubeconfig).await;
    let (_, probe) = join_as(&admin, address, "probe").await;
    let leases: Api<Lease> = Api::namespaced(probe.clone(), BROKER);
    let accounts: Api<ServiceAccount> = Api::namespaced(probe.clone(), BROKER);
    let members: Api<Member> = Api::namespaced(probe, BROKER);
    eventually("others' objects are refused", async || {
        let lease = serde_json::from_value(json!({ "metadata": { "name": "member-nobody" } })).unwrap();
        let made = leases.create(&PostParams { dry_run: true, ..PostParams::default() }, &lease).await;
        matches!(made, Err(kube::Error::Api(told)) if told.message.contains("may not write Lease member-nobody"))
    })
    .await;
    // By the policy that is written last.
    let mut eternal = TokenRequest::default();
    eternal.spec.expiration_seconds = Some(365 * 24 * 3600);
    eventually("credentials that live for long are refused", async || {
        let made = accounts.create_token_request("member-probe", &PostParams::default(), &eternal).await;
        matches!(made, Err(kube::Error::Api(told)) if told.message.contains("lives at most 90 days"))
    })
    .await;
    let all: Api<Member> = Api::namespaced(admin.clone(), BROKER);
    let mut probing = member("probe", "10.254.0.0/24", &BASE64.encode(&[254; 32]));
    let probed = member("probed", "10.254.1.0/24", &BASE64.encode(&[253; 32]));
    // Before the policy of claims is read, all are let in; and none between that and when it has listed the Members.
    eventually("both Members are let in", async || {
        apply(&members, &probing).await.is_ok() && apply(&all, &probed).await.is_ok()
    })
    .await;
    probing.spec.pod_cidrs.extend(probed.spec.pod_cidrs);
    until_refused(&members, &probing, "a prefix that was added overlaps one of cluster probed").await;
    all.delete("probed", &DeleteParams::default()).await.unwrap();
    token::remove_member(&admin, BROKER, &id("probe"), DryRun::None).await.unwrap();
}

/// A client by a kubeconfig. Clients belong to the runtime in which they were made: one for each test.
pub async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// An administrator of the shared broker.
pub async fn admin() -> Client {
    client(broker().kubeconfig()).await
}

/// How clusters reach a broker.
pub fn address(server: &ApiServer) -> BrokerAddress {
    BrokerAddress {
        server: server.url(),
        ca: Some(server.ca_certificate().to_owned()),
        namespace: BROKER.to_owned(),
        clusterset: "fleet".to_owned(),
    }
}

pub fn id(text: &str) -> ClusterId {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::now()
}

pub fn wanted(address: &BrokerAddress, cluster: &str) -> Wanted {
    let (cluster, broker) = (id(cluster), address.clone());
    Wanted { cluster, broker, lifetime: Duration::from_secs(600), replace: Replace::No }
}

/// A new join token of the shared broker, as soon as that knows it: while it remembers the account of an earlier one, it
/// does not, and who uses it waits for three seconds only.
pub async fn new_token(cluster: &str) -> JoinToken {
    let token = token::create(&admin().await, &wanted(&address(broker()), cluster), now()).await.unwrap();
    let client = token.client().unwrap();
    eventually("the broker knows the token", async || client.apiserver_version().await.is_ok()).await;
    token
}

/// Joins the shared broker; gives back the credential and a client that uses it.
pub async fn joined(cluster: &str) -> (Credential, Client) {
    join_as(&admin().await, &address(broker()), cluster).await
}

pub async fn join_as(admin: &Client, address: &BrokerAddress, cluster: &str) -> (Credential, Client) {
    let token = token::create(admin, &wanted(address, cluster), now()).await.unwrap();
    let joining = token.client().unwrap();
    let lifetime = Duration::from_secs(3600);
    // A new account and its rights are known some time later.
    let credential =
        retried(async || join::exchange(&joining, &token, &id(cluster), lifetime, NONCE, now()).await).await;
    join::use_up(&joining, &token).await.unwrap();
    let client = credential.client().unwrap();
    (credential, client)
}

/// The token as if it had been made a time ago, which expires when it says so.
pub fn aged(server: &ApiServer, token: &JoinToken, seconds: i64, expires: Timestamp) -> JoinToken {
    let packed = token.dangerously_pack();
    let json = BASE64URL_NOPAD.decode(packed.strip_prefix("lsj1.").unwrap().as_bytes()).unwrap();
    let mut fields: serde_json::Value = serde_json::from_slice(&json).unwrap();
    fields["token"] = server.aged_token(fields["token"].as_str().unwrap(), seconds).unwrap().into();
    fields["expires"] = expires.to_string().into();
    format!("lsj1.{}", BASE64URL_NOPAD.encode(fields.to_string().as_bytes())).parse().unwrap()
}

/// Tries until it succeeds.
pub async fn retried<T, E: Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
            done => return done.unwrap(),
        }
    }
}

/// Waits until it is so.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Server-side apply, as the controller does it.
pub async fn apply<K>(api: &Api<K>, object: &K) -> Result<K, kube::Error>
where
    K: kube::Resource + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.patch(&object.name_any(), &PatchParams::apply("linkspan").force(), &Patch::Apply(object)).await
}

/// Waits until it would be refused for that: policies see some time later what was written. It is only tried: what was
/// let through once is not new any more.
pub async fn until_refused<K>(api: &Api<K>, object: &K, part: &str)
where
    K: kube::Resource + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let params = PatchParams::apply("linkspan").force().dry_run();
    eventually(part, async || {
        let tried = api.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
        matches!(tried, Err(kube::Error::Api(told)) if told.message.contains(part))
    })
    .await;
}

/// What the API server said no to.
pub fn refusal<T: Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("not refused: {other:?}"),
    }
}

fn labels(cluster: &str) -> BTreeMap<String, String> {
    [("linkspan.dev/cluster".to_owned(), cluster.to_owned())].into()
}

/// A Member with one active gateway, as its controller writes it to the broker.
pub fn member(cluster: &str, pods: &str, key: &str) -> Member {
    let gateway = Gateway {
        node: "node-1".to_owned(),
        public_key: key.to_owned(),
        endpoints: Vec::new(),
        lanes: 2,
        active: true,
    };
    let spec = MemberSpec {
        cluster_id: cluster.to_owned(),
        cluster_uid: format!("uid-{cluster}"),
        pod_cidrs: vec![pods.to_owned()],
        service_cidrs: Vec::new(),
        virtual_cidrs: Vec::new(),
        virtual_only: false,
        resting_cidrs: Vec::new(),
        gateways: vec![gateway],
        version: String::new(),
        protocol: 1,
        min_protocol: None,
    };
    let mut member = Member::new(cluster, spec);
    member.metadata.labels = Some(labels(cluster));
    member
}

/// A ServiceRecord with one endpoint.
pub fn record(cluster: &str, namespace: &str, name: &str, endpoint: &str) -> ServiceRecord {
    let slice = RecordSlice {
        address_type: AddressType::IPv4,
        ports: vec![RecordPort { name: "http".to_owned(), protocol: "TCP".to_owned(), app_protocol: None, port: 8080 }],
        endpoints: vec![RecordEndpoint {
            addresses: vec![endpoint.to_owned()],
            hostname: None,
            ready: Some(true),
            serving: None,
            terminating: None,
            zone: None,
            node_name: None,
        }],
    };
    let spec = ServiceRecordSpec {
        cluster_id: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        kind: ImportType::ClusterSetIP,
        exported_at: Time(Timestamp::from_second(1_700_000_000).unwrap()),
        ports: vec![RecordPort { name: "http".to_owned(), protocol: "TCP".to_owned(), app_protocol: None, port: 80 }],
        ip_families: vec!["IPv4".to_owned()],
        session_affinity: None,
        session_affinity_timeout_seconds: None,
        internal_traffic_policy: None,
        traffic_distribution: None,
        exported_labels: BTreeMap::new(),
        exported_annotations: BTreeMap::new(),
        slices: vec![slice],
    };
    let mut record = ServiceRecord::new(&format!("{cluster}.{namespace}.{name}"), spec);
    record.metadata.labels = Some(labels(cluster));
    record
}

/// A cluster: a namespace of an API server, in which the broker part of a controller may run.
pub struct Cluster {
    pub client: Client,
    pub config: BrokerConfig,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Cluster {
    /// A cluster in the shared API server, whose pods have that prefix.
    pub async fn new(cluster: &str, pods: &str) -> Self {
        Self::with_uid(cluster, pods, &format!("uid-{cluster}")).await
    }

    /// One that has joined by a token of its own, and has told the broker of itself.
    pub async fn published(cluster: &str, pods: &str) -> Self {
        let mut joined = Self::new(cluster, pods).await;
        joined.give_token(&new_token(cluster).await).await;
        joined.start();
        joined.wait_for(cluster, "Published", "True", "Published").await;
        joined
    }

    /// As [`Cluster::new`], with that UID of kube-system.
    pub async fn with_uid(cluster: &str, pods: &str, uid: &str) -> Self {
        Self::on(home(), &format!("home-{uid}"), cluster, pods, uid).await
    }

    pub async fn on(server: &ApiServer, namespace: &str, cluster: &str, pods: &str, uid: &str) -> Self {
        let client = client(server.kubeconfig()).await;
        let name = json!({ "metadata": { "name": namespace } });
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(name).unwrap()).await.unwrap();
        let mut config = BrokerConfig::new(id(cluster), uid.to_owned());
        config.namespace = namespace.to_owned();
        config.version = "test".to_owned();
        config.overrides.pod_cidrs = Ok(vec![pods.parse().unwrap()]);
        // Clusters that share an API server share its ServiceCIDR, so each is told another one.
        let octets: Vec<&str> = pods.split('.').collect();
        let services = format!("fd00:{}:{}::/112", octets[1], octets[2]);
        config.overrides.service_cidrs = Ok(vec![services.parse().unwrap()]);
        config.heartbeat = Duration::from_millis(500);
        config.lease_duration = Duration::from_secs(3);
        Self { client, config, running: None }
    }

    /// Puts a join token where GitOps would put it.
    pub async fn give_token(&self, token: &JoinToken) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "linkspan-join" },
            "stringData": { "token": token.dangerously_pack() },
        });
        secrets.patch("linkspan-join", &PatchParams::apply("gitops").force(), &Patch::Apply(secret)).await.unwrap();
    }

    /// Gives it a credential, as if it had joined.
    pub async fn give_credential(&self, credential: &Credential) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.config.namespace);
        apply(&secrets, &credential.to_secret(&self.config.namespace)).await.unwrap();
    }

    /// Starts the controller's broker part.
    pub fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let run = controller::broker::run(self.client.clone(), self.config.clone(), async {
            let _ = stopped.await;
        });
        self.running = Some((stop, tokio::spawn(run)));
    }

    /// Stops it.
    pub async fn stop(&mut self) {
        let (stop, run) = self.running.take().unwrap();
        stop.send(()).unwrap();
        run.await.unwrap();
    }

    pub fn members(&self) -> Api<Member> {
        Api::namespaced(self.client.clone(), &self.config.namespace)
    }

    pub fn records(&self) -> Api<ServiceRecord> {
        Api::namespaced(self.client.clone(), &self.config.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.config.namespace)
    }

    /// Status, reason and message of a condition of a Member's copy.
    pub async fn member_says(&self, member: &str, kind: &str) -> Option<(String, String, String)> {
        let member = self.members().get_opt(member).await.unwrap()?;
        said(member.status.map(|status| status.conditions).unwrap_or_default(), kind)
    }

    /// Status, reason and message of condition `Accepted` of a ServiceRecord's copy.
    pub async fn record_says(&self, record: &str) -> Option<(String, String, String)> {
        let record = self.records().get_opt(record).await.unwrap()?;
        said(record.status.map(|status| status.conditions).unwrap_or_default(), "Accepted")
    }

    /// Waits for a condition of a Member's copy, and gives back its message.
    pub async fn wait_for(&self, member: &str, kind: &str, status: &str, reason: &str) -> String {
        let mut last = None;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            last = self.member_says(member, kind).await;
            if let Some((_, _, message)) = last.as_ref().filter(|said| said.0 == status && said.1 == reason) {
                return message.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} of {member} is not {status}/{reason} but {last:?}", kind);
    }

    /// Waits for condition `Accepted` of a ServiceRecord's copy, and gives back its message.
    pub async fn wait_for_record(&self, record: &str, status: &str, reason: &str) -> String {
        let mut last = None;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            last = self.record_says(record).await;
            if let Some((_, _, message)) = last.as_ref().filter(|said| said.0 == status && said.1 == reason) {
                return message.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{record} is not {status}/{reason} but {last:?}");
    }
}

fn said(conditions: Vec<Condition>, kind: &str) -> Option<(String, String, String)> {
    let condition = conditions.into_iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status, condition.reason, condition.message))
}
