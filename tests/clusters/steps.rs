//! What is promised, step by step.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use testbed::{Run, parallel};

use crate::joined::{BROKER, CLUSTERS, Joined, SYSTEM, deploy, eventually, once_coredns_knows};
use crate::traces::{Traces, assert_no_object};
use crate::{Step, commands, gather, merged, names, pods, policies, questions, restarts, sources, takeover};

/// In order; later ones break what earlier ones need.
pub const ALL: [Step; 30] = [
    ("every Member is ready in every cluster", members_are_ready),
    ("pods of one cluster reach those of the other with their own addresses", pods_reach_pods),
    ("nodes reach pods of the other cluster", nodes_reach_pods),
    ("a service that is exported has one address in the other cluster", exports_are_imported),
    ("it is reached by name and by clusterset IP from pods on both nodes", row_65_services_are_reached),
    ("a headless service answers with its pods", headless_services_answer),
    ("nodes and pods on the host network reach services", sources::nodes_and_host_pods_reach_services),
    (
        "rules for pods of another cluster see their addresses",
        sources::rules_for_pods_of_another_cluster_see_their_addresses,
    ),
    ("names of a cluster stay its own", names::row_94_names_of_a_cluster_stay_its_own),
    ("answers are authoritative", names::row_96_answers_are_authoritative_through_cluster_dns),
    ("reverse names are as before", names::row_102_reverse_names_are_as_before),
    ("a service without endpoints refuses", names::row_69_a_service_without_ready_endpoints_refuses),
    ("diagnose and why find nothing wrong, and name what is", questions::faults_are_named),
    ("diagnosing takes its roles and no others", questions::diagnosing_takes_its_roles_and_no_others),
    ("the page shows tunnels as they are", questions::the_page_shows_live_links),
    (
        "connections are shared by the pods of all clusters",
        policies::row_66_connections_are_shared_by_the_pods_of_all_clusters,
    ),
    ("a client stays with its pod", policies::row_67_a_client_stays_with_its_pod_for_as_long_as_was_asked),
    ("local connections stay local", policies::row_68_local_connections_stay_on_their_node_or_fail),
    (
        "exports that come and go disturb no connection",
        merged::rows_40_51_and_52_who_comes_and_goes_disturbs_no_connection,
    ),
    ("all controllers restart under load", restarts::all_controllers_restart_under_load),
    ("verify proves all of it, over a restart of gateways too", commands::verify_restarts_gateways),
    ("bench measures it", commands::bench_measures),
    ("trace counts a flow at every hop", commands::trace_counts_every_hop),
    ("names cost no question to the outside", names_stay_inside),
    ("an archive for who helps has logs and nodes, and no secret", gather::has_no_secret),
    ("applying the manifests again changes nothing", manifests_are_idempotent),
    ("while the broker is away everything goes on", the_broker_may_be_away),
    ("another node takes over from a lost gateway", takeover::gateways_take_over),
    ("an export that ends is gone everywhere", exports_end),
    ("what leaves leaves no trace", leaving_leaves_no_trace),
];

pub fn members_are_ready(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        for member in CLUSTERS {
            joined.wait_ready(name, member)?;
        }
        pods::start(joined.cluster(name)?)?;
    }
    Ok(())
}

pub fn pods_reach_pods(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let (near, far) = (joined.cluster(name)?, joined.cluster(Joined::other(name))?);
        for client in &near.nodes {
            let own = pods::address(near, &client.name)?;
            for server in &far.nodes {
                let url = format!("http://{}/cgi-bin/from", pods::address(far, &server.name)?);
                let seen = eventually(|| pods::read(near, &client.name, &url))?;
                ensure!(seen == own, "{} has {own} and was seen as {seen} by {}", client.name, server.name);
            }
        }
    }
    Ok(())
}

fn nodes_reach_pods(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let (near, far) = (joined.cluster(name)?, joined.cluster(Joined::other(name))?);
        for client in &near.nodes {
            for server in &far.nodes {
                let url = format!("http://{}/", pods::address(far, &server.name)?);
                let curl = Run::new("curl", ["-sS", "--fail", "--max-time", "5", &url]);
                let said = eventually(|| client.inside(curl.clone())?.stdout())?;
                ensure!(said.trim() == pods::name(&server.name), "{url} said {said:?}");
            }
        }
    }
    Ok(())
}

/// `web` is a service with an address in berlin, `db` a headless one; both are the pods of its nodes.
pub fn exports_are_imported(joined: &mut Joined) -> Result<()> {
    let berlin = joined.cluster("berlin")?;
    for (name, address) in [("web", ""), ("db", "None")] {
        let address = if address.is_empty() { String::new() } else { format!("clusterIP: {address}, ") };
        berlin.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: {name}, namespace: default }}, \
             spec: {{ {address}selector: {{ app: web }}, ports: [{{ name: http, port: 80 }}] }} }}"
        ))?;
        joined.linkspan("berlin", &["export", name, "-n", "default"])?.done()?;
    }
    for name in CLUSTERS {
        eventually(|| {
            let found = clusterset_ip(joined, name)?;
            ensure!(!found.is_empty(), "no clusterset IP in {name}");
            Ok(())
        })?;
    }
    Ok(())
}

fn clusterset_ip(joined: &Joined, cluster: &str) -> Result<String> {
    joined.cluster(cluster)?.kubectl(["get", "serviceimport", "web", "-o", "jsonpath={.spec.ips[0]}"])?.stdout()
}

/// Over TCP; that UDP by name gets from each cluster to each other one is proven by `verify` (tests/clusters/commands.rs).
pub fn row_65_services_are_reached(joined: &mut Joined) -> Result<()> {
    let servers: Vec<String> = joined.cluster("berlin")?.nodes.iter().map(|node| pods::name(&node.name)).collect();
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        let ip = clusterset_ip(joined, name)?;
        for node in &cluster.nodes {
            for host in [&ip, "web.default.svc.clusterset.local"] {
                let said = once_coredns_knows(|| pods::read(cluster, &node.name, &format!("http://{host}/")))?;
                ensure!(servers.contains(&said), "{host} said {said:?} to {}", node.name);
            }
            eventually(|| {
                let found = pods::resolve(cluster, &node.name, "web.default.svc.clusterset.local", "A")?;
                ensure!(found == [ip.clone()], "{} resolves web to {found:?} and not to {ip}", node.name);
                Ok(())
            })?;
        }
    }
    // The clusterset IP is no detour: each of berlin's pods answers paris some time.
    let paris = joined.cluster("paris")?;
    eventually(|| {
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(pods::read(paris, "paris-1", "http://web.default.svc.clusterset.local/")?);
        }
        ensure!(servers.iter().all(|server| seen.contains(server)), "40 calls were answered by {seen:?}");
        Ok(())
    })
}

pub fn headless_services_answer(joined: &mut Joined) -> Result<()> {
    let berlin = joined.cluster("berlin")?;
    let mut expected = Vec::new();
    for node in &berlin.nodes {
        expected.push(pods::address(berlin, &node.name)?);
    }
    expected.sort();
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for node in &cluster.nodes {
            eventually(|| {
                let found = pods::resolve(cluster, &node.name, "db.default.svc.clusterset.local", "A")?;
                ensure!(found == expected, "{} resolves db to {found:?}, not to {expected:?}", node.name);
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn names_stay_inside(joined: &mut Joined) -> Result<()> {
    stay_inside(joined, &CLUSTERS, "web")
}

/// Neither the name of a service nor one that does not exist, with all that a search list makes of them.
pub fn stay_inside(joined: &Joined, clusters: &[&str], service: &str) -> Result<()> {
    let before = joined.bed.outside_queries()?.len();
    for name in clusters {
        let cluster = joined.cluster(name)?;
        for node in &cluster.nodes {
            let resolv = cluster.exec("default", &pods::name(&node.name), &["cat", "/etc/resolv.conf"])?;
            ensure!(resolv.contains(pods::SITE) && resolv.contains("ndots:5"), "{resolv}");
            eventually(|| pods::read(cluster, &node.name, &format!("http://{service}.default.svc.clusterset.local/")))?;
            let absent = pods::read_once(cluster, &node.name, "http://absent.default.svc.clusterset.local/");
            ensure!(absent.is_err(), "a name that does not exist answers");
            // What ends with the site's domain is the outside's.
            let own = pods::read_once(cluster, &node.name, &format!("http://absent.{}/", pods::SITE));
            ensure!(own.is_err(), "a name of the site that does not exist answers");
        }
    }
    let asked = joined.bed.outside_queries()?.split_off(before);
    let of_site = asked.iter().any(|line| line.contains(&format!("absent.{}.", pods::SITE)));
    ensure!(of_site, "the outside was not asked for a name of the site: {asked:?}");
    let leaked: Vec<_> = asked.iter().filter(|line| line.contains("clusterset")).collect();
    ensure!(leaked.is_empty(), "the outside was asked: {leaked:?}");
    Ok(())
}

fn manifests_are_idempotent(joined: &mut Joined) -> Result<()> {
    let bases = [(BROKER, "broker"), ("paris", "crds"), ("paris", "member"), ("berlin", "crds"), ("berlin", "member")];
    for (cluster, base) in bases {
        let cluster = joined.cluster(cluster)?;
        // Exits with 1 and prints what would change.
        cluster.kubectl(["diff", "-k", &deploy(base)])?.done()?;
        cluster.kubectl(["apply", "-k", &deploy(base)])?.done()?;
        cluster.kubectl(["diff", "-k", &deploy(base)])?.done()?;
    }
    Ok(())
}

/// The broker is paris's API server: while it is away, neither traffic nor names nor changes inside berlin stop.
fn the_broker_may_be_away(joined: &mut Joined) -> Result<()> {
    let server = pods::address(joined.cluster("paris")?, "paris-2")?;
    joined.bed.cluster_mut("paris")?.stop_api_server()?;
    let berlin = joined.cluster("berlin")?;
    // What starts now knows everything from its own API server. The gateway moves with each restart of its node's pod, and
    // paris follows although nobody can tell it.
    for what in ["deployment/linkspan-controller", "daemonset/linkspan-node"] {
        berlin.kubectl(["rollout", "restart", what, "-n", SYSTEM])?.done()?;
        berlin.kubectl(["rollout", "status", what, "-n", SYSTEM, "--timeout=300s"])?.done()?;
    }
    for node in &berlin.nodes {
        let said = eventually(|| pods::read(berlin, &node.name, &format!("http://{server}/")))?;
        ensure!(said == pods::name("paris-2"), "{said:?}");
    }
    berlin.apply(
        "{ apiVersion: v1, kind: Service, metadata: { name: late, namespace: default }, \
         spec: { selector: { app: web }, ports: [{ name: http, port: 80 }] } }",
    )?;
    joined.linkspan("berlin", &["export", "late", "-n", "default"])?.done()?;
    let read = |joined: &Joined, cluster: &str, node: &str| {
        let cluster = joined.cluster(cluster)?;
        eventually(|| pods::read(cluster, node, "http://late.default.svc.clusterset.local/"))
    };
    read(joined, "berlin", "berlin-1")?;
    joined.bed.cluster_mut("paris")?.start_api_server()?;
    read(joined, "paris", "paris-1").map(drop)
}

fn exports_end(joined: &mut Joined) -> Result<()> {
    joined.linkspan("berlin", &["unexport", "web", "-n", "default"])?.done()?;
    for name in CLUSTERS {
        eventually(|| {
            let cluster = joined.cluster(name)?;
            let kinds = "serviceimports,endpointslices";
            let label = "multicluster.kubernetes.io/service-name=web";
            let slices = cluster.kubectl(["get", "endpointslices", "-l", label, "-o", "name"])?.stdout()?;
            let imports = cluster.kubectl(["get", "serviceimports", "-o", "name"])?.stdout()?;
            ensure!(slices.is_empty() && !imports.contains("/web"), "{kinds} in {name}: {slices}{imports}");
            Ok(())
        })?;
    }
    Ok(())
}

/// `late` and `db` are still exported by berlin, and imported by both.
fn leaving_leaves_no_trace(joined: &mut Joined) -> Result<()> {
    for name in CLUSTERS {
        let found = derived(joined, name)?;
        for kind in ["service/derived-", "endpointslice", "serviceimport"] {
            ensure!(found.iter().any(|object| object.starts_with(kind)), "{name} has nothing to remove: {found:?}");
        }
    }
    // Who has just been started again cleans up, too.
    eventually(|| Traces::of(&joined.bed)?.assert_on_all())?;
    joined.linkspan("berlin", &["leave", "--wait=300"])?.done()?;
    let found = derived(joined, "berlin")?;
    ensure!(found.is_empty(), "berlin has left and still has {found:?}");
    eventually(|| {
        let found = derived(joined, "paris")?;
        ensure!(found.is_empty(), "paris still has {found:?} of berlin's");
        Ok(())
    })?;
    eventually(|| {
        let found = joined.cluster("paris")?.kubectl(["get", "members", "-A", "-o", "name"])?.stdout()?;
        ensure!(!found.contains("berlin"), "paris still knows {found}");
        Ok(())
    })?;
    joined.linkspan("paris", &["leave", "--wait=300"])?.done()?;
    let found = derived(joined, "paris")?;
    ensure!(found.is_empty(), "paris has left and still has {found:?}");
    // Each waits for its pods to end.
    parallel::map(CLUSTERS, |name| {
        let cluster = joined.cluster(name)?;
        cluster.kubectl(["delete", "-k", &deploy("member"), "--timeout=300s"])?.done()?;
        // The kinds are still there, and with them what all clusters have on the broker.
        cluster.kubectl(["get", "members", "-A"])?.done()?;
        eventually(|| {
            let corefile = cluster.kubectl(["get", "configmaps", "-n", "kube-system", "-o", "yaml"])?.stdout()?;
            ensure!(!corefile.contains("clusterset"), "CoreDNS of {name} still forwards clusterset.local");
            Ok(())
        })
    })?;
    joined.cluster(BROKER)?.kubectl(["delete", "-k", &deploy("broker"), "--timeout=300s"])?.done()?;
    parallel::map(CLUSTERS, |name| {
        let cluster = joined.cluster(name)?;
        cluster.kubectl(["delete", "-k", &deploy("crds"), "--timeout=300s"])?.done()?;
        let kinds = cluster.kubectl(["get", "crds", "-o", "name"])?.stdout()?;
        let ours = kinds.contains("linkspan") || kinds.contains("k8s.io");
        ensure!(!ours, "{name} still has {kinds}");
        assert_no_object(cluster)
    })?;
    eventually(|| Traces::of(&joined.bed)?.assert_as(&joined.before))
}

/// What the controller has made of exports in a cluster.
fn derived(joined: &Joined, cluster: &str) -> Result<Vec<String>> {
    let kinds = "services,endpointslices,serviceimports";
    let ours = "app.kubernetes.io/managed-by=linkspan.dev";
    let found = joined.cluster(cluster)?.kubectl(["get", kinds, "-A", "-l", ours, "-o", "name"])?.stdout()?;
    Ok(found.lines().map(str::to_owned).collect())
}
