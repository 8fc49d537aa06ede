//! Looks for both ends in a picture.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;

use super::parse::{End, Host, What};
use crate::kubectl::diagnose::firewall::backends;
use crate::kubectl::picture::facts::{is_ready, node_of, on_host_network, pod_addresses, within};
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
    /// Its addresses in its own cluster.
    pub addresses: Vec<IpAddr>,
}

impl Client<'_> {
    /// Its address, or the first of several.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    /// The address with which it calls another one.
    pub fn address_to(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|own| own.is_ipv4() == other.is_ipv4())
    }

    /// Whether it sends as the node itself does, and not from a network of its own.
    pub fn is_on_node(&self) -> bool {
        self.pod.is_none_or(on_host_network)
    }
}

/// Who is called.
#[derive(Debug, Clone)]
pub enum Goal<'a> {
    /// A service of the clusterset.
    Service(Called<'a>),
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

/// A service of the clusterset, as it is called.
#[derive(Debug, Clone)]
pub struct Called<'a> {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its endpoints of this cluster only.
    pub cluster: Option<&'a ClusterPicture>,
    /// Its endpoint of this name only.
    pub host: Option<Host>,
    /// Whether it is called by its name, and not by its clusterset IP.
    pub by_name: bool,
}

impl Called<'_> {
    /// Its name in DNS.
    pub fn dns_name(&self) -> String {
        let service = format!("{}.{}.svc.clusterset.local", self.name, self.namespace);
        match &self.host {
            Some(Host { name, cluster }) => format!("{name}.{cluster}.{service}"),
            None => service,
        }
    }

    /// ID of the only cluster whose endpoints are meant.
    pub(super) fn only(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.cluster.as_str()).or_else(|| self.cluster?.id())
    }

    /// The object of this service among those of a kind.
    pub(super) fn among<'a, K: kube::Resource>(&self, objects: &'a [K]) -> Option<&'a K> {
        within(objects, &self.namespace, &self.name)
    }
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
/// There is none in the clusters that were seen, or several.
pub fn client<'a>(picture: &'a Picture, end: &End, namespace: &str) -> Result<Client<'a>, NotFound> {
    let clusters = clusters(picture, end)?;
    let namespace = end.namespace.as_deref().unwrap_or(namespace);
    one_of(&clusters, &end.what, namespace)
}

/// Looks for the goal, as the client sees it. A name that a service has means the service, whatever else has it.
///
/// # Errors
/// There is none in the clusters that were seen, or several.
pub fn goal<'a>(picture: &'a Picture, from: &Client<'a>, end: &End, namespace: &str) -> Result<Goal<'a>, NotFound> {
    let namespace = end.namespace.as_deref().unwrap_or(namespace);
    let clusters = clusters(picture, end)?;
    let cluster = end.cluster.as_ref().and_then(|_| clusters.first().copied());
    let service = |name: &str| {
        let (namespace, name, host) = (namespace.to_owned(), name.to_owned(), end.host.clone());
        Goal::Service(Called { namespace, name, cluster, host, by_name: true })
    };
    match &end.what {
        What::Service(name) => return Ok(service(name)),
        What::Any(name) if is_service(&clusters, namespace, name) => return Ok(service(name)),
        What::Address(address) => return address_goal(from, cluster, *address),
        _ => {}
    }
    let found = one_of(&clusters, &end.what, namespace)?;
    let without = || NotFound::surely(format!("{} has no address", found.label));
    let address = seen_from(from, found.cluster, found.address().ok_or_else(without)?)?;
    let label = format!("{} of {}", found.label, found.cluster.name());
    Ok(Goal::Address { label, address, cluster: Some(found.cluster) })
}

/// Whether any of these clusters has a service of this name, exports it, or imports it.
fn is_service(clusters: &[&ClusterPicture], namespace: &str, name: &str) -> bool {
    clusters.iter().any(|cluster| {
        within(cluster.imports.all(), namespace, name).is_some()
            || within(cluster.exports.all(), namespace, name).is_some()
            || cluster.service(namespace, name).is_some()
    })
}

/// What an address means to the client: a service by its clusterset IP, or whoever has it.
fn address_goal<'a>(
    from: &Client<'a>,
    there: Option<&'a ClusterPicture>,
    address: IpAddr,
) -> Result<Goal<'a>, NotFound> {
    let here = from.cluster;
    if let Some(there) = there.filter(|there| !std::ptr::eq(*there, here)) {
        let address = seen_from(from, there, address)?;
        return Ok(Goal::Address { label: format!("address {address}"), address, cluster: Some(there) });
    }
    let has = |ips: &[String]| ips.iter().any(|ip| ip.parse() == Ok(address));
    if let Some(import) = here.imports.all().iter().find(|import| has(&import.spec.ips)) {
        let (namespace, name) = (import.namespace().unwrap_or_default(), import.name_any());
        return Ok(Goal::Service(Called { namespace, name, cluster: None, host: None, by_name: false }));
    }
    let claim = here.id().and_then(|id| here.claim(id));
    if claim.is_some_and(|claim| claim.service_cidrs.iter().any(|net| net.contains(&address))) {
        return Err(own_service(here, address));
    }
    Ok(Goal::Address { label: format!("address {address}"), address, cluster: there })
}

/// Why nobody follows a clusterset IP that no import has, or another IP of the client's own cluster.
fn own_service(here: &ClusterPicture, address: IpAddr) -> NotFound {
    let name = here.name();
    let has = |service: &&Service| {
        let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        ips.into_iter().any(|ip| ip.parse() == Ok(address))
    };
    if let Some(service) = here.services.all().iter().find(has) {
        let service = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
        let text = format!("{address} is Service {service} of {name} itself: Linkspan has no part in the way to it");
        return NotFound::surely(text);
    }
    match here.imports.unseen().or(here.services.unseen()) {
        Some(unseen) => {
            let text = format!("whose {address} is among the services of {name} was not seen: {}", unseen.why);
            NotFound { text, may_be: true }
        }
        None => NotFound::surely(format!("{address} is among the addresses of services of {name}, and none has it")),
    }
}

/// The one that is meant in these clusters.
fn one_of<'a>(clusters: &[&'a ClusterPicture], what: &What, namespace: &str) -> Result<Client<'a>, NotFound> {
    let mut found: Vec<Client<'a>> = clusters.iter().filter_map(|cluster| find(cluster, what, namespace)).collect();
    // An address is rather a pod's than one of a prefix that has no such pod.
    let is_pod = |found: &Client<'_>| found.pod.is_some();
    let is_sure = |found: &Client<'_>| is_pod(found) || found.cluster.pods.unseen().is_none();
    if matches!(what, What::Address(_)) && found.iter().any(is_pod) && found.iter().all(is_sure) {
        found.retain(is_pod);
    }
    match found.as_slice() {
        [] => Err(missing(what, namespace, clusters)),
        [only] => Ok(only.clone()),
        [first, ..] => {
            let places: Vec<&str> = found.iter().map(|found| found.cluster.name()).collect();
            let text = format!(
                "{} is in {}: write which one is meant, {}/... for example",
                first.label,
                places.join(" and "),
                first.cluster.name()
            );
            Err(NotFound::surely(text))
        }
    }
}

fn find<'a>(cluster: &'a ClusterPicture, what: &What, namespace: &str) -> Option<Client<'a>> {
    let pod = |name: &str| Some(of_pod(cluster, cluster.pod(namespace, name)?));
    let deployment = |name: &str| Some(of_pod(cluster, pod_of_deployment(cluster, namespace, name)?));
    let node = |name: &str| of_node(cluster, name);
    let service = |name: &str| of_service(cluster, namespace, name);
    match what {
        What::Pod(name) => pod(name),
        What::Deployment(name) => deployment(name),
        What::Node(name) => node(name),
        What::Service(name) => service(name),
        What::Any(name) => pod(name).or_else(|| deployment(name)).or_else(|| node(name)).or_else(|| service(name)),
        What::Address(address) => of_address(cluster, *address),
    }
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
    let ClusterPicture { pods, nodes, services, .. } = cluster;
    let in_namespace = || [pods.unseen_in(namespace), services.unseen_in(namespace)];
    let parts = match what {
        What::Any(_) => [&in_namespace()[..], &[nodes.unseen()]].concat(),
        What::Pod(_) | What::Deployment(_) => vec![pods.unseen_in(namespace)],
        What::Node(_) => vec![nodes.unseen()],
        What::Service(_) => vec![pods.unseen_in(namespace), services.unseen_in(namespace)],
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
        What::Service(name) => format!("pod behind service {name}"),
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
    // On its node's network it leaves with the address that the node has among its pods.
    let addresses: Vec<IpAddr> = match (&node, on_host_network(pod)) {
        (Some(node), true) => cluster.address_among_pods(node).into_iter().collect(),
        _ => pod_addresses(pod).collect(),
    };
    let label = format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    Client { cluster, label, pod: Some(pod), node, addresses }
}

fn of_node<'a>(cluster: &'a ClusterPicture, name: &str) -> Option<Client<'a>> {
    cluster.node(name)?;
    let (label, node) = (format!("node {name}"), Some(name.to_owned()));
    let addresses = cluster.address_among_pods(name).into_iter().collect();
    Some(Client { cluster, label, pod: None, node, addresses })
}

fn of_address(cluster: &ClusterPicture, address: IpAddr) -> Option<Client<'_>> {
    if let Some(pod) = cluster.pod_by_address(address) {
        return Some(of_pod(cluster, pod));
    }
    let node = cluster.node_of_address(address)?;
    let label = format!("address {address}");
    Some(Client { cluster, label, pod: None, node: Some(node), addresses: vec![address] })
}

/// A pod that stands behind a service, a ready one rather than another.
fn of_service<'a>(cluster: &'a ClusterPicture, namespace: &str, name: &str) -> Option<Client<'a>> {
    let mut pods = backends(cluster, namespace, name);
    pods.sort_by_key(|pod| (!is_ready(pod), pod.name_any()));
    let found = of_pod(cluster, pods.first()?);
    Some(Client { label: format!("{} behind service {name}", found.label), ..found })
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
