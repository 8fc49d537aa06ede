//! How connections are spread over the pods of a service that both clusters export: what kube-proxy of each makes of the
//! policies, paris by iptables and berlin by nftables.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Cluster, wait};

use crate::joined::{CLUSTERS, Joined, eventually};
use crate::pods;

/// The service, whose endpoints are the pods of all nodes.
const SERVICE: &str = "spread";
/// Connections that are made to see how they are shared (mcs.md, row 66), and how many of them each cluster gets at least.
const SHARED: usize = 200;
const SHARE: usize = SHARED / 5;
/// Connections that all get to the same pod. By chance one try in 10^11 would look so with four pods.
const STUCK: usize = 20;
/// How long a client is remembered (mcs.md, row 67).
const AFFINITY: Duration = Duration::from_secs(10);

/// Who answered, how often.
pub type Answers = BTreeMap<String, usize>;

/// Both families of the clusterset IP, from a pod of either cluster.
pub fn row_66_connections_are_shared_by_the_pods_of_all_clusters(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        joined.cluster(name)?.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: {SERVICE}, namespace: default }}, \
             spec: {{ ipFamilyPolicy: PreferDualStack, selector: {{ app: web }}, ports: [{{ name: http, port: 80 }}] }} }}"
        ))?;
        joined.linkspan(name, &["export", SERVICE, "-n", "default"])?.done()?;
    }
    for name in CLUSTERS {
        let hosts = eventually(|| {
            let hosts = hosts(joined.cluster(name)?)?;
            ensure!(hosts.len() == 2, "{name} has {hosts:?} for both families");
            Ok(hosts)
        })?;
        for host in &hosts {
            eventually(|| {
                let answers = answers(joined.cluster(name)?, &client(name), host, SHARED)?;
                shared_by_all(joined, &answers).with_context(|| format!("{host} in {name}: {answers:?}"))
            })?;
        }
    }
    Ok(())
}

fn shared_by_all(joined: &Joined, answers: &Answers) -> Result<()> {
    ensure!(answers.values().sum::<usize>() == SHARED, "not every one of {SHARED} connections was answered");
    for name in CLUSTERS {
        let counts = joined.cluster(name)?.nodes.iter().map(|node| answers.get(&pods::name(&node.name)));
        let counts = counts.collect::<Option<Vec<_>>>().with_context(|| format!("a pod of {name} is left out"))?;
        let share: usize = counts.into_iter().sum();
        ensure!(share >= SHARE, "{name} has {share} of {SHARED}");
    }
    Ok(())
}

/// The affinity is changed while the service is exported; both exports have to have it, or it would be a conflict.
pub fn row_67_a_client_stays_with_its_pod_for_as_long_as_was_asked(joined: &mut Joined) -> Result<()> {
    let affinity = format!(
        "{{\"spec\": {{\"sessionAffinity\": \"ClientIP\", \"sessionAffinityConfig\": {{\"clientIP\": {{\"timeoutSeconds\": \
         {}}}}}}}}}",
        AFFINITY.as_secs()
    );
    CLUSTERS.iter().try_for_each(|name| change(joined.cluster(name)?, &affinity))?;
    let mut stuck = BTreeMap::new();
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for host in hosts(cluster)? {
            let one = eventually(|| stuck_to(&answers(cluster, &client(name), &host, STUCK)?))?;
            stuck.insert((name, host), one);
        }
    }
    // Forgotten clients are free to stay where they were, which is one time in four.
    for _ in 0..8 {
        wait::pause(AFFINITY + Duration::from_secs(1));
        let mut again = BTreeMap::new();
        for (name, host) in stuck.keys() {
            let one = eventually(|| stuck_to(&answers(joined.cluster(name)?, &client(name), host, STUCK)?))?;
            again.insert((*name, host.clone()), one);
        }
        let moved = |name: &str| stuck.iter().any(|(key, one)| key.0 == name && again.get(key) != Some(one));
        if CLUSTERS.into_iter().all(moved) {
            return change_back(joined);
        }
    }
    bail!("clients are remembered for longer than {AFFINITY:?}: {stuck:?}")
}

fn change_back(joined: &Joined) -> Result<()> {
    let none = "{\"spec\": {\"sessionAffinity\": \"None\", \"sessionAffinityConfig\": null}}";
    CLUSTERS.iter().try_for_each(|name| change(joined.cluster(name)?, none))
}

fn stuck_to(answers: &Answers) -> Result<String> {
    let (one, count) = answers.first_key_value().context("nobody answers")?;
    ensure!(*count == STUCK, "{STUCK} connections of one client were answered by {answers:?}");
    Ok(one.clone())
}

/// Every node has a pod of the service. When paris exports it no more, its nodes have none.
pub fn row_68_local_connections_stay_on_their_node_or_fail(joined: &mut Joined) -> Result<()> {
    let local = "{\"spec\": {\"internalTrafficPolicy\": \"Local\"}}";
    CLUSTERS.iter().try_for_each(|name| change(joined.cluster(name)?, local))?;
    CLUSTERS.iter().try_for_each(|name| stay_local(joined, name))?;
    joined.linkspan("paris", &["unexport", SERVICE, "-n", "default"])?.done()?;
    let paris = joined.cluster("paris")?;
    let nobody = |node: &str| -> Result<()> {
        for host in hosts(paris)? {
            let answers = answers(paris, node, &host, 2)?;
            ensure!(answers.is_empty(), "{host} was answered on {node} by {answers:?}");
        }
        Ok(())
    };
    for node in &paris.nodes {
        eventually(|| nobody(&node.name))?;
    }
    stay_local(joined, "berlin")?;
    // It was the policy that kept paris out: without it, all is berlin's.
    change(joined.cluster("berlin")?, "{\"spec\": {\"internalTrafficPolicy\": \"Cluster\"}}")?;
    let servers: Vec<_> = joined.cluster("berlin")?.nodes.iter().map(|node| pods::name(&node.name)).collect();
    for node in &paris.nodes {
        eventually(|| {
            let answers = answers(paris, &node.name, &hosts(paris)?[0], STUCK)?;
            let all = answers.values().sum::<usize>() == STUCK && answers.keys().all(|one| servers.contains(one));
            ensure!(all, "{} is answered by {answers:?}", node.name);
            Ok(())
        })?;
    }
    joined.linkspan("berlin", &["unexport", SERVICE, "-n", "default"])?.done()?;
    CLUSTERS.iter().try_for_each(|name| joined.cluster(name)?.kubectl(["delete", "service", SERVICE])?.done())
}

/// All connections of each node's pod are answered by that pod itself.
fn stay_local(joined: &Joined, name: &str) -> Result<()> {
    let cluster = joined.cluster(name)?;
    for node in &cluster.nodes {
        for host in hosts(cluster)? {
            eventually(|| {
                let answers = answers(cluster, &node.name, &host, STUCK)?;
                let own = answers.get(&pods::name(&node.name)) == Some(&STUCK);
                ensure!(own, "{host} is answered on {} by {answers:?}", node.name);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Where connections come from.
fn client(cluster: &str) -> String {
    format!("{cluster}-1")
}

/// The clusterset IPs as URLs have them.
fn hosts(cluster: &Cluster) -> Result<Vec<String>> {
    let said = cluster.kubectl(["get", "serviceimport", SERVICE, "-o", "jsonpath={.spec.ips[*]}"])?.stdout()?;
    ensure!(!said.is_empty(), "{SERVICE} has no clusterset IP in {}", cluster.spec.name);
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Ok(said.split_whitespace().map(host).collect())
}

fn change(cluster: &Cluster, patch: &str) -> Result<()> {
    cluster.kubectl(["patch", "service", SERVICE, "--type=merge", "--patch", patch])?.done()
}

/// Who answers so many connections of a node's pod, one after the other. Those that nobody answers are not counted.
///
/// # Errors
/// There is no such pod.
pub fn answers(cluster: &Cluster, node: &str, host: &str, connections: usize) -> Result<Answers> {
    // Each answer ends its connection, and curl's own failures are no failure of the shell.
    let urls = format!("http://{host}/?[1-{connections}]");
    let script = format!("curl -sS --fail --max-time 2 -H 'Connection: close' '{urls}'; true");
    let said = cluster.exec("default", &pods::name(node), &["/bin/sh", "-c", &script])?;
    let mut answers = Answers::new();
    for line in said.lines() {
        *answers.entry(line.to_owned()).or_default() += 1;
    }
    Ok(answers)
}
