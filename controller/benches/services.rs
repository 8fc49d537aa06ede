//! Merge and plan for a whole clusterset: 500 clusters, 5 000 services, each exported by two clusters with two endpoints.
//!
//! Goal: a plan of everything, merges included, in under 100 ms, with all that it needs in under 64 MiB of heap.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use controller::api::{Member, ServiceRecord};
use controller::services::action::Action;
use controller::services::index::{Index, IndexConfig, Object};
use controller::services::merge::{Export, merge};
use controller::services::plan::plan;
use controller::services::validate::{Policy, parse};
use controller::services::{ClusterId, Family, Record, ServiceKey};
use criterion::{Criterion, criterion_group};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::json;

const CLUSTERS: usize = 500;
const SERVICES: usize = 5_000;
const EXPORTS_PER_SERVICE: usize = 2;
const GOAL_MS: f64 = 100.0;
const GOAL_MIB: f64 = 64.0;

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; the pointer came from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(service: usize) -> ServiceKey {
    ServiceKey::new("shop", format!("service-{service}"))
}

fn record(cluster: usize, service: usize) -> ServiceRecord {
    let ServiceKey { namespace, name } = key(service);
    let endpoint = |n: usize| {
        json!({ "addresses": [format!("10.{}.{}.{n}", cluster % 250, service % 250)], "ready": true, "serving": true,
                "terminating": false, "hostname": format!("{name}-{n}"), "zone": "zone-1", "nodeName": "node-1" })
    };
    serde_json::from_value(json!({
        "apiVersion": "linkspan.dev/v1alpha1", "kind": "ServiceRecord",
        "metadata": {
            "namespace": "linkspan-system", "name": format!("c{cluster}.{namespace}.{name}"),
            "labels": { "linkspan.dev/cluster": format!("c{cluster}") }, "uid": format!("{cluster}-{service}"),
            "resourceVersion": "1"
        },
        "spec": {
            "clusterID": format!("c{cluster}"), "namespace": namespace, "name": name, "type": "ClusterSetIP",
            "exportedAt": "2026-01-01T00:00:00Z", "ipFamilies": ["IPv4"],
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }, { "name": "metrics", "protocol": "TCP", "port": 9090 }],
            "slices": [{
                "addressType": "IPv4", "endpoints": [endpoint(1), endpoint(2)],
                "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }, { "name": "metrics", "protocol": "TCP", "port": 9090 }]
            }]
        }
    }))
    .unwrap()
}

fn exporters(service: usize) -> impl Iterator<Item = usize> {
    // Cluster 0 is the one that looks; it exports some, too.
    (0..EXPORTS_PER_SERVICE).map(move |export| (service * 7 + export * 131) % CLUSTERS)
}

/// An index that has seen all records, and nothing that comes of them.
fn fresh() -> Index {
    let cluster = ClusterId::new("viewer").unwrap();
    let config = IndexConfig { cluster, policy: Policy::default(), families: vec![Family::V4] };
    let mut index = Index::new(config);
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    index.upsert(Object::Namespace(Box::new(namespace)));
    let credential = json!({ "metadata": { "namespace": "linkspan-system", "name": "linkspan-broker" } });
    index.upsert(Object::Credential(Box::new(serde_json::from_value(credential).unwrap())));
    for cluster in 0..CLUSTERS {
        let member: Member = serde_json::from_value(json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
            "metadata": { "namespace": "linkspan-system", "name": format!("c{cluster}") },
            "spec": { "clusterID": format!("c{cluster}"), "clusterUID": "u", "podCIDRs": [format!("10.{}.0.0/16", cluster % 250)] }
        }))
        .unwrap();
        index.upsert(Object::Member(Box::new(member)));
    }
    for service in 0..SERVICES {
        for cluster in exporters(service) {
            index.upsert(Object::Record(Box::new(record(cluster, service))));
        }
    }
    index
}

/// Applies plans, as an API server would, until nothing is left to do.
fn settle(index: &mut Index) {
    let mut version = 1_u64;
    let mut stamp = |metadata: &mut ObjectMeta| {
        version += 1;
        metadata.uid = Some(metadata.name.clone().unwrap());
        metadata.resource_version = Some(version.to_string());
        metadata.generation = Some(1);
    };
    for round in 0..10 {
        let dirty = index.take_dirty();
        if dirty.is_empty() {
            return;
        }
        for key in dirty {
            for action in plan(&index.observe(&key), Timestamp::UNIX_EPOCH) {
                let object = match action {
                    Action::ApplyDerived(mut service) => {
                        stamp(&mut service.metadata);
                        let ips = Some(vec![format!("10.43.{}.{}", round, key.name.len())]);
                        service.spec.as_mut().unwrap().cluster_ips = ips;
                        Object::Service(service)
                    }
                    Action::ApplySlice(mut slice) => {
                        stamp(&mut slice.metadata);
                        Object::Slice(slice)
                    }
                    Action::ApplyImport(mut import) | Action::ApplyImportStatus(mut import) => {
                        if let Some(known) = index.observe(&key).import {
                            let status = import.status.take().or_else(|| known.status.clone());
                            import = Box::new(controller::api::ServiceImport {
                                metadata: if status.is_some() { known.metadata.clone() } else { import.metadata },
                                spec: import.spec,
                                status,
                            });
                        }
                        stamp(&mut import.metadata);
                        Object::Import(import)
                    }
                    other => panic!("not foreseen: {other}"),
                };
                index.upsert(object);
            }
        }
    }
    panic!("it does not come to rest");
}

fn plan_all(index: &Index, keys: &[ServiceKey]) -> usize {
    keys.iter().map(|key| plan(&index.observe(key), Timestamp::UNIX_EPOCH).len()).sum()
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn services(criterion: &mut Criterion) {
    let before = LIVE.load(Ordering::Relaxed);
    let keys: Vec<_> = (0..SERVICES).map(key).collect();
    let new = fresh();
    let mut index = fresh();
    let records = mib(LIVE.load(Ordering::Relaxed) - before) / 2.0;
    settle(&mut index);
    let heap = mib(LIVE.load(Ordering::Relaxed) - before) - records;
    assert_eq!(plan_all(&index, &keys), 0);
    let best = |plan: &dyn Fn() -> usize| {
        let time = || {
            let began = Instant::now();
            black_box(plan());
            began.elapsed().as_secs_f64() * 1000.0
        };
        (0..5).map(|_| time()).fold(f64::MAX, f64::min)
    };
    let (first, rest) = (best(&|| plan_all(&new, &keys)), best(&|| plan_all(&index, &keys)));
    println!(
        "RESULT services clusters={CLUSTERS} services={SERVICES} records={} plan_new_ms={first:.1} plan_at_rest_ms={rest:.1} \
         records_mib={records:.1} heap_mib={heap:.1}",
        SERVICES * EXPORTS_PER_SERVICE
    );
    assert!(first < GOAL_MS && rest < GOAL_MS && heap < GOAL_MIB, "goals: {GOAL_MS} ms, {GOAL_MIB} MiB");

    let parsed: Vec<Vec<Record>> = (0..SERVICES)
        .map(|service| {
            let parse = |cluster| parse(&record(cluster, service), &format!("c{cluster}"), &Policy::default()).unwrap();
            exporters(service).map(parse).collect()
        })
        .collect();
    let export = |record| Export::new(record, None);
    let parsed: Vec<Vec<_>> = parsed.iter().map(|records| records.iter().map(export).collect()).collect();
    let mut group = criterion.benchmark_group("services");
    group.sample_size(20);
    group
        .bench_function("merge", |bencher| bencher.iter(|| parsed.iter().filter_map(|records| merge(records)).count()));
    group.bench_function("plan_new", |bencher| bencher.iter(|| plan_all(&new, &keys)));
    group.bench_function("plan_at_rest", |bencher| bencher.iter(|| plan_all(&index, &keys)));
    group.finish();
}

criterion_group!(benches, services);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
