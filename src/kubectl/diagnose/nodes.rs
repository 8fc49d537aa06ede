//! Nodes, Linkspan's pods on them, gateways, and the last passes.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;

use super::{Check, Fault, Finding};
use crate::kubectl::picture::facts::{is_ready, is_running, phase};
use crate::kubectl::picture::{ClusterPicture, Part, Picture};
use crate::status::Report;

/// Restarts of a container that are worth a word.
const RESTARTS: i32 = 5;
/// The active gateway renews its Lease twice a second; one this old is nobody's. Milliseconds.
const LEASE: i64 = 10_000;
/// The same where the clock of the node is not known, which may be behind that of the API server. Milliseconds.
const LEASE_BY_OTHERS: i64 = 60_000;

pub(super) fn check(_: &Picture, cluster: &ClusterPicture) -> Vec<Finding> {
    if cluster.pods.unseen().is_some() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Some(fault) = gateway_fault(cluster) {
        let object = cluster.active_gateway().map_or_else(|| "gateway".to_owned(), |node| format!("node/{node}"));
        findings.push(Finding::bad(Check::Nodes, cluster, object, fault));
    }
    for node in cluster.node_names() {
        findings.extend(check_node(cluster, &node));
    }
    for component in ["controller", "dns"] {
        findings.push(check_component(cluster, component));
    }
    findings
}

/// Why this cluster has no working gateway; nothing when it has one or when nobody can tell.
pub(super) fn gateway_fault(cluster: &ClusterPicture) -> Option<Fault> {
    let leases = cluster.leases.seen()?;
    let pods = cluster.pods.seen()?;
    if leases.is_empty() && pods.is_empty() {
        return None;
    }
    let Some(node) = cluster.active_gateway() else {
        let known: Vec<String> = cluster.gateways.all().iter().map(|gateway| gateway.name_any()).collect();
        let evidence = format!("nobody holds Lease linkspan-gateway; gateways are: {}", list(&known));
        let fix = "see that a linkspan-node pod runs on a node that may be a gateway, and its log";
        return Some(Fault::failed("NoActiveGateway", evidence, "no node carries the traffic to other clusters", fix));
    };
    let stale = stale(cluster, &node);
    let Some(pod) = cluster.node_pod(&node) else {
        let evidence = format!("node {node} holds Lease linkspan-gateway, and no linkspan-node pod is there");
        return Some(Fault::failed(
            "GatewayPodDead",
            evidence,
            "the active gateway does not run",
            "see DaemonSet linkspan-node",
        ));
    };
    // The gateway works as long as it renews its Lease, whatever its readiness says.
    if is_running(pod) && stale.is_none() {
        return None;
    }
    let renewed = stale.map_or_else(String::new, |age| format!("; its Lease was renewed {} s ago", age / 1000));
    let evidence = format!("pod {} on {node} is {}{renewed}", pod.name_any(), condition(pod));
    let fix =
        format!("see `kubectl logs -n linkspan-system {} --previous`, and the state of node {node}", pod.name_any());
    Some(Fault::failed("GatewayPodDead", evidence, format!("the active gateway {node} does not work"), fix))
}

/// For how many milliseconds the gateway Lease has not been renewed, where that is too long. Its time is of the node's clock.
fn stale(cluster: &ClusterPicture, node: &str) -> Option<i64> {
    let lease = cluster.lease(controller::api::names::LEASE_GATEWAY)?;
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?.0.as_millisecond();
    let server = cluster.server.seen()?.clock?;
    let (age, limit) = match cluster.asked(node).and_then(|asked| asked.clock) {
        // The Lease was read after the API server's clock.
        Some(clock) => (server.before + clock.offset() - renewed, LEASE),
        None if cluster.node_pod(node).is_some_and(is_ready) => (server.to - renewed, LEASE_BY_OTHERS),
        None => (server.to - renewed, LEASE),
    };
    (age > limit).then_some(age)
}

fn check_node(cluster: &ClusterPicture, name: &str) -> Vec<Finding> {
    let object = format!("node/{name}");
    let bad = |fault| Finding::bad(Check::Nodes, cluster, &object, fault);
    if cluster.node(name).is_some_and(|node| !node_is_ready(node)) {
        let fix = format!("see `kubectl describe node {name}`");
        return vec![bad(Fault::failed(
            "NodeNotReady",
            "its condition Ready is not True",
            "the node is down or cut off",
            fix,
        ))];
    }
    let Some(pod) = cluster.node_pod(name) else {
        let cause = "routes and rules of this node are not kept, so that its pods reach no other cluster";
        let fix = "see `kubectl describe daemonset linkspan-node -n linkspan-system`";
        return vec![bad(Fault::failed("NoNodePod", "there is no linkspan-node pod", cause, fix))];
    };
    let mut findings = Vec::new();
    if !is_ready(pod) {
        let evidence = format!("pod {} is {}", pod.name_any(), condition(pod));
        let fix = format!("see `kubectl logs -n linkspan-system {}`", pod.name_any());
        findings.push(bad(Fault::failed("NodePodNotReady", evidence, "Linkspan does not work on this node", fix)));
    }
    if restarts(pod) >= RESTARTS {
        let evidence = format!("pod {} was restarted {} times", pod.name_any(), restarts(pod));
        let fix = format!("see `kubectl logs -n linkspan-system {} --previous`", pod.name_any());
        findings.push(bad(Fault::warning("Restarts", evidence, "it crashes, or is killed", fix)));
    }
    let asked = cluster.inspections.get(name);
    findings.extend(asked.and_then(Part::unseen).map(|unseen| Finding::unseen(Check::Nodes, cluster, unseen)));
    if let Some(seen) = asked.and_then(Part::seen) {
        findings.extend(seen.status.seen().map(pass_faults).into_iter().flatten().map(bad));
        findings.extend(pending(&seen.inspection.pending).map(bad));
    }
    if findings.is_empty() {
        let version = cluster.status(name).map_or_else(String::new, |status| format!(", linkspan {}", status.version));
        findings.push(Finding::good(Check::Nodes, cluster, &object, format!("ready{version}")));
    }
    findings
}

fn pass_faults(status: &Report) -> Vec<Fault> {
    let log = "see the log of its linkspan-node pod";
    let mut faults = Vec::new();
    let Some(pass) = &status.pass else { return faults };
    if !pass.failed.is_empty() {
        let cause = "links, routes or rules of this node are not as they should be";
        faults.push(Fault::failed("PassFailed", pass.failed.join("; "), cause, log));
    }
    if !pass.obstacles.is_empty() {
        faults.push(Fault::warning(
            "Obstacle",
            pass.obstacles.join("; "),
            "something that is not Linkspan's stands in the way",
            log,
        ));
    }
    faults
}

/// What a pass would still change although the process runs.
fn pending(actions: &[String]) -> Option<Fault> {
    const SHOWN: usize = 3;
    if actions.is_empty() {
        return None;
    }
    let more = actions.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let evidence = format!("it would {}{more}", actions[..actions.len().min(SHOWN)].join("; "));
    let cause = "links, routes or rules are missing or altered, and the process on this node has not put them right";
    let fix =
        "see whether its linkspan-node pod hangs, and its log; another program may take them away again and again";
    Some(Fault::failed("NotAsPlanned", evidence, cause, fix))
}

fn check_component(cluster: &ClusterPicture, component: &str) -> Finding {
    let object = format!("deployment/linkspan-{component}");
    let pods: Vec<&Pod> = cluster.pods_of(component).collect();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let evidence = format!("{ready} of {} pods are ready", pods.len());
    if ready > 0 {
        return Finding::good(Check::Nodes, cluster, object, evidence);
    }
    let states: Vec<String> = pods.iter().map(|pod| format!("{} is {}", pod.name_any(), condition(pod))).collect();
    let cause = match component {
        "dns" => "nobody answers for clusterset.local",
        _ => "changes of exports, Members and gateways are not followed",
    };
    let fix = format!("see `kubectl describe {object} -n linkspan-system`, and its pods' logs");
    let fault = Fault::failed("NotRunning", format!("{evidence}: {}", list(&states)), cause, fix);
    Finding::bad(Check::Nodes, cluster, object, fault)
}

fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "True")
}

/// The state of a pod in a few words: `Pending (ImagePullBackOff: ...)`.
fn condition(pod: &Pod) -> String {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waits = containers.filter_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        waiting.or_else(|| state.terminated.as_ref().map(|ended| format!("ended with {}", ended.exit_code)))
    });
    let waits: Vec<String> = waits.collect();
    let going = if pod.metadata.deletion_timestamp.is_some() { ", about to go" } else { "" };
    let ready = if is_running(pod) && !is_ready(pod) { ", not ready" } else { "" };
    match waits.is_empty() {
        true => format!("{}{ready}{going}", phase(pod)),
        false => format!("{}{ready}{going} ({})", phase(pod), waits.join(", ")),
    }
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).max().unwrap_or_default()
}

fn list(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
