//! What an API server's refusal means to a person.

use std::fmt;

use super::contexts::Target;

/// A right that the person lacks, as the API server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPermission {
    /// `get`, `list`, `create`.
    pub verb: String,
    /// The resource with its group: `members.linkspan.dev`, `pods/exec`.
    pub resource: String,
    /// The namespace; none where it is needed for the whole cluster.
    pub namespace: Option<String>,
}

impl MissingPermission {
    /// Reads a refusal by RBAC; none where `error` is anything else, such as a refusal by an admission policy.
    pub fn of(error: &kube::Error) -> Option<Self> {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::parse(&status.message),
            _ => None,
        }
    }

    /// Reads the message that the API server's authorizers have in common (`ForbiddenReason` of
    /// `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters`): `User "eve" cannot list resource "members" in API group
    /// "linkspan.dev" in the namespace "linkspan-system"`.
    pub fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once(" cannot ")?;
        let (verb, rest) = rest.split_once(" resource ")?;
        let (resource, rest) = quoted(rest)?;
        let group = rest.split_once("in API group ").and_then(|(_, rest)| quoted(rest)).map(|(group, _)| group);
        let namespace = rest.split_once("in the namespace ").and_then(|(_, rest)| quoted(rest)).map(|(name, _)| name);
        let resource = match (group.filter(|group| !group.is_empty()), resource.split_once('/')) {
            (Some(group), Some((kind, part))) => format!("{kind}.{group}/{part}"),
            (Some(group), None) => format!("{resource}.{group}"),
            (None, _) => resource.to_owned(),
        };
        Some(Self { verb: verb.to_owned(), resource, namespace: namespace.map(str::to_owned) })
    }
}

impl fmt::Display for MissingPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing permission: {} {}", self.verb, self.resource)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in the whole cluster"),
        }
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('"')?.split_once('"')
}

/// An API error for people: the permission that is missing, what the server said, or the innermost cause.
pub fn explain(error: &kube::Error) -> String {
    if let Some(missing) = MissingPermission::of(error) {
        return missing.to_string();
    }
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not know who asks: the credential of the kubeconfig has expired or is wrong".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        _ => innermost(error),
    }
}

fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether all further requests would fare the same: the API server was not reached, took too long, or does not know who asks.
pub fn is_cut_off(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 401,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::Auth(_) => true,
        _ => false,
    }
}

/// Whether the object, or its kind, does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A failure that is the same for every further request, and that says nothing of the cluster that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CutOff(String);

/// `failed to WHAT: why`.
pub fn failure(what: &str, error: &kube::Error) -> anyhow::Error {
    let text = format!("failed to {what}: {}", explain(error));
    if is_cut_off(error) { CutOff(text).into() } else { anyhow::anyhow!(text) }
}

/// Names the cluster and its API server, where that was not reached or does not know who asks.
pub fn named(target: &Target, error: anyhow::Error) -> anyhow::Error {
    if !error.chain().any(|cause| cause.is::<CutOff>()) {
        return error;
    }
    let url = target.config.cluster_url.to_string();
    anyhow::anyhow!("{} at {}: {error:#}", target.name, url.trim_end_matches('/'))
}

/// An answer of an API server that a person is told about.
pub trait Told<T> {
    /// `failed to WHAT: why`, where the API server refused or could not be reached.
    ///
    /// # Errors
    /// It did or could not.
    fn told(self, what: &str) -> anyhow::Result<T>;
}

impl<T> Told<T> for Result<T, kube::Error> {
    fn told(self, what: &str) -> anyhow::Result<T> {
        self.map_err(|error| failure(what, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_rbac_names_the_missing_right() {
        let told = |message: &str| MissingPermission::parse(message).map(|missing| missing.to_string());
        let cases = [
            (
                "members.linkspan.dev is forbidden: User \"eve\" cannot list resource \"members\" in API group \
                 \"linkspan.dev\" in the namespace \"linkspan-system\"",
                "missing permission: list members.linkspan.dev in namespace linkspan-system",
            ),
            (
                "nodes is forbidden: User \"system:serviceaccount:a:b\" cannot list resource \"nodes\" in API group \"\" at \
                 the cluster scope",
                "missing permission: list nodes in the whole cluster",
            ),
            (
                "pods \"x\" is forbidden: User \"eve\" cannot create resource \"pods/exec\" in API group \"\" in the \
                 namespace \"linkspan-system\": RBAC: clusterrole \"y\" not found",
                "missing permission: create pods/exec in namespace linkspan-system",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(told(message).as_deref(), Some(expected));
        }
        assert_eq!(told("members.linkspan.dev \"x\" is forbidden: ValidatingAdmissionPolicy 'a' denied request"), None);
    }
}
