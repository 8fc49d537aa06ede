//! One whole cluster: pods on two nodes, services, names, an outage, a lost node, and no trace afterwards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Cluster, Lifetime, Run, Spec, Testbed, wait};

/// Not that of `make cluster`, which may be up.
const PREFIX: &str = "ltt";
const PATIENCE: Duration = Duration::from_secs(300);

/// One pod on each node, and a service over both.
const WEB: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: testbed.local/tools:1
          command: [sh, -c, 'mkdir /www; hostname >/www/index.html; exec httpd -f -p 8080 -h /www']
          readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
";

#[test]
fn a_cluster_runs_pods_services_and_names_and_leaves_no_trace() {
    // What a crash has left, or another process still uses, is no state of before.
    Testbed::remove(PREFIX).unwrap();
    let before = Trace::take();
    let mut bed = Testbed::start(PREFIX, &[Spec::paris()], Lifetime::Caller).unwrap();
    let paris = bed.cluster_mut("paris").unwrap();
    paris.apply(WEB).unwrap();
    rolled_out(paris);
    let pods = pods(paris);
    assert_eq!(pods.len(), 2);
    pods_reach_each_other(paris, &pods);
    services_and_names_work(paris, &pods[0].0);
    the_outside_is_asked_for_outside_names_only(&bed);
    let paris = bed.cluster_mut("paris").unwrap();
    an_outage_of_the_api_server_passes(paris, &pods);
    a_lost_node_comes_back(paris);
    this_machine_reaches_the_api_server(paris);
    bed.down().unwrap();
    assert_eq!(Trace::take(), before);
}

fn pods_reach_each_other(paris: &Cluster, pods: &[(String, String)]) {
    for ((from, _), (name, address)) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
        // Each node hears of the other one's pods on its own.
        let page = wait::retry(PATIENCE, || {
            paris.exec("default", from, &["curl", "-sS", "-m", "5", &format!("http://{address}:8080/")])
        });
        assert_eq!(page.unwrap().trim(), name);
    }
}

fn services_and_names_work(paris: &Cluster, from: &str) {
    // kube-proxy hears of ready endpoints a moment after the rollout's end, on each node on its own.
    wait::retry(PATIENCE, || both_pods_serve(paris, from))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", paris.describe()));
    let names = ["web", "web.default", "web.default.svc.cluster.local"];
    for name in names {
        let page = ["curl", "-sS", "-m", "5", &format!("http://{name}/")];
        wait::retry(PATIENCE, || paris.exec("default", from, &page)).unwrap();
    }
    let resolv = paris.exec("default", from, &["cat", "/etc/resolv.conf"]).unwrap();
    assert!(resolv.contains("nameserver 10.43.0.10") && resolv.contains("ndots:5"), "{resolv}");
}

/// kube-proxy balances over both nodes.
fn both_pods_serve(paris: &Cluster, from: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(paris.exec("default", from, &["curl", "-sS", "-m", "5", "http://web/"])?);
    }
    ensure!(seen.len() == 2, "40 calls of the service were answered by {seen:?}");
    Ok(())
}

fn the_outside_is_asked_for_outside_names_only(bed: &Testbed) {
    let paris = bed.cluster("paris").unwrap();
    let pod = &pods(paris)[0].0;
    let answered = wait::retry(PATIENCE, || {
        let answer = paris.exec("default", pod, &["dig", "+short", "www.example.org"])?;
        ensure!(answer.trim() == testbed::OUTSIDE, "{answer}");
        Ok(())
    });
    answered.unwrap();
    // A name server answers first, and then writes that down.
    let asked = wait::retry(PATIENCE, || {
        let asked = bed.outside_queries()?;
        ensure!(asked.iter().any(|line| line.contains("www.example.org.")), "{asked:?}");
        Ok(asked)
    });
    let asked = asked.unwrap();
    assert!(!asked.iter().any(|line| line.contains("cluster.local.")), "{asked:?}");
}

fn an_outage_of_the_api_server_passes(paris: &mut Cluster, before: &[(String, String)]) {
    paris.stop_api_server().unwrap();
    assert!(paris.kubectl(["get", "nodes"]).unwrap().done().is_err());
    paris.start_api_server().unwrap();
    paris.wait_ready(PATIENCE).unwrap();
    assert_eq!(pods(paris), before, "pods do not notice");
}

fn a_lost_node_comes_back(paris: &mut Cluster) {
    // Its kubelet answers, if only that it wants to know who asks.
    let reach = |paris: &Cluster| {
        let kubelet = ["-sk", "-m", "5", "https://192.168.7.12:10250/healthz"];
        Run::new("curl", kubelet).in_netns(&paris.nodes[0].netns).done().is_ok()
    };
    assert!(wait::until(PATIENCE, || reach(paris)));
    paris.kill_node("paris-2").unwrap();
    assert!(!reach(paris));
    paris.start_node("paris-2").unwrap();
    assert!(wait::until(PATIENCE, || reach(paris)));
    // Kubernetes needs a moment to see that the pods of before are gone.
    wait::retry(PATIENCE, || {
        let pods = pods(paris);
        ensure!(pods.len() == 2, "{pods:?}");
        let page = format!("http://{}:8080/", pods[1].1);
        paris.exec("default", &pods[0].0, &["curl", "-sS", "-m", "2", &page]).map(drop)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", paris.describe()));
}

fn this_machine_reaches_the_api_server(paris: &Cluster) {
    let kubeconfig = format!("--kubeconfig={}", paris.kubeconfig_path().display());
    let kubectl = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/kubectl");
    let nodes = Run::new(kubectl, [&kubeconfig, "get", "nodes", "-o", "name"]).stdout().unwrap();
    assert_eq!(nodes, "node/paris-1\nnode/paris-2\n");
}

fn rolled_out(paris: &Cluster) {
    let args = ["rollout", "status", "daemonset/web", "--timeout=300s"];
    paris.kubectl(args).unwrap().done().unwrap_or_else(|error| panic!("{error:#}\n{}", paris.describe()));
}

/// Names and addresses of the pods, in the order of their nodes.
fn pods(paris: &Cluster) -> Vec<(String, String)> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
    let args = ["get", "pods", "-l", "app=web", "--sort-by=.spec.nodeName", "-o", path];
    let listed = paris.kubectl(args).unwrap().stdout().unwrap();
    listed.lines().filter_map(|line| line.split_once(' ')).map(|(name, ip)| (name.to_owned(), ip.to_owned())).collect()
}

/// What of this machine a testbed might change.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    namespaces: Vec<String>,
    links: String,
    routes: String,
    mounts: String,
    rules: String,
    settings: String,
    control_groups: String,
    state: bool,
    processes: usize,
}

impl Trace {
    fn take() -> Self {
        let run = |script: &str| Run::new("sh", ["-c", script]).stdout().unwrap();
        Self {
            namespaces: testbed_namespaces(),
            links: run("ip -brief link"),
            routes: run("ip route; ip rule"),
            // `ip netns` keeps its own mount of the folder with namespaces.
            mounts: run("grep -v ' /run/netns ' /proc/self/mountinfo | grep -v 'nsfs' | cut -d' ' -f3-5 | sort"),
            // Without counters.
            rules: run("nft --stateless list ruleset"),
            settings: run(
                "cd /proc/sys; grep -H . vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops",
            ),
            control_groups: run("find /sys/fs/cgroup -maxdepth 2 -type d -name 'ltt*'"),
            state: Path::new("/var/lib/linkspan-testbed/ltt").exists(),
            processes: run("pgrep -c -f 'linkspan-testbed/ltt' || true").trim().parse().unwrap(),
        }
    }
}

fn testbed_namespaces() -> Vec<String> {
    let listed = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}
