//! What a picture says about single things: pure look-ups, without any judgement.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use controller::api::names::{LEASE_GATEWAY, SYSTEM_NAMESPACE};
use controller::api::{GatewayNode, Member};
use controller::members::{Claim, ClusterId, Verdicts, View, addresses, judge};
use ipnet::IpNet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};

use super::{ClusterPicture, NodePicture, Part, Picture, Unseen};
use crate::kubectl::inspect::Inspection;
use crate::status::{PeerReport, Report, TunnelReport};

/// Label of Linkspan's own pods.
const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Which of them it is.
const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// ID of the cluster.
    pub cluster: String,
    /// The address that it has there.
    pub native: IpAddr,
}

/// What a cluster makes of all Members. With hundreds of them it takes long to find, and everything asks for it.
#[derive(Debug)]
pub struct Known {
    /// What it makes of each.
    pub verdicts: Verdicts,
    /// What each of them claims, whether it is used or not.
    claims: BTreeMap<String, Claim>,
    /// The other clusters that it uses.
    others: Vec<String>,
}

/// A pod by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Picture {
    /// The cluster of an ID, where it was asked.
    pub fn by_id(&self, id: &str) -> Option<&ClusterPicture> {
        self.clusters.iter().find(|cluster| cluster.id() == Some(id))
    }

    /// The cluster that a person names, by context or ID.
    pub fn by_name(&self, name: &str) -> Option<&ClusterPicture> {
        self.clusters.iter().find(|cluster| cluster.context == name).or_else(|| self.by_id(name))
    }
}

impl ClusterPicture {
    /// A cluster of which nothing was seen.
    pub fn dark(context: &str, why: &str) -> Self {
        Self {
            context: context.to_owned(),
            server: unseen("the API server", why),
            id: unseen("the cluster ID", why),
            configs: unseen("configmaps", why),
            members: unseen("members", why),
            gateways: unseen("gatewaynodes", why),
            leases: unseen("leases", why),
            records: unseen("servicerecords", why),
            exports: unseen("serviceexports", why),
            imports: unseen("serviceimports", why),
            nodes: unseen("nodes", why),
            namespaces: unseen("namespaces", why),
            pods: unseen("pods", why),
            services: unseen("services", why),
            slices: unseen("endpointslices", why),
            policies: unseen("networkpolicies", why),
            roles: unseen("roles", why),
            inspections: BTreeMap::new(),
            known: None,
        }
    }

    /// Whether nothing at all of it could be seen.
    pub fn is_dark(&self) -> bool {
        let Self { server, members, pods, nodes, .. } = self;
        server.seen().is_none() && members.seen().is_none() && pods.seen().is_none() && nodes.seen().is_none()
    }

    /// Its ID, when it has one and it was seen.
    pub fn id(&self) -> Option<&str> {
        self.id.seen()?.as_deref()
    }

    /// What it is called in findings: its ID, or else its context.
    pub fn name(&self) -> &str {
        self.id().unwrap_or(&self.context)
    }

    /// The ID in ConfigMap `linkspan`.
    pub(super) fn configured_id(&self) -> Option<String> {
        let config = self.configs.seen()?.get(&format!("{SYSTEM_NAMESPACE}/linkspan"))?;
        config.data.as_ref()?.get("LINKSPAN_CLUSTER_ID").filter(|id| !id.is_empty()).cloned()
    }

    // === Members ===

    /// A Member as this cluster knows it.
    pub fn member(&self, id: &str) -> Option<&Member> {
        named(self.members.all(), id)
    }

    /// Whether another cluster names nobody who could be called. Nodes then plan no routes to it.
    pub(crate) fn is_without_gateway(&self, id: &str) -> bool {
        self.member(id).is_some_and(|member| member.spec.gateways.is_empty())
    }

    /// What this cluster says of itself.
    pub fn own_member(&self) -> Option<&Member> {
        self.member(self.id()?)
    }

    /// What a Member claims, as this cluster knows it.
    pub fn claim(&self, id: &str) -> Option<Claim> {
        match &self.known {
            Some(known) => known.claims.get(id).cloned(),
            None => Claim::check(self.member(id)?).ok(),
        }
    }

    /// Finds what follows from its ID, its Members and its nodes once and for all. Whoever changes one of these afterwards
    /// has to say so again.
    pub fn settle(&mut self) {
        self.known = Some(Arc::new(self.find_out()));
    }

    /// What this cluster makes of all Members.
    pub fn known(&self) -> Arc<Known> {
        self.known.clone().unwrap_or_else(|| Arc::new(self.find_out()))
    }

    fn find_out(&self) -> Known {
        let claim = |member: &Member| Some((member.name_any(), Claim::check(member).ok()?));
        let claims = self.members.all().iter().filter_map(claim).collect();
        let verdicts = self.verdicts();
        let is_used = |(id, verdict): &(&String, &controller::members::Verdict)| {
            Some(id.as_str()) != self.id() && verdict.accepted().is_some()
        };
        let others = verdicts.iter().filter(is_used).map(|(id, _)| id.clone()).collect();
        Known { verdicts, claims, others }
    }

    fn verdicts(&self) -> Verdicts {
        let Some(own) = self.id().and_then(|id| id.parse::<ClusterId>().ok()) else { return Verdicts::new() };
        let underlay: Vec<IpAddr> = self.nodes.all().iter().flat_map(addresses).collect();
        judge(&own, self.members.all(), &underlay)
    }

    /// What this cluster calls an address of a pod of another one.
    pub fn calls(&self, cluster: &str, native: IpAddr) -> Option<IpAddr> {
        let (Some(far), Some(own)) = (self.claim(cluster), self.id().and_then(|id| self.claim(id))) else {
            return Some(native);
        };
        match View::of(&far, &own).table() {
            None => Some(native),
            Some(table) => table.map(native),
        }
    }

    /// Whether it knows another cluster and does not use it.
    pub fn refuses(&self, cluster: &str) -> bool {
        self.known().verdicts.get(cluster).is_some_and(|verdict| verdict.accepted().is_none())
    }

    /// Where an address is, as this cluster sees addresses: its own pods and services first.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let own = self.id()?.to_owned();
        let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        if self.claim(&own).is_some_and(|claim| holds(&claim.pod_cidrs) || holds(&claim.service_cidrs)) {
            return Some(Place { cluster: own, native: address });
        }
        for (id, verdict) in &self.known().verdicts {
            let Some(admitted) = verdict.accepted().filter(|_| *id != own) else { continue };
            if !admitted.routes.iter().any(|net| net.contains(&address)) {
                continue;
            }
            let cluster = id.clone();
            let View::Virtual(blocks) = &admitted.view else { return Some(Place { cluster, native: address }) };
            let pairs = blocks.iter().map(|block| (block.r#virtual, block.native));
            let back = tunnel::packet::translate::Table::build(pairs);
            return Some(Place { cluster, native: back.map(address).unwrap_or(address) });
        }
        None
    }

    // === Nodes and gateways ===

    /// Names of all nodes; where the person may not list them, of those that run Linkspan.
    pub fn node_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self.nodes.seen() {
            Some(nodes) => nodes.iter().map(Node::name_any).collect(),
            None => self.pods_of("node").filter_map(node_of).map(str::to_owned).collect(),
        };
        names.sort();
        names.dedup();
        names
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        named(self.nodes.all(), name)
    }

    /// The node whose pods an address is among.
    pub fn node_of_address(&self, address: IpAddr) -> Option<String> {
        if let Some(pod) = self.pod_by_address(address) {
            return node_of(pod).map(str::to_owned);
        }
        let has = |node: &&Node| {
            let cidrs = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
            let mut nets = cidrs.filter_map(|text| text.parse::<IpNet>().ok());
            nets.any(|net| net.contains(&address)) || addresses(node).any(|own| own == address)
        };
        self.nodes.all().iter().find(has).map(Node::name_any)
    }

    /// A Lease of Linkspan.
    pub fn lease(&self, name: &str) -> Option<&Lease> {
        named(self.leases.all(), name)
    }

    /// The node that carries the traffic to other clusters: the holder of the gateway Lease. Where nobody may see Leases,
    /// the GatewayNode that says so of itself.
    pub fn active_gateway(&self) -> Option<String> {
        if self.leases.unseen().is_some() {
            let says = |gateway: &&GatewayNode| gateway.status.as_ref().is_some_and(|status| status.active);
            return self.gateways.all().iter().find(says).map(GatewayNode::name_any);
        }
        let holder = self.lease(LEASE_GATEWAY)?.spec.as_ref()?.holder_identity.clone();
        holder.filter(|holder| !holder.is_empty())
    }

    /// What the gateway of a node tells.
    pub fn gateway(&self, node: &str) -> Option<&GatewayNode> {
        named(self.gateways.all(), node)
    }

    /// What a node told.
    pub fn asked(&self, node: &str) -> Option<&NodePicture> {
        self.inspections.get(node)?.seen()
    }

    /// What the process of a node told.
    pub fn status(&self, node: &str) -> Option<&Report> {
        self.asked(node)?.status.seen()
    }

    /// What the kernel of a node has.
    pub fn inspection(&self, node: &str) -> Option<&Inspection> {
        self.asked(node).map(|asked| &asked.inspection)
    }

    /// The tunnel device of the active gateway.
    pub fn tunnel(&self) -> Option<&TunnelReport> {
        self.status(&self.active_gateway()?)?.tunnel.as_ref()
    }

    /// How the active gateway sees another cluster.
    pub fn peer(&self, cluster: &str) -> Option<&PeerReport> {
        self.tunnel()?.peers.iter().find(|peer| peer.name == cluster)
    }

    /// The other clusters that this one uses.
    pub fn others(&self) -> Vec<String> {
        self.known().others.clone()
    }

    // === Pods and services ===

    /// Linkspan's own pods of one component: `node`, `controller` or `dns`.
    pub fn pods_of(&self, component: &str) -> impl Iterator<Item = &Pod> {
        self.pods.all().iter().filter(move |pod| {
            let is = |label: &str, value: &str| pod.labels().get(label).is_some_and(|found| found == value);
            pod.metadata.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
                && is(LABEL_NAME, "linkspan")
                && is(LABEL_COMPONENT, component)
        })
    }

    /// The `linkspan-node` pod of a node, a running one rather than another.
    pub fn node_pod(&self, node: &str) -> Option<&Pod> {
        let mut here: Vec<&Pod> = self.pods_of("node").filter(|pod| node_of(pod) == Some(node)).collect();
        here.sort_by_key(|pod| (!is_running(pod), pod.name_any()));
        here.first().copied()
    }

    /// A pod by its name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        within(self.pods.all(), namespace, name)
    }

    /// The pod that has an address of its own.
    pub fn pod_by_address(&self, address: IpAddr) -> Option<&Pod> {
        let has = |pod: &&Pod| !on_host_network(pod) && !is_over(pod) && pod_addresses(pod).any(|own| own == address);
        self.pods.all().iter().find(has)
    }

    /// A service by its name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        within(self.services.all(), namespace, name)
    }
}

/// The object of a name. Names are compared where they are: there are thousands of objects, and each is asked for often.
fn named<'a, K: Resource>(objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(name))
}

/// The object of a name in a namespace.
pub(crate) fn within<'a, K: Resource>(objects: &'a [K], namespace: &str, name: &str) -> Option<&'a K> {
    let is = |meta: &ObjectMeta| meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace);
    objects.iter().find(|object| is(object.meta()))
}

fn unseen<T>(what: &str, why: &str) -> Part<T> {
    Part::Unseen(Unseen { what: what.to_owned(), why: why.to_owned() })
}

/// The node of a pod.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Whether a pod shares its node's network.
pub fn on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// `Running`, `Pending` and so on.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

/// Whether a pod has done its work and will not run again.
pub fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether a pod runs and is not about to go.
pub fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none()
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    is_running(pod) && conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "True")
}

/// All addresses of a pod.
pub fn pod_addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
    let first = status.and_then(|status| status.pod_ip.as_deref());
    let mut found: Vec<IpAddr> = all.chain(first).filter_map(|text| text.parse().ok()).collect();
    found.sort();
    found.dedup();
    found.into_iter()
}
