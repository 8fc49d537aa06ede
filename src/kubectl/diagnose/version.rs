//! Versions of everything: within a cluster, between clusters, and of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use controller::api::MemberSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{Check, Fault, Finding};
use crate::kubectl::picture::{ClusterPicture, Picture};

/// Minor versions that work together, on either side.
const SKEW: u64 = 2;
/// Oldest minor version of Kubernetes 1: that of the charts' `kubeVersion`.
const KUBERNETES: u64 = 31;

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(within(cluster));
    let own = cluster.own_member().map(|member| spoken(&member.spec));
    for member in cluster.members.all().iter().filter(|member| Some(member.name_any().as_str()) != cluster.id()) {
        let Some(own) = &own else { break };
        let object = format!("cluster/{}", member.name_any());
        let theirs = spoken(&member.spec);
        match between(own, &theirs, cluster.name(), &member.name_any()) {
            Some(fault) => findings.push(Finding::bad(Check::Version, cluster, object, fault)),
            None => findings.push(Finding::good(
                Check::Version,
                cluster,
                object,
                format!("{} and {} work together", theirs.version, own.version),
            )),
        }
    }
    findings.extend(kubernetes(cluster));
    findings
}

/// Pods of one cluster that are not of one version: normal while it is upgraded.
fn within(cluster: &ClusterPicture) -> Option<Finding> {
    let mut images: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for component in ["controller", "dns", "node"] {
        for image in cluster.pods_of(component).flat_map(images_of) {
            images.entry(image).or_default().insert(component);
        }
    }
    let versions: BTreeSet<&str> = cluster
        .node_names()
        .iter()
        .filter_map(|node| cluster.status(node))
        .map(|status| status.version.as_str())
        .collect();
    if images.len() <= 1 && versions.len() <= 1 {
        return None;
    }
    let told = |(image, components): (&String, &BTreeSet<&str>)| {
        format!("{image} ({})", components.iter().copied().collect::<Vec<_>>().join(", "))
    };
    let mut evidence = images.iter().map(told).collect::<Vec<_>>().join("; ");
    if versions.len() > 1 {
        evidence = format!("{evidence}; nodes say {}", versions.into_iter().collect::<Vec<_>>().join(", "));
    }
    let cause = "Linkspan's pods in this cluster are of several versions: an upgrade is under way, or has stopped";
    let fault =
        Fault::warning("MixedVersions", evidence, cause, "see `kubectl rollout status` of Linkspan's workloads");
    Some(Finding::bad(Check::Version, cluster, "cluster", fault))
}

fn images_of(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter_map(|container| container.image.clone()).collect()
}

/// What a cluster runs, and which protocols it speaks.
struct Spoken<'a> {
    version: &'a str,
    oldest: u32,
    newest: u32,
}

fn spoken(spec: &MemberSpec) -> Spoken<'_> {
    let newest = spec.protocol;
    Spoken { version: &spec.version, oldest: spec.min_protocol.unwrap_or(newest), newest }
}

/// Two clusters that may be too far apart.
fn between(own: &Spoken<'_>, other: &Spoken<'_>, near: &str, far: &str) -> Option<Fault> {
    let evidence = format!(
        "{near} runs {} (protocol {}), {far} runs {} (protocol {})",
        own.version, own.newest, other.version, other.newest
    );
    let (reason, fix) = ("VersionSkew", format!("upgrade the older one: up to {SKEW} minor versions work together"));
    if own.oldest > other.newest || other.oldest > own.newest {
        let cause = "their gateways speak different protocols, so that neither uses the other";
        return Some(Fault::failed(reason, evidence, cause, fix));
    }
    let (Some(a), Some(b)) = (parse(own.version), parse(other.version)) else { return None };
    let apart = if a.0 == b.0 { a.1.abs_diff(b.1) } else { u64::MAX };
    if apart > SKEW {
        let cause = "their versions are further apart than those that are tested together";
        return Some(Fault::failed(reason, evidence, cause, fix));
    }
    None
}

/// Major and minor number of a version: `v1.34.4+k3s1`, `0.1.0`.
fn parse(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn kubernetes(cluster: &ClusterPicture) -> Option<Finding> {
    let version = &cluster.server.seen()?.version;
    let (major, minor) = parse(version)?;
    if (major, minor) >= (1, KUBERNETES) {
        return Some(Finding::good(Check::Version, cluster, "kubernetes", version.clone()));
    }
    let cause = "policies that keep clusters and nodes apart need a newer Kubernetes";
    let fix = format!("upgrade to Kubernetes 1.{KUBERNETES} or later");
    let fault = Fault::failed("OldKubernetes", version.clone(), cause, fix);
    Some(Finding::bad(Check::Version, cluster, "kubernetes", fault))
}
