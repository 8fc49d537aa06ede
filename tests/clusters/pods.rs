//! Pods of the test: on every node one that serves and asks.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testbed::{Cluster, stock};

/// Serves its own name at `/`, at `/cgi-bin/from` the address that asked, and at `/cgi-bin/slow` a line a second; at port
/// 8080 the same, but for [`AT_8080`] behind the name.
const SERVE: &str = r#"mkdir -p /tmp/www/cgi-bin
hostname > /tmp/www/index.html
printf '#!/bin/sh\necho; echo "$REMOTE_ADDR" | sed "s/^\\[//; s/\\]$//; s/^::ffff://"\n' > /tmp/www/cgi-bin/from
printf '#!/bin/sh\necho; for i in $(seq 3600); do echo "$i"; sleep 1; done\n' > /tmp/www/cgi-bin/slow
chmod +x /tmp/www/cgi-bin/*
cp -r /tmp/www /tmp/other
echo "$(hostname) at 8080" > /tmp/other/index.html
httpd -p [::]:8080 -h /tmp/other
exec httpd -f -p [::]:80 -h /tmp/www"#;
/// What is behind a pod's name where it is asked at its other port.
pub const AT_8080: &str = " at 8080";

/// What does not come in time is asked for again: a busy machine takes longer. Who is refused does not ask again.
const AGAIN: [&str; 4] = ["--retry", "2", "--retry-delay", "1"];

/// The pod of a node: `on-paris-1`.
pub fn name(node: &str) -> String {
    format!("on-{node}")
}

/// A domain of the site, which many hosts have in their search lists, and pods by that.
pub const SITE: &str = "site.example";

/// Starts a pod on every node, with the label `app: web`, and with [`SITE`] at the end of its search list.
///
/// # Errors
/// One does not become ready.
pub fn start(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name(&node.name), "namespace": "default", "labels": { "app": "web" } },
            "spec": {
                "nodeName": node.name, "terminationGracePeriodSeconds": 0, "dnsConfig": { "searches": [SITE] },
                "containers": [{
                    "name": "web", "image": stock::TOOLS, "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-c", SERVE],
                    "readinessProbe": { "tcpSocket": { "port": 80 }, "periodSeconds": 1 },
                }],
            },
        });
        cluster.apply(&pod.to_string())?;
    }
    cluster.nodes.iter().try_for_each(|node| cluster.wait_pod("default", &name(&node.name), Duration::from_secs(300)))
}

/// The address of a node's pod.
///
/// # Errors
/// It has none.
pub fn address(cluster: &Cluster, node: &str) -> Result<String> {
    Ok(addresses(cluster, node)?[0].to_string())
}

/// The addresses of a node's pod in all families, that of [`address`] first.
///
/// # Errors
/// It has none.
pub fn addresses(cluster: &Cluster, node: &str) -> Result<Vec<IpAddr>> {
    let path = "jsonpath={.status.podIPs[*].ip}";
    let said = cluster.kubectl(["get", "pod", &name(node), "-o", path])?.stdout()?;
    ensure!(!said.is_empty(), "pod {} has no address", name(node));
    said.split_whitespace().map(|text| text.parse().with_context(|| format!("{text} is no address"))).collect()
}

/// What a node's pod reads at a URL, without the line end.
///
/// # Errors
/// Nothing within 5 s, three times.
pub fn read(cluster: &Cluster, node: &str, url: &str) -> Result<String> {
    curl(cluster, node, &[&AGAIN[..], &[url]].concat())
}

/// As [`read`], asked once: where there shall be no answer.
///
/// # Errors
/// Nothing within 5 s.
pub fn read_once(cluster: &Cluster, node: &str, url: &str) -> Result<String> {
    curl(cluster, node, &[url])
}

/// As [`read`], over one family: `-4` or `-6`.
///
/// # Errors
/// Nothing within 5 s, three times.
pub fn read_over(cluster: &Cluster, node: &str, family: &str, url: &str) -> Result<String> {
    curl(cluster, node, &[&AGAIN[..], &[family, url]].concat())
}

fn curl(cluster: &Cluster, node: &str, words: &[&str]) -> Result<String> {
    let command = [&["curl", "-sS", "--fail", "--max-time", "5"], words].concat();
    let said = cluster.exec("default", &name(node), &command);
    Ok(said.with_context(|| format!("pod {} reads {}", name(node), words.join(" ")))?.trim().to_owned())
}

/// An address as a URL has it.
pub fn host(address: IpAddr) -> String {
    if address.is_ipv4() { address.to_string() } else { format!("[{address}]") }
}

/// The addresses that a node's pod finds for a name in records of a type, `A` or `AAAA`, sorted.
///
/// # Errors
/// `dig` fails.
pub fn resolve(cluster: &Cluster, node: &str, host: &str, kind: &str) -> Result<Vec<String>> {
    let said = cluster.exec("default", &name(node), &["dig", "+short", "+time=5", "+tries=3", host, kind])?;
    // In between, dig tells what it has asked for in vain.
    let mut found: Vec<String> = said.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
    found.sort();
    Ok(found)
}
