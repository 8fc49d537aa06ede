//! Each fault of which people ask, made for real on two joined clusters: `linkspan diagnose` and `linkspan why` name it, and
//! after it is taken back nothing is wrong.
//!
//! `paris-2` holds the client, `berlin` exports `web`. The first node of each cluster is its only gateway.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::relay::{self, Relay};
use testbed::{Node, Run, netns};

use crate::commands::{everywhere, everywhere_with};
use crate::joined::{BROKER, CLUSTERS, Joined, PREFIX, SYSTEM, deploy, eventually, once_coredns_knows};
use crate::pods;

/// What people ask for.
const WEB: &str = "web.default.svc.clusterset.local";

/// A fault: how it is made, what is told of it, and how it is taken back, which is done whatever was told.
struct Fault {
    what: &'static str,
    make: fn(&Joined) -> Result<()>,
    told: fn(&Joined) -> Result<()>,
    unmake: fn(&Joined) -> Result<()>,
}

const fn fault(
    what: &'static str,
    make: fn(&Joined) -> Result<()>,
    told: fn(&Joined) -> Result<()>,
    unmake: fn(&Joined) -> Result<()>,
) -> Fault {
    Fault { what, make, told, unmake }
}

/// In order; the last ones need most time to heal.
const FAULTS: [Fault; 19] = [
    fault("UDP is blocked one way", block_one_way, udp_one_way, open_world),
    fault("UDP is blocked both ways", block_both_ways, udp_both_ways, open_world),
    fault("a firewall rule on a gateway drops the tunnel", drop_on_gateway, rule_on_a_gateway, open_gateway),
    fault("a path swallows large packets", swallow_large, mtu_black_hole, widen),
    fault("a rule masquerades", add_masquerade, masqueraded, open_worker),
    fault("routes are missing on one node", lose_routes, missing_route, restore_routes),
    fault("a rule of another program goes before ours", divert, diverted, undivert),
    fault("a worker's VXLAN is blocked", drop_vxlan, vxlan_blocked, open_worker),
    fault("kube-proxy does not carry a clusterset IP", hang_kube_proxy, vip_not_programmed, resume_kube_proxy),
    fault("cluster DNS is not wired", unwire_coredns, coredns_not_wired, rewire_coredns),
    fault("an export has no endpoints", export_empty, without_endpoints, unexport_empty),
    fault("exports are in conflict", export_torn, in_conflict, unexport_torn),
    fault("a NetworkPolicy drops", add_policy, policy_drops, remove_policy),
    fault("a Member claims foreign addresses, and is of a far version", add_oslo, oslo_is_refused, remove_oslo),
    fault("a clock is off", nothing, clock_off, nothing),
    fault("a gateway's pod is dead", lose_gateway, gateway_dead, restore_gateway),
    fault("a gateway has another key than is known", change_key, wrong_key, tell_key),
    fault("the broker is away", block_broker, broker_away, open_world),
    fault("a credential is refused", revoke, credential_refused, join_again),
];

/// Makes every fault, and gives all failures back together.
///
/// # Errors
/// A fault was not named, or did not heal.
pub fn all(joined: &Joined) -> Result<()> {
    begin(joined).context("before any fault")?;
    let mut failures = Vec::new();
    for fault in &FAULTS {
        eprintln!("clusters: {}", fault.what);
        let made = (fault.make)(joined).context("making it").and_then(|()| (fault.told)(joined));
        let healed = (fault.unmake)(joined).context("taking it back").and_then(|()| all_is_well(joined));
        for failure in [made.err(), healed.context("after it was taken back").err()].into_iter().flatten() {
            eprintln!("clusters: FAILED: {failure:#}");
            failures.push(format!("{}: {failure:#}", fault.what));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn nothing(_: &Joined) -> Result<()> {
    Ok(())
}

// === What is asked ===

/// What `linkspan diagnose` prints of both clusters.
fn diagnose(joined: &Joined) -> Result<Vec<Value>> {
    let said = ask(joined, &["diagnose", "all", "-o", "json"])?;
    serde_json::from_str(&said).with_context(|| format!("no findings: {said}"))
}

/// What a command prints about both clusters, whatever its exit code.
fn ask(joined: &Joined, args: &[&str]) -> Result<String> {
    let run = everywhere(joined, args);
    let output = run.output()?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!said.trim().is_empty(), "`{run}` said nothing ({}): {told}", output.status);
    Ok(said.into_owned())
}

/// Waits until `diagnose` finds this, and gives the finding back.
fn found(joined: &Joined, cluster: &str, object: &str, reason: &str) -> Result<Value> {
    eventually(|| {
        let findings = diagnose(joined)?;
        let is = |finding: &&Value| {
            finding["cluster"] == cluster && finding["object"] == object && finding["reason"] == reason
        };
        let found = findings.iter().find(is).cloned();
        found.with_context(|| format!("no {reason} of {object} in {cluster}, but {}", bad(&findings)))
    })
}

/// What is not good, for people.
fn bad(findings: &[Value]) -> String {
    let bad = findings.iter().filter(|finding| finding["state"] != "ok");
    bad.map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Waits until `why` says that the way from the client to `to` is broken at this.
fn broken(joined: &Joined, to: &str, cluster: &str, reason: &str) -> Result<()> {
    eventually(|| {
        let said = ask(joined, &["why", "paris/default/on-paris-2", "->", to, "-o", "json"])?;
        let story: Value = serde_json::from_str(&said).with_context(|| format!("no story: {said}"))?;
        let mut hops = story["hops"].as_array().context("no hops")?.iter();
        let first = hops.find(|hop| hop["state"] == "failed").with_context(|| format!("nothing is broken: {said}"))?;
        ensure!(first["cluster"] == cluster && first["reason"] == reason, "the first broken hop is {first}");
        ensure!(first["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "it has no fix: {first}");
        Ok(())
    })
}

/// Waits until `trace` counts packets of the client at the one place and none at the next.
fn lost(joined: &Joined, reason: &str, between: &str) -> Result<()> {
    let address = pods::address(joined.cluster("berlin")?, "berlin-2")?;
    let url = format!("http://{address}/");
    eventually(|| {
        let words = ["trace", "paris/default/on-paris-2", "to", "berlin/default/on-berlin-2:80", "-o", "json"];
        let run = everywhere_with(joined, &words, &["curl", "-sS", "--max-time", "2", &url]);
        let traces: Value = serde_json::from_slice(&run.output()?.stdout).with_context(|| format!("`{run}`"))?;
        let loss = &traces[0]["loss"];
        ensure!(loss["reason"] == reason && loss["between"] == between, "{traces:#}");
        Ok(())
    })
}

/// Waits until nothing is wrong.
fn all_is_well(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| {
        let findings = diagnose(joined)?;
        let wrong = findings.iter().filter(|finding| finding["state"] != "ok").count();
        ensure!(wrong == 0, "not all is well: {}", bad(&findings));
        let said = ask(joined, &["why", "paris/default/on-paris-2", "->", WEB, "-o", "json"])?;
        let story: Value = serde_json::from_str(&said)?;
        let hops = story["hops"].as_array().context("no hops")?;
        ensure!(hops.len() > 8 && hops.iter().all(|hop| hop["state"] == "ok"), "not the whole way is well: {said}");
        Ok(())
    })
}

/// A text in a finding.
fn says(finding: &Value, part: &str, text: &str) -> Result<()> {
    ensure!(finding[part].as_str().is_some_and(|said| said.contains(text)), "{part} does not say {text:?}: {finding}");
    Ok(())
}

// === How faults are made ===

/// A command on a node.
fn on(node: &Node, command: &[&str]) -> Result<()> {
    node.inside(Run::new(command[0], command[1..].iter().copied()))?.done()
}

/// Filters in the world between the sites what matches, or nothing.
fn world(matches: &str) -> Result<()> {
    let mut script = table("ip", "fault", "forward", "filter", 0);
    if !matches.is_empty() {
        script += &format!("add rule ip fault forward {matches} drop\n");
    }
    Run::new("nft", ["-f", "-"]).input(script).in_netns(&netns(PREFIX, "world")).done()
}

/// Lines for nft that make a table with one chain anew.
fn table(family: &str, name: &str, hook: &str, kind: &str, priority: i32) -> String {
    let table = format!("table {family} {name}\n");
    format!(
        "add {table}delete {table}add {table}\
         add chain {family} {name} {hook} {{ type {kind} hook {hook} priority {priority}; }}\n"
    )
}

/// A rule on a node, in a table of its own.
fn rule(node: &Node, hook: &str, kind: &str, priority: i32, rule: &str) -> Result<()> {
    let script = format!("{}add rule inet fault {hook} {rule}\n", table("inet", "fault", hook, kind, priority));
    node.inside(Run::new("nft", ["-f", "-"]))?.input(script).done()
}

fn open(node: &Node) -> Result<()> {
    on(node, &["nft", "delete", "table", "inet", "fault"])
}

fn open_world(_: &Joined) -> Result<()> {
    world("")
}

/// A path that was narrow is tried again after ten minutes only (RFC 8899, section 5.1.1), or by a new process.
fn widen(joined: &Joined) -> Result<()> {
    open_world(joined)?;
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        cluster.kubectl(["rollout", "restart", "daemonset/linkspan-node", "-n", SYSTEM])?.done()?;
        cluster.kubectl(["rollout", "status", "daemonset/linkspan-node", "-n", SYSTEM, "--timeout=120s"])?.done()?;
    }
    Ok(())
}

fn open_worker(joined: &Joined) -> Result<()> {
    open(node(joined, "paris-2")?)
}

fn open_gateway(joined: &Joined) -> Result<()> {
    open(node(joined, "berlin-1")?)
}

fn node<'a>(joined: &'a Joined, name: &str) -> Result<&'a Node> {
    joined.cluster(name.split('-').next().unwrap_or_default())?.node(name)
}

// === The faults ===

fn begin(joined: &Joined) -> Result<()> {
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        pods::start(cluster)?;
        for member in CLUSTERS {
            joined.wait_ready(name, member)?;
        }
    }
    service(joined, "berlin", "web", "app: web", 80)?;
    joined.linkspan("berlin", &["export", "web", "-n", "default"])?.done()?;
    once_coredns_knows(|| pods::read(joined.cluster("paris")?, "paris-2", &format!("http://{WEB}/")))?;
    all_is_well(joined)
}

fn service(joined: &Joined, cluster: &str, name: &str, selector: &str, port: u16) -> Result<()> {
    joined.cluster(cluster)?.apply(&format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: {name}, namespace: default }}, \
         spec: {{ selector: {{ {selector} }}, ports: [{{ name: http, port: {port}, targetPort: 80 }}] }} }}"
    ))
}

fn block_one_way(_: &Joined) -> Result<()> {
    world("ip saddr 192.168.7.0/24 ip daddr 192.168.8.0/24 meta l4proto udp")
}

/// The endpoints of a cluster leave the clusterset IP while its path is down, so that a pod is asked for.
const FAR: &str = "berlin/default/pod/on-berlin-2:80";

fn udp_one_way(joined: &Joined) -> Result<()> {
    for (near, far) in [("paris", "berlin"), ("berlin", "paris")] {
        let finding = found(joined, near, &format!("cluster/{far}"), "UdpBlockedOneWay")?;
        says(&finding, "cause", "UDP from paris does not arrive at berlin")?;
    }
    broken(joined, FAR, "paris", "UdpBlockedOneWay")
}

fn block_both_ways(_: &Joined) -> Result<()> {
    world("meta l4proto udp")
}

fn udp_both_ways(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster/berlin", "UdpBlockedBothWays")?;
    broken(joined, FAR, "paris", "UdpBlockedBothWays")?;
    lost(joined, "InTunnel", "out into the tunnel on paris-1 of paris and in from the tunnel on berlin-1 of berlin")
}

fn drop_on_gateway(joined: &Joined) -> Result<()> {
    rule(node(joined, "berlin-1")?, "input", "filter", 0, "udp dport 51820 drop")
}

fn rule_on_a_gateway(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/berlin", "FirewallRule")?;
    says(&finding, "evidence", "on node berlin-1, chain inet fault input drops udp")?;
    broken(joined, FAR, "paris", "FirewallRule")
}

fn swallow_large(_: &Joined) -> Result<()> {
    world("meta l4proto udp meta length > 1350")
}

fn mtu_black_hole(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster/berlin", "MtuBlackHole")?;
    let said = ask(joined, &["why", "paris/default/on-paris-2", "->", WEB])?;
    ensure!(said.contains("Note on MTU of the tunnel"), "why says nothing of the MTU: {said}");
    Ok(())
}

fn add_masquerade(joined: &Joined) -> Result<()> {
    rule(node(joined, "paris-2")?, "postrouting", "nat", 50, "ip daddr 10.52.0.0/16 masquerade")
}

fn masqueraded(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "Masqueraded")?;
    says(&finding, "evidence", "chain inet fault postrouting masquerades packets")?;
    broken(joined, WEB, "paris", "Masqueraded")?;
    lost(joined, "OnNode", "in from the network plugin on paris-2 of paris and out to a node on paris-2 of paris")
}

/// The process on the node hangs, so that what somebody has deleted stays deleted.
fn lose_routes(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["pkill", "-STOP", "-f", "linkspan node"])?;
    on(worker, &["ip", "route", "flush", "table", "10810"])
}

fn missing_route(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "MissingRoute")?;
    says(&finding, "cause", "node paris-2 has no route of Linkspan's to berlin")?;
    broken(joined, WEB, "paris", "MissingRoute")
}

fn restore_routes(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-CONT", "-f", "linkspan node"])
}

fn divert(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["ip", "route", "add", "unreachable", "default", "table", "999"])?;
    on(worker, &["ip", "rule", "add", "to", "10.52.0.0/16", "lookup", "999", "priority", "100"])
}

fn diverted(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "MissingRoute")?;
    says(&finding, "cause", "of another program")
}

fn undivert(joined: &Joined) -> Result<()> {
    let worker = node(joined, "paris-2")?;
    on(worker, &["ip", "rule", "del", "to", "10.52.0.0/16", "lookup", "999", "priority", "100"])?;
    on(worker, &["ip", "route", "flush", "table", "999"])
}

fn drop_vxlan(joined: &Joined) -> Result<()> {
    rule(node(joined, "paris-2")?, "input", "filter", 0, "udp dport 4790 drop")
}

fn vxlan_blocked(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "node/paris-2", "VxlanBlocked")?;
    says(&finding, "cause", "UDP port 4790 (VXLAN) between paris-2 and the gateway paris-1 is blocked")?;
    says(&finding, "evidence", "chain inet fault input drops udp")?;
    broken(joined, WEB, "paris", "VxlanBlocked")?;
    lost(joined, "BetweenNodes", "out to a node on paris-1 of paris and in from a node on paris-2 of paris")
}

fn hang_kube_proxy(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-STOP", "-x", "kube-proxy"])?;
    service(joined, "berlin", "later", "app: web", 80)?;
    joined.linkspan("berlin", &["export", "later", "-n", "default"])?.done()
}

fn vip_not_programmed(joined: &Joined) -> Result<()> {
    found(joined, "paris", "node/paris-2", "VipNotProgrammed")?;
    broken(joined, "later.default.svc.clusterset.local", "paris", "VipNotProgrammed")
}

fn resume_kube_proxy(joined: &Joined) -> Result<()> {
    on(node(joined, "paris-2")?, &["pkill", "-CONT", "-x", "kube-proxy"])
}

/// Somebody takes Linkspan's rights to the ConfigMaps of cluster DNS, and what it has written.
fn unwire_coredns(joined: &Joined) -> Result<()> {
    let paris = joined.cluster("paris")?;
    paris.kubectl(["delete", "rolebinding", "linkspan-coredns", "-n", "kube-system"])?.done()?;
    paris.kubectl(["delete", "configmap", "coredns-custom", "-n", "kube-system"])?.done()
}

fn coredns_not_wired(joined: &Joined) -> Result<()> {
    found(joined, "paris", "cluster-dns", "CoreDnsNotWired")?;
    found(joined, "paris", "roles", "MissingRoles")?;
    broken(joined, WEB, "paris", "CoreDnsNotWired")
}

fn rewire_coredns(joined: &Joined) -> Result<()> {
    joined.cluster("paris")?.kubectl(["apply", "-k", &deploy("member")])?.done()
}

fn export_empty(joined: &Joined) -> Result<()> {
    service(joined, "berlin", "empty", "app: nobody", 80)?;
    joined.linkspan("berlin", &["export", "empty", "-n", "default"])?.done()
}

fn without_endpoints(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "serviceexport/default/empty", "ExportWithoutEndpoints")?;
    broken(joined, "empty.default.svc.clusterset.local", "berlin", "ExportWithoutEndpoints")
}

fn unexport_empty(joined: &Joined) -> Result<()> {
    joined.linkspan("berlin", &["unexport", "empty", "-n", "default"])?.done()
}

fn export_torn(joined: &Joined) -> Result<()> {
    for (cluster, port) in [("berlin", 80), ("paris", 81)] {
        service(joined, cluster, "torn", "app: web", port)?;
        joined.linkspan(cluster, &["export", "torn", "-n", "default"])?.done()?;
    }
    Ok(())
}

fn in_conflict(joined: &Joined) -> Result<()> {
    found(joined, "paris", "serviceexport/default/torn", "ExportConflict")?;
    broken(joined, "torn.default.svc.clusterset.local", "paris", "ExportConflict")
}

fn unexport_torn(joined: &Joined) -> Result<()> {
    CLUSTERS.iter().try_for_each(|cluster| joined.linkspan(cluster, &["unexport", "torn", "-n", "default"])?.done())
}

/// flannel enforces no policies, so that what is told comes from the policies alone.
fn add_policy(joined: &Joined) -> Result<()> {
    joined.cluster("berlin")?.apply(
        "{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: { name: own-only, namespace: default }, \
         spec: { podSelector: { matchLabels: { app: web } }, ingress: [{ from: [{ podSelector: {} }] }] } }",
    )
}

fn policy_drops(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "serviceexport/default/web", "PolicyDrops")?;
    broken(joined, WEB, "berlin", "PolicyDrops")
}

fn remove_policy(joined: &Joined) -> Result<()> {
    joined.cluster("berlin")?.kubectl(["delete", "networkpolicy", "own-only", "-n", "default"])?.done()
}

/// Who has the rights of the broker's administrator may write anything; everybody judges for themselves.
fn add_oslo(joined: &Joined) -> Result<()> {
    joined.cluster(BROKER)?.apply(
        "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, \
         metadata: { name: oslo, namespace: linkspan-broker, labels: { linkspan.dev/cluster: oslo } }, \
         spec: { clusterID: oslo, clusterUID: x, podCIDRs: [192.168.7.12/32], version: 9.0.0 } }",
    )
}

fn oslo_is_refused(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/oslo", "Overlap")?;
    says(&finding, "evidence", "192.168.7.12")?;
    CLUSTERS.iter().try_for_each(|cluster| found(joined, cluster, "cluster/oslo", "VersionSkew").map(drop))
}

fn remove_oslo(joined: &Joined) -> Result<()> {
    joined.cluster(BROKER)?.kubectl(["delete", "member", "oslo", "-n", "linkspan-broker"])?.done()
}

/// berlin is asked through a proxy that changes the hours of its answers.
fn clock_off(joined: &Joined) -> Result<()> {
    let node = node(joined, "berlin-1")?;
    let at = SocketAddr::from((node.address, 8001));
    let args = ["proxy", "--address=0.0.0.0", "--port=8001", "--accept-hosts=.*", "--reject-paths=^$"];
    let proxy = joined.cluster("berlin")?.kubectl(args)?.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _proxy = Killed(proxy.context("failed to start kubectl proxy")?);
    let relay = Relay::start(&node.netns, at)?;
    let listener = relay::listen(0)?;
    let server = format!("http://{}", listener.local_addr()?);
    let through = SocketAddr::from(([127, 0, 0, 1], relay.port()));
    std::thread::spawn(move || serve_wrong_hours(&listener, through));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("late.kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "late", "users": [{ "name": "u", "user": {} }],
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "contexts": [{ "name": "late", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&file, config.to_string())?;
    let paris = joined.cluster("paris")?.kubeconfig_path();
    eventually(|| {
        let mut run = vec!["diagnose".to_owned(), "clock".to_owned(), "-o".to_owned(), "json".to_owned()];
        for file in [&paris, &file] {
            run.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
        }
        let output = Run::new(env!("CARGO_BIN_EXE_linkspan"), run).output()?;
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let off: Vec<_> = findings.iter().filter(|finding| finding["reason"] == "ClockOff").collect();
        ensure!(off.len() == 1 && off[0]["object"] == "api-server" && off[0]["cluster"] == "berlin", "{findings:?}");
        ensure!(output.status.code() == Some(1), "{}", output.status);
        says(off[0], "evidence", " s ")
    })
}

/// A process that ends with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hands connections on, and changes the hours in what comes back.
fn serve_wrong_hours(listener: &TcpListener, to: SocketAddr) {
    for near in listener.incoming().map_while(Result::ok) {
        let Ok(far) = TcpStream::connect(to) else { continue };
        let (Ok(mut near_in), Ok(mut far_out)) = (near.try_clone(), far.try_clone()) else { continue };
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut near_in, &mut far_out);
            let _ = far_out.shutdown(Shutdown::Write);
        });
        std::thread::spawn(move || wrong_hours(far, near));
    }
}

/// `Date: Wed, 25 Nov 2026 00:56:54 GMT` with another hour of the same day. Heads of answers come in one piece.
fn wrong_hours(mut from: TcpStream, mut to: TcpStream) {
    const HEADER: &[u8] = b"\r\nDate: ";
    /// Where the hour is, behind the name of the header: `Wed, 25 Nov 2026 `.
    const HOUR: usize = 17;
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let bytes = &mut buffer[..length];
        if let Some(at) = bytes.windows(HEADER.len()).position(|window| window == HEADER) {
            let hour = at + HEADER.len() + HOUR;
            if let Some(digits) = bytes.get_mut(hour..hour + 2) {
                let number =
                    std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u8>().ok()).unwrap_or_default();
                digits.copy_from_slice(format!("{:02}", (number + 5) % 24).as_bytes());
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The only gateway of berlin gets no pod any more.
fn lose_gateway(joined: &Joined) -> Result<()> {
    choose_nodes(joined, r#""berlin-2""#)
}

fn choose_nodes(joined: &Joined, host: &str) -> Result<()> {
    let selector = format!(r#"{{"nodeSelector":{{"kubernetes.io/hostname":{host}}}}}"#);
    let patch = format!(r#"{{"spec":{{"template":{{"spec":{selector}}}}}}}"#);
    joined.cluster("berlin")?.kubectl(["patch", "daemonset", "linkspan-node", "-n", SYSTEM, "-p", &patch])?.done()
}

fn gateway_dead(joined: &Joined) -> Result<()> {
    found(joined, "berlin", "node/berlin-1", "GatewayPodDead")?;
    found(joined, "paris", "cluster/berlin", "PeerGatewayDown")?;
    broken(joined, FAR, "paris", "PeerGatewayDown")
}

fn restore_gateway(joined: &Joined) -> Result<()> {
    choose_nodes(joined, "null")?;
    let args = ["rollout", "status", "daemonset/linkspan-node", "-n", SYSTEM, "--timeout=120s"];
    joined.cluster("berlin")?.kubectl(args)?.done()
}

/// berlin's gateway gets another key while nobody tells paris.
fn change_key(joined: &Joined) -> Result<()> {
    scale_controller(joined, 0)?;
    let berlin = joined.cluster("berlin")?;
    on(berlin.node("berlin-1")?, &["rm", "/var/lib/linkspan/private.key"])?;
    let pods = ["-n", SYSTEM, "-l", "app.kubernetes.io/component=node", "--field-selector", "spec.nodeName=berlin-1"];
    berlin.kubectl(["delete", "pod"].into_iter().chain(pods))?.done()
}

fn scale_controller(joined: &Joined, replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let args = ["scale", "deployment/linkspan-controller", "-n", SYSTEM, &replicas];
    joined.cluster("berlin")?.kubectl(args)?.done()
}

fn wrong_key(joined: &Joined) -> Result<()> {
    let finding = found(joined, "paris", "cluster/berlin", "WrongKey")?;
    says(&finding, "evidence", "paris uses key")?;
    broken(joined, FAR, "paris", "WrongKey")
}

fn tell_key(joined: &Joined) -> Result<()> {
    scale_controller(joined, 2)
}

fn block_broker(_: &Joined) -> Result<()> {
    world("ip saddr 192.168.8.0/24 tcp dport 6443")
}

fn broker_away(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| found(joined, "berlin", "member/berlin", "BrokerUnreachable")).map(drop)
}

fn revoke(joined: &Joined) -> Result<()> {
    joined.cluster(BROKER)?.kubectl(["delete", "serviceaccount", "member-berlin", "-n", "linkspan-broker"])?.done()
}

fn credential_refused(joined: &Joined) -> Result<()> {
    once_coredns_knows(|| found(joined, "berlin", "member/berlin", "CredentialRefused")).map(drop)
}

fn join_again(joined: &Joined) -> Result<()> {
    let token = joined.token("berlin")?;
    joined.linkspan("berlin", &["join"])?.input(&token).done()
}
