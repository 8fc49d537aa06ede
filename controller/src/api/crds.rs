//! The CustomResourceDefinitions of Linkspan's own kinds, from their types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::{GatewayNode, Member, ServiceRecord};

/// The CRDs of Linkspan's own kinds, as `deploy/crds` has them; those of the Multi-Cluster Services API and of
/// ClusterProperty are upstream's.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![GatewayNode::crd(), Member::crd(), ServiceRecord::crd()]
}

/// Name of the file of a CRD in `deploy/crds`.
pub fn crd_file(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}

/// Whether an API server has refused an object because its CRD is of an earlier version and lacks a field: server-side apply
/// does not drop what it does not know, it fails so, with status 500.
pub fn is_of_an_earlier_crd(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.message.contains("field not declared in schema"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_manifests_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        for crd in crds() {
            let path = folder.join(crd_file(&crd));
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let written: serde_json::Value = serde_saphyr::from_str(&text).unwrap_or_default();
            let wanted = serde_json::to_value(&crd).unwrap();
            assert!(
                written == wanted,
                "{} is not what the types say; write it again with `cargo run -p linkspan-controller --example crds`",
                path.display()
            );
        }
    }
}
