use controller::node::counters::{Hook, Link, Only, Pair, Protocol};

use super::judge::{Exactness, judge, words};
use super::*;
use crate::kubectl::picture::Part;
use crate::kubectl::picture::samples::healthy;
use crate::kubectl::why::{client, goal, goal_targets, parse};

fn planned(from: &str, to: &str, echo: Option<u16>) -> Plan {
    let picture = healthy();
    let end = |text: &str| parse::end(text, &["paris", "berlin"]).unwrap();
    let from = client(&picture, &end(from), "default").unwrap();
    let (to, port) = (goal(&picture, &from, &end(to), "default").unwrap(), end(to).port);
    plan(&picture, &from, &goal_targets(&from, &to, port), echo).unwrap()
}

fn told(plan: &Plan, at: usize) -> Vec<(Way, &str, &str)> {
    plan.routes[at].spots.iter().map(|spot| (spot.way, spot.node.as_str(), words(spot))).collect()
}

fn pair(client: &str, server: &str) -> Pair {
    Pair { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

#[test]
fn between_workers_a_flow_passes_both_gateways_and_comes_back_the_same_way() {
    let plan = planned("client", "berlin/on-berlin-2:80", None);
    assert_eq!(
        told(&plan, 0),
        [
            (Way::There, "paris-2", "in from the network plugin"),
            (Way::There, "paris-2", "out to a node"),
            (Way::There, "paris-1", "in from a node"),
            (Way::There, "paris-1", "out into the tunnel"),
            (Way::There, "berlin-1", "in from the tunnel"),
            (Way::There, "berlin-1", "out to a node"),
            (Way::There, "berlin-2", "in from a node"),
            (Way::There, "berlin-2", "out to the network plugin"),
            (Way::Back, "berlin-2", "in from the network plugin"),
            (Way::Back, "berlin-2", "out to a node"),
            (Way::Back, "berlin-1", "in from a node"),
            (Way::Back, "berlin-1", "out into the tunnel"),
            (Way::Back, "paris-1", "in from the tunnel"),
            (Way::Back, "paris-1", "out to a node"),
            (Way::Back, "paris-2", "in from a node"),
            (Way::Back, "paris-2", "out to the network plugin"),
        ]
    );
    let nodes: Vec<&str> = plan.flows.keys().map(|(_, node)| node.as_str()).collect();
    assert_eq!(nodes, ["berlin-1", "berlin-2", "paris-1", "paris-2"]);
    for flow in plan.flows.values() {
        assert_eq!(flow.pairs, [pair("10.42.1.7", "10.52.1.9")]);
        assert_eq!(flow.only, Some(Only::Port { protocol: Protocol::Tcp, port: 80 }));
    }
}

#[test]
fn a_gateway_sends_into_the_tunnel_itself_and_packets_of_a_node_do_not_come_in() {
    let plan = planned("node/paris-1", "berlin/on-berlin-1", Some(7));
    assert_eq!(
        told(&plan, 0),
        [
            (Way::There, "paris-1", "out into the tunnel"),
            (Way::There, "berlin-1", "in from the tunnel"),
            (Way::There, "berlin-1", "out to the network plugin"),
            (Way::Back, "berlin-1", "in from the network plugin"),
            (Way::Back, "berlin-1", "out into the tunnel"),
            (Way::Back, "paris-1", "in from the tunnel"),
        ]
    );
    assert!(plan.flows.values().all(|flow| flow.only == Some(Only::Echo { identifier: 7 })));
}

#[test]
fn each_endpoint_is_called_from_the_clients_address_of_its_family() {
    let mut picture = healthy();
    for (cluster, prefix) in picture.clusters.iter_mut().zip(["fd42::/56", "fd52::/56"]) {
        let Part::Seen(pods) = &mut cluster.pods else { panic!("pods were seen") };
        for pod in pods.iter_mut().filter(|pod| pod.metadata.namespace.as_deref() == Some("default")) {
            let status = pod.status.as_mut().unwrap();
            let last = status.pod_ip.clone().unwrap().rsplit('.').next().unwrap().to_owned();
            let ip = format!("{}{last}", prefix.trim_end_matches("/56"));
            status
                .pod_ips
                .get_or_insert_default()
                .push(serde_json::from_value(serde_json::json!({ "ip": ip })).unwrap());
        }
    }
    for cluster in &mut picture.clusters {
        let Part::Seen(members) = &mut cluster.members else { panic!("Members were seen") };
        for member in members {
            let prefix = if member.spec.cluster_id == "paris" { "fd42::/56" } else { "fd52::/56" };
            member.spec.pod_cidrs.push(prefix.to_owned());
        }
        let Part::Seen(slices) = &mut cluster.slices else { panic!("slices were seen") };
        let imported = slices.iter().find(|slice| slice.metadata.name.as_deref() == Some("imported-web-berlin"));
        let mut other = imported.unwrap().clone();
        other.address_type = "IPv6".to_owned();
        other.endpoints.truncate(1);
        other.endpoints[0].addresses = vec!["fd52::9".to_owned()];
        slices.push(other);
    }
    let end = |text: &str| parse::end(text, &["paris", "berlin"]).unwrap();
    let from = client(&picture, &end("client"), "default").unwrap();
    let to = goal(&picture, &from, &end("web"), "default").unwrap();
    let plan = plan(&picture, &from, &goal_targets(&from, &to, None), None).unwrap();
    let pairs = &plan.flows.iter().find(|((_, node), _)| node == "paris-1").unwrap().1.pairs;
    assert_eq!(pairs, &[pair("10.42.1.7", "10.52.0.9"), pair("10.42.1.7", "10.52.1.9"), pair("fd42::7", "fd52::9")]);
}

#[test]
fn endpoints_of_a_service_are_counted_one_by_one() {
    let plan = planned("client", "web", None);
    let servers: Vec<String> = plan.routes.iter().map(|route| route.target.address.to_string()).collect();
    assert_eq!(servers, ["10.52.0.9", "10.52.1.9"]);
    let of = |node: &str| &plan.flows.iter().find(|((_, name), _)| name == node).unwrap().1.pairs;
    assert_eq!(of("berlin-1"), &[pair("10.42.1.7", "10.52.0.9"), pair("10.42.1.7", "10.52.1.9")]);
    assert_eq!(of("berlin-2"), &[pair("10.42.1.7", "10.52.1.9")]);
    assert_eq!((plan.pair(1, "berlin", "berlin-1"), plan.pair(1, "berlin", "berlin-2")), (1, 0));
}

/// Places of a short way, with what was counted there.
fn counted(packets: &[Option<u64>]) -> Vec<Counted> {
    let places = [
        (Way::There, "paris", "paris-2", Link::Vxlan, Hook::Out),
        (Way::There, "paris", "paris-1", Link::Vxlan, Hook::In),
        (Way::There, "paris", "paris-1", Link::Tunnel, Hook::Out),
        (Way::There, "berlin", "berlin-1", Link::Tunnel, Hook::In),
        (Way::Back, "berlin", "berlin-1", Link::Tunnel, Hook::Out),
        (Way::Back, "paris", "paris-1", Link::Tunnel, Hook::In),
    ];
    let spots = places.into_iter().map(|(way, cluster, node, link, hook)| Spot {
        way,
        cluster: cluster.to_owned(),
        node: node.to_owned(),
        link,
        hook,
    });
    spots.zip(packets).map(|(spot, &packets)| Counted { spot, packets, unseen: String::new() }).collect()
}

#[test]
fn the_first_place_at_which_packets_are_missing_is_told() {
    let lost = |packets: [u64; 6], exactness| {
        judge(&counted(&packets.map(Some)), (exactness == Exactness::Each).then_some(20), exactness)
            .map(|loss| (loss.reason, loss.before, loss.behind))
    };
    let told = |reason: &str, before, behind| Some((reason.to_owned(), before, behind));
    let each = |packets| lost(packets, Exactness::Each);
    assert_eq!(each([20, 20, 20, 20, 20, 20]), None);
    assert_eq!(each([0, 0, 0, 0, 0, 0]), told("NothingSent", 20, 0));
    assert_eq!(each([20, 0, 0, 0, 0, 0]), told("BetweenNodes", 20, 0));
    assert_eq!(each([20, 20, 0, 0, 0, 0]), told("OnNode", 20, 0));
    assert_eq!(each([20, 20, 20, 17, 17, 17]), told("InTunnel", 20, 17));
    assert_eq!(each([20, 20, 20, 20, 0, 0]), told("NoAnswer", 20, 0));
    assert_eq!(each([20, 20, 20, 20, 20, 1]), told("InTunnel", 20, 1));
    // What segmentation offload counts as one here and as many there is no loss.
    let any = |packets| lost(packets, Exactness::Any);
    assert_eq!(any([9, 9, 30, 4, 12, 12]), None);
    assert_eq!(any([9, 9, 30, 0, 0, 0]), told("InTunnel", 30, 0));
    assert_eq!(any([0, 0, 0, 0, 0, 0]), told("NothingSent", 0, 0));
}

#[test]
fn a_node_that_cannot_count_hides_no_loss_behind_it_and_is_told() {
    let blind = counted(&[Some(20), None, None, Some(20), Some(20), Some(20)]);
    assert_eq!(judge(&blind, Some(20), Exactness::Each), None);
    let lossy = counted(&[Some(20), None, None, Some(5), Some(5), Some(5)]);
    let loss = judge(&lossy, Some(20), Exactness::Each).unwrap();
    assert_eq!(loss.between, "out to a node on paris-2 of paris and in from the tunnel on berlin-1 of berlin");
    let trace = |spots, loss| Trace { from: String::new(), to: String::new(), sent: String::new(), spots, loss };
    assert_eq!(exit_code(&[trace(blind, None)]), 3);
    assert_eq!(exit_code(&[trace(lossy, Some(loss))]), 1);
    assert_eq!(exit_code(&[trace(counted(&[Some(1); 6]), None)]), 0);
}

#[test]
fn a_trace_is_shown_place_by_place_with_the_loss_below() {
    let spots = counted(&[Some(20), Some(0)]);
    let loss = judge(&spots, Some(20), Exactness::Each);
    let trace = Trace {
        from: "node paris-2".to_owned(),
        to: "web (10.52.0.9)".to_owned(),
        sent: "20 sent".to_owned(),
        spots,
        loss,
    };
    let drawn = render(&[trace], crate::kubectl::output::Format::Table, crate::kubectl::output::Screen::default());
    assert_eq!(
        drawn.unwrap(),
        "node paris-2 -> web (10.52.0.9): 20 sent
WAY    CLUSTER  NODE     PLACE           PACKETS
there  paris    paris-2  out to a node   20
there  paris    paris-1  in from a node  0

Lost between out to a node on paris-2 of paris and in from a node on paris-1 of paris: 0 of 20 came.
  VXLAN packets from paris-2 do not come to paris-1: something blocks their UDP port
  fix: see `kubectl linkspan diagnose firewall --context paris`
"
    );
}
