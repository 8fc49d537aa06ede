//! What is wrong on one node.

use super::*;

#[test]
fn a_rule_of_others_that_masquerades_is_named_and_ours_is_not() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-1", |node| {
        let packet = node.inspection.packets.iter_mut().find(|packet| packet.of.protocol == "tcp").unwrap();
        packet.hits.push(hit(Effect::Masquerade, "inet foreign post", "ip daddr 10.52.0.0/16 masquerade", true));
    });
    alter(paris(&mut picture), "paris-2", |node| {
        let ours = Hit { ours: true, ..hit(Effect::Snat, "inet linkspan postrouting", "snat", true) };
        let perhaps = hit(Effect::Masquerade, "ip nat X", "xt masquerade", false);
        node.inspection.packets.iter_mut().for_each(|packet| packet.hits = vec![perhaps.clone(), ours.clone()]);
    });
    assert_eq!(told(&picture), [is(Check::Cni, "paris", "node/paris-1", State::Failed, "Masqueraded")]);
    let evidence = found(&picture, "paris", "Masqueraded").evidence;
    assert!(
        evidence.starts_with("chain inet foreign post masquerades packets from 10.42.0.2 to 10.52.0.1"),
        "{evidence}"
    );
}

#[test]
fn a_missing_route_on_one_node_is_told_with_where_packets_go_instead() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.lookups[0].way = Way { link: Some("eth0".to_owned()), table: 254, ..Way::default() };
    });
    assert_eq!(told(&picture), [is(Check::Cni, "paris", "node/paris-2", State::Failed, "MissingRoute")]);
    let finding = found(&picture, "paris", "MissingRoute");
    assert_eq!(finding.evidence, "packets to 10.52.0.1 leave by eth0 (table 254)");
    assert_eq!(finding.cause, "node paris-2 has no route of Linkspan's to berlin");
    // With our route in its place, another rule must come first.
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.routes = vec!["10.52.0.0/16 encap ip id 10810 src 192.168.7.12 dst 192.168.7.11 dev linkspan-nodes table 10810 metric 100".to_owned()];
    });
    assert!(found(&picture, "paris", "MissingRoute").cause.starts_with("a routing rule of another program"));
}

#[test]
fn a_worker_whose_vxlan_is_blocked_is_told_because_its_gateway_gets_answers() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.probes.iter_mut().for_each(|probe| probe.outcome = Outcome::Silent);
    });
    assert_eq!(told(&picture), [is(Check::Firewall, "paris", "node/paris-2", State::Failed, "VxlanBlocked")]);
    let finding = found(&picture, "paris", "VxlanBlocked");
    assert_eq!(finding.cause, "UDP port 4790 (VXLAN) between paris-2 and the gateway paris-1 is blocked");
    // A rule that rewrites the sources of this node's packets explains it.
    let mut rewritten = picture.clone();
    alter(paris(&mut rewritten), "paris-2", |node| {
        let packet = node.inspection.packets.iter_mut().find(|packet| packet.of.protocol == "tcp").unwrap();
        packet.hits.push(hit(Effect::Masquerade, "inet foreign post", "masquerade", true));
    });
    assert_eq!(told(&rewritten), [is(Check::Cni, "paris", "node/paris-2", State::Failed, "Masqueraded")]);
    // One that rewrites those to others does not.
    let mut other = picture.clone();
    alter(paris(&mut other), "paris-2", |node| {
        let packet = node.inspection.packets.iter().find(|packet| packet.of.protocol == "tcp").unwrap();
        let mut packet = packet.clone();
        packet.of.to = "10.62.0.1".parse().unwrap();
        packet.hits = vec![hit(Effect::Masquerade, "inet foreign post", "masquerade", true)];
        node.inspection.packets.push(packet);
    });
    assert_eq!(found(&other, "paris", "VxlanBlocked").object, "node/paris-2");
    // When the gateway gets none either, it is not the VXLAN.
    alter(paris(&mut picture), "paris-1", |node| {
        node.inspection.probes.iter_mut().for_each(|probe| probe.outcome = Outcome::Silent);
    });
    assert_eq!(told(&picture), []);
}

#[test]
fn a_node_whose_pass_does_not_put_things_right_is_told() {
    let mut picture = healthy();
    alter(berlin(&mut picture), "berlin-2", |node| {
        node.inspection.pending = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    });
    let finding = found(&picture, "berlin", "NotAsPlanned");
    assert_eq!(finding.evidence, "it would a; b; c and 1 more");
}

#[test]
fn a_clusterset_ip_that_kube_proxy_does_not_carry_is_told() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| node.inspection.services[0].programmed = Some(false));
    assert_eq!(told(&picture), [is(Check::KubeProxy, "paris", "node/paris-2", State::Failed, "VipNotProgrammed")]);
    assert!(found(&picture, "paris", "VipNotProgrammed").evidence.contains("10.43.0.77:80"));
}
