//! NetworkPolicies at both ends of a way.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::Hop;
use super::ends::Client;
use super::flow::Target;
use crate::kubectl::diagnose::Fault;
use crate::kubectl::diagnose::policy::{Direction, Other, Ruling, ruling};
use crate::kubectl::picture::facts::on_host_network;
use crate::kubectl::picture::{ClusterPicture, Unseen};

/// Whether NetworkPolicies have a say in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policies {
    /// None selects either end.
    Free,
    /// One does, or nobody could look.
    Perhaps,
}

/// Whether policies have a say in it; `server` is where the target is, with the address that it has there.
pub(super) fn policies(from: &Client<'_>, server: Option<(&ClusterPicture, IpAddr)>, target: &Target) -> Policies {
    let other = |address| Other { address, port: target.port, protocol: &target.protocol };
    let is_free = |cluster: &ClusterPicture, pod: &Pod, direction| {
        // Of a free pod no address is asked.
        let is_seen = cluster.policies.unseen_in(&pod.namespace().unwrap_or_default()).is_none();
        is_seen && ruling(cluster, pod, direction, &other(target.address)) == Ruling::Free
    };
    let out = governed(from).is_none_or(|pod| is_free(from.cluster, pod, Direction::Egress));
    let inward = server.is_some_and(|(far, native)| match far.pod_by_address(native) {
        Some(pod) => is_free(far, pod, Direction::Ingress),
        None => far.pods.seen().is_some(),
    });
    if out && inward { Policies::Free } else { Policies::Perhaps }
}

/// The client as policies know it: not as a node, nor as a pod on the network of one.
fn governed<'a>(from: &Client<'a>) -> Option<&'a Pod> {
    from.pod.filter(|pod| !on_host_network(pod))
}

/// What policies say of the client's side.
pub(super) fn egress(from: &Client<'_>, target: &Target) -> Option<Hop> {
    let pod = governed(from)?;
    let other = Other { address: target.address, port: target.port, protocol: &target.protocol };
    policy_hop(from.cluster, pod, Direction::Egress, &other)
}

/// What the policies of a cluster say of a connection of one of its pods.
pub(super) fn policy_hop(cluster: &ClusterPicture, pod: &Pod, direction: Direction, other: &Other<'_>) -> Option<Hop> {
    let (here, what) = (cluster.name(), format!("NetworkPolicies ({direction:?})"));
    let namespace = pod.namespace().unwrap_or_default();
    if let Some(unseen) = cluster.policies.unseen_in(&namespace) {
        return Some(Hop::unseen(here, what, unseen.why.clone()));
    }
    let ruling = ruling(cluster, pod, direction, other);
    if let (Ruling::Dropped(_), Some(unseen)) = (&ruling, hidden(cluster, other.address)) {
        return Some(Hop::unseen(here, what, unseen.why.clone()));
    }
    let (address, pod) = (other.address, format!("{namespace}/{}", pod.name_any()));
    Some(match ruling {
        Ruling::Free => Hop::good(here, what, format!("none selects {pod}")),
        Ruling::Allowed(policy) => Hop::good(here, what, format!("{policy} lets it through")),
        Ruling::Dropped(policies) => {
            let port = other.port.map_or_else(String::new, |port| format!(" {} port {port}", other.protocol));
            let (way, rule) = match direction {
                Direction::Ingress => ("from", "ingress"),
                Direction::Egress => ("to", "egress"),
            };
            let evidence =
                format!("{} select pod {pod}, and none lets{port} {way} {address} through", policies.join(", "));
            let fix = format!(
                "add an {rule} rule with ipBlock {{ cidr: {address}/{} }}, or the prefix of its pods, to one of them",
                bits(address)
            );
            let cause = "a NetworkPolicy drops it: it knows addresses of other clusters by ipBlock only".to_owned();
            Hop::bad(here, what, Fault::failed("PolicyDrops", evidence, cause, fix))
        }
    })
}

/// What policies may mean a pod of their own cluster by, where nobody could look at it.
fn hidden(cluster: &ClusterPicture, address: IpAddr) -> Option<&Unseen> {
    let place = cluster.place(address);
    let is_elsewhere = place.is_some_and(|place| place.cluster != cluster.name());
    cluster.pods.unseen().or(cluster.namespaces.unseen()).filter(|_| !is_elsewhere)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
