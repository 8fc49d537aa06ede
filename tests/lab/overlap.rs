//! Sites that have the very same addresses.

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use linkspan::lab::pod::Heartbeat;
use linkspan::lab::pod::Transport::{Tcp, Udp};
use linkspan::lab::{Family, Lab, Run, SITE_FILE, Spec, pause, proof, wait_until};

use crate::paths::serve_iperf;
use crate::promise::{EXCHANGE, PATIENCE, joined, pings, prove, survives};
use crate::support::{binary, lab, output, seen};

/// What the site file of all sites gives a lab: equal CIDRs for the first `overlapping` of `sites`.
fn overlapping(prefix: &str, sites: u8, overlapping: u8, spec: Spec) -> Lab {
    joined(prefix, Spec { sites, overlapping, pods: 1, ..spec })
}

/// All that must hold between any sites, and what only overlapping ones can break.
const ALL: &[&[proof::Proof]] = &[EXCHANGE, &[("callback", proof::callback), ("hops", proof::hops)]];

fn prove_all(lab: &mut Lab) {
    ALL.iter().for_each(|proofs| prove(lab, proofs));
}

/// What a gateway tells of its tunnel.
fn tunnel(lab: &Lab, gateway: &str) -> serde_json::Value {
    let socket = lab.node_dir(&gateway.replace('/', "-")).join("linkspan.sock");
    let (program, socket) = (binary().to_str().expect("UTF-8"), socket.to_str().expect("UTF-8"));
    let status = output(lab, gateway, &[program, "status", "-o", "json", "--socket", socket]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["tunnel"].clone()
}

/// Packets that a gateway has sent with a virtual source.
fn translated(lab: &Lab, gateway: &str) -> u64 {
    tunnel(lab, gateway)["translated"]["outward"].as_u64().expect("a number")
}

/// The same when it does not grow any more: late answers to what was asked before count too.
fn translated_at_rest(lab: &Lab, gateway: &str) -> u64 {
    let mut before = translated(lab, gateway);
    let is_at_rest = || {
        pause(Duration::from_millis(300));
        let now = translated(lab, gateway);
        std::mem::replace(&mut before, now) == now
    };
    assert!(wait_until(PATIENCE, is_at_rest), "{gateway} goes on translating");
    before
}

/// Packets that a gateway has not sent for want of a virtual source.
fn without_source(lab: &Lab, gateway: &str) -> u64 {
    let tunnel = tunnel(lab, gateway);
    let drops = tunnel["drops"].as_array().expect("a list");
    let drop = drops.iter().find(|drop| drop["reason"] == "no-virtual-source").expect("a known reason");
    drop["count"].as_u64().expect("a number")
}

#[test]
fn two_sites_with_equal_cidrs_reach_each_other_in_both_families() {
    let mut lab = overlapping("lstod-", 2, 2, Spec { family: Family::Dual, ..Spec::default() });
    assert_eq!(lab.plan.sites[0].pod_cidrs, lab.plan.sites[1].pod_cidrs);
    prove_all(&mut lab);
    survives(&mut lab);
}

#[test]
fn three_sites_with_equal_cidrs_reach_each_other() {
    let mut lab = overlapping("lsto3-", 3, 3, Spec::default());
    prove_all(&mut lab);
}

#[test]
fn overlapping_and_other_sites_mix_and_old_peers_keep_native_addresses() {
    let mut lab = overlapping("lstom-", 3, 2, Spec::default());
    prove_all(&mut lab);
    // Oslo overlaps nobody: it knows paris as before, and berlin, which came later, by virtual addresses.
    assert_eq!(seen(&lab, "paris/pod-1", Tcp, "10.62.0.2"), Ok("10.42.0.2".to_owned()));
    assert_eq!(seen(&lab, "berlin/pod-1", Tcp, "10.62.0.2"), Ok("100.66.0.2".to_owned()));
    assert_eq!(seen(&lab, "oslo/pod-1", Udp, "100.66.0.2"), Ok("10.62.0.2".to_owned()));
}

/// A site file as it was before `newcomer` came and made its site one with virtual addresses.
fn before(file: &str, newcomer: &str) -> String {
    let mut left_out = false;
    let lines = file.lines().filter(|line| {
        // What belongs to a peer, or to the list of virtual prefixes, stands deeper.
        if !line.starts_with("    ") {
            left_out = *line == "  virtual:" || *line == format!("  - cluster: {newcomer}");
        }
        !left_out && !line.contains("knowsUsByVirtual")
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Puts a file in the place of another one, at once.
fn replace(file: &PathBuf, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// What a program said when it ended well.
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_site_that_joins_with_anothers_cidrs_takes_no_packet_from_the_connections_of_the_others() {
    const SECONDS: u32 = 90;
    let mut lab = lab("lstoj-", Spec { sites: 3, overlapping: 2, pods: 1, ..Spec::default() });
    let names = |lab: &Lab, site: usize| -> Vec<String> {
        lab.plan.sites[site].nodes.iter().map(|node| node.name.clone()).collect()
    };
    // Paris and oslo share nothing, and berlin, with the CIDRs of paris, is not there yet.
    let mut after = Vec::new();
    for name in [names(&lab, 0), names(&lab, 2)].concat() {
        let file = lab.node_dir(&name).join(SITE_FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        let first = before(&text, "berlin");
        assert!(first.contains("- cluster: ") && !first.contains("berlin") && !first.contains("100.6"), "{first}");
        replace(&file, &first);
        after.push((file, text));
        lab.start_node(&name).unwrap();
    }
    let native = || seen(&lab, "paris/pod-1", Tcp, "10.62.0.2") == Ok("10.42.0.2".to_owned());
    assert!(wait_until(PATIENCE, native), "paris does not reach oslo");

    let pod = lab.plan.find("paris/pod-2").unwrap().netns().to_owned();
    let pings = pings(&lab, "paris/pod-2", "10.62.1.2", SECONDS);
    let millis = (SECONDS * 1000).to_string();
    let beat = ["lab", "pod-beat", "10.62.1.2", "--millis", &millis];
    let mut beat = Run::in_netns(&pod, binary(), beat).spawn().unwrap();
    pause(Duration::from_secs(1));
    for (file, text) in &after {
        replace(file, text);
    }
    for name in names(&lab, 1) {
        lab.start_node(&name).unwrap();
    }
    lab.wait_ready(Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(seen(&lab, "berlin/pod-1", Tcp, "100.64.0.2"), Ok("100.66.0.2".to_owned()));
    assert!(beat.try_wait().unwrap().is_none(), "berlin came after the end of the connection, so this proves nothing");
    pings.assert_all_answered("paris/pod-2");
    let beaten = said(beat);
    let beaten: Heartbeat = serde_json::from_str(beaten.lines().last().unwrap()).unwrap();
    // A machine that is busy may be late by seconds.
    assert!(beaten.tcp.alive && beaten.tcp.longest_gap < 5000.0, "{beaten:?}");
    assert_eq!(seen(&lab, "paris/pod-1", Tcp, "10.62.0.2"), Ok("10.42.0.2".to_owned()));
}

#[test]
fn nodes_are_seen_by_virtual_addresses_of_their_own_too() {
    let lab = overlapping("lston-", 2, 2, Spec::default());
    for (node, prefix) in [("paris/gw", "100.64.0."), ("paris/w1", "100.64.1.")] {
        for to in ["100.66.0.2", "100.66.1.2"] {
            for over in [Tcp, Udp] {
                let seen = seen(&lab, node, over, to).expect("an answer");
                assert!(seen.starts_with(prefix), "{node} is seen as {seen} at {to}");
            }
            output(&lab, node, &["ping", "-c1", "-W60", to]);
        }
        // By the service's address, which kube-proxy turns into a pod's over there.
        let page = output(&lab, node, &["curl", "-sS", "-m", "60", "http://100.67.0.10/"]);
        assert!(page.starts_with("berlin/pod-") && page.contains(&format!("saw {prefix}")), "{page}");
    }
    assert_eq!(without_source(&lab, "paris/gw"), 0);
}

#[test]
fn what_could_not_be_answered_does_not_leave() {
    let lab = overlapping("lstoa-", 2, 2, Spec { nodes: 1, ..Spec::default() });
    // The site's router is no pod and no node of the cluster, so that it has no virtual address.
    let router = &lab.plan.sites[0].lan;
    Run::in_netns(router, "ip", ["route", "add", "100.66.0.0/16", "via", "198.51.100.2"]).done().unwrap();
    let ping = Run::in_netns(router, "ping", ["-c", "2", "-W", "1", "-i", "0.2", "100.66.0.2"]).output().unwrap();
    assert!(!ping.status.success());
    // They may still wait before the gateway.
    wait_until(PATIENCE, || without_source(&lab, "paris/gw") >= 2);
    assert_eq!(without_source(&lab, "paris/gw"), 2);
}

#[test]
fn ones_own_virtual_addresses_lead_nowhere_and_do_no_harm() {
    let lab = overlapping("lstoh-", 2, 2, Spec { nodes: 1, ..Spec::default() });
    let goes_nowhere = || {
        let before = translated_at_rest(&lab, "paris/gw");
        assert!(seen(&lab, "paris/pod-1", Tcp, "100.64.0.2").is_err());
        translated(&lab, "paris/gw") == before
    };
    // An answer to what was asked before may be that late that it comes meanwhile.
    assert!((0..3).any(|_| goes_nowhere()), "it went through the tunnel");
    assert_eq!(seen(&lab, "paris/pod-1", Tcp, "100.66.0.2"), Ok("100.64.0.2".to_owned()));
}

#[test]
fn fragments_are_translated_each_by_itself_and_answered() {
    let lab = overlapping("lstof-", 2, 2, Spec { family: Family::Dual, ..Spec::default() });
    let pairs = [
        ("paris/pod-1", ["100.66.0.2", "fd64:0:0:100::2"]),
        // Both behind a worker.
        ("paris/pod-2", ["100.66.1.2", "fd64:0:0:101::2"]),
    ];
    for (from, to) in pairs.into_iter().flat_map(|(from, addresses)| addresses.map(|to| (from, to))) {
        // In IPv6 the first ones are lost: each place where less passes tells the sender so, there and back, and on a
        // busy machine late. Without any answer ping has failed.
        let ping = format!("ping -n -c 10 -i 0.2 -W 2 -s 3000 {to} || true");
        let (mut before, mut said, mut answers) = (0, String::new(), 0);
        let is_answered = || {
            before = translated(&lab, "paris/gw");
            said = output(&lab, from, &["sh", "-c", &ping]);
            answers = said.matches(&format!("3008 bytes from {to}")).count() as u64;
            answers > 0
        };
        assert!(wait_until(PATIENCE, is_answered), "{from} to {to}: no answer");
        let sent = translated(&lab, "paris/gw") - before;
        assert!(sent >= 3 * answers, "{answers} of 3008 bytes went from {from} to {to} in {sent} packets: {said}");
    }
}

#[test]
fn a_narrow_path_is_told_to_a_pod_by_an_address_that_it_knows() {
    let lab = overlapping("lstop-", 2, 2, Spec { nodes: 1, ..Spec::default() });
    // The other site's bridge takes less than the tunnel: its gateway answers, and quotes the packet that it saw.
    let netns = lab.plan.find("berlin/gw").expect("a node").netns().to_owned();
    let narrow = ["route", "add", "10.42.0.2/32", "dev", "cni0", "mtu", "lock", "1300"];
    Run::in_netns(&netns, "ip", narrow).done().unwrap();
    let ping = "ping -n -c 1 -W 60 -M do -s 1372 100.66.0.2; ip route get 100.66.0.2";
    let said = output(&lab, "paris/pod-1", &["sh", "-c", ping]);
    assert!(said.contains("Frag needed and DF set (mtu = 1300)"), "{said}");
    assert!(said.contains("mtu 1300"), "the pod's kernel has learnt it: {said}");
    // And a connection gets through whole.
    serve_iperf(&lab, "berlin/pod-1");
    output(&lab, "paris/pod-1", &["iperf3", "-n", "1M", "-c", "100.66.0.2"]);
}
