//! The lab before Linkspan runs in it: it must be as hard as a real site, or later proofs would prove nothing.

use linkspan::lab::pod::Transport::{Tcp, Udp};
use linkspan::lab::{Lab, Proxy, Run, Spec, proof};

use crate::support::{assert_passed, binary, lab, output, seen};

#[test]
fn without_linkspan_sites_are_apart_and_pods_go_out_as_their_node() {
    for (prefix, family) in [("lsta4-", linkspan::lab::Family::V4), ("lsta6-", linkspan::lab::Family::V6)] {
        let mut lab = lab(prefix, Spec { family, ..Spec::default() });
        assert_passed(&proof::run(&mut lab, proof::BEFORE, |_| ()).unwrap());
    }
}

/// Routes through the world to all pods of both sites, as if no tunnel were needed: into each site through its gateway.
fn route_plainly(lab: &Lab) {
    let ip = |netns: &str, lines: &str| Run::new("ip", ["-n", netns, "-batch", "-"]).input(lines).done().unwrap();
    ip("lstb-world", "route add 10.42.0.0/16 via 192.0.2.1\nroute add 10.52.0.0/16 via 192.0.2.3\n");
    ip("lstb-paris-lan", "route add 10.42.0.0/16 via 198.51.100.2\n");
    ip("lstb-berlin-lan", "route add 10.52.0.0/16 via 198.51.100.18\nroute add 10.53.0.0/16 via 198.51.100.18\n");
    assert_eq!(lab.plan.sites.len(), 2);
}

#[test]
fn flannels_rules_hide_pods_from_another_site_unless_something_keeps_them() {
    let mut lab = lab("lstb-", Spec { proxy: Proxy::Iptables, ..Spec::default() });
    route_plainly(&lab);
    // The proof that must hold with Linkspan sees it, over each protocol: pings are answered, but not from the pods.
    let report = proof::run(&mut lab, &[("reach", proof::reach)], |_| ()).unwrap();
    for row in &report.rows {
        assert_eq!(row.passed, row.from == row.to, "{}", report.table());
    }
    let ping = report.of("ping").find(|row| row.from == "paris" && row.to == "berlin").unwrap();
    assert_eq!(
        ping.failures[0],
        "paris/pod-1 to berlin/pod-1 at 10.52.0.2: answered, but 10.42.0.2 is not the source that arrived"
    );
    for over in [Tcp, Udp] {
        // The sender's node masquerades what leaves the cluster.
        assert_eq!(seen(&lab, "paris/pod-1", over, "10.52.0.2"), Ok("198.51.100.2".to_owned()));
        assert_eq!(seen(&lab, "paris/pod-3", over, "10.52.0.2"), Ok("198.51.100.3".to_owned()));
        // The receiver's gateway masquerades what goes on to another node, as its own flannel address.
        assert_eq!(seen(&lab, "paris/pod-1", over, "10.52.1.2"), Ok("10.52.0.0".to_owned()));
        // Within a site nothing is masqueraded.
        assert_eq!(seen(&lab, "paris/pod-1", over, "10.42.1.3"), Ok("10.42.0.2".to_owned()));
    }
}

#[test]
fn service_addresses_lead_to_pods_and_hide_clients_from_outside_the_cluster() {
    for (prefix, proxy) in [("lstc1-", Proxy::Iptables), ("lstc2-", Proxy::Nftables)] {
        let lab = lab(prefix, Spec { proxy, pods: 1, ..Spec::default() });
        let mut pages: Vec<_> =
            (0..24).map(|_| output(&lab, "paris/pod-1", &["curl", "-sS", "http://10.43.0.10/"])).collect();
        pages.sort();
        pages.dedup();
        // A pod that reaches itself comes back as its bridge, as kube-proxy has it; the other pod sees the client.
        assert_eq!(pages, ["paris/pod-1 saw 10.42.0.1\n", "paris/pod-2 saw 10.42.0.2\n"], "{proxy:?}");
        let router = format!("{prefix}paris-lan");
        Run::new("ip", ["-n", &router, "route", "add", "10.43.0.0/16", "via", "198.51.100.2"]).done().unwrap();
        let mut pages: Vec<_> = (0..24)
            .map(|_| Run::in_netns(&router, "curl", ["-sS", "-m", "60", "http://10.43.0.10/"]).stdout().unwrap())
            .collect();
        pages.sort();
        pages.dedup();
        // The gateway node's bridge and flannel addresses, not the router's.
        assert_eq!(pages, ["paris/pod-1 saw 10.42.0.1\n", "paris/pod-2 saw 10.42.0.0\n"], "{proxy:?}");
    }
}

#[test]
fn a_lab_that_is_in_use_is_not_taken_for_leftovers() {
    let spec = Spec { nodes: 1, pods: 1, ..Spec::default() };
    let lab = lab("lstd-", spec);
    let error = Lab::build(lab.spec.clone(), binary()).expect_err("the first one holds the lock").to_string();
    assert!(error.contains("another `linkspan lab` works on the lab `lstd-`"), "{error}");
    lab.down().unwrap();
    assert!(!Lab::remove(&"lstd-".parse().unwrap()).unwrap(), "something was left");
}
