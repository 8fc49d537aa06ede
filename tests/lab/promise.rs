//! What users are promised, proven with the lab's own proofs in shapes that `linkspan lab` does not show by default.

use linkspan::lab::pod::Transport::Tcp;
use linkspan::lab::{Family, Lab, Proxy, Run, Signal, Snapshot, Spec, proof, wait_until};
pub(crate) use testbed::wait::PATIENCE;

use crate::pings::Pings;
use crate::support::{assert_passed, lab, output, seen};

/// A lab whose nodes are ready and joined.
pub(crate) fn joined(prefix: &str, spec: Spec) -> Lab {
    let mut lab = lab(prefix, spec);
    lab.start().unwrap();
    lab.wait_ready(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    lab
}

/// The nodes and their state, once the kernel has called every pod bridge up: it does so a moment after its first port.
fn settled(lab: &Lab) -> (Vec<String>, Vec<Snapshot>) {
    let nodes: Vec<_> = lab.plan.nodes().map(|(_, node)| node.name.clone()).collect();
    let state = |name: &String| {
        let is_up = || {
            lab.snapshot(name)
                .unwrap()
                .part("links")
                .contains("cni0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP")
        };
        assert!(wait_until(PATIENCE, is_up), "the pod bridge of {name} does not come up");
        lab.snapshot(name).unwrap()
    };
    let states = nodes.iter().map(state).collect();
    (nodes, states)
}

pub(crate) fn prove(lab: &mut Lab, proofs: &[proof::Proof]) {
    assert_passed(&proof::run(lab, proofs, |_| ()).unwrap());
}

/// A hundred pings a second from a pod, of which none may be lost.
pub(crate) fn pings(lab: &Lab, pod: &str, to: &str, seconds: u32) -> Pings {
    let place = lab.plan.find(pod).unwrap();
    Pings::start(seconds, 100, |arguments| {
        let arguments = arguments.iter().map(String::as_str).chain([to]);
        Run::in_pod(place.netns(), "ping", arguments).spawn().unwrap()
    })
}

/// Proves that connections survive a killed gateway. Other tests run meanwhile: what takes longer by design takes
/// longer each time.
pub(crate) fn survives(lab: &mut Lab) {
    let mut attempt = || proof::run(lab, &[("failover", proof::failover)], |_| ()).unwrap();
    let mut report = attempt();
    for _ in 0..2 {
        if !report.passed() {
            report = attempt();
        }
    }
    assert_passed(&report);
}

pub(crate) const EXCHANGE: &[proof::Proof] =
    &[("reach", proof::reach), ("egress", proof::egress), ("names", proof::names), ("http", proof::http)];

#[test]
fn two_dual_stack_sites_reach_each_other_in_both_families() {
    let mut lab = joined("lstpd-", Spec { family: Family::Dual, pods: 1, ..Spec::default() });
    prove(&mut lab, EXCHANGE);
}

#[test]
fn sites_without_any_ipv4_reach_each_other() {
    let mut lab = joined("lstp6-", Spec { family: Family::V6, pods: 1, ..Spec::default() });
    prove(&mut lab, EXCHANGE);
}

#[test]
fn three_sites_with_two_workers_each_reach_each_other() {
    let mut lab = joined("lstp3-", Spec { sites: 3, nodes: 3, pods: 1, ..Spec::default() });
    prove(&mut lab, EXCHANGE);
}

#[test]
fn source_addresses_survive_both_kube_proxy_modes() {
    for (prefix, proxy) in [("lstpi-", Proxy::Iptables), ("lstpn-", Proxy::Nftables)] {
        let lab = joined(prefix, Spec { proxy, pods: 1, ..Spec::default() });
        // Backends on both nodes of the other site: the gateway itself, and the worker behind it.
        let mut pages: Vec<_> =
            (0..24).map(|_| output(&lab, "paris/pod-2", &["curl", "-sS", "-m", "60", "http://10.53.0.10/"])).collect();
        pages.sort();
        pages.dedup();
        assert_eq!(pages, ["berlin/pod-1 saw 10.42.1.2\n", "berlin/pod-2 saw 10.42.1.2\n"], "{proxy:?}");
    }
}

#[test]
fn a_killed_gateway_is_back_within_a_second_and_connections_survive() {
    let mut lab = joined("lstpk-", Spec { pods: 1, ..Spec::default() });
    survives(&mut lab);
}

#[test]
fn a_clean_stop_that_removes_leaves_every_node_as_it_was_before() {
    let mut lab = lab("lstps-", Spec { family: Family::Dual, pods: 1, ..Spec::default() });
    let (nodes, before) = settled(&lab);
    lab.node_args = vec!["--remove-on-exit".to_owned()];
    lab.start().unwrap();
    lab.wait_ready(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    for (name, before) in nodes.iter().zip(&before) {
        assert_ne!(before.diff(&lab.snapshot(name).unwrap()), "", "{name} changed nothing, so this proves nothing");
    }
    for (name, before) in nodes.iter().zip(&before) {
        lab.stop_node(name, Signal::TERM).unwrap();
        assert_eq!(before.diff(&lab.snapshot(name).unwrap()), "", "left on {name} after a clean stop");
    }
}

#[test]
fn cleanup_after_a_kill_leaves_every_node_as_it_was_before() {
    let mut lab = lab("lstpc-", Spec { pods: 1, ..Spec::default() });
    let (nodes, before) = settled(&lab);
    lab.start().unwrap();
    lab.wait_ready(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    for (name, before) in nodes.iter().zip(&before) {
        lab.stop_node(name, Signal::KILL).unwrap();
        assert_ne!(before.diff(&lab.snapshot(name).unwrap()), "", "a kill left nothing on {name}: nothing to clean up");
        let file = lab.node_dir(name).join(linkspan::lab::SITE_FILE);
        let args = ["cleanup", "--config", &file.to_string_lossy()].map(str::to_owned);
        Run::in_netns(&lab.node(name).unwrap().netns, lab.binary(), args)
            .done()
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(before.diff(&lab.snapshot(name).unwrap()), "", "left on {name} after cleanup");
    }
}

#[test]
fn a_restart_after_a_kill_adopts_what_is_there_and_changes_nothing() {
    let mut lab = joined("lstpr-", Spec { pods: 1, ..Spec::default() });
    let gateway = "paris-gw";
    let before = lab.snapshot(gateway).unwrap();
    lab.stop_node(gateway, Signal::KILL).unwrap();
    lab.start_node(gateway).unwrap();
    lab.wait_ready(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    for part in ["rules", "routes", "nft", "addresses"] {
        assert_eq!(before.part(part), lab.snapshot(gateway).unwrap().part(part), "{part} changed");
    }
    assert_eq!(seen(&lab, "paris/pod-2", Tcp, "10.52.1.2"), Ok("10.42.1.2".to_owned()));
}

#[test]
fn a_worker_that_is_restarted_loses_no_packet() {
    let mut lab = joined("lstpw-", Spec { pods: 1, ..Spec::default() });
    for signal in [Signal::KILL, Signal::TERM] {
        let pings = pings(&lab, "paris/pod-2", "10.52.1.2", 3);
        lab.stop_node("paris-w1", signal).unwrap();
        lab.start_node("paris-w1").unwrap();
        lab.wait_ready(PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
        pings.assert_all_answered(&format!("paris/pod-2 at {signal:?}"));
    }
}

#[test]
fn what_is_deleted_by_hand_is_put_back() {
    let lab = joined("lstph-", Spec { pods: 1, ..Spec::default() });
    for name in ["paris-gw", "paris-w1"] {
        let netns = &lab.node(name).unwrap().netns;
        let before = lab.snapshot(name).unwrap();
        Run::in_netns(netns, "nft", ["delete", "table", "inet", "linkspan"]).done().unwrap();
        let healed = || lab.snapshot(name).unwrap().part("nft") == before.part("nft");
        assert!(wait_until(PATIENCE, healed), "the nft table of {name} does not come back");
    }
    assert_eq!(seen(&lab, "paris/pod-2", Tcp, "10.52.1.2"), Ok("10.42.1.2".to_owned()));
}
