//! Crashes and restarts, each on an API server of its own: rows 27, 62 and 82.

use controller::api::ServiceExport;
use controller::cluster::lease::Holding;
use controller::cluster::services::ServicesConfig;
use controller::services::{ClusterId, Family};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;
use testbed::ApiServer;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::support::{Candidate, SYSTEM, Shop, client, condition, prepare, settle, start_loop, until};

fn config() -> ServicesConfig {
    ServicesConfig { families: vec![Family::V4], ..ServicesConfig::new(ClusterId::new("c1").unwrap()) }
}

/// An API server of one family, prepared.
async fn single_stack() -> (ApiServer, Client) {
    let start = || ApiServer::options().service_cidrs("10.43.0.0/16").start().unwrap();
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_62_and_82_a_restart_keeps_addresses_and_leaves_no_orphans() {
    let (mut server, client) = single_stack().await;
    let (task, stop) = start_loop(&client, config());
    let kept = Shop::open_on(client.clone(), "kept").await;
    kept.open_for_sale().await;
    let gone = Shop::open_on(client.clone(), "gone").await;
    gone.open_for_sale().await;
    let six = Shop::open_on(client.clone(), "six").await;
    six.remote("c2", "2020-01-01T00:00:00Z", json!({ "ipFamilies": ["IPv6"], "slices": [] })).await;
    let before = kept.imported_from(&["c1"]).await;
    gone.imported_from(&["c1"]).await;
    kept.endpoints_become(&["c1 10.1.0.1"]).await;
    kept.export_says("Valid=True/Valid").await;
    let import = until("an import that says why it is of no use", async || {
        let import = six.import().await?;
        let condition = import.status.as_ref()?.conditions.first()?;
        (condition.reason == "IPFamilyNotSupported").then_some(import)
    })
    .await;
    assert_eq!(import.spec.ips, Vec::<String>::new());
    let versions = kept.quiet().await;

    // The loop goes, and an export goes while nobody looks.
    drop(stop);
    task.await.unwrap();
    gone.delete::<ServiceExport>().await;
    settle().await;
    assert!(gone.import().await.is_some());
    let (task, stop) = start_loop(&client, config());
    gone.everything_is_gone().await;
    assert_eq!(kept.quiet().await, versions, "a restart writes nothing");

    // The API server goes and comes back.
    let server = tokio::task::spawn_blocking(move || {
        server.stop().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    gone.export().await;
    gone.imported_from(&["c1"]).await;
    assert_eq!(kept.imported_from(&["c1"]).await.spec.ips, before.spec.ips);
    drop(stop);
    task.await.unwrap();
    drop(server);
}

/// A controller: it works while it has the Lease.
struct Replica {
    candidate: Candidate,
    work: JoinHandle<()>,
    _stop: oneshot::Sender<()>,
}

impl Replica {
    fn start(client: &Client, name: &str) -> Self {
        let candidate = Candidate::of(client, SYSTEM, "linkspan-controller", name);
        let leadership = Some(candidate.holding.clone());
        let (work, stop) = start_loop(client, ServicesConfig { leadership, ..config() });
        Self { candidate, work, _stop: stop }
    }

    /// As kill -9 does it: what is under way is done or not, and the Lease is not given back.
    async fn crash(self) {
        self.work.abort();
        self.candidate.task.abort();
        assert!(self.work.await.unwrap_err().is_cancelled());
    }
}

/// As two replicas of the Deployment, of which both crash in the midst of writes.
#[tokio::test(flavor = "multi_thread")]
async fn row_82_both_replicas_crash_under_load_and_what_changed_meanwhile_is_done() {
    const AT_ONCE: usize = 12;
    let server = tokio::task::spawn_blocking(|| ApiServer::start().unwrap()).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    let mut replicas = ["a", "b"].map(|name| Replica::start(&client, name));
    let kept = Shop::open_on(client.clone(), "kept").await;
    kept.open_for_sale().await;
    kept.imported_from(&["c1"]).await;
    kept.endpoints_become(&["c1 10.1.0.1"]).await;
    kept.export_says("Valid=True/Valid").await;
    let versions = kept.quiet().await;
    let open = async |name: String| {
        let shop = Shop::open_on(client.clone(), &name).await;
        shop.open_for_sale().await;
        shop
    };
    let mut closed: Vec<Shop> = Vec::new();
    let mut latest: Vec<Shop> = Vec::new();
    for round in 0..2 {
        let opened = join_all((0..AT_ONCE).map(|number| open(format!("shop-{round}-{number}")))).await;
        join_all(latest.iter().map(|shop| shop.delete::<ServiceExport>())).await;
        until("the one that works has begun", async || {
            let imports = join_all(opened.iter().map(Shop::import)).await;
            imports.into_iter().flatten().next()
        })
        .await;
        for replica in replicas {
            replica.crash().await;
        }
        // Nobody sees these changes.
        closed.append(&mut latest);
        latest = opened;
        let last = latest.split_off(AT_ONCE / 2);
        join_all(last.iter().map(|shop| shop.delete::<ServiceExport>())).await;
        closed.extend(last);
        replicas = ["c", "d"].map(|name| Replica::start(&client, &format!("{name}-{round}")));
    }
    for shop in &latest {
        shop.imported_from(&["c1"]).await;
        shop.endpoints_become(&["c1 10.1.0.1"]).await;
    }
    for shop in &closed {
        shop.everything_is_gone().await;
    }
    assert_eq!(kept.quiet().await, versions, "who comes after a crash writes nothing that is right already");
    // Who could not renew in time leads again a moment later.
    until("one of both leads", async || {
        let leading = replicas.iter().filter(|replica| *replica.candidate.holding.borrow() == Holding::Ours).count();
        assert!(leading < 2, "both lead");
        (leading == 1).then_some(())
    })
    .await;
    for replica in replicas {
        replica.crash().await;
    }
}

/// An older cluster gets its second family (ServiceCIDR `kubernetes`, from one prefix to two).
#[tokio::test(flavor = "multi_thread")]
async fn row_61_and_62_a_cluster_that_gets_a_second_family_keeps_its_addresses_and_adds_others() {
    let (mut server, client) = single_stack().await;
    // Its Member tells of both families already.
    let (task, stop) = start_loop(&client, ServicesConfig::new(ClusterId::new("c1").unwrap()));
    let shop = Shop::open_on(client.clone(), "shop").await;
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({ "ipFamilies": ["IPv4", "IPv6"] })).await;
    let before = shop.imported_from(&["c2"]).await.spec;
    assert_eq!((before.ips.len(), before.ip_families), (1, vec!["IPv4".to_owned()]));
    assert!(before.ips[0].starts_with("10.43."), "{:?}", before.ips);

    let server = tokio::task::spawn_blocking(move || {
        server.set_service_cidrs("10.43.0.0/16,fd43::/112");
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    let dual = async || {
        let import = shop.import().await?;
        let ready = condition(&import.status?.conditions, "Ready")?.message.is_empty();
        (ready && import.spec.ips.len() == 2).then_some(import.spec)
    };
    let after = until("it has an address of each family", dual).await;
    assert_eq!((&after.ips[0], after.ip_families), (&before.ips[0], vec!["IPv4".to_owned(), "IPv6".to_owned()]));
    assert!(after.ips[1].starts_with("fd43:"), "{:?}", after.ips);

    // They are its own, whatever changes.
    let (ports, two) = (json!([{ "name": "http", "protocol": "TCP", "port": 81 }]), json!(["IPv4", "IPv6"]));
    shop.remote("c2", "2020-01-01T00:00:00Z", json!({ "ipFamilies": two, "ports": ports })).await;
    let derived = until("the port follows", async || {
        shop.derived().await.filter(|derived| derived.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port == 81)
    })
    .await;
    assert_eq!(derived.spec.unwrap().cluster_ips.unwrap(), after.ips);
    let (name, uid) = (derived.metadata.name.unwrap(), derived.metadata.uid);
    shop.api::<Service>().delete(&name, &DeleteParams::default()).await.unwrap();
    let again =
        until("the derived Service is back", async || shop.derived().await.filter(|again| again.metadata.uid != uid))
            .await;
    assert_eq!(again.spec.unwrap().cluster_ips.unwrap(), after.ips);
    drop(stop);
    task.await.unwrap();
    drop(server);
}
