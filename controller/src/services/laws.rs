//! The laws of services, over clusters whose API servers are in memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::action::{Action, ObjectRef};
use super::index::{Index, IndexConfig, Kind, Object};
use super::merge::{Export, merge};
use super::plan::plan;
use super::testing::credential;
use super::validate::{Policy, parse};
use super::{ClusterId, Family, Record, ServiceKey};
use crate::api::{Member, ServiceExport, ServiceImportSpec, ServiceRecord};

const SERVICES: [&str; 2] = ["web", "db"];
const CLUSTERS: usize = 4;

fn cluster_id(number: usize) -> String {
    format!("c{number}")
}

/// Some exports claim to be older than their Member.
fn joined_at(number: usize) -> Timestamp {
    Timestamp::from_second([0, 3, 1, 2][number]).unwrap()
}

/// One cluster: its API server and what its loop knows.
struct World {
    cluster: String,
    index: Index,
    objects: BTreeMap<(Kind, String, String), Object>,
    version: u64,
}

fn metadata(object: &mut Object) -> &mut ObjectMeta {
    match object {
        Object::Export(object) => &mut object.metadata,
        Object::Service(object) => &mut object.metadata,
        Object::Slice(object) => &mut object.metadata,
        Object::Import(object) => &mut object.metadata,
        Object::Namespace(object) => &mut object.metadata,
        Object::Record(object) => &mut object.metadata,
        Object::Member(object) => &mut object.metadata,
        Object::Gateway(object) => &mut object.metadata,
        Object::Lease(object) => &mut object.metadata,
        Object::Credential(object) => &mut object.metadata,
    }
}

impl World {
    fn new(number: usize) -> Self {
        let config = IndexConfig {
            cluster: ClusterId::new(&cluster_id(number)).unwrap(),
            policy: Policy::default(),
            families: vec![Family::V4],
        };
        let mut world =
            Self { cluster: cluster_id(number), index: Index::new(config), objects: BTreeMap::new(), version: 0 };
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
        world.put(Object::Namespace(Box::new(namespace)));
        world.join();
        for other in 0..CLUSTERS {
            let member: Member = serde_json::from_value(json!({
                "apiVersion": "linkspan.dev/v1alpha1", "kind": "Member",
                "metadata": {
                    "namespace": "linkspan-system", "name": cluster_id(other),
                    "annotations": { "linkspan.dev/joined-at": joined_at(other).to_string() }
                },
                "spec": { "clusterID": cluster_id(other), "clusterUID": "u", "podCIDRs": [format!("10.{other}.0.0/16")] }
            }))
            .unwrap();
            world.put(Object::Member(Box::new(member)));
        }
        world
    }

    fn join(&mut self) {
        self.put(Object::Credential(Box::new(credential(&[]))));
    }

    fn leave(&mut self) {
        self.put(Object::Credential(Box::new(credential(&["linkspan.dev/leave"]))));
    }

    /// Stores, as an API server does.
    fn put(&mut self, mut object: Object) {
        self.version += 1;
        let version = self.version;
        let kind = object.kind();
        let meta = metadata(&mut object);
        let place = (kind, meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap());
        let before = self.objects.get_mut(&place).map(|before| metadata(before).clone());
        meta.uid = before.as_ref().map_or(Some(format!("u{version}")), |before| before.uid.clone());
        meta.generation = Some(before.and_then(|before| before.generation).unwrap_or(0) + 1);
        meta.resource_version = Some(version.to_string());
        self.objects.insert(place, object.clone());
        self.index.upsert(object);
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        if let Some(object) = self.objects.remove(&(kind, namespace.to_owned(), name.to_owned())) {
            self.index.remove(&object);
        }
    }

    fn apply(&mut self, action: Action) {
        let delete = |world: &mut Self, kind, object: ObjectRef| world.delete(kind, &object.namespace, &object.name);
        match action {
            Action::ApplyRecord(record) => self.put(Object::Record(record)),
            Action::ApplyDerived(mut service) => {
                let name = service.metadata.name.clone().unwrap();
                let known = self.objects.get(&(Kind::Service, "shop".into(), name));
                let ips = match known {
                    Some(Object::Service(known)) => known.spec.clone().unwrap().cluster_ips,
                    _ => service.spec.clone().unwrap().cluster_ips,
                };
                let fresh = || Some(vec![format!("10.43.{}.{}", self.version / 250, self.version % 250)]);
                service.spec.as_mut().unwrap().cluster_ips = ips.or_else(fresh);
                self.put(Object::Service(service));
            }
            Action::ApplySlice(slice) => self.put(Object::Slice(slice)),
            Action::ApplyImport(mut import) => {
                if let Some(Object::Import(known)) =
                    self.objects.get(&(Kind::Import, "shop".into(), import.metadata.name.clone().unwrap()))
                {
                    import.status.clone_from(&known.status);
                }
                self.put(Object::Import(import));
            }
            Action::TrimImport(trim) => {
                let known = self.objects.get(&(Kind::Import, trim.object.namespace.clone(), trim.object.name.clone()));
                let Some(Object::Import(known)) = known else { return };
                let mut import = serde_json::to_value(known).unwrap();
                trim.extras.spec.iter().for_each(|field| drop(import["spec"].as_object_mut().unwrap().remove(field)));
                self.put(Object::Import(serde_json::from_value(import).unwrap()));
            }
            Action::ApplyImportStatus(status) => {
                let place = (Kind::Import, "shop".to_owned(), status.metadata.name.clone().unwrap());
                let Some(Object::Import(import)) = self.objects.get_mut(&place) else { return };
                import.status = status.status;
                let import = import.clone();
                self.put_status(Object::Import(import));
            }
            Action::ApplyExportStatus(status, _) => {
                let place = (Kind::Export, "shop".to_owned(), status.metadata.name.clone().unwrap());
                let Some(Object::Export(export)) = self.objects.get_mut(&place) else { return };
                export.status = status.status;
                let export = export.clone();
                self.put_status(Object::Export(export));
            }
            Action::DeleteRecord(object) => delete(self, Kind::Record, object),
            Action::DeleteDerived(object) => delete(self, Kind::Service, object),
            Action::DeleteSlice(object) => delete(self, Kind::Slice, object),
            Action::DeleteImport(object) => delete(self, Kind::Import, object),
        }
    }

    /// A new status is no new generation.
    fn put_status(&mut self, mut object: Object) {
        let meta = metadata(&mut object);
        let generation = meta.generation.unwrap();
        meta.generation = Some(generation - 1);
        let place = (meta.namespace.clone().unwrap(), meta.name.clone().unwrap());
        let kind = object.kind();
        self.objects.insert((kind, place.0, place.1), object.clone());
        self.put(object);
    }

    /// Plans and applies until nothing is left to do. `crash_after` cuts every plan short, as often as it is asked.
    fn settle(&mut self, crash_after: impl IntoIterator<Item = usize>) {
        let mut crashes = crash_after.into_iter();
        for _ in 0..200 {
            let dirty = self.index.take_dirty();
            if dirty.is_empty() {
                break;
            }
            for key in dirty {
                let actions = plan(&self.index.observe(&key), Timestamp::UNIX_EPOCH);
                let cut = crashes.next().unwrap_or(usize::MAX);
                if cut < actions.len() {
                    self.index.mark(&key);
                }
                actions.into_iter().take(cut).for_each(|action| self.apply(action));
            }
        }
        for key in self.keys() {
            assert_eq!(plan(&self.index.observe(&key), Timestamp::UNIX_EPOCH), [], "not at rest in {}", self.cluster);
        }
    }

    fn keys(&self) -> Vec<ServiceKey> {
        SERVICES.map(|name| ServiceKey::new("shop", name)).into()
    }

    fn imports(&self) -> BTreeMap<String, ServiceImportSpec> {
        let import = |object: &Object| match object {
            Object::Import(import) => {
                let spec = ServiceImportSpec { ips: Vec::new(), ..import.spec.clone() };
                Some((import.metadata.name.clone().unwrap(), spec))
            }
            _ => None,
        };
        self.objects.values().filter_map(import).collect()
    }

    fn records(&self) -> BTreeMap<String, ServiceRecord> {
        let record = |object: &Object| match object {
            Object::Record(record) => Some((record.metadata.name.clone().unwrap(), (**record).clone())),
            _ => None,
        };
        self.objects.values().filter_map(record).collect()
    }

    /// Everything that the loop has written, without what an API server adds.
    fn written(&self) -> Vec<String> {
        let show = |object: &Object| {
            let mut object = object.clone();
            let meta = metadata(&mut object);
            (meta.uid, meta.resource_version, meta.generation) = (None, None, None);
            match object {
                Object::Record(record) => Some(format!("{record:?}")),
                Object::Import(import) => {
                    let spec = ServiceImportSpec { ips: Vec::new(), ..import.spec };
                    Some(format!("{:?} {spec:?}", import.metadata))
                }
                Object::Slice(slice)
                    if slice.metadata.labels.as_ref().unwrap().contains_key("app.kubernetes.io/managed-by") =>
                {
                    Some(format!("{slice:?}"))
                }
                _ => None,
            }
        };
        self.objects.values().filter_map(show).collect()
    }
}

/// What people do, and what the network does.
#[derive(Debug, Clone)]
enum Step {
    /// Exports a service, at some second.
    Export { cluster: usize, service: usize, at: i64 },
    /// Takes the export back.
    Unexport { cluster: usize, service: usize },
    /// Makes or changes the Service and its slice.
    Change { cluster: usize, service: usize, shape: usize },
    /// Deletes the Service.
    Delete { cluster: usize, service: usize },
    /// Brings all records of one cluster to another; records that have gone, go.
    Deliver { from: usize, to: usize },
    /// Brings an old state of one cluster's records to another.
    DeliverOld { from: usize, to: usize, age: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (cluster, service) = (0..CLUSTERS, 0..SERVICES.len());
    prop_oneof![
        3 => (cluster.clone(), service.clone(), 0..5_i64).prop_map(|(cluster, service, at)| Step::Export { cluster, service, at }),
        1 => (cluster.clone(), service.clone()).prop_map(|(cluster, service)| Step::Unexport { cluster, service }),
        4 => (cluster.clone(), service.clone(), 0..6_usize)
            .prop_map(|(cluster, service, shape)| Step::Change { cluster, service, shape }),
        1 => (cluster.clone(), service).prop_map(|(cluster, service)| Step::Delete { cluster, service }),
        4 => (cluster.clone(), cluster.clone()).prop_map(|(from, to)| Step::Deliver { from, to }),
        2 => (cluster.clone(), cluster, 0..4_usize).prop_map(|(from, to, age)| Step::DeliverOld { from, to, age }),
    ]
}

/// Services that agree in some ways and differ in others.
fn service(name: &str, shape: usize) -> Service {
    let http = json!({ "name": "http", "port": 80 });
    let spec = match shape {
        0 => json!({ "ports": [http], "clusterIP": "10.43.0.1", "ipFamilies": ["IPv4"] }),
        1 => json!({ "ports": [{ "name": "http", "port": 81 }, { "name": "dns", "port": 53, "protocol": "UDP" }],
                     "clusterIP": "10.43.0.1", "ipFamilies": ["IPv4"] }),
        2 => json!({ "ports": [http], "clusterIP": "None", "ipFamilies": ["IPv4"] }),
        3 => {
            json!({ "ports": [{ "name": "web", "port": 80 }], "clusterIP": "10.43.0.1", "ipFamilies": ["IPv6", "IPv4"],
                     "sessionAffinity": "ClientIP", "trafficDistribution": "PreferClose" })
        }
        4 => json!({ "ports": [{ "port": 82 }], "clusterIP": "10.43.0.1", "ipFamilies": ["IPv6"] }),
        _ => json!({ "type": "ExternalName", "externalName": "example.com" }),
    };
    serde_json::from_value(json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec })).unwrap()
}

fn slice(cluster: usize, name: &str, service: &Service, shape: usize) -> EndpointSlice {
    let ports = service.spec.as_ref().unwrap().ports.iter().flatten();
    let ports: Vec<_> =
        ports.map(|port| json!({ "name": port.name, "port": port.port + 8000, "protocol": port.protocol })).collect();
    serde_json::from_value(json!({
        "metadata": { "namespace": "shop", "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "ports": ports, "endpoints": [{ "addresses": [format!("10.{cluster}.0.{shape}")] }]
    }))
    .unwrap()
}

struct Clusters {
    worlds: Vec<World>,
    /// Every state of each cluster's own records.
    history: Vec<Vec<BTreeMap<String, ServiceRecord>>>,
}

impl Clusters {
    fn new() -> Self {
        Self { worlds: (0..CLUSTERS).map(World::new).collect(), history: vec![Vec::new(); CLUSTERS] }
    }

    fn own_records(&self, cluster: usize) -> BTreeMap<String, ServiceRecord> {
        let mut records = self.worlds[cluster].records();
        records.retain(|name, _| name.starts_with(&format!("{}.", cluster_id(cluster))));
        records
    }

    fn deliver(&mut self, from: usize, to: usize, records: BTreeMap<String, ServiceRecord>) {
        if from == to {
            return;
        }
        let prefix = format!("{}.", cluster_id(from));
        let known: Vec<_> = self.worlds[to].records().into_keys().filter(|name| name.starts_with(&prefix)).collect();
        for name in known.iter().filter(|name| !records.contains_key(*name)) {
            self.worlds[to].delete(Kind::Record, "linkspan-system", name);
        }
        for (_, mut record) in records {
            record.metadata.uid = None;
            self.worlds[to].put(Object::Record(Box::new(record)));
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Export { cluster, service, at } => {
                let export: ServiceExport = serde_json::from_value(json!({
                    "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
                    "metadata": { "namespace": "shop", "name": SERVICES[service] }, "spec": {}
                }))
                .unwrap();
                let created = Some(Time(Timestamp::from_second(at).unwrap()));
                let metadata = ObjectMeta { creation_timestamp: created, ..export.metadata.clone() };
                self.worlds[cluster].delete(Kind::Export, "shop", SERVICES[service]);
                self.worlds[cluster].put(Object::Export(Box::new(ServiceExport { metadata, ..export })));
            }
            Step::Unexport { cluster, service } => self.worlds[cluster].delete(Kind::Export, "shop", SERVICES[service]),
            Step::Change { cluster, service: number, shape } => {
                let name = SERVICES[number];
                let service = service(name, shape);
                self.worlds[cluster].put(Object::Slice(Box::new(slice(cluster, name, &service, shape))));
                self.worlds[cluster].put(Object::Service(Box::new(service)));
            }
            Step::Delete { cluster, service } => self.worlds[cluster].delete(Kind::Service, "shop", SERVICES[service]),
            Step::Deliver { from, to } => self.deliver(from, to, self.own_records(from)),
            Step::DeliverOld { from, to, age } => {
                let history = &self.history[from];
                let Some(old) = history.iter().rev().nth(age).cloned() else { return };
                self.deliver(from, to, old);
            }
        }
    }

    /// Everyone hears the latest of everyone.
    fn heal(&mut self) {
        for from in 0..CLUSTERS {
            for to in 0..CLUSTERS {
                self.deliver(from, to, self.own_records(from));
            }
        }
        self.worlds.iter_mut().for_each(|world| world.settle([]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_55_all_clusters_come_to_the_same_end_which_is_a_function_of_the_exports(steps in vec(step(), 1..24)) {
        let mut clusters = Clusters::new();
        for step in &steps {
            clusters.take(step);
            clusters.worlds.iter_mut().for_each(|world| world.settle([]));
            for cluster in 0..CLUSTERS {
                let records = clusters.own_records(cluster);
                clusters.history[cluster].push(records);
            }
        }
        clusters.heal();
        let all: BTreeMap<_, _> = (0..CLUSTERS).flat_map(|cluster| clusters.own_records(cluster)).collect();
        let parsed: Vec<_> =
            all.values().map(|record| parse(record, &record.spec.cluster_id, &Policy::default()).unwrap()).collect();
        for world in &clusters.worlds {
            prop_assert_eq!(world.imports(), clusters.worlds[0].imports());
            prop_assert_eq!(world.records().len(), all.len());
        }
        for (name, import) in clusters.worlds[0].imports() {
            let records = parsed.iter().filter(|record| record.service.name == name);
            let joined = |record: &Record| joined_at(record.cluster.as_str()[1..].parse().unwrap());
            let exports: Vec<_> = records.map(|record| Export { record, since: joined(record).max(record.exported_at) }).collect();
            let merged = merge(&exports).unwrap();
            prop_assert_eq!(import.kind, merged.kind);
            let ports: Vec<_> = import.ports.iter().map(|port| (port.name.clone(), port.port)).collect();
            prop_assert_eq!(ports, merged.ports.iter().map(|port| (port.name.clone(), port.number.into())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn row_104_who_leaves_keeps_nothing_and_who_joins_again_has_what_was(
        steps in vec(step(), 1..16),
        crashes in vec(0..4_usize, 0..24),
    ) {
        let mut clusters = Clusters::new();
        steps.iter().for_each(|step| clusters.take(step));
        clusters.heal();
        let mut crashes = crashes.into_iter();
        for world in &mut clusters.worlds {
            let before = world.written();
            world.leave();
            world.settle(crashes.by_ref());
            // The records of others are the mirror's to remove.
            let mut records = world.records();
            records.retain(|name, _| name.starts_with(&format!("{}.", world.cluster)));
            prop_assert_eq!(records.len(), 0);
            let kinds = [Kind::Import, Kind::Slice, Kind::Service];
            let ours = |(_, object): &(_, &Object)| super::testing::is_ours(object);
            let left: Vec<_> = world.objects.iter().filter(|((kind, ..), _)| kinds.contains(kind)).filter(ours).collect();
            prop_assert!(left.is_empty(), "{:?}", left);
            world.join();
            world.settle(crashes.by_ref());
            prop_assert_eq!(world.written(), before);
        }
    }

    #[test]
    fn a_crash_after_any_action_leads_to_the_same_end(
        steps in vec(step(), 1..16),
        crashes in vec(0..4_usize, 0..24),
    ) {
        let (mut calm, mut rough) = (Clusters::new(), Clusters::new());
        let mut crashes = crashes.into_iter();
        for step in &steps {
            for clusters in [&mut calm, &mut rough] {
                clusters.take(step);
            }
            calm.worlds.iter_mut().for_each(|world| world.settle([]));
            rough.worlds.iter_mut().for_each(|world| world.settle(crashes.by_ref()));
        }
        calm.heal();
        rough.heal();
        for (calm, rough) in calm.worlds.iter().zip(&rough.worlds) {
            prop_assert_eq!(calm.written(), rough.written());
        }
    }
}
