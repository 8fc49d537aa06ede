//! Passes over time on one node: removal, crashes, changes by others, and size.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use controller::node::{Desired, Node, TunnelLink, Vxlan};
use ipnet::IpNet;

use crate::lab::{Lab, Namespace, PATIENCE, eventually, text};

/// A gateway node with a worker that is not there: the pass does not need it.
fn node(lab: &mut Lab) -> Namespace {
    let node = lab.namespace("node");
    node.run(
        "ip link add eth0 type veth peer name eth1
         ip link set eth0 up; ip link set eth1 up
         ip address add 192.168.42.2/24 dev eth0
         ip link add cni0 type veth peer name cni1
         ip link set cni0 up; ip link set cni1 up
         ip address add 10.42.0.1/24 dev cni0
         ip address add fd42::1/64 dev cni0 nodad
         iptables-nft -t nat -A POSTROUTING -s 10.42.0.0/16 -j MASQUERADE --random-fully",
    );
    // Link-local addresses come some time after their links are up, and are detected to be no duplicates later still.
    eventually("IPv6 addresses", PATIENCE, || {
        let addresses = node.run("ip -6 address");
        addresses.matches("scope link").count() == 4 && !addresses.contains("tentative")
    });
    node
}

fn add_tun(node: &Namespace) {
    node.run("ip tuntap add linkspan0 mode tun");
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn desired(remote: BTreeMap<String, Vec<IpNet>>) -> Desired {
    let node = |index: usize| Node {
        name: format!("n{index}"),
        address: format!("192.168.42.{}", index + 2).parse().unwrap(),
        pod_cidrs: vec![net(&format!("10.42.{index}.0/24")), net(&format!("fd42:0:0:{index}::/64"))],
    };
    Desired {
        node: "n0".into(),
        nodes: vec![node(0), node(1)],
        gateways: vec!["n0".into()],
        active_gateway: Some("n0".into()),
        tunnel: Some(TunnelLink { link: "linkspan0".into(), mtu: 1420, addresses: vec![net("10.42.0.2/32")] }),
        local: vec![net("10.42.0.0/16"), net("10.43.0.0/16"), net("fd42::/56")],
        remote,
        own_virtual: Vec::new(),
        vxlan: Vxlan::default(),
        sources: Vec::new(),
        stale_tunnels: Vec::new(),
    }
}

fn small() -> Desired {
    desired(BTreeMap::from([("berlin".to_owned(), vec![net("10.52.0.0/16"), net("fd52::/56")])]))
}

/// 500 Members with ten prefixes each, a tenth of them IPv6, none next to another.
fn large() -> Desired {
    let prefix = |index: u32| match index % 10 {
        9 => net(&format!("fd52:{index:x}::/48")),
        _ => net(&format!("10.{}.{}.0/24", 60 + index / 128, index % 128 * 2)),
    };
    let member = |member: u32| (format!("m{member}"), (member * 10..member * 10 + 10).map(prefix).collect());
    desired((0..500).map(member).collect())
}

#[test]
fn removal_leaves_the_node_as_it_was() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let before = node.snapshot();
    add_tun(&node);
    node.pass(&small());
    assert_eq!(node.plan(&small()), "");
    assert_ne!(node.snapshot(), before);
    node.pass(&Desired::nothing());
    assert_eq!(node.snapshot(), before);
    assert_eq!(node.pass(&Desired::nothing()), "");
}

#[test]
fn what_is_sent_to_own_virtual_addresses_does_not_leave_by_the_default_route() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    node.run("ip route add default via 192.168.42.1");
    add_tun(&node);
    let way = |to: &str| {
        let output = node.attempt(&format!("ip route get {to}"));
        text(if output.status.success() { &output.stdout } else { &output.stderr })
    };
    node.pass(&Desired { own_virtual: vec![net("100.64.7.0/24")], ..small() });
    assert!(way("100.64.7.5").contains("No route to host"), "{}", way("100.64.7.5"));
    assert!(way("100.64.8.5").contains("via 192.168.42.1"), "{}", way("100.64.8.5"));
    node.pass(&small());
    assert!(way("100.64.7.5").contains("via 192.168.42.1"), "{}", way("100.64.7.5"));
}

#[test]
fn removal_takes_a_tunnel_link_that_no_pass_has_marked_yet() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let before = node.snapshot();
    add_tun(&node);
    assert_eq!(node.pass(&Desired::nothing()), "");
    let nothing = Desired { stale_tunnels: vec!["linkspan0".into()], ..Desired::nothing() };
    assert_eq!(node.pass(&nothing), "delete link linkspan0\n");
    assert_eq!(node.snapshot(), before);
}

#[test]
fn removal_takes_a_vxlan_link_that_no_pass_has_marked_yet_and_no_other() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let before = node.snapshot();
    node.run("ip link add linkspan-nodes type vxlan external gpe dstport 4790 nolearning");
    assert_eq!(node.pass(&Desired::nothing()), "delete link linkspan-nodes\n");
    assert_eq!(node.snapshot(), before);

    for (link, made) in [
        ("linkspan-nodes", "type vxlan external gpe dstport 4999 nolearning"),
        ("linkspan-nodes", "type vxlan external dstport 4790 nolearning"),
        ("linkspan-nodes", "type vxlan external gpe dstport 4790; ip link set linkspan-nodes alias overlay"),
        ("vx0", "type vxlan external gpe dstport 4790 nolearning"),
    ] {
        node.run(&format!("ip link add {link} {made}"));
        assert_eq!(node.pass(&Desired::nothing()), "", "{link} {made}");
        node.run(&format!("ip link del {link}"));
    }
}

#[test]
fn a_killed_pass_is_continued_or_removed_by_the_next() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let before = node.snapshot();
    add_tun(&node);
    node.pass(&large());
    let whole = node.snapshot();
    node.pass(&Desired::nothing());
    assert_eq!(node.snapshot(), before);

    for end in [large(), Desired::nothing()] {
        add_tun(&node);
        kill_in_the_middle(&node, &large());
        node.pass(&end);
        let settled = node.snapshot();
        // Links get new numbers; everything else is the same.
        if end.remote.is_empty() {
            assert_eq!(settled, before);
        } else {
            assert_eq!(without_link_numbers(&settled), without_link_numbers(&whole));
            node.pass(&Desired::nothing());
        }
    }
}

/// The signal of `abort`, which leaves no more time to clean up than SIGKILL.
const SIGABRT: i32 = 6;

fn kill_in_the_middle(node: &Namespace, desired: &Desired) {
    let output = node.agent("half", desired).wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGABRT), "{}", text(&output.stderr));
    // Each prefix of IPv4 has two routes.
    let written: usize = node.run("ip route show table 10810 | wc -l").trim().parse().unwrap();
    assert!((100..9000).contains(&written), "{written} of 9000 routes");
}

fn without_link_numbers(snapshot: &str) -> String {
    snapshot.lines().map(|line| line.split_once(": ").map_or(line, |(_, rest)| rest)).collect::<Vec<_>>().join("\n")
}

#[test]
fn changes_by_others_are_healed_at_once() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    add_tun(&node);
    let mut agent = node.agent("watch", &small());
    let mut passes = BufReader::new(agent.stdout.take().unwrap()).lines();
    assert!(passes.next().unwrap().unwrap().starts_with("applied "));
    eventually("the first pass", PATIENCE, || node.plan(&small()).is_empty());

    for damage in [
        "ip route del 10.52.0.0/16 table 10810 metric 100",
        "ip route flush table 10810",
        "ip -6 route del fd52::/56 table 10810 metric 200",
        "ip route replace 10.52.0.0/16 dev eth0 table 10810 metric 100 proto 108",
        "ip route flush table 10811",
        "ip rule del priority 450",
        "ip -6 rule del priority 449",
        "ip rule del priority 450; ip rule add priority 450 from 10.42.0.7 lookup 10810 protocol 108",
        "nft flush ruleset",
        "nft delete table inet linkspan",
        "nft flush chain inet linkspan postrouting",
        "nft delete element inet linkspan remote4 '{ 10.52.0.0/16 }'",
        "ip link set linkspan0 down",
        "ip link set linkspan0 mtu 9000",
        "ip link set linkspan-nodes down",
        "ip link del linkspan-nodes",
        "ip address del 10.42.0.2/32 dev linkspan0",
        "ip address add 10.42.0.9/32 dev linkspan0",
        // Outside of everything that is the node's.
        "ip address add 10.99.0.9/32 dev linkspan0",
        "ip -6 address add fd99::9/128 dev linkspan-nodes",
        "sysctl -qw net.ipv4.conf.linkspan0.rp_filter=1",
        "sysctl -qw net.ipv4.conf.linkspan-nodes.rp_filter=0",
        // The kernel tells of the address that it makes then.
        "sysctl -qw net.ipv6.conf.linkspan0.addr_gen_mode=0",
    ] {
        node.run(damage);
        let took = eventually(damage, PATIENCE, || node.plan(&small()).is_empty());
        println!("{damage}: healed after {took:?}");
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_source_address_that_comes_later_is_used() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    node.run("ip address del 10.42.0.1/24 dev cni0");
    add_tun(&node);
    let desired =
        Desired { tunnel: small().tunnel.map(|tunnel| TunnelLink { addresses: Vec::new(), ..tunnel }), ..small() };
    let mut agent = node.agent("watch", &desired);
    let source = || text(&node.attempt("ip route show table 10810 10.52.0.0/16").stdout);
    eventually("the first pass", PATIENCE, || source().contains("dev linkspan0"));
    assert!(!source().contains("src"), "{}", source());
    assert!(node.plan(&desired).contains("no IPv4 address inside its pod CIDRs"));
    node.run("ip address add 10.42.0.1/24 dev cni0");
    eventually("the source", PATIENCE, || source().contains("src 10.42.0.1"));
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn foreign_objects_are_never_touched() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    node.run(
        "ip link add linkspan-nodes type bridge
         ip link add wg0 type veth peer name wg1
         ip link set wg0 alias wireguard
         ip route add 10.52.7.0/24 dev cni0 table 10810 proto static
         ip route add 10.52.0.0/16 dev cni0 metric 100 proto 108
         ip rule add priority 450 from 10.42.0.7 lookup 10810
         nft add table inet other; nft add chain inet other linkspan
         nft add table ip linkspan",
    );
    let before = node.snapshot();
    add_tun(&node);
    let report = node.pass(&small());
    assert!(report.contains("# link linkspan-nodes belongs to another program"), "{report}");
    node.pass(&Desired::nothing());
    assert_eq!(node.snapshot(), before);
}

#[test]
fn a_large_clusterset_is_written_at_once_and_then_left_alone() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    add_tun(&node);
    let start = Instant::now();
    let actions = node.pass(&large()).lines().count();
    let took = start.elapsed();
    // Two routes for each of 5 000 prefixes; a link made, two set, an address, a table, two routes to pods, four rules.
    assert_eq!(actions, 10_011);
    println!("10 011 actions took {took:?}");
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(node.pass(&large()), "");
}

#[test]
fn a_worker_changes_to_another_gateway_in_place() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let gateway = |name: &str, address: &str| Node {
        name: name.into(),
        address: address.parse().unwrap(),
        pod_cidrs: Vec::new(),
    };
    let mut worker = small();
    worker.nodes.extend([gateway("n2", "192.168.42.4")]);
    worker.gateways = vec!["n1".into(), "n2".into()];
    worker.active_gateway = Some("n1".into());
    worker.tunnel = None;
    node.pass(&worker);
    worker.active_gateway = Some("n2".into());
    assert_eq!(
        node.pass(&worker),
        "replace route 10.52.0.0/16 encap ip id 10810 src 192.168.42.2 dst 192.168.42.4 dev linkspan-nodes src 10.42.0.1 table 10810 metric 100\n\
         replace route fd52::/56 encap ip id 10810 src 192.168.42.2 dst 192.168.42.4 dev linkspan-nodes src fd42::1 table 10810 metric 100\n"
    );
    // The link's MTU is that of eth0 less 36 bytes of outer IPv4, UDP and VXLAN.
    assert!(node.run("ip link show linkspan-nodes").contains("mtu 1464"));
    // Where the gateway's tunnel takes less, so does it.
    worker.vxlan.most = Some(1420);
    assert_eq!(
        node.pass(&worker),
        "set link linkspan-nodes alias linkspan mtu 1420 rp_filter loose addrgenmode none up\n"
    );
    assert!(node.run("ip link show linkspan-nodes").contains("mtu 1420"));
}

#[test]
fn a_vxlan_link_of_another_port_or_name_is_made_anew() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    add_tun(&node);
    node.pass(&small());
    for vxlan in
        [Vxlan { port: 4791, ..Vxlan::default() }, Vxlan { link: "other".into(), port: 4791, ..Vxlan::default() }]
    {
        let changed = Desired { vxlan, ..small() };
        node.pass(&changed);
        assert_eq!(node.plan(&changed), "");
        assert_eq!(node.run("ip -d link show type vxlan | grep -c dstport").trim(), "1");
    }
}
