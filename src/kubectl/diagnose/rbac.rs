//! Roles of Linkspan, and what the person may not see.

use super::{Check, Fault, Finding};
use crate::kubectl::picture::{ClusterPicture, Part, Picture};

/// What Linkspan's own pods need of `deploy/member`, by kind and name.
const EXPECTED: [&str; 10] = [
    "ClusterRole/linkspan-controller",
    "ClusterRoleBinding/linkspan-controller",
    "Role/linkspan-controller",
    "RoleBinding/linkspan-controller",
    "Role/linkspan-coredns",
    "RoleBinding/linkspan-coredns",
    "ClusterRole/linkspan-node",
    "ClusterRoleBinding/linkspan-node",
    "Role/linkspan-node",
    "RoleBinding/linkspan-node",
];

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let Part::Seen(roles) = &cluster.roles else { return Vec::new() };
    let has = |name: &&&str| roles.iter().any(|role| role == **name);
    let missing: Vec<&str> = EXPECTED.iter().filter(|name| !has(name)).copied().collect();
    if missing.is_empty() {
        return vec![Finding::good(Check::Rbac, cluster, "roles", "all roles and bindings of Linkspan are there")];
    }
    let fault = Fault::failed(
        "MissingRoles",
        format!("missing: {}", missing.join(", ")),
        "Linkspan's pods lack rights that they need",
        "install Linkspan's manifests again: `kubectl apply -k deploy/member`, or `kubectl linkspan join`",
    );
    vec![Finding::bad(Check::Rbac, cluster, "roles", fault)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::install::manifests::Base;

    #[test]
    fn the_manifests_make_what_is_expected() {
        let objects = Base::Member.objects(None).expect("the manifests are inside the program");
        let name = |object: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
        };
        let made: Vec<String> = objects.iter().map(name).collect();
        for expected in EXPECTED {
            assert!(made.iter().any(|made| made == expected), "{expected} is not among {made:?}");
        }
    }
}
