//! What programs in pods and on nodes see: two clusters with flannel's and kube-proxy's rules, joined by a relay.

use std::net::IpAddr;

use controller::node::Desired;
use controller::node::counters::{
    Flow, Hook, Link, Pair, counts, delete_commands, install_commands, table_name, tables,
};
use controller::node::state::Family;

use crate::lab::{Lab, Namespace, PATIENCE, eventually, text};
use crate::site::{KubeProxy, Site, attach, join};

struct Joined {
    lab: Lab,
    paris: Site,
    berlin: Site,
}

fn joined() -> Joined {
    joined_over(Family::V4)
}

/// Two clusters, whose nodes reach each other over this family.
fn joined_over(underlay: Family) -> Joined {
    let mut lab = Lab::new();
    let paris = Site::new(&mut lab, 42, KubeProxy::Iptables);
    let berlin = Site::new(&mut lab, 52, KubeProxy::Nftables);
    join(&mut lab, [&paris, &berlin]);
    for (site, other) in [(&paris, &berlin), (&berlin, &paris)] {
        for index in [0, 1] {
            let mut desired = site.desired(index, &[other]);
            if underlay == Family::V6 {
                desired.nodes.iter_mut().zip(2..).for_each(|(node, last)| {
                    node.address = format!("fdaa:{}::{last}", site.number).parse().unwrap();
                });
            }
            site.nodes[index].namespace.pass(&desired);
        }
    }
    let joined = Joined { lab, paris, berlin };
    for (site, index) in [(&joined.paris, 0), (&joined.paris, 1), (&joined.berlin, 0), (&joined.berlin, 1)] {
        let pod = &site.nodes[index].pod;
        for own in [site.pod_address(index), site.pod_address_v6(index)] {
            eventually("a pod's server", PATIENCE, || source_seen(pod, &own.to_string(), 8080).is_ok());
        }
    }
    // The relays need a moment to attach to their links.
    let (pod, to) = (&joined.paris.nodes[0].pod, joined.berlin.pod_address(0));
    eventually("the relays", PATIENCE, || pod.attempt(&format!("ping -c1 -W1 {to}")).status.success());
    joined
}

/// The address that a server at `to` sees when a program in `client` connects to it.
fn source_seen(client: &Namespace, to: &str, port: u16) -> Result<IpAddr, String> {
    let to = if to.contains(':') { format!("TCP6:[{to}]") } else { format!("TCP4:{to}") };
    let output = client.attempt(&format!("timeout 30 socat -u {to}:{port},connect-timeout=30 -"));
    let answer = text(&output.stdout);
    answer.trim().trim_matches(['[', ']']).parse().map_err(|_| format!("{answer}{}", text(&output.stderr)))
}

#[test]
fn pods_of_all_nodes_reach_each_other_with_their_own_source() {
    assert_all_pods_reach_each_other(&joined());
}

#[test]
fn nodes_may_reach_each_other_over_ipv6() {
    let joined = joined_over(Family::V6);
    assert_all_pods_reach_each_other(&joined);
    // Large packets go through the VXLAN link, too: its MTU leaves room for IPv6.
    let worker = &joined.paris.nodes[1];
    assert!(worker.namespace.run("ip link show linkspan-nodes").contains("mtu 1444"));
    worker.pod.run(&format!("ping -c1 -W30 -s 1300 {}", joined.berlin.pod_address(1)));
}

fn assert_all_pods_reach_each_other(Joined { paris, berlin, .. }: &Joined) {
    for (from, to) in [(paris, berlin), (berlin, paris)] {
        for (client, server) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let pod = &from.nodes[client].pod;
            let seen = source_seen(pod, &to.pod_address(server).to_string(), 8080);
            assert_eq!(seen, Ok(from.pod_address(client)), "{} pod {client} to pod {server}", from.number);
            let seen = source_seen(pod, &to.pod_address_v6(server).to_string(), 8080);
            assert_eq!(seen, Ok(from.pod_address_v6(client)), "{} pod {client} to pod {server}, IPv6", from.number);
            pod.run(&format!("ping -c1 -W30 {}; ping -c1 -W30 {}", to.pod_address(server), to.pod_address_v6(server)));
        }
    }
}

#[test]
fn services_in_front_of_pods_keep_the_source_too() {
    let Joined { paris, berlin, lab: _lab } = joined();
    for (from, to) in [(&paris, &berlin), (&berlin, &paris)] {
        for client in [0, 1] {
            let pod = &from.nodes[client].pod;
            let own = from.pod_address(client);
            assert_eq!(source_seen(pod, &to.service(), 80), Ok(own), "to the other cluster's service");
            assert_eq!(source_seen(pod, &from.derived_service(), 80), Ok(own), "to a service with a backend there");
        }
    }
}

#[test]
fn nodes_reach_pods_and_services_from_an_address_of_their_pod_cidr() {
    let Joined { paris, berlin, lab: _lab } = joined();
    for (from, to) in [(&paris, &berlin), (&berlin, &paris)] {
        for client in [0, 1] {
            let node = &from.nodes[client].namespace;
            let own: IpAddr = format!("10.{}.{client}.1", from.number).parse().unwrap();
            let own_v6: IpAddr = format!("fd{}:0:0:{client}::1", from.number).parse().unwrap();
            for server in [0, 1] {
                assert_eq!(source_seen(node, &to.pod_address(server).to_string(), 8080), Ok(own));
                assert_eq!(source_seen(node, &to.pod_address_v6(server).to_string(), 8080), Ok(own_v6));
            }
            assert_eq!(source_seen(node, &to.service(), 80), Ok(own));
            assert_eq!(source_seen(node, &from.derived_service(), 80), Ok(own));
        }
    }
}

/// What the others prove is worth something only if these rules do harm when they are let.
#[test]
fn without_our_table_the_source_is_lost() {
    let Joined { paris, berlin, lab: _lab } = joined();
    paris.nodes[1].namespace.run("nft delete table inet linkspan; conntrack -F 2>/dev/null");
    let seen = source_seen(&paris.nodes[1].pod, &berlin.pod_address(1).to_string(), 8080);
    assert_ne!(seen, Ok(paris.pod_address(1)));
}

#[test]
fn a_restart_loses_no_packet() {
    let Joined { paris, berlin, lab: _lab } = joined();
    let to = berlin.pod_address(1);
    let pings = std::thread::scope(|scope| {
        // It goes on until there are 200 answers, so that a late one counts.
        let pings = scope.spawn(|| paris.nodes[1].pod.run(&format!("ping -i 0.05 -c 200 -w 60 {to}")));
        while !pings.is_finished() {
            for index in [0, 1] {
                let done = paris.nodes[index].namespace.pass(&paris.desired(index, &[&berlin]));
                assert_eq!(done, "", "a pass over what is there already writes nothing");
            }
        }
        pings.join().unwrap()
    });
    assert!(pings.contains("icmp_seq=200 ") && !pings.contains("icmp_seq=201 "), "{pings}");
}

#[test]
fn traffic_for_members_is_refused_and_never_leaks_when_there_is_no_way() {
    let Joined { paris, berlin, lab: _lab } = joined();
    let gateway = &paris.nodes[0].namespace;
    let to = berlin.pod_address(0);
    gateway.run("ip link del linkspan0");
    let refused = gateway.attempt(&format!("ip route get {to} from 10.42.0.5 iif cni0"));
    assert!(text(&refused.stderr).contains("No route to host"), "{}{}", text(&refused.stdout), text(&refused.stderr));

    let worker = &paris.nodes[1].namespace;
    let nowhere = Desired { active_gateway: None, ..paris.desired(1, &[&berlin]) };
    worker.pass(&nowhere);
    let answer = text(&paris.nodes[1].pod.attempt(&format!("ping -c1 -W30 {to}")).stdout);
    assert!(answer.contains("Destination Host Unreachable"), "{answer}");
}

#[test]
fn hosts_beside_the_nodes_cannot_inject_packets() {
    let Joined { mut lab, paris, berlin } = joined();
    let stranger = lab.namespace("stranger");
    attach(&stranger, &paris.switch, 7, 42);
    let (from, to) = (berlin.pod_address(0), paris.pod_address(1));
    stranger.run(&format!(
        "ip link add vx type vxlan external gpe dstport 4790; ip link set vx up
         ip address add {from}/32 dev lo
         ip route add {to} encap ip id 10810 dst 192.168.42.3 dev vx src {from}"
    ));
    let counter = "nft list chain inet linkspan prerouting | grep 'but not from a node of this cluster'";
    let worker = &paris.nodes[1].namespace;
    assert!(worker.run(counter).contains("packets 0 "), "{}", worker.run(counter));
    drop(stranger.attempt(&format!("ping -c3 -i 0.2 -W1 -I {from} {to}")));
    eventually("all are dropped", PATIENCE, || worker.run(counter).contains("packets 3 "));
}

#[test]
fn a_member_cannot_reach_beyond_this_clusters_prefixes() {
    let Joined { paris, berlin, lab: _lab } = joined();
    let target = "192.168.42.3";
    berlin.nodes[0].namespace.run(&format!("ip route add {target} dev linkspan0"));
    let ping = berlin.nodes[0].pod.attempt(&format!("ping -c3 -i 0.2 -W1 {target}"));
    assert!(!ping.status.success(), "{}", text(&ping.stdout));
    let gateway = &paris.nodes[0].namespace;
    let counter = "nft list chain inet linkspan prerouting | grep 'but not to this cluster' | head -1";
    eventually("all are dropped", PATIENCE, || gateway.run(counter).contains("packets 3 "));
}

#[test]
fn a_flow_is_counted_where_it_passes_and_counters_leave_no_trace() {
    let Joined { paris, berlin, lab: _lab } = joined();
    let pair = Pair { client: paris.pod_address(1), server: berlin.pod_address(1) };
    let table = table_name(7);
    let flow = |gateway: bool| Flow {
        pairs: vec![pair],
        only: None,
        tunnel: gateway.then(|| "linkspan0".to_owned()),
        vxlan: Some("linkspan-nodes".to_owned()),
    };
    let nodes = [&paris, &berlin].into_iter().flat_map(|site| [(site, 0), (site, 1)]);
    let rules = "nft -s list ruleset";
    let before: Vec<String> = nodes.clone().map(|(site, index)| site.nodes[index].namespace.run(rules)).collect();
    for (site, index) in nodes.clone() {
        nft(&site.nodes[index].namespace, &install_commands(&table, &flow(index == 0)));
    }
    paris.nodes[1].pod.run(&format!("ping -q -i 0.5 -c 5 -W 2 {}", pair.server));
    let counted = |site: &Site, index: usize| {
        let listing = serde_json::from_str(&site.nodes[index].namespace.run("nft -j list counters")).unwrap();
        let found = counts(&listing, &table, &flow(index == 0)).into_iter();
        found.map(|count| (count.link, count.hook, count.there, count.back)).collect::<Vec<_>>()
    };
    use Hook::{In, Out};
    let worker = [(Link::Vxlan, In, 0, 5), (Link::Vxlan, Out, 5, 0), (Link::Other, In, 5, 0), (Link::Other, Out, 0, 5)];
    // The last answer may be late for ping, and is counted here last of all.
    eventually("all are counted", PATIENCE, || counted(&paris, 1) == worker);
    let gateway = [
        (Link::Tunnel, In, 0, 5),
        (Link::Tunnel, Out, 5, 0),
        (Link::Vxlan, In, 5, 0),
        (Link::Vxlan, Out, 0, 5),
        (Link::Other, In, 0, 0),
        (Link::Other, Out, 0, 0),
    ];
    assert_eq!(counted(&paris, 0), gateway);
    // The other side's way back is this side's way there.
    let swapped =
        |all: &[(Link, Hook, u64, u64)]| -> Vec<_> { all.iter().map(|one| (one.0, one.1, one.3, one.2)).collect() };
    assert_eq!(counted(&berlin, 0), swapped(&gateway));
    assert_eq!(counted(&berlin, 1), swapped(&worker));
    for ((site, index), before) in nodes.zip(before) {
        let namespace = &site.nodes[index].namespace;
        let listing = serde_json::from_str(&namespace.run("nft -j list tables")).unwrap();
        assert_eq!(tables(&listing), ["linkspan-count-7"]);
        nft(namespace, &delete_commands(&table));
        assert_eq!(namespace.run(rules), before);
    }
}

fn nft(namespace: &Namespace, commands: &serde_json::Value) {
    namespace.run(&format!("nft -j -f - <<'END'\n{commands}\nEND"));
}
