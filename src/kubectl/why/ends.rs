//! Looks for both ends in a picture.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::parse::{End, What};
use crate::kubectl::picture::facts::{is_ready, node_of, on_host_network, pod_addresses};
use crate::kubectl::picture::{ClusterPicture, Picture, Unseen};

/// Who calls.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    /// Its cluster.
    pub cluster: &'a ClusterPicture,
    /// What it is: `pod default/client`.
    pub label: String,
    /// The pod, when it is one.
    pub pod: Option<&'a Pod>,
    /// Its node.
    pub node: Option<String>,
    /// Its address in its own cluster.
    pub address: Option<IpAddr>,
}

impl Client<'_> {
    /// Whether it sends as the node itself does, and not from a network of its own.
    pub fn is_on_node(&self) -> bool {
        self.pod.is_none_or(on_host_network)
    }
}

/// Who is called.
#[derive(Debug, Clone)]
pub enum Goal<'a> {
    /// A service of the clusterset.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its endpoints of this cluster only.
        cluster: Option<&'a ClusterPicture>,
    },
    /// One address, as the client's cluster sees it.
    Address {
        /// What it is.
        label: String,
        /// The address.
        address: IpAddr,
        /// The cluster in which it was found, or that was named with it.
        cluster: Option<&'a ClusterPicture>,
    },
}

/// An end that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// What is told of it.
    pub text: String,
    /// Whether there may be one that could not be seen.
    pub may_be: bool,
}

impl NotFound {
    /// Everything was seen, and it is not there.
    fn surely(text: String) -> Self {
        Self { text, may_be: false }
    }
}

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Looks for the client.
///
/// # Errors
/// There is none in the clusters that were seen.
pub fn client<'a>(picture: &'a Picture, end: &End, namespace: &str) -> Result<Client<'a>, NotFound> {
    let clusters = clusters(picture, end)?;
    let namespace = end.namespace.as_deref().unwrap_or(namespace);
    for cluster in &clusters {
        let found = match &end.what {
            What::Pod(name) => cluster.pod(namespace, name).map(|pod| of_pod(cluster, pod)),
            What::Deployment(name) => pod_of_deployment(cluster, namespace, name).map(|pod| of_pod(cluster, pod)),
            What::Any(name) => {
                let pod = cluster.pod(namespace, name).or_else(|| pod_of_deployment(cluster, namespace, name));
                pod.map(|pod| of_pod(cluster, pod)).or_else(|| of_node(cluster, name))
            }
            What::Node(name) => of_node(cluster, name),
            What::Address(address) => of_address(cluster, *address),
            What::Service(name) => {
                let text = format!("service {name} is no client: name a pod, a deployment or a node");
                return Err(NotFound::surely(text));
            }
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(missing(&end.what, namespace, &clusters))
}

/// Looks for the goal, as the client sees it.
///
/// # Errors
/// There is none in the clusters that were seen.
pub fn goal<'a>(picture: &'a Picture, from: &Client<'a>, end: &End, namespace: &str) -> Result<Goal<'a>, NotFound> {
    let namespace = end.namespace.as_deref().unwrap_or(namespace);
    let service =
        |name: &str, cluster| Goal::Service { namespace: namespace.to_owned(), name: name.to_owned(), cluster };
    let clusters = clusters(picture, end)?;
    let named = end.cluster.as_ref().and_then(|_| clusters.first().copied());
    if let What::Service(name) = &end.what {
        return Ok(service(name, named));
    }
    if let What::Address(address) = end.what {
        let address = match named {
            Some(there) => seen_from(from, there, address)?,
            None => address,
        };
        return Ok(Goal::Address { label: format!("address {address}"), address, cluster: named });
    }
    for cluster in &clusters {
        let pod = match &end.what {
            What::Pod(name) => cluster.pod(namespace, name),
            What::Deployment(name) => pod_of_deployment(cluster, namespace, name),
            What::Any(name) => cluster.pod(namespace, name).or_else(|| pod_of_deployment(cluster, namespace, name)),
            _ => None,
        };
        let node = || match &end.what {
            What::Node(name) | What::Any(name) => of_node(cluster, name),
            _ => None,
        };
        if let Some(found) = pod.map(|pod| of_pod(cluster, pod)).or_else(node) {
            let without = || NotFound::surely(format!("{} has no address", found.label));
            let address = seen_from(from, cluster, found.address.ok_or_else(without)?)?;
            let label = format!("{} of {}", found.label, cluster.name());
            return Ok(Goal::Address { label, address, cluster: Some(cluster) });
        }
    }
    // A name that is a service.
    if let What::Any(name) = &end.what {
        let known = |cluster: &&ClusterPicture| {
            let import = cluster
                .imports
                .all()
                .iter()
                .any(|import| import.name_any() == *name && import.namespace().as_deref() == Some(namespace));
            import || cluster.service(namespace, name).is_some()
        };
        if picture.clusters.iter().any(|cluster| known(&cluster)) {
            return Ok(service(name, named));
        }
    }
    Err(missing(&end.what, namespace, &clusters))
}

fn seen_from(from: &Client<'_>, there: &ClusterPicture, native: IpAddr) -> Result<IpAddr, NotFound> {
    // Of one that is not used, no address is known here; what is told is why it is not used.
    if std::ptr::eq(from.cluster, there) || there.id().is_some_and(|id| from.cluster.refuses(id)) {
        return Ok(native);
    }
    let called = there.id().map_or(Some(native), |id| from.cluster.calls(id, native));
    called.ok_or_else(|| {
        let text = format!("{} has no virtual address for {native} of {}", from.cluster.name(), there.name());
        NotFound::surely(text)
    })
}

fn clusters<'a>(picture: &'a Picture, end: &End) -> Result<Vec<&'a ClusterPicture>, NotFound> {
    let Some(name) = &end.cluster else { return Ok(picture.clusters.iter().collect()) };
    let unknown = || NotFound::surely(format!("no cluster {name} was named with --context"));
    picture.by_name(name).map(|cluster| vec![cluster]).ok_or_else(unknown)
}

/// Parts of a cluster in which an end may be, where nobody could look into them.
fn blind<'a>(what: &What, namespace: &str, cluster: &'a ClusterPicture) -> Vec<&'a Unseen> {
    let ClusterPicture { pods, nodes, imports, services, .. } = cluster;
    let in_namespace = || [pods.unseen_in(namespace), imports.unseen_in(namespace), services.unseen_in(namespace)];
    let parts = match what {
        What::Any(_) => [&in_namespace()[..], &[nodes.unseen()]].concat(),
        What::Pod(_) | What::Deployment(_) => vec![pods.unseen_in(namespace)],
        What::Node(_) => vec![nodes.unseen()],
        What::Service(_) => vec![imports.unseen_in(namespace)],
        What::Address(_) => vec![pods.unseen(), nodes.unseen()],
    };
    parts.into_iter().flatten().collect()
}

fn missing(what: &What, namespace: &str, clusters: &[&ClusterPicture]) -> NotFound {
    let where_to: Vec<&str> = clusters.iter().map(|cluster| cluster.name()).collect();
    let mut why: Vec<&str> =
        clusters.iter().flat_map(|cluster| blind(what, namespace, cluster)).map(|unseen| unseen.why.as_str()).collect();
    why.sort_unstable();
    why.dedup();
    let what = match what {
        What::Any(name) => format!("pod, deployment, service or node {name}"),
        What::Pod(name) => format!("pod {name}"),
        What::Deployment(name) => format!("pod of deployment {name}"),
        What::Node(name) => format!("node {name}"),
        What::Service(name) => format!("service {name}"),
        What::Address(address) => format!("address {address}"),
    };
    let place = format!("in namespace {namespace} of {}", where_to.join(", "));
    match why.as_slice() {
        [] => NotFound::surely(format!("there is no {what} {place}")),
        why => NotFound { text: format!("{what} was not seen {place}: {}", why.join("; ")), may_be: true },
    }
}

fn of_pod<'a>(cluster: &'a ClusterPicture, pod: &'a Pod) -> Client<'a> {
    let node = node_of(pod).map(str::to_owned);
    let own = pod_addresses(pod).next();
    // On its node's network it leaves with the address that the node has among its pods.
    let address = match (&node, on_host_network(pod)) {
        (Some(node), true) => cluster.address_among_pods(node),
        _ => own,
    };
    let label = format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    Client { cluster, label, pod: Some(pod), node, address }
}

fn of_node<'a>(cluster: &'a ClusterPicture, name: &str) -> Option<Client<'a>> {
    cluster.node(name)?;
    let address = cluster.address_among_pods(name);
    Some(Client { cluster, label: format!("node {name}"), pod: None, node: Some(name.to_owned()), address })
}

fn of_address(cluster: &ClusterPicture, address: IpAddr) -> Option<Client<'_>> {
    if let Some(pod) = cluster.pod_by_address(address) {
        return Some(of_pod(cluster, pod));
    }
    let node = cluster.node_of_address(address)?;
    Some(Client { cluster, label: format!("address {address}"), pod: None, node: Some(node), address: Some(address) })
}

/// A pod of a deployment, a ready one rather than another: its ReplicaSet is named after both.
fn pod_of_deployment<'a>(cluster: &'a ClusterPicture, namespace: &str, name: &str) -> Option<&'a Pod> {
    let of_deployment = |pod: &&Pod| {
        let hash = pod.labels().get("pod-template-hash");
        let expected = hash.map(|hash| format!("{name}-{hash}"));
        let mut owners = pod.owner_references().iter();
        pod.namespace().as_deref() == Some(namespace)
            && owners.any(|owner| owner.kind == "ReplicaSet" && Some(&owner.name) == expected.as_ref())
    };
    let mut found: Vec<&Pod> = cluster.pods.all().iter().filter(of_deployment).collect();
    found.sort_by_key(|pod| (!is_ready(pod), pod.name_any()));
    found.first().copied()
}
