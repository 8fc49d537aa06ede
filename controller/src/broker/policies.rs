//! The admission policies without which a Member's credential writes what it likes.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};

/// All policies of `deploy/broker`; each has a binding of its name.
const POLICIES: [&str; 5] =
    ["linkspan-ownership", "linkspan-claims", "linkspan-join-claim", "linkspan-join-credential", "linkspan-tokens"];
/// The label by which policies choose namespaces; API servers set it.
const NAME_OF_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The first policy that is missing, not bound, or made for another namespace. An administrator of the namespace alone, who
/// may not read policies, has to believe that they are there.
///
/// # Errors
/// The API server cannot be reached.
pub(super) async fn missing(client: &Client, namespace: &str) -> Result<Option<&'static str>, kube::Error> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    for name in POLICIES {
        let found = async { Ok((policies.get_opt(name).await?, bindings.get_opt(name).await?)) };
        match found.await {
            Ok((Some(policy), Some(_))) if protects(&policy, namespace) => {}
            Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(None),
            Ok(_) => return Ok(Some(name)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn protects(policy: &ValidatingAdmissionPolicy, namespace: &str) -> bool {
    let constraints = policy.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
    let selector = constraints.and_then(|constraints| constraints.namespace_selector.as_ref());
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    labels.and_then(|labels| labels.get(NAME_OF_NAMESPACE)).is_some_and(|name| name == namespace)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_policies_of_the_manifests_protect_the_namespace_of_the_broker_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/broker");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for document in text.split("\n---\n").filter(|text| text.contains("kind: ValidatingAdmissionPolicy\n")) {
                let policy: ValidatingAdmissionPolicy = serde_saphyr::from_str(document).unwrap();
                assert!(protects(&policy, "linkspan-broker") && !protects(&policy, "fleet-a"));
                found.push(policy.metadata.name.unwrap());
            }
        }
        found.sort();
        let mut all = POLICIES;
        all.sort_unstable();
        assert_eq!(found, all);
    }
}
