//! What packets may measure where they leave a node.

use crate::lab::{Lab, Namespace, PATIENCE, eventually, text};

/// Behind the router.
const FAR: [&str; 2] = ["198.51.100.7", "2001:db8:2::7"];

/// A node and its router, on a link of 1700 bytes; beyond the router, a link takes 1300.
fn node(lab: &mut Lab) -> Namespace {
    let (node, router) = (lab.namespace("node"), lab.namespace("router"));
    node.run(&format!("ip link add uplink mtu 1700 type veth peer name lan mtu 1700 netns {}", router.name));
    router.run(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip link set lan up
         ip address add 192.0.2.7/24 dev lan; ip address add 2001:db8:1::7/64 dev lan nodad
         ip link add far type bridge; ip link set far mtu 1300 up
         ip address add 198.51.100.1/24 dev far; ip address add 2001:db8:2::1/64 dev far nodad",
    );
    node.run(
        "ip link set uplink up
         ip address add 192.0.2.1/24 dev uplink; ip address add 2001:db8:1::1/64 dev uplink nodad
         ip route add 198.51.100.0/24 via 192.0.2.7
         ip route add 2001:db8:2::/64 via 2001:db8:1::7",
    );
    node
}

#[test]
fn what_the_path_has_told_of_its_mtu_does_not_count() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    for far in FAR {
        assert_eq!(node.mtu(far), Some(1700), "{far}");
        eventually("the router tells", PATIENCE, || {
            node.attempt(&format!("ping -M do -c 1 -W 1 -s 1500 {far}"));
            node.run(&format!("ip route get {far}")).contains("mtu 1300")
        });
        assert_eq!(node.mtu(far), Some(1700), "{far}");
    }
}

#[test]
fn the_mtu_is_that_of_the_link_or_what_somebody_has_given_the_route() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let [far, _] = FAR;
    node.run("ip link set uplink mtu 1600");
    assert_eq!(node.mtu(far), Some(1600));
    node.run("ip route replace 198.51.100.0/24 via 192.0.2.7 mtu 1400");
    assert_eq!(node.mtu(far), Some(1400));
    node.run("ip route replace 198.51.100.0/24 via 192.0.2.7 mtu 9000");
    assert_eq!(node.mtu(far), Some(1600));
    assert_eq!(node.mtu("192.0.2.7"), Some(1600), "a neighbour");
    assert_eq!(node.mtu("192.0.2.1"), None, "its own address");
    assert_eq!(node.mtu("203.0.113.1"), None, "no route");
    node.run("ip route del 198.51.100.0/24");
    assert_eq!(node.mtu(far), None);
}

#[test]
fn the_smallest_of_several_next_hops_counts_however_they_are_written() {
    let mut lab = Lab::new();
    let node = node(&mut lab);
    let [far, _] = FAR;
    node.run(
        "ip link add other type bridge; ip link set other mtu 1450 up; ip address add 192.0.3.1/24 dev other
         ip route replace 198.51.100.0/24 nexthop via 192.0.2.7 nexthop via 192.0.3.7",
    );
    assert_eq!(node.mtu(far), Some(1450));
    node.run(
        "ip route del 198.51.100.0/24
         ip nexthop add id 1 via 192.0.3.7 dev other
         ip route add 198.51.100.0/24 nhid 1",
    );
    assert_eq!(node.mtu(far), Some(1450));
    let quiet =
        text(&node.attempt("sysctl -w net.ipv4.nexthop_compat_mode=0; ip route get fibmatch 198.51.100.7").stdout);
    assert!(!quiet.contains("dev other"), "the link is not told: {quiet}");
    assert_eq!(node.mtu(far), Some(1450));
}
