//! Roles of Linkspan, and what the person may not see.

use super::{Check, Fault, Finding};
use crate::kubectl::picture::{ClusterPicture, Part, Picture, Unseen};

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
    let mut findings: Vec<Finding> =
        unseen(cluster).into_iter().map(|unseen| Finding::unseen(Check::Rbac, cluster, unseen)).collect();
    let Part::Seen(roles) = &cluster.roles else { return findings };
    let has = |name: &&&str| roles.iter().any(|role| role == **name);
    let missing: Vec<&str> = EXPECTED.iter().filter(|name| !has(name)).copied().collect();
    if missing.is_empty() {
        findings.push(Finding::good(Check::Rbac, cluster, "roles", "all roles and bindings of Linkspan are there"));
        return findings;
    }
    let fault = Fault::failed(
        "MissingRoles",
        format!("missing: {}", missing.join(", ")),
        "Linkspan's pods lack rights that they need",
        "install Linkspan's manifests again: `kubectl apply -k deploy/member`, or `kubectl linkspan join`",
    );
    findings.push(Finding::bad(Check::Rbac, cluster, "roles", fault));
    findings
}

fn unseen(cluster: &ClusterPicture) -> Vec<&Unseen> {
    let ClusterPicture { server, id, configs, members, gateways, leases, records, .. } = cluster;
    let ClusterPicture { exports, imports, nodes, namespaces, pods, services, slices, policies, roles, .. } = cluster;
    let all = [
        server.unseen(),
        id.unseen(),
        configs.unseen(),
        members.unseen(),
        gateways.unseen(),
        leases.unseen(),
        records.unseen(),
        exports.unseen(),
        imports.unseen(),
        nodes.unseen(),
        namespaces.unseen(),
        pods.unseen(),
        services.unseen(),
        slices.unseen(),
        policies.unseen(),
        roles.unseen(),
    ];
    all.into_iter().flatten().collect()
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
