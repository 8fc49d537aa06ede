//! Election by a Lease.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use controller::cluster::lease::{Elector, Holding, LeaseConfig, Standing};
use controller::events::{News, Teller, Weight};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource as _};
use serde_json::json;
use testbed::ApiServer;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::support::{Shop, client, until};

struct Candidate {
    holding: watch::Receiver<Holding>,
    standing: watch::Sender<Standing>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(shop: &Shop, holder: &str) -> Self {
        Self::of(&shop.client, &shop.namespace, "linkspan-gateway", holder)
    }

    fn of(client: &Client, namespace: &str, name: &str, holder: &str) -> Self {
        let config = LeaseConfig {
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            duration: Duration::from_secs(5),
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

    async fn sees(&mut self, wanted: &Holding) {
        let seen = self.holding.wait_for(|holding| holding == wanted);
        tokio::time::timeout(Duration::from_secs(60), seen).await.expect("in time").unwrap();
    }
}

fn other(name: &str) -> Holding {
    Holding::Other(name.into())
}

#[tokio::test]
async fn a_lease_has_one_holder_and_passes_on_at_once_when_given_back_and_soon_when_not() {
    let shop = Shop::open("lease").await;
    let mut a = Candidate::start(&shop, "a");
    a.sees(&Holding::Ours).await;
    let mut b = Candidate::start(&shop, "b");
    b.sees(&other("a")).await;

    // Who steps down gives it back, and it is taken without waiting for its end.
    let began = Instant::now();
    a.standing.send(Standing::Observer).unwrap();
    b.sees(&Holding::Ours).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    a.sees(&other("b")).await;
    a.standing.send(Standing::Candidate).unwrap();

    // Who dies does not, and it is taken when it ends.
    b.task.abort();
    a.sees(&Holding::Ours).await;
    let lease = shop.api::<Lease>().get("linkspan-gateway").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_duration_seconds), (Some("a"), Some(5)));

    // Who is shut down gives it back.
    drop(a.stop);
    a.task.await.unwrap();
    let lease = shop.api::<Lease>().get("linkspan-gateway").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn renewals_that_are_too_slow_are_refused() {
    let shop = Shop::open("slow-lease").await;
    let config = LeaseConfig {
        namespace: shop.namespace.clone(),
        name: "x".into(),
        holder: "a".into(),
        duration: Duration::from_secs(1),
        renew_period: Duration::from_secs(1),
    };
    assert_eq!(
        Elector::new(shop.client, config).unwrap_err().to_string(),
        "lease x: renewal every 1s is too slow for a duration of 1s: at most half of it"
    );
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
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
        server.kubectl(["apply", "--server-side", "-k", &format!("{folder}/crds")]).unwrap().done().unwrap();
        server.kubectl(["apply", "--server-side", "-k", &format!("{folder}/member")]).unwrap().done().unwrap();
        server
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// By the roles and policies of `deploy/member`, which holds no Lease: a tool that keeps it so would delete them, and another
/// one leaves the kind out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_make_the_leases_that_are_missing_and_no_other_ones() {
    let server = installed().await;
    let admin: Api<Lease> = Api::namespaced(client(server.kubeconfig()).await, "linkspan-system");
    let (a, b) = (pod(&server, "linkspan-node", "a").await, pod(&server, "linkspan-node", "b").await);
    let controller = pod(&server, "linkspan-controller", "a").await;
    let lease = |name: &str, holder: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": name }, "spec": { "holderIdentity": holder },
        })
    };
    let apply = async |client: &Client, name: &str, holder: &str| {
        let leases: Api<Lease> = Api::namespaced(client.clone(), "linkspan-system");
        let params = PatchParams::apply("linkspan");
        leases
            .patch(name, &params, &Patch::Apply(lease(name, holder)))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    };
    // Policies are in force some time after they were written. What went through before would be no change later.
    let tries = std::cell::Cell::new(0);
    until("nodes take it for themselves only", async || {
        tries.set(tries.get() + 1);
        let error = apply(&a, "linkspan-gateway", &format!("b{}", tries.get())).await.err()?;
        error.contains("for itself").then_some(())
    })
    .await;
    if admin.get_opt("linkspan-gateway").await.unwrap().is_some() {
        admin.delete("linkspan-gateway", &DeleteParams::default()).await.unwrap();
    }
    assert_eq!(admin.list(&ListParams::default()).await.unwrap().items, []);

    for (client, name) in [(&a, "linkspan-controller"), (&a, "other"), (&controller, "linkspan-gateway")] {
        let error = apply(client, name, "").await.unwrap_err();
        assert!(error.contains("cannot patch resource \"leases\""), "{name}: {error}");
    }
    let error = apply(&b, "linkspan-gateway", "a").await.unwrap_err();
    assert!(error.contains("node b may take the gateway Lease for itself, and give back its own, only"), "{error}");

    let mut leader = Candidate::of(&controller, "linkspan-system", "linkspan-controller", "pod");
    leader.sees(&Holding::Ours).await;
    let mut first = Candidate::of(&a, "linkspan-system", "linkspan-gateway", "a");
    first.sees(&Holding::Ours).await;
    let mut second = Candidate::of(&b, "linkspan-system", "linkspan-gateway", "b");
    second.sees(&other("a")).await;
    // Who comes late with making it changes nothing.
    let leases: Api<Lease> = Api::namespaced(b.clone(), "linkspan-system");
    let made =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "linkspan-gateway" } });
    let late = leases.patch("linkspan-gateway", &PatchParams::apply("late"), &Patch::Apply(&made)).await;
    assert_eq!(late.unwrap().spec.unwrap().holder_identity.as_deref(), Some("a"));
    // The same roles let both tell what has changed.
    let about = admin.get("linkspan-gateway").await.unwrap().object_ref(&());
    for (client, reason) in [(&a, "Active"), (&controller, "Ready")] {
        let news = News::new(Weight::Normal, reason, "Test", "told");
        Teller::new(client.clone(), "linkspan", None).tell(&about, &[news]).await;
    }
    let events: Api<Event> = Api::namespaced(client(server.kubeconfig()).await, "linkspan-system");
    let events = events.list(&ListParams::default()).await.unwrap();
    // The API server tells of other objects meanwhile.
    let of_lease = |event: &&Event| event.regarding.as_ref().is_some_and(|it| it.kind.as_deref() == Some("Lease"));
    let told: BTreeSet<_> = events.iter().filter(of_lease).filter_map(|event| event.reason.as_deref()).collect();
    assert_eq!(told, ["Active", "Ready"].into());
    // One that is deleted is back at once.
    admin.delete("linkspan-gateway", &DeleteParams::default()).await.unwrap();
    until("the Lease is back", async || {
        let lease = admin.get_opt("linkspan-gateway").await.unwrap()?;
        lease.spec?.holder_identity.filter(|holder| holder == "a" || holder == "b")
    })
    .await;
}
