//! Faults of names, exports and policies.

use anyhow::Result;

use super::WEB;
use super::ask::{broken, found};
use super::make::service;
use crate::joined::{CLUSTERS, Joined, deploy};

/// Somebody takes Linkspan's rights to the ConfigMaps of cluster DNS, and what it has written.
pub(super) fn unwire_coredns(joined: &Joined) -> Result<()> {
    let paris = joined.cluster("paris")?;
    paris.kubectl(["delete", "rolebinding", "linkspan-coredns", "-n", "kube-system"])?.done()?;
    paris.kubectl(["delete", "configmap", "coredns-custom", "-n", "kube-system"])?.done()
}

pub(super) fn coredns_not_wired(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster-dns", "CoreDnsNotWired")?;
    found(joined, "paris", "roles", "MissingRoles")?;
    broken(joined, WEB, "paris", "CoreDnsNotWired")
}

pub(super) fn rewire_coredns(joined: &Joined) -> Result<()> {
    joined.cluster("paris")?.kubectl(["apply", "-k", &deploy("member")])?.done()
}

pub(super) fn export_empty(joined: &Joined) -> Result<()> {
    service(joined, "berlin", "empty", "app: nobody", 80)?;
    joined.linkspan("berlin", &["export", "empty", "-n", "default"])?.done()
}

pub(super) fn without_endpoints(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "serviceexport/default/empty", "ExportWithoutEndpoints")?;
    broken(joined, "empty.default.svc.clusterset.local", "berlin", "ExportWithoutEndpoints")
}

pub(super) fn unexport_empty(joined: &Joined) -> Result<()> {
    joined.linkspan("berlin", &["unexport", "empty", "-n", "default"])?.done()
}

pub(super) fn export_torn(joined: &Joined) -> Result<()> {
    for (cluster, port) in [("berlin", 80), ("paris", 81)] {
        service(joined, cluster, "torn", "app: web", port)?;
        joined.linkspan(cluster, &["export", "torn", "-n", "default"])?.done()?;
    }
    Ok(())
}

pub(super) fn in_conflict(joined: &Joined) -> Result<()> {
    found(joined, "paris", "serviceexport/default/torn", "ExportConflict")?;
    broken(joined, "torn.default.svc.clusterset.local", "paris", "ExportConflict")
}

pub(super) fn unexport_torn(joined: &Joined) -> Result<()> {
    CLUSTERS.iter().try_for_each(|cluster| joined.linkspan(cluster, &["unexport", "torn", "-n", "default"])?.done())
}

/// flannel enforces no policies, so that what is told comes from the policies alone.
pub(super) fn add_policy(joined: &Joined) -> Result<()> {
    joined.cluster("berlin")?.apply(
        "{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: { name: own-only, namespace: default }, \
         spec: { podSelector: { matchLabels: { app: web } }, ingress: [{ from: [{ podSelector: {} }] }] } }",
    )
}

pub(super) fn policy_drops(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "serviceexport/default/web", "PolicyDrops")?;
    broken(joined, WEB, "berlin", "PolicyDrops")
}

pub(super) fn remove_policy(joined: &Joined) -> Result<()> {
    joined.cluster("berlin")?.kubectl(["delete", "networkpolicy", "own-only", "-n", "default"])?.done()
}
