//! Three stock K3s clusters, whose pods and services all have the same prefixes: what they are to each other, and that one
//! which joins later disturbs nobody.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use testbed::{Cluster, Run, Spec, wait};

use crate::joined::{BROKER, Joined, SYSTEM, deploy, eventually, once_coredns_knows};
use crate::traces::Traces;
use crate::{Step, commands, pods};

/// The clusters that join first, and the one that joins while they have connections.
const FIRST: [&str; 2] = ["paris", "berlin"];
const LAST: &str = "rome";
const EVERYBODY: [&str; 3] = ["paris", "berlin", "rome"];

/// In order; later ones need what earlier ones have made.
pub const ALL: [Step; 6] = [
    ("two clusters with the same prefixes join, and know each other by virtual addresses", two_join),
    ("pods reach services and headless pods by name, and servers reach them back", two_meet),
    ("a third one joins, and a running connection goes on", a_third_one_joins),
    ("nodes reach pods of the others", nodes_meet),
    ("verify proves all of it", commands::verify_proves_it),
    ("what leaves leaves no trace", leaving_leaves_no_trace),
];

/// Clusters as they come, but for the networks of their nodes.
pub fn specs() -> [Spec; 3] {
    let single = |name: &str, site: u8| Spec { nodes: 1, ..Spec::new(name, site) };
    [Spec::new("paris", 7), single("berlin", 8), single("rome", 9)]
}

fn two_join(joined: &mut Joined) -> Result<()> {
    for name in EVERYBODY {
        pods::start(joined.cluster(name)?)?;
        export(joined.cluster(name)?)?;
    }
    for name in FIRST {
        joined.join(name)?;
    }
    are_ready(joined, &FIRST)
}

/// In each cluster two services of its own name: `at-paris` with an address, and `pods-paris` headless.
fn export(cluster: &Cluster) -> Result<()> {
    for (kind, address) in [("at", ""), ("pods", "clusterIP: None, ")] {
        cluster.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: {kind}-{}, namespace: default }}, \
             spec: {{ {address}selector: {{ app: web }}, ports: [{{ name: http, port: 80 }}] }} }}",
            cluster.spec.name
        ))?;
    }
    Ok(())
}

fn are_ready(joined: &Joined, clusters: &[&str]) -> Result<()> {
    for viewer in clusters {
        for member in clusters {
            joined.wait_ready(viewer, member)?;
        }
        for kind in ["at", "pods"] {
            joined.linkspan(viewer, &["export", &format!("{kind}-{viewer}"), "-n", "default"])?.done()?;
        }
    }
    Ok(())
}

/// What others call the pod of each node of a cluster, by the node's name: read off its Member as `viewer` has it.
fn known_as(joined: &Joined, viewer: &str, cluster: &str) -> Result<BTreeMap<String, Ipv4Addr>> {
    let args = ["get", "member", cluster, "-n", SYSTEM, "-o", "json"];
    let member: serde_json::Value = serde_json::from_str(&joined.cluster(viewer)?.kubectl(args)?.stdout()?)?;
    let blocks = member["spec"]["virtualCIDRs"].as_array().context("no virtualCIDRs")?.clone();
    let mut known = BTreeMap::new();
    for node in &joined.cluster(cluster)?.nodes {
        let own: Ipv4Addr = pods::address(joined.cluster(cluster)?, &node.name)?.parse()?;
        for block in &blocks {
            let (from, to) = (net(&block["pods"])?, net(&block["virtual"])?);
            if from.contains(&own) {
                let rest = u32::from(own) - u32::from(from.network());
                known.insert(node.name.clone(), Ipv4Addr::from(u32::from(to.network()) + rest));
            }
        }
    }
    ensure!(known.len() == joined.cluster(cluster)?.nodes.len(), "{viewer} knows pods of {cluster} as {known:?} only");
    Ok(known)
}

fn net(value: &serde_json::Value) -> Result<Ipv4Net> {
    Ok(value.as_str().context("no text")?.parse()?)
}

fn two_meet(joined: &mut Joined) -> Result<()> {
    meet(joined, "paris", "berlin")?;
    meet(joined, "berlin", "paris")
}

/// Every pod of `near` calls `far` by name, is seen under its own virtual address, and can be called there.
fn meet(joined: &Joined, near: &str, far: &str) -> Result<()> {
    let (clients, servers) = (known_as(joined, far, near)?, known_as(joined, near, far)?);
    let (here, there) = (joined.cluster(near)?, joined.cluster(far)?);
    let mut expected: Vec<String> = servers.values().map(Ipv4Addr::to_string).collect();
    expected.sort();
    for (client, seen_as) in &clients {
        let url = format!("http://at-{far}.default.svc.clusterset.local/");
        let said = once_coredns_knows(|| pods::read(here, client, &url))?;
        ensure!(servers.keys().any(|server| said == pods::name(server)), "{url} said {said:?} to {client}");
        eventually(|| {
            let found = pods::resolve(here, client, &format!("pods-{far}.default.svc.clusterset.local"))?;
            ensure!(found == expected, "{client} finds {found:?}, not {expected:?}");
            Ok(())
        })?;
        for (server, address) in &servers {
            let seen = eventually(|| pods::read(here, client, &format!("http://{address}/cgi-bin/from")))?;
            ensure!(seen == seen_as.to_string(), "{server} saw {client} as {seen}, not as {seen_as}");
            let back = eventually(|| pods::read(there, server, &format!("http://{seen_as}/")))?;
            ensure!(back == pods::name(client), "behind {seen_as} {server} found {back:?}, not {client}");
        }
    }
    Ok(())
}

/// berlin reads from paris a line a second; meanwhile rome comes, with the prefixes of both.
fn a_third_one_joins(joined: &mut Joined) -> Result<()> {
    let joined = &*joined;
    let address = known_as(joined, "berlin", "paris")?["paris-2"];
    let berlin = joined.cluster("berlin")?;
    let before = (known_as(joined, "paris", "berlin")?, known_as(joined, "berlin", "paris")?);
    std::thread::scope(|scope| {
        let url = format!("http://{address}/cgi-bin/slow");
        let stop = "/tmp/stop";
        let script =
            format!("curl -sSN {url} > /tmp/slow & until [ -e {stop} ]; do sleep 1; done; kill $!; cat /tmp/slow");
        let reading = scope.spawn(move || berlin.exec("default", &pods::name("berlin-1"), &["/bin/sh", "-c", &script]));
        let began = wait::now();
        let met = joined.join(LAST).and_then(|()| are_ready(joined, &EVERYBODY)).and_then(|()| {
            for other in FIRST {
                meet(joined, LAST, other)?;
                meet(joined, other, LAST)?;
            }
            Ok(())
        });
        let seconds = began.elapsed().as_secs();
        berlin.exec("default", &pods::name("berlin-1"), &["touch", stop])?;
        let lines = reading.join().unwrap()?.lines().count() as u64;
        met?;
        // The shell that prints the lines sleeps a little longer than a second, on a busy machine more so.
        ensure!(lines >= seconds.min(290) * 2 / 3, "only {lines} lines came in {seconds} s");
        Ok(())
    })?;
    let after = (known_as(joined, "paris", "berlin")?, known_as(joined, "berlin", "paris")?);
    ensure!(before == after, "addresses changed from {before:?} to {after:?}");
    Ok(())
}

fn nodes_meet(joined: &mut Joined) -> Result<()> {
    for near in EVERYBODY {
        for far in EVERYBODY.into_iter().filter(|far| *far != near) {
            for (server, address) in known_as(joined, near, far)? {
                for client in &joined.cluster(near)?.nodes {
                    let url = format!("http://{address}/");
                    let curl = Run::new("curl", ["-sS", "--fail", "--max-time", "5", &url]);
                    let said = eventually(|| client.inside(curl.clone())?.stdout())?;
                    ensure!(said.trim() == pods::name(&server), "{url} said {said:?} to node {}", client.name);
                }
            }
        }
    }
    Ok(())
}

/// rome as those leave who keep Linkspan's manifests in Git; berlin, and at last paris with the broker, by one command.
fn leaving_leaves_no_trace(joined: &mut Joined) -> Result<()> {
    joined.linkspan(LAST, &["leave"])?.done()?;
    joined.cluster(LAST)?.kubectl(["delete", "-k", &deploy("member"), "--timeout=90s"])?.done()?;
    joined.linkspan("berlin", &["uninstall", "--cluster", "--crds"])?.done()?;
    joined.linkspan(BROKER, &["uninstall", "--cluster", "--broker", "--crds"])?.done()?;
    for name in FIRST {
        let kinds = "namespaces,crds,clusterroles,clusterrolebindings,validatingadmissionpolicies";
        let left = joined.cluster(name)?.kubectl(["get", kinds, "-o", "name"])?.stdout()?;
        ensure!(!left.contains("linkspan"), "{name} still has {left}");
    }
    wait::retry(Duration::from_secs(60), || Traces::of(&joined.bed)?.assert_as(&joined.before))
}
