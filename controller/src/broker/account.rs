//! What one Member has on the broker: accounts, the rights of each, and their names.
//!
//! | object | name | what it is |
//! |---|---|---|
//! | ServiceAccount | `member-<id>` | the Member's own credential |
//! | RoleBinding | `member-<id>` | gives it Role `linkspan-member`: what all Members may |
//! | Role, RoleBinding | `credential-<id>` | lets it renew its credential, clean up after joining, and leave |
//! | ServiceAccount | `join-<id>` | the join token |
//! | ConfigMap | `join-<id>` | who exchanges the token: the first to write a nonce there, which policies see to |
//! | Role, RoleBinding | `join-<id>` | lets it be exchanged, until the RoleBinding is deleted |
//!
//! All of them carry the label `linkspan.dev/cluster`, and belong to their ServiceAccount, so that the garbage collector
//! takes what its owner leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;

use crate::api::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGED_BY, MEMBER_ACCOUNT_PREFIX};
use crate::members::ClusterId;

/// Role of all Members on the broker; part of `deploy/broker`.
pub const MEMBER_ROLE: &str = "linkspan-member";
/// Prefix of what a join token consists of.
pub const JOIN_PREFIX: &str = "join-";
/// Prefix of the Role by which a Member keeps its own credential.
const CREDENTIAL_PREFIX: &str = "credential-";
/// Annotation of a `join-<id>` ServiceAccount: when its token expires (RFC 3339).
pub(super) const ANNOTATION_EXPIRES: &str = "linkspan.dev/expires";

/// Label of `join-<id>` ConfigMaps, by which the policy finds them.
const LABEL_JOIN: &str = "linkspan.dev/join";
/// Key of the nonce in a `join-<id>` ConfigMap.
pub(super) const NONCE_KEY: &str = "nonce";
/// Annotation with the nonce, on the request for a credential.
pub(super) const ANNOTATION_NONCE: &str = "linkspan.dev/nonce";

const RBAC: &str = "rbac.authorization.k8s.io";

/// Name of the Member's ServiceAccount, of its RoleBinding, and of its Lease.
pub fn member(cluster: &ClusterId) -> String {
    format!("{MEMBER_ACCOUNT_PREFIX}{cluster}")
}

/// Name of the join token's ServiceAccount, Role and RoleBinding.
pub fn join(cluster: &ClusterId) -> String {
    format!("{JOIN_PREFIX}{cluster}")
}

/// Name of the Role and RoleBinding by which the Member keeps its credential.
pub fn credential(cluster: &ClusterId) -> String {
    format!("{CREDENTIAL_PREFIX}{cluster}")
}

/// Metadata of an object of the Member.
pub(super) fn metadata(cluster: &ClusterId, name: String, owner: Option<&ServiceAccount>) -> ObjectMeta {
    let labels = [(LABEL_CLUSTER, cluster.as_str()), (LABEL_MANAGED_BY, MANAGED_BY)];
    let owner = owner.map(|account| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: account.name_any(),
        uid: account.uid().unwrap_or_default(),
        ..OwnerReference::default()
    });
    ObjectMeta {
        name: Some(name),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// A ServiceAccount without tokens in Secrets.
pub(super) fn account(cluster: &ClusterId, name: String, annotations: &[(&str, String)]) -> ServiceAccount {
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let metadata =
        ObjectMeta { annotations: (!annotations.is_empty()).then_some(annotations), ..metadata(cluster, name, None) };
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}

/// What the Member may do with its own accounts: renew its credential, remove the join token, remove itself.
pub(super) fn credential_role(cluster: &ClusterId, owner: &ServiceAccount) -> Role {
    let (own, join, renew) = (member(cluster), join(cluster), credential(cluster));
    let rules = vec![
        rule("", &["serviceaccounts/token"], std::slice::from_ref(&own), &["create"]),
        rule("", &["serviceaccounts"], &[own.clone(), join.clone()], &["delete"]),
        rule("", &["configmaps"], std::slice::from_ref(&join), &["delete"]),
        rule(RBAC, &["roles", "rolebindings"], &[own, join, renew], &["delete"]),
    ];
    Role { metadata: metadata(cluster, credential(cluster), Some(owner)), rules: Some(rules) }
}

/// What a join token is good for: one credential of its Member, and its own end.
pub(super) fn join_role(cluster: &ClusterId, owner: &ServiceAccount) -> Role {
    let rules = vec![
        rule("", &["configmaps"], &[join(cluster)], &["patch"]),
        rule("", &["serviceaccounts/token"], &[member(cluster)], &["create"]),
        rule(RBAC, &["rolebindings"], &[join(cluster)], &["delete"]),
    ];
    Role { metadata: metadata(cluster, join(cluster), Some(owner)), rules: Some(rules) }
}

/// Where the one who exchanges the token leaves a nonce.
pub(super) fn claim(cluster: &ClusterId, owner: &ServiceAccount) -> ConfigMap {
    let mut metadata = metadata(cluster, join(cluster), Some(owner));
    metadata.labels.get_or_insert_default().insert(LABEL_JOIN.to_owned(), "true".to_owned());
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn rule(group: &str, resources: &[&str], names: &[String], verbs: &[&str]) -> PolicyRule {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(texts(resources)),
        resource_names: Some(names.to_vec()),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

/// Gives `role` to `account`.
pub(super) fn binding(cluster: &ClusterId, name: String, role: &str, account: &ServiceAccount) -> RoleBinding {
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.name_any(),
        namespace: account.namespace(),
        ..Subject::default()
    };
    RoleBinding {
        metadata: metadata(cluster, name, Some(account)),
        role_ref: RoleRef { api_group: RBAC.to_owned(), kind: "Role".to_owned(), name: role.to_owned() },
        subjects: Some(vec![subject]),
    }
}

/// A request for a token that lives so long.
pub(super) fn token_request(lifetime: Duration) -> TokenRequest {
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let spec = TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() };
    TokenRequest { spec, ..TokenRequest::default() }
}
