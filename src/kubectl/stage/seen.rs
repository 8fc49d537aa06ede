//! What clusters have of the stage.

use std::collections::BTreeMap;
use std::net::IpAddr;

use controller::api::ServiceImport;
use controller::api::names::{LABEL_SERVICE_NAME, LABEL_SOURCE_CLUSTER};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::manifests::{NAMESPACE, SET, headless, service};

/// A test pod in its own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, by which it answers too.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// What one cluster knows of another one's test pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Addresses of the service with a clusterset IP.
    pub ips: Vec<IpAddr>,
    /// Addresses of the pods, by pod: native or virtual ones, as is right for the one that looks.
    pub pods: BTreeMap<String, Vec<IpAddr>>,
}

impl Known {
    /// Whether that is all of `pods`, each by an address of every family that it and the `own` pods have: slices of two
    /// families do not come at once.
    pub fn is_whole(&self, pods: &[Server], own: &[Server]) -> bool {
        let has_like =
            |addresses: &[IpAddr], one: &IpAddr| addresses.iter().any(|other| other.is_ipv4() == one.is_ipv4());
        let is_called = |one: &&IpAddr| own.iter().any(|pod| has_like(&pod.addresses, one));
        let is_known = |pod: &Server| {
            let known = self.pods.get(&pod.name);
            known.is_some_and(|known| pod.addresses.iter().filter(is_called).all(|one| has_like(known, one)))
        };
        !self.ips.is_empty() && pods.iter().all(is_known)
    }
}

/// The test pods, once all of them are ready.
pub async fn running(client: &Client) -> Result<Option<Vec<Server>>, kube::Error> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), NAMESPACE);
    let Some(set) = sets.get_opt(SET).await? else { return Ok(None) };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let is_current = status.observed_generation == set.metadata.generation;
    if !is_current || status.ready_replicas != Some(wanted) || status.updated_replicas.unwrap_or(0) < wanted {
        return Ok(None);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pods = pods.list(&ListParams::default().labels(&format!("app={SET}"))).await?;
    let pods: Vec<Server> = pods.items.iter().map(pod).collect();
    let all = usize::try_from(wanted).is_ok_and(|wanted| pods.len() == wanted);
    Ok(Some(pods).filter(|pods| all && pods.iter().all(|pod| !pod.addresses.is_empty())))
}

fn pod(pod: &Pod) -> Server {
    let status = pod.status.clone().unwrap_or_default();
    let addresses = status.pod_ips.into_iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    Server { name: pod.name_any(), node, addresses }
}

/// What a cluster knows of the test pods of the others.
pub async fn known<'a>(
    client: &Client,
    others: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Known>, kube::Error> {
    let imports: Api<ServiceImport> = Api::namespaced(client.clone(), NAMESPACE);
    let imports = imports.list(&ListParams::default()).await?.items;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let slices = slices.list(&ListParams::default().labels(LABEL_SOURCE_CLUSTER)).await?.items;
    Ok(others.map(|other| (other.to_owned(), of(other, &imports, &slices))).collect())
}

fn of(other: &str, imports: &[ServiceImport], slices: &[EndpointSlice]) -> Known {
    let import = imports.iter().find(|import| import.name_any() == service(other));
    let ips = import.iter().flat_map(|import| &import.spec.ips).filter_map(|ip| ip.parse().ok()).collect();
    let is_of = |slice: &&EndpointSlice| {
        slice.labels().get(LABEL_SERVICE_NAME) == Some(&headless(other))
            && slice.labels().get(LABEL_SOURCE_CLUSTER).map(String::as_str) == Some(other)
    };
    let mut pods: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for endpoint in slices.iter().filter(is_of).flat_map(|slice| &slice.endpoints) {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        let Some(name) = endpoint.hostname.clone().filter(|_| is_ready) else { continue };
        pods.entry(name).or_default().extend(endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    Known { ips, pods }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_known_by_their_host_names_when_they_are_ready() {
        let import: ServiceImport = serde_json::from_value(json!({
            "metadata": { "name": "echo-berlin" },
            "spec": { "type": "ClusterSetIP", "ips": ["10.43.0.9"], "ports": [] },
        }))
        .expect("an import");
        let slice = |service: &str, cluster: &str, endpoints: serde_json::Value| -> EndpointSlice {
            serde_json::from_value(json!({
                "addressType": "IPv4", "endpoints": endpoints,
                "metadata": { "labels": {
                    "multicluster.kubernetes.io/service-name": service,
                    "multicluster.kubernetes.io/source-cluster": cluster,
                } },
            }))
            .expect("a slice")
        };
        let endpoint = |name: &str, ip: &str, ready: bool| json!({ "hostname": name, "addresses": [ip], "conditions": { "ready": ready } });
        let slices = [
            slice("pods-berlin", "berlin", json!([endpoint("probe-0", "100.64.3.5", true)])),
            slice("pods-berlin", "berlin", json!([endpoint("probe-1", "100.64.4.6", false)])),
            slice("echo-berlin", "berlin", json!([endpoint("probe-0", "100.64.3.7", true)])),
            slice("pods-berlin", "rome", json!([endpoint("probe-1", "100.64.9.9", true)])),
        ];
        let known = of("berlin", &[import], &slices);
        assert_eq!(known.ips, ["10.43.0.9".parse::<IpAddr>().expect("an address")]);
        let pods = BTreeMap::from([("probe-0".to_owned(), vec!["100.64.3.5".parse().expect("an address")])]);
        assert_eq!(known.pods, pods);
        let pod = |name: &str, addresses: &[&str]| Server {
            name: name.to_owned(),
            node: String::new(),
            addresses: addresses.iter().map(|ip| ip.parse().expect("an address")).collect(),
        };
        let (both, v4) = (pod("probe-0", &["10.42.0.5", "fd42::5"]), pod("probe-0", &["10.42.0.5"]));
        assert!(known.is_whole(std::slice::from_ref(&v4), std::slice::from_ref(&both)));
        assert!(known.is_whole(std::slice::from_ref(&both), std::slice::from_ref(&v4)), "nobody calls it by IPv6");
        assert!(!known.is_whole(std::slice::from_ref(&both), std::slice::from_ref(&both)), "its IPv6 slice is to come");
        assert!(!known.is_whole(&[v4.clone(), pod("probe-1", &["10.42.1.6"])], &[v4]));
    }
}
