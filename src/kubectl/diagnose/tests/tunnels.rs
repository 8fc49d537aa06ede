//! Tunnels between gateways.

use super::*;

/// Both ends call, and hear each other or not.
fn silence(picture: &mut Picture, paris_hears: bool, berlin_hears: bool) {
    let set = |cluster: &mut ClusterPicture, peer: &str, hears: bool| {
        alter_peer(cluster, peer, |peer| {
            peer.state = "down".to_owned();
            peer.heard_seconds = Some(if hears { 3.0 } else { 95.0 });
            peer.calls_sent = 20;
            peer.calls_heard = if hears { 18 } else { 0 };
        });
    };
    set(paris(picture), "berlin", paris_hears);
    set(berlin(picture), "paris", berlin_hears);
}

#[test]
fn udp_that_is_blocked_one_way_is_told_with_its_direction() {
    let mut picture = healthy();
    silence(&mut picture, true, false);
    let finding = found(&picture, "paris", "UdpBlockedOneWay");
    assert_eq!(
        (finding.check, finding.state, finding.object.as_str()),
        (Check::Firewall, State::Failed, "cluster/berlin")
    );
    assert!(
        finding.cause.starts_with("UDP from paris does not arrive at berlin (192.168.8.11:51820)"),
        "{}",
        finding.cause
    );
    assert!(finding.evidence.contains("18 of its own arrived"), "{}", finding.evidence);
    // Seen from the other end it is the same direction.
    let finding = found(&picture, "berlin", "UdpBlockedOneWay");
    assert!(finding.cause.starts_with("UDP from paris does not arrive at berlin"), "{}", finding.cause);
    assert_eq!(exit_code(&diagnose(&picture)), 1);
}

#[test]
fn udp_that_is_blocked_both_ways_is_told_as_such() {
    let mut picture = healthy();
    silence(&mut picture, false, false);
    let finding = found(&picture, "berlin", "UdpBlockedBothWays");
    assert_eq!(finding.check, Check::Firewall);
    assert!(finding.cause.contains("in neither direction"), "{}", finding.cause);
}

#[test]
fn a_rule_on_a_gateway_that_drops_the_tunnel_is_named() {
    let mut picture = healthy();
    silence(&mut picture, true, false);
    let drop = hit(Effect::Drop, "inet fw input", "udp dport 51820 drop", true);
    alter(berlin(&mut picture), "berlin-1", |node| {
        for packet in node.inspection.packets.iter_mut().filter(|packet| packet.of.port == Some(51820)) {
            packet.hits.push(drop.clone());
        }
    });
    let finding = found(&picture, "paris", "FirewallRule");
    assert!(
        finding.evidence.contains("on node berlin-1, chain inet fw input drops udp from 192.168"),
        "{}",
        finding.evidence
    );
    assert!(finding.evidence.ends_with("udp dport 51820 drop"), "{}", finding.evidence);
}

#[test]
fn a_wrong_key_is_told_with_both_keys() {
    let mut picture = healthy();
    silence(&mut picture, false, false);
    let stale = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    alter_peer(paris(&mut picture), "berlin", |peer| peer.public_key = stale.to_owned());
    let finding = found(&picture, "paris", "WrongKey");
    assert_eq!((finding.check, finding.state), (Check::Connections, State::Failed));
    assert!(finding.evidence.contains(stale) && finding.evidence.contains("xTIBA5rb"), "{}", finding.evidence);
    // The other end names the same matter.
    assert_eq!(found(&picture, "berlin", "WrongKey").evidence, finding.evidence);
}

#[test]
fn without_the_other_end_what_is_known_is_told() {
    let mut picture = healthy();
    silence(&mut picture, true, false);
    picture.clusters.truncate(1);
    assert!(found(&picture, "paris", "UdpBlockedOneWay").cause.contains("whose own calls arrive here"));
    let mut picture = healthy();
    silence(&mut picture, false, false);
    picture.clusters.truncate(1);
    assert!(found(&picture, "paris", "PeerDown").fix.contains("name the context of berlin, too"));
}

#[test]
fn a_member_without_a_gateway_is_told() {
    let mut picture = healthy();
    silence(&mut picture, false, false);
    let Part::Seen(members) = &mut paris(&mut picture).members else { panic!() };
    members[1].spec.gateways.clear();
    assert_eq!(found(&picture, "paris", "NoGateway").evidence, "Member berlin names no gateway");
    // Nobody plans routes to it, so that nothing is said of where packets to it go, and nobody is asked.
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.lookups[0].way = Way { link: Some("eth0".to_owned()), table: 254, ..Way::default() };
    });
    assert!(told(&picture).iter().all(|finding| finding.0 != Check::Cni), "{:?}", told(&picture));
    let asked = &questions(&picture)[0]["paris-2"];
    assert_eq!((asked.lookups.len(), asked.packets.iter().filter(|packet| packet.protocol == "tcp").count()), (0, 0));
}

#[test]
fn a_tunnel_that_just_comes_up_is_a_warning() {
    let mut picture = healthy();
    silence(&mut picture, true, true);
    assert_eq!(found(&picture, "paris", "Connecting").state, State::Warning);
    assert_eq!(exit_code(&diagnose(&picture)), 0);
}

#[test]
fn a_dead_gateway_pod_is_told_in_its_cluster_and_to_its_peers() {
    let mut picture = healthy();
    alter_peer(paris(&mut picture), "berlin", |peer| peer.state = "down".to_owned());
    berlin(&mut picture).inspections.remove("berlin-1");
    let Part::Seen(pods) = &mut berlin(&mut picture).pods else { panic!() };
    let gateway = pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some("linkspan-node-1")).unwrap();
    let status = gateway.status.as_mut().unwrap();
    status.conditions.as_mut().unwrap()[0].status = "False".to_owned();
    status.container_statuses.as_mut().unwrap()[0].state =
        Some(serde_json::from_value(json!({ "waiting": { "reason": "CrashLoopBackOff" } })).unwrap());
    // Its Lease is no longer renewed.
    let Part::Seen(server) = &mut berlin(&mut picture).server else { panic!() };
    server.clock = Some(Clock { before: 160_000, from: 160_000, to: 160_999, after: 160_000 });
    for cluster in &mut picture.clusters {
        cluster.inspections.clear();
    }
    let dead = found(&picture, "berlin", "GatewayPodDead");
    assert_eq!((dead.check, dead.object.as_str()), (Check::Nodes, "node/berlin-1"));
    assert!(
        dead.evidence.contains("not ready (CrashLoopBackOff); its Lease was renewed 60 s ago"),
        "{}",
        dead.evidence
    );
    assert_eq!(found(&picture, "paris", "PeerGatewayDown").object, "cluster/berlin");
}

#[test]
fn a_gateway_that_renews_its_lease_works_whatever_its_readiness_says() {
    let mut picture = healthy();
    let Part::Seen(pods) = &mut paris(&mut picture).pods else { panic!() };
    pods[0].status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    let findings = told(&picture);
    assert_eq!(findings, [is(Check::Nodes, "paris", "node/paris-1", State::Failed, "NodePodNotReady")]);
}

/// Shifts when the gateway of paris has renewed its Lease, as its own clock says.
fn renew(picture: &mut Picture, time: &str) {
    let Part::Seen(leases) = &mut paris(picture).leases else { panic!() };
    leases[0].spec.as_mut().unwrap().renew_time = serde_json::from_value(json!(time)).unwrap();
}

#[test]
fn a_gateway_whose_clock_is_behind_is_alive() {
    let mut picture = healthy();
    // It has just renewed the Lease, and says that it was 20 s ago.
    renew(&mut picture, "1970-01-01T00:01:20.000000Z");
    alter(paris(&mut picture), "paris-1", |node| {
        node.clock = Some(Clock { before: 100_100, from: 80_150, to: 80_150, after: 100_200 });
    });
    assert_eq!(told(&picture), [is(Check::Clock, "paris", "node/paris-1", State::Warning, "ClockOff")]);
    // The same where nobody could ask the node.
    for cluster in &mut picture.clusters {
        cluster.inspections.clear();
    }
    assert!(diagnose(&picture).iter().all(|finding| finding.state != State::Failed));
}

#[test]
fn a_process_that_hangs_lets_its_lease_go_and_is_told_by_its_own_clock() {
    let mut picture = healthy();
    renew(&mut picture, "1970-01-01T00:01:00.000000Z");
    alter_peer(paris(&mut picture), "berlin", |peer| peer.state = "down".to_owned());
    let dead = found(&picture, "paris", "GatewayPodDead");
    assert!(dead.evidence.ends_with("its Lease was renewed 40 s ago"), "{}", dead.evidence);
    // With a tunnel that is up it carries traffic, whatever becomes of the Lease.
    alter_peer(paris(&mut picture), "berlin", |peer| peer.state = "up".to_owned());
    let up = diagnose(&picture).into_iter().find(|f| f.check == Check::Connections && f.cluster == "paris").unwrap();
    assert_eq!((up.state, up.object.as_str()), (State::Ok, "cluster/berlin"));
}
