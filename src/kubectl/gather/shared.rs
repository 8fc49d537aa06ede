//! Namespaces whose services the clusterset has: what stands behind an export or an import is in there. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::archive::part;
use super::kinds::{EVENTS, Kind, OF_SERVICES};

/// Namespaces with exports or imports, and whether there are exports.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<String, bool>);

impl Shared {
    /// Notes where these objects are, if they are exports or imports.
    pub(super) fn note(&mut self, kind: &Kind<'_>, objects: &[Value]) {
        let is_export = kind.kind == "ServiceExport";
        if !is_export && kind.kind != "ServiceImport" {
            return;
        }
        for namespace in objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()) {
            *self.0.entry(namespace.to_owned()).or_default() |= is_export;
        }
    }

    /// What is read of them, with its path.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (String, Kind<'_>)> {
        self.0.iter().flat_map(|(namespace, has_exports)| {
            let events = has_exports.then_some(EVENTS);
            let kinds = OF_SERVICES.into_iter().chain(events);
            kinds.map(|kind| (format!("namespaces/{}/{}", part(namespace), kind.file()), kind.within(namespace)))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::KINDS;
    use super::*;

    #[test]
    fn events_are_read_where_services_are_exported_and_what_carries_services_also_where_they_are_imported() {
        let mut shared = Shared::default();
        let kind = |name: &str| KINDS.iter().find(|kind| kind.kind == name).unwrap();
        let within = |namespace: &str| [json!({ "metadata": { "name": "x", "namespace": namespace } })];
        shared.note(kind("ServiceExport"), &within("shop"));
        shared.note(kind("ServiceImport"), &within("shop"));
        shared.note(kind("ServiceImport"), &within("bank"));
        shared.note(kind("Lease"), &within("linkspan-system"));
        let paths: Vec<String> = shared.kinds().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "namespaces/bank/services.yaml",
                "namespaces/bank/endpointslices.discovery.k8s.io.yaml",
                "namespaces/bank/networkpolicies.networking.k8s.io.yaml",
                "namespaces/shop/services.yaml",
                "namespaces/shop/endpointslices.discovery.k8s.io.yaml",
                "namespaces/shop/networkpolicies.networking.k8s.io.yaml",
                "namespaces/shop/events.yaml",
            ]
        );
    }
}
