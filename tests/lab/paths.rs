//! Paths between sites that get narrow, break and heal.

use std::time::Duration;

use linkspan::lab::{Lab, Run, Spec, wait_until};

use crate::promise::joined;
use crate::support::{binary, output};

/// Runs a command of iproute2 or iptables in the namespace that routes between the sites.
fn in_world(lab: &Lab, command: &str) {
    let mut words = command.split(' ');
    let program = words.next().expect("a command");
    Run::in_netns(&lab.plan.world, program, words).done().unwrap_or_else(|error| panic!("{error:#}"));
}

/// The link of the world toward a site.
fn uplink<'a>(lab: &'a Lab, site: &str) -> &'a str {
    &lab.plan.sites.iter().find(|s| s.name == site).expect("a site").world_link
}

/// A number or word of the first peer in a gateway's status.
fn peer(lab: &Lab, gateway: &str, field: &str) -> serde_json::Value {
    let program = binary().to_str().expect("UTF-8");
    let socket = lab.node_dir(&gateway.replace('/', "-")).join("linkspan.sock");
    let socket = socket.to_str().expect("UTF-8");
    let status = output(lab, gateway, &[program, "status", "-o", "json", "--socket", socket]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status.pointer(&format!("/tunnel/peers/0/{field}")).unwrap_or_else(|| panic!("no {field} in {status:#}")).clone()
}

#[test]
fn a_path_that_swallows_large_packets_silently_is_found_and_tcp_goes_on() {
    let lab = joined("lstam-", Spec { nodes: 1, pods: 1, ..Spec::default() });
    assert_eq!(peer(&lab, "paris/gw", "mtu"), 1420);
    in_world(&lab, &format!("ip link set {} mtu 1380", uplink(&lab, "berlin")));
    in_world(&lab, "iptables -A OUTPUT -p icmp -j DROP");
    // Traffic makes the path active, so that its MTU is confirmed often; it must not stall meanwhile.
    output(&lab, "berlin/pod-1", &["iperf3", "-s", "-1", "-D"]);
    let run = output(&lab, "paris/pod-1", &["iperf3", "-J", "-t", "5", "-c", "10.52.0.2"]);
    let run: serde_json::Value = serde_json::from_str(&run).expect("JSON");
    for interval in run["intervals"].as_array().expect("intervals") {
        assert!(interval["sum"]["bytes"].as_f64().expect("a number") > 1e5, "a second without data: {interval}");
    }
    // 1380 less IPv4, UDP and WireGuard is 1320; the search stops within 8 bytes of it.
    let found = || peer(&lab, "paris/gw", "mtu").as_u64().is_some_and(|mtu| (1312..=1320).contains(&mtu));
    assert!(wait_until(Duration::from_secs(10), found), "MTU {}", peer(&lab, "paris/gw", "mtu"));
    output(&lab, "paris/pod-1", &["ping", "-c1", "-W2", "-M", "do", "-s", "1252", "10.52.0.2"]);
}

#[test]
fn a_cut_uplink_takes_endpoints_out_of_names_and_its_return_brings_them_back() {
    let lab = joined("lstau-", Spec { nodes: 1, pods: 1, ..Spec::default() });
    let db = || {
        let mut lines: Vec<_> =
            output(&lab, "paris/pod-1", &["dig", "+short", "+tries=1", "db.default.svc.clusterset.local"])
                .lines()
                .map(str::to_owned)
                .collect();
        lines.sort();
        lines
    };
    assert_eq!(db(), ["10.42.0.2", "10.52.0.2"]);
    in_world(&lab, "iptables -I FORWARD -j DROP");
    assert!(wait_until(Duration::from_secs(5), || db() == ["10.42.0.2"]), "still named: {:?}", db());
    assert_eq!(peer(&lab, "paris/gw", "state"), "down");
    in_world(&lab, "iptables -D FORWARD -j DROP");
    assert!(wait_until(Duration::from_secs(10), || db().len() == 2), "not back: {:?}", db());
}
