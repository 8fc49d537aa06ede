//! Whose address servers and rules see: of pods, of pods on the host network, and of nodes, by service and by address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use testbed::{Cluster, Node, Run, stock};

use crate::joined::{CLUSTERS, Joined, eventually, once_coredns_knows};
use crate::pods;

/// A service of berlin alone, in both families.
pub const BOTH: &str = "both";
/// A pod on the host network of paris' second node.
const HOST: &str = "on-the-host";

/// By clusterset IP and by name, in both families; the server sees an address among the client's node's pods.
pub fn nodes_and_host_pods_reach_services(joined: &mut Joined) -> Result<()> {
    let (berlin, paris) = (joined.cluster("berlin")?, joined.cluster("paris")?);
    berlin.apply(&format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: {BOTH}, namespace: default }}, \
         spec: {{ ipFamilyPolicy: PreferDualStack, selector: {{ app: web }}, ports: [{{ name: http, port: 80 }}] }} }}"
    ))?;
    joined.linkspan("berlin", &["export", BOTH, "-n", "default"])?.done()?;
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        let ips = eventually(|| clusterset_ips(cluster, BOTH))?;
        for (client, ip) in cluster.nodes.iter().flat_map(|client| ips.iter().map(move |ip| (client, *ip))) {
            let seen = eventually(|| read_from_node(client, ip, "cgi-bin/from"))?.parse()?;
            among_pods(cluster, &client.name, seen)?;
        }
    }
    start_on_host(paris)?;
    for family in ["-4", "-6"] {
        let url = format!("http://{BOTH}.default.svc.clusterset.local/cgi-bin/from");
        let curl = ["curl", family, "-sS", "--fail", "--max-time", "5", &url];
        let seen = once_coredns_knows(|| paris.exec("default", HOST, &curl))?;
        among_pods(paris, "paris-2", seen.trim().parse()?)?;
    }
    paris.kubectl(["delete", "pod", HOST, "--now"])?.done()
}

/// The clusterset IPs of a service of both families.
pub fn clusterset_ips(cluster: &Cluster, service: &str) -> Result<Vec<IpAddr>> {
    let said = cluster.kubectl(["get", "serviceimport", service, "-o", "jsonpath={.spec.ips[*]}"])?.stdout()?;
    let ips: Vec<IpAddr> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(ips.len() == 2, "{service} has {ips:?} for both families in {}", cluster.spec.name);
    Ok(ips)
}

/// What a node reads from a pod of the test, without the line end.
pub fn read_from_node(node: &Node, address: IpAddr, path: &str) -> Result<String> {
    let url = format!("http://{}/{path}", pods::host(address));
    let said = node.inside(Run::new("curl", ["-sS", "--fail", "--max-time", "5", &url]))?.stdout();
    Ok(said.with_context(|| format!("node {} reads {url}", node.name))?.trim().to_owned())
}

/// Whether an address is of the prefixes of a node's pods.
fn among_pods(cluster: &Cluster, node: &str, seen: IpAddr) -> Result<()> {
    let said = cluster.kubectl(["get", "node", node, "-o", "jsonpath={.spec.podCIDRs[*]}"])?.stdout()?;
    let nets: Vec<IpNet> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(nets.iter().any(|net| net.contains(&seen)), "{node} was seen as {seen}, which is not among {nets:?}");
    Ok(())
}

fn start_on_host(cluster: &Cluster) -> Result<()> {
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": HOST, "namespace": "default" },
        "spec": {
            "nodeName": "paris-2", "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet",
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "client", "image": stock::TOOLS, "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "exec sleep 3600"],
            }],
        },
    });
    cluster.apply(&pod.to_string())?;
    cluster.wait_pod("default", HOST, Duration::from_secs(300))
}

/// Does on a server's node what enforcers of NetworkPolicies do with an `ipBlock`: it lets one client of the other cluster
/// in, by the address of its pod, and no other. flannel enforces none itself.
pub fn rules_for_pods_of_another_cluster_see_their_addresses(joined: &mut Joined) -> Result<()> {
    let (paris, berlin) = (joined.cluster("paris")?, joined.cluster("berlin")?);
    let server = berlin.node("berlin-2")?;
    let url = format!("http://{}/", pods::address(berlin, "berlin-2")?);
    let clients = ["paris-1", "paris-2"];
    for allowed in clients {
        let rule = format!(
            "table ip enforcer {{ chain forward {{ type filter hook forward priority 0; \
             ip daddr {} ip saddr != {} tcp dport 80 ct state new drop; }}; }}",
            pods::address(berlin, "berlin-2")?,
            pods::address(paris, allowed)?
        );
        server.inside(Run::new("nft", ["-f", "-"]))?.input(rule).done()?;
        let tried = clients.map(|client| match client == allowed {
            true => (client, eventually(|| pods::read(paris, client, &url))),
            false => (client, pods::read_once(paris, client, &url)),
        });
        server.inside(Run::new("nft", ["delete", "table", "ip", "enforcer"]))?.done()?;
        for (client, said) in tried {
            let is_right = said.is_ok() == (client == allowed);
            ensure!(is_right, "{allowed} alone is let in, and {client} got {said:?}");
        }
    }
    Ok(())
}
