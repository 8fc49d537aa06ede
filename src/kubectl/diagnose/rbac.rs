//! Roles of Linkspan, and what the person may not see.

use std::sync::LazyLock;

use serde_json::Value;

use super::{Check, Fault, Finding};
use crate::kubectl::install::manifests::Base;
use crate::kubectl::picture::{ClusterPicture, Part, Picture};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let Part::Seen(roles) = &cluster.roles else { return Vec::new() };
    let missing: Vec<&str> = EXPECTED.iter().filter(|name| !roles.contains(name)).map(String::as_str).collect();
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

/// Read once, and not for each of many clusters.
static EXPECTED: LazyLock<Vec<String>> = LazyLock::new(expected);

/// The roles and bindings of `deploy/member`, by kind and name; without those for people, which nothing needs.
fn expected() -> Vec<String> {
    const KINDS: [&str; 4] = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let objects = Base::Member.objects(None).expect("the manifests are inside the program: a test parses them");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = |object: &Value| (text(&object["kind"]), text(&object["metadata"]["name"]));
    let for_people = ["linkspan-diagnose", "linkspan-edit", "linkspan-viewer"];
    let needed =
        |(kind, name): &(String, String)| KINDS.contains(&kind.as_str()) && !for_people.contains(&name.as_str());
    objects.iter().map(named).filter(needed).map(|(kind, name)| format!("{kind}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_linkspan_needs_its_roles() {
        let expected = expected();
        for part in ["controller", "dns", "node"] {
            for kind in ["ClusterRole", "ClusterRoleBinding"] {
                assert!(expected.contains(&format!("{kind}/linkspan-{part}")), "{kind} of {part}: {expected:?}");
            }
        }
        assert!(expected.contains(&"RoleBinding/linkspan-coredns".to_owned()), "{expected:?}");
        assert!(
            !expected.iter().any(|name| ["view", "edit", "diagnose"].iter().any(|of| name.contains(of))),
            "{expected:?}"
        );
    }
}
