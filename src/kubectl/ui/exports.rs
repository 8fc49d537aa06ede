//! Exported services, from what the exporting clusters say, and else from what others know of them.

use std::collections::{BTreeMap, BTreeSet};

use controller::api::{ImportType, ServiceImport};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt as _;

use super::data::Export;
use super::index::Index;
use super::topology::members;
use crate::kubectl::diagnose::State;
use crate::kubectl::picture::Picture;

/// Exports of one cluster by namespace and name.
type Exported<'a> = BTreeMap<(&'a str, &'a str), ImportType>;

/// What all clusters know of each other's exports.
pub(super) struct Records<'a> {
    by_cluster: BTreeMap<&'a str, Exported<'a>>,
    imports: Exported<'a>,
}

impl<'a> Records<'a> {
    pub(super) fn of(picture: &'a Picture) -> Self {
        let mut by_cluster: BTreeMap<&str, Exported> = BTreeMap::new();
        for record in picture.clusters.iter().flat_map(|seen| seen.records.all()) {
            let spec = &record.spec;
            let of_cluster = by_cluster.entry(spec.cluster_id.as_str()).or_default();
            of_cluster.insert((spec.namespace.as_str(), spec.name.as_str()), spec.kind);
        }
        let imports = picture.clusters.iter().flat_map(|cluster| cluster.imports.all());
        let kind = |import: &'a ServiceImport| {
            let ObjectMeta { namespace, name, .. } = &import.metadata;
            Some(((namespace.as_deref()?, name.as_deref()?), import.spec.kind))
        };
        // What the first cluster says stands, as in a search from the beginning.
        let imports: Vec<_> = imports.filter_map(kind).collect();
        Self { by_cluster, imports: imports.into_iter().rev().collect() }
    }

    /// What other clusters know of the exports of a cluster.
    pub(super) fn exported(&self, cluster: &str) -> impl Iterator<Item = (&'a str, &'a str, ImportType)> {
        let found = self.by_cluster.get(cluster).into_iter().flatten();
        found.map(|((namespace, name), kind)| (*namespace, *name, *kind))
    }

    fn kind(&self, cluster: &str, namespace: &str, name: &str) -> Option<ImportType> {
        let known = self.by_cluster.get(cluster).and_then(|exported| exported.get(&(namespace, name)));
        known.or_else(|| self.imports.get(&(namespace, name))).copied()
    }
}

pub(super) fn exports(picture: &Picture, records: &Records, index: &Index) -> Vec<Export> {
    let importers = importers(picture);
    let mut exports = Vec::new();
    let mut told = BTreeSet::new();
    for cluster in picture.clusters.iter().filter(|cluster| cluster.exports.seen().is_some()) {
        told.insert(cluster.name());
        for export in cluster.exports.all() {
            let (namespace, name) = (export.namespace().unwrap_or_default(), export.name_any());
            let findings = index.of_object(cluster.name(), &format!("serviceexport/{namespace}/{name}"));
            let key = (cluster.name(), namespace.as_str(), name.as_str());
            let kind = records.kind(key.0, key.1, key.2);
            let conditions = export.status.as_ref().map_or(&[][..], |status| &status.conditions);
            exports.push(Export {
                state: index.worst(&findings),
                kind: kind.map(kind_name).unwrap_or_default().to_owned(),
                note: note(conditions),
                findings,
                ..known(key, &importers)
            });
        }
    }
    for (name, _) in members(picture).into_iter().filter(|(name, _)| !told.contains(name)) {
        for (namespace, service, kind) in records.exported(name) {
            let export = known((name, namespace, service), &importers);
            exports.push(Export { kind: kind_name(kind).to_owned(), ..export });
        }
    }
    exports.sort_by(|a, b| (&a.cluster, &a.namespace, &a.name).cmp(&(&b.cluster, &b.namespace, &b.name)));
    exports
}

type Importers<'a> = BTreeMap<(&'a str, String, String), BTreeSet<String>>;

/// Who imports what, by exporting cluster, namespace and name.
fn importers(picture: &Picture) -> Importers<'_> {
    let mut found = Importers::new();
    for cluster in &picture.clusters {
        for import in cluster.imports.all() {
            let (namespace, name) = (import.namespace().unwrap_or_default(), import.name_any());
            for of in import.status.iter().flat_map(|status| &status.clusters) {
                let key = (of.cluster.as_str(), namespace.clone(), name.clone());
                found.entry(key).or_default().insert(cluster.name().to_owned());
            }
        }
    }
    found
}

fn known((cluster, namespace, name): (&str, &str, &str), importers: &Importers) -> Export {
    let importers = importers.get(&(cluster, namespace.to_owned(), name.to_owned()));
    Export {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        kind: String::new(),
        state: State::Ok,
        note: String::new(),
        importers: importers.into_iter().flatten().filter(|name| *name != cluster).cloned().collect(),
        findings: Vec::new(),
    }
}

fn kind_name(kind: ImportType) -> &'static str {
    match kind {
        ImportType::ClusterSetIP => "ClusterSetIP",
        ImportType::Headless => "Headless",
        ImportType::Unknown => "Unknown",
    }
}

fn note(conditions: &[Condition]) -> String {
    let good = [("Valid", "True"), ("Ready", "True"), ("Conflict", "False")];
    let against = |(kind, good): (&str, &str)| {
        conditions.iter().find(|condition| condition.type_ == kind && condition.status != good)
    };
    let told = |condition: &Condition| match condition.message.is_empty() {
        true => condition.reason.clone(),
        false => condition.message.clone(),
    };
    good.into_iter().find_map(against).map(told).unwrap_or_default()
}
