//! Whether kube-proxy carries the clusterset IPs on every node.

use super::{Check, Fault, Finding};
use crate::kubectl::inspect::ServiceSeen;
use crate::kubectl::picture::{ClusterPicture, Picture, Unseen};

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in cluster.node_names() {
        let Some(seen) = cluster.inspection(&node) else { continue };
        if let Some(blind) = seen.services.iter().find(|service| service.programmed.is_none()) {
            let unseen = Unseen { what: format!("kube-proxy on node {node}"), why: blind.by.clone() };
            findings.push(Finding::unseen(Check::KubeProxy, cluster, &unseen));
            continue;
        }
        let object = format!("node/{node}");
        let faults: Vec<Fault> = seen.services.iter().filter_map(service_fault).collect();
        let known = seen.services.iter().filter(|service| service.programmed == Some(true)).count();
        if let (true, Some(first)) = (faults.is_empty(), seen.services.first()) {
            let evidence = format!("{known} of {} clusterset IPs are known to {}", seen.services.len(), first.by);
            findings.push(Finding::good(Check::KubeProxy, cluster, &object, evidence));
        }
        findings.extend(faults.into_iter().map(|fault| Finding::bad(Check::KubeProxy, cluster, &object, fault)));
    }
    findings
}

/// What is the matter with one clusterset IP on a node; nothing where kube-proxy cannot be looked at.
pub(crate) fn service_fault(seen: &ServiceSeen) -> Option<Fault> {
    if seen.programmed != Some(false) {
        return None;
    }
    let evidence = format!("clusterset IP {} is not among what kube-proxy has written ({})", seen.address, seen.by);
    Some(Fault::failed(
        "VipNotProgrammed",
        evidence,
        "kube-proxy of this node does not carry the clusterset IP: it hangs, or does not see Services and EndpointSlices",
        "see that kube-proxy runs on this node (on K3s as part of k3s), and its log",
    ))
}
