//! Imports: rows 18 to 30 and 59 to 64.

use std::collections::BTreeSet;

use controller::api::{EndpointSliceObjects, ImportType, ServiceImport};
use controller::cluster::services::ServicesConfig;
use controller::services::ClusterId;
use controller::services::derived::derived_name;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use testbed::ApiServer;

use super::support::{PATIENCE, Shop, client, http, prepare, settle, start_loop, until};

const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2090-01-01T00:00:00Z";

#[tokio::test]
async fn row_19_nothing_is_imported_where_the_namespace_is_absent() {
    let shop = Shop::open("row-19").await;
    let absent = Shop { client: shop.client.clone(), namespace: "row-19-absent".into() };
    absent.remote("c2", OLD, json!({})).await;
    settle().await;
    assert_eq!(absent.import().await, None);
    let absent = Shop::open("row-19-absent").await;
    absent.imported_from(&["c2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_20_a_namespace_terminates_and_nothing_is_tried_in_it_that_cannot_be() {
    let server = tokio::task::spawn_blocking(|| ApiServer::start_with_controllers().unwrap()).await.unwrap();
    let client = client(server.kubeconfig()).await;
    prepare(&client).await;
    let config = ServicesConfig::new(ClusterId::new("c1").unwrap());
    let mut told = config.status.subscribe();
    let (task, stop) = start_loop(&client, config);
    let shop = Shop::open_on(client.clone(), "row-20").await;
    shop.remote("c2", OLD, json!({})).await;
    shop.imported_from(&["c2"]).await;
    shop.endpoints_become(&["c2 10.2.0.1"]).await;
    shop.quiet().await;
    let (slice, derived) = (shop.slices().await.remove(0).metadata.name.unwrap(), derived_name(&shop.key()));
    let held_by = async |finalizers: &[&str]| {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        let params = PatchParams::default();
        shop.api::<ServiceImport>().patch("web", &params, &patch).await.unwrap();
        shop.api::<Service>().patch(&derived, &params, &patch).await.unwrap();
        shop.api::<EndpointSlice>().patch(&slice, &params, &patch).await.unwrap();
    };
    told.mark_unchanged();
    held_by(&["example.com/hold"]).await;
    // What failed while the API server was new is no matter.
    tokio::time::timeout(PATIENCE, told.changed()).await.unwrap().unwrap();
    let failed = told.borrow().work.failed;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(&shop.namespace, &DeleteParams::default()).await.unwrap();
    // The loop sees namespaces in their order: when it imports into a later one, it knows that this one goes.
    let later = Shop::open_on(client.clone(), "row-20-later").await;
    later.remote("c2", OLD, json!({})).await;
    later.imported_from(&["c2"]).await;
    held_by(&[]).await;
    // Its controller takes away what is in it, and what the loop made again would be refused.
    until("it has gone", async || namespaces.get_opt(&shop.namespace).await.unwrap().is_none().then_some(())).await;
    // The state is told once a second.
    settle().await;
    settle().await;
    assert_eq!(told.borrow().work.failed, failed);
    Shop::open_on(client.clone(), "row-20").await.imported_from(&["c2"]).await;
    drop(stop);
    task.await.unwrap();
}

#[tokio::test]
async fn row_21_the_import_is_the_same_while_exports_come_and_go() {
    let shop = Shop::open("row-21").await;
    shop.open_for_sale().await;
    let first = shop.imported_from(&["c1"]).await;
    shop.remote("c2", OLD, json!({})).await;
    shop.imported_from(&["c1", "c2"]).await;
    shop.delete::<controller::api::ServiceExport>().await;
    let last = shop.imported_from(&["c2"]).await;
    assert_eq!(last.metadata.uid, first.metadata.uid);
    assert_eq!(last.spec.ips, first.spec.ips);
}

#[tokio::test]
async fn row_23_a_deleted_import_comes_back_with_its_addresses_and_an_edited_one_is_mended() {
    let shop = Shop::open("row-23").await;
    shop.open_for_sale().await;
    let before = shop.imported_from(&["c1"]).await;
    shop.delete::<ServiceImport>().await;
    let after = shop.imported_from(&["c1"]).await;
    assert_ne!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.spec, before.spec);
    let patch = Patch::Merge(json!({ "spec": { "ports": [], "type": "Headless" } }));
    shop.api::<ServiceImport>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    until("the edit is undone", async || (shop.import().await?.spec == before.spec).then_some(())).await;
}

/// By kubectl, or because another implementation of the API has been here before.
#[tokio::test]
async fn row_23_fields_that_others_have_set_go_and_the_status_stays_true() {
    let shop = Shop::open("row-23-others").await;
    shop.service(json!({ "clusterIP": "None" })).await;
    let theirs = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": {
            "name": "web", "annotations": { "multicluster.kubernetes.io/derived-service": "theirs", "their": "own" }
        },
        "spec": {
            "type": "Headless", "ports": [], "ips": ["10.43.9.9"], "trafficDistribution": "PreferClose",
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 7 } }
        }
    });
    let (imports, by_others) = (shop.api::<ServiceImport>(), PatchParams::apply("others"));
    imports.patch("web", &by_others, &Patch::Apply(theirs)).await.unwrap();
    shop.export().await;
    let ours_only = async || {
        let import = shop.import().await?;
        let spec = &import.spec;
        let rest = (&spec.session_affinity, &spec.session_affinity_config, &spec.traffic_distribution);
        (rest == (&None, &None, &None) && spec.ips.is_empty() && spec.ports.len() == 1).then_some(import)
    };
    let import = until("only what is ours is left", ours_only).await;
    assert_eq!(import.metadata.annotations.unwrap().into_iter().collect::<Vec<_>>(), [("their".into(), "own".into())]);
    shop.imported_from(&["c1"]).await;

    let edit = Patch::Merge(json!({ "spec": { "trafficDistribution": "PreferClose" } }));
    let kubectl = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    imports.patch("web", &kubectl, &edit).await.unwrap();
    until("the edit is undone", ours_only).await;
    shop.remote("c2", NEW, json!({ "type": "Headless" })).await;
    shop.imported_from(&["c1", "c2"]).await;
    let before = shop.quiet().await;
    settle().await;
    assert_eq!(shop.versions().await, before);
}

/// Foreground deletion and finalizers do so.
#[tokio::test]
async fn row_23_what_stays_for_a_while_after_its_deletion_comes_back_when_it_has_gone() {
    let shop = Shop::open("row-23-slowly").await;
    shop.open_for_sale().await;
    let import = shop.imported_from(&["c1"]).await.metadata;
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    let (imports, slices) = (shop.api::<ServiceImport>(), shop.api::<EndpointSlice>());
    let slice = shop.slices().await.remove(0).metadata;
    let name = slice.name.clone().unwrap();
    let held_by = |finalizers: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    let (hold, release) = (held_by(&["example.com/hold"]), held_by(&[]));
    imports.patch("web", &PatchParams::default(), &hold).await.unwrap();
    slices.patch(&name, &PatchParams::default(), &hold).await.unwrap();
    imports.delete("web", &DeleteParams::foreground()).await.unwrap();
    slices.delete(&name, &DeleteParams::foreground()).await.unwrap();
    settle().await;
    assert_eq!(imports.get("web").await.unwrap().metadata.uid, import.uid);
    imports.patch("web", &PatchParams::default(), &release).await.unwrap();
    slices.patch(&name, &PatchParams::default(), &release).await.unwrap();
    until("both are back", async || {
        let (import_now, slice_now) = (shop.import().await?, shop.slices().await.pop()?);
        (import_now.metadata.uid != import.uid && slice_now.metadata.uid != slice.uid).then_some(())
    })
    .await;
    shop.imported_from(&["c1"]).await;
}

#[tokio::test]
async fn row_62_a_lost_derived_service_comes_back_with_its_addresses() {
    let shop = Shop::open("row-62").await;
    shop.open_for_sale().await;
    let before = shop.imported_from(&["c1"]).await;
    let derived = shop.derived().await.unwrap();
    shop.api::<Service>().delete(&derived_name(&shop.key()), &DeleteParams::default()).await.unwrap();
    let again = until("the derived Service is back", async || {
        shop.derived().await.filter(|again| again.metadata.uid != derived.metadata.uid)
    })
    .await;
    // The address of the other family was of no use, and nobody was told of it.
    assert_eq!(again.spec.unwrap().cluster_ips.unwrap()[..1], before.spec.ips);
    settle().await;
    assert_eq!(shop.import().await.unwrap().spec, before.spec);
}

#[tokio::test]
async fn row_26_and_61_no_version_of_an_import_has_some_of_its_addresses_only() {
    use futures::StreamExt as _;
    let shop = Shop::open("row-61").await;
    let imports = watcher(shop.api::<ServiceImport>(), watcher::Config::default()).default_backoff();
    let mut imports = std::pin::pin!(imports);
    shop.service(json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"] })).await;
    shop.export().await;
    loop {
        let event = tokio::time::timeout(PATIENCE, imports.next()).await.unwrap().unwrap();
        let (Ok(watcher::Event::Apply(import)) | Ok(watcher::Event::InitApply(import))) = event else { continue };
        assert_eq!(import.spec.ip_families, ["IPv6", "IPv4"]);
        if !import.spec.ips.is_empty() {
            assert!(
                import.spec.ips[0].starts_with("fd43:") && import.spec.ips[1].starts_with("10.43."),
                "{:?}",
                import.spec.ips
            );
            break;
        }
    }
    let import = shop.imported_from(&["c1"]).await;
    let mut derived = shop.derived().await.unwrap().spec.unwrap().cluster_ips.unwrap();
    derived.sort();
    let mut ips = import.spec.ips;
    ips.sort();
    assert_eq!(ips, derived);
}

#[tokio::test]
async fn row_28_30_and_31_an_import_is_complete() {
    let shop = Shop::open("row-28").await;
    let ports = json!([
        { "name": "tcp", "port": 42, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c" },
        { "name": "udp", "port": 42, "protocol": "UDP" }
    ]);
    shop.service(json!({ "ports": ports })).await;
    shop.export().await;
    let import = shop.imported_from(&["c1"]).await;
    assert_eq!(import.status.unwrap().endpoint_slice_objects, Some(EndpointSliceObjects::Present));
    assert_eq!(import.spec.ip_families, ["IPv4"]);
    assert_eq!(serde_json::to_value(&import.spec.ports).unwrap(), ports);
    assert_eq!(import.spec.session_affinity.as_deref(), Some("None"));
    assert_eq!(import.spec.internal_traffic_policy.as_deref(), Some("Cluster"));
}

#[tokio::test]
async fn row_29_a_service_without_selector_is_imported_with_its_slices() {
    let shop = Shop::open("row-29").await;
    shop.service(json!({})).await;
    shop.slice("by-hand", http(9000), json!([{ "addresses": ["10.1.7.7"] }])).await;
    shop.export().await;
    shop.endpoints_become(&["c1 10.1.7.7"]).await;
}

#[tokio::test]
async fn row_32_a_port_without_name_is_imported_without_name() {
    let shop = Shop::open("row-32").await;
    shop.service(json!({ "ports": [{ "port": 80 }] })).await;
    shop.slice("web-1", json!([{ "name": "", "port": 8080 }]), json!([{ "addresses": ["10.1.0.1"] }])).await;
    shop.export().await;
    let import = shop.imported_from(&["c1"]).await;
    assert_eq!((import.spec.ports[0].name.as_str(), import.spec.ports[0].port), ("", 80));
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
}

#[tokio::test]
async fn row_56_57_59_and_60_exported_labels_follow_and_others_never_leak() {
    let shop = Shop::open("row-56").await;
    let service = json!({
        "metadata": { "name": "web", "labels": { "secret": "label" }, "annotations": { "secret": "annotation" } },
        "spec": { "ports": [{ "port": 80 }] }
    });
    super::support::create::<Service>(&shop.client, &shop.namespace, service).await;
    shop.export_with(json!({
        "exportedLabels": { "dummy-label": "true", "other": "1", "multicluster.kubernetes.io/service-name": "x" },
        "exportedAnnotations": { "dummy-annotation": "true", "multicluster.kubernetes.io/derived-service": "x" }
    }))
    .await;
    let import = shop.imported_from(&["c1"]).await;
    let (labels, annotations) = (import.metadata.labels.unwrap(), import.metadata.annotations.unwrap());
    assert_eq!((&*labels["dummy-label"], &*annotations["dummy-annotation"]), ("true", "true"));
    assert_eq!(annotations["multicluster.kubernetes.io/derived-service"], derived_name(&shop.key()));
    assert!(!labels.contains_key("secret") && !labels.contains_key("multicluster.kubernetes.io/service-name"));
    assert!(!annotations.contains_key("secret"));
    let derived = shop.derived().await.unwrap().metadata;
    assert!(!derived.labels.unwrap().contains_key("secret"));
    assert!(shop.export_says("Valid=True/Valid").await.contains("is reserved and not exported"));
    let patch = Patch::Merge(json!({ "spec": { "exportedLabels": { "dummy-label": "false", "other": null } } }));
    shop.api::<controller::api::ServiceExport>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    until("the labels follow", async || {
        let labels = shop.import().await?.metadata.labels?;
        (labels.get("dummy-label")? == "false" && !labels.contains_key("other")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_63_addresses_are_unique_and_of_the_clusters_range_and_are_given_back() {
    const SERVICES: usize = 100;
    let shop = Shop::open("row-63").await;
    let names: Vec<_> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    for name in &names {
        shop.remote_of(name, "c2", OLD, json!({})).await;
    }
    let ips = until("all have an address", async || {
        let imports = shop.api::<ServiceImport>().list(&ListParams::default()).await.unwrap().items;
        let ips: Vec<_> = imports.into_iter().flat_map(|import| import.spec.ips).collect();
        (ips.len() == SERVICES).then_some(ips)
    })
    .await;
    let unique: BTreeSet<_> = ips.iter().cloned().collect();
    assert_eq!(unique.len(), SERVICES);
    assert!(ips.iter().all(|ip| ip.starts_with("10.43.")), "{ips:?}");
    // The API server's own book of addresses.
    let book = Api::<IPAddress>::all(shop.client.clone());
    let taken = async || {
        let all = book.list_metadata(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|ip| unique.contains(ip.metadata.name.as_deref().unwrap_or_default())).count()
    };
    assert_eq!(taken().await, SERVICES);
    for name in &names {
        shop.withdraw_of(name, "c2").await;
    }
    until("all are given back", async || (taken().await == 0).then_some(())).await;
    assert_eq!(shop.api::<ServiceImport>().list(&ListParams::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn row_64_a_service_that_becomes_headless_gives_its_address_back() {
    let shop = Shop::open("row-64").await;
    shop.open_for_sale().await;
    shop.imported_from(&["c1"]).await;
    shop.delete::<Service>().await;
    shop.everything_is_gone().await;
    shop.service(json!({ "clusterIP": "None" })).await;
    let import = shop.imported_from(&["c1"]).await;
    assert_eq!((import.spec.kind, import.spec.ips), (ImportType::Headless, vec![]));
    assert!(shop.derived().await.is_none());
    shop.endpoints_become(&["c1 10.1.0.1"]).await;
    // The other way round, an older export takes it back.
    shop.remote("c2", OLD, json!({})).await;
    until("it has an address", async || (!shop.import().await?.spec.ips.is_empty()).then_some(())).await;
    shop.export_says("Conflict=True/TypeConflict").await;
    shop.remote("c2", NEW, json!({})).await;
    until("it is headless again", async || {
        (shop.import().await?.spec.ips.is_empty() && shop.derived().await.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_69_a_service_without_endpoints_has_an_address_and_no_slices() {
    let shop = Shop::open("row-69").await;
    shop.service(json!({})).await;
    shop.export().await;
    assert_eq!(shop.imported_from(&["c1"]).await.spec.ips.len(), 1);
    assert!(shop.slices().await.is_empty());
}
