//! Each fault of which somebody may ask, in a picture in which all else is well.

use std::net::IpAddr;

use controller::node::Way;
use controller::node::filter::{Effect, Hit};
use serde_json::json;

use super::*;
use crate::kubectl::inspect::{Outcome, Probe};
use crate::kubectl::picture::Part;
use crate::kubectl::picture::samples::{alter, alter_peer, healthy, objects, pod};

/// What is not good: check, cluster, object, state and reason.
fn told(picture: &Picture) -> Vec<(Check, String, String, State, String)> {
    let bad = diagnose(picture).into_iter().filter(|finding| finding.state != State::Ok);
    bad.map(|finding| (finding.check, finding.cluster, finding.object, finding.state, finding.reason)).collect()
}

fn is(check: Check, cluster: &str, object: &str, state: State, reason: &str) -> (Check, String, String, State, String) {
    (check, cluster.to_owned(), object.to_owned(), state, reason.to_owned())
}

/// The one finding of this reason.
fn found(picture: &Picture, cluster: &str, reason: &str) -> Finding {
    let findings = diagnose(picture);
    let mut of_reason: Vec<Finding> =
        findings.into_iter().filter(|finding| finding.reason == reason && finding.cluster == cluster).collect();
    assert_eq!(of_reason.len(), 1, "{reason} in {cluster}: {of_reason:#?}");
    of_reason.remove(0)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn paris(picture: &mut Picture) -> &mut ClusterPicture {
    &mut picture.clusters[0]
}

fn berlin(picture: &mut Picture) -> &mut ClusterPicture {
    &mut picture.clusters[1]
}

/// A condition as the controller writes it.
fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
    let time = "2026-11-01T00:00:00Z";
    serde_json::from_value(
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time }),
    )
    .unwrap()
}

fn set_condition(
    cluster: &mut ClusterPicture,
    member: &str,
    new: k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition,
) {
    let Part::Seen(members) = &mut cluster.members else { panic!() };
    let member = members.iter_mut().find(|found| found.metadata.name.as_deref() == Some(member)).unwrap();
    let conditions = &mut member.status.as_mut().unwrap().conditions;
    conditions.retain(|condition| condition.type_ != new.type_);
    conditions.push(new);
}

#[test]
fn nothing_is_wrong_with_two_healthy_clusters_and_every_check_says_so() {
    let findings = diagnose(&healthy());
    assert_eq!(told(&healthy()), []);
    assert_eq!(exit_code(&findings), 0);
    for check in Check::ALL {
        for cluster in ["paris", "berlin"] {
            assert!(findings.iter().any(|f| f.check == check && f.cluster == cluster), "{check} of {cluster}");
        }
    }
}

// === Tunnels ===

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

fn hit(effect: Effect, place: &str, rule: &str, certain: bool) -> Hit {
    let hook = "any".to_owned();
    Hit { effect, place: place.to_owned(), hook, rule: rule.to_owned(), certain, ours: false }
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

use crate::kubectl::picture::Clock;

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

// === Clocks and sizes ===

#[test]
fn a_clock_that_is_off_is_told_and_the_right_ones_are_not() {
    let mut picture = healthy();
    let Part::Seen(server) = &mut berlin(&mut picture).server else { panic!() };
    server.clock = Some(Clock { before: 100_000, from: 700_000, to: 700_999, after: 100_050 });
    // The Lease was renewed by that clock, too.
    let Part::Seen(leases) = &mut berlin(&mut picture).leases else { panic!() };
    leases[0].spec.as_mut().unwrap().renew_time = serde_json::from_value(json!("1970-01-01T00:11:40.000000Z")).unwrap();
    assert_eq!(told(&picture), [is(Check::Clock, "berlin", "api-server", State::Failed, "ClockOff")]);
    assert_eq!(found(&picture, "berlin", "ClockOff").evidence, "599 s ahead of most other clocks");
}

#[test]
fn when_all_others_agree_it_is_this_machine_that_is_wrong() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(server) = &mut cluster.server else { panic!() };
        server.clock = Some(Clock { before: 200_000, from: 100_000, to: 100_999, after: 200_050 });
        for node in cluster.node_names() {
            alter(cluster, &node, |node| {
                node.clock = Some(Clock { before: 200_000, from: 100_900, to: 100_900, after: 200_050 })
            });
        }
    }
    let finding = found(&picture, "paris", "ClockOff");
    assert_eq!(
        (finding.object.as_str(), finding.evidence.as_str()),
        ("this-machine", "99 s ahead of most other clocks")
    );
    assert_eq!(told(&picture).len(), 1);
}

#[test]
fn a_few_seconds_and_what_a_slow_answer_hides_are_no_fault() {
    assert_eq!(Clock { before: 1000, from: 900, to: 1899, after: 1100 }.offset(), 0);
    assert_eq!(Clock { before: 1000, from: 4000, to: 4000, after: 9000 }.offset(), 0);
    assert_eq!(Clock { before: 9000, from: 0, to: 999, after: 9100 }.offset(), -8001);
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.clock = Some(Clock { before: 0, from: 9000, to: 9000, after: 10 })
    });
    assert_eq!(found(&picture, "paris", "ClockOff").state, State::Warning);
}

#[test]
fn a_path_that_swallows_large_packets_is_told_with_the_size_that_passes() {
    let mut picture = healthy();
    alter_peer(paris(&mut picture), "berlin", |peer| peer.mtu = 1280);
    let finding = found(&picture, "paris", "MtuBlackHole");
    assert_eq!((finding.check, finding.state), (Check::Mtu, State::Warning));
    assert_eq!(finding.evidence, "packets of up to 1280 bytes reach berlin, and the link takes 1420");
}

#[test]
fn a_black_hole_before_the_tunnel_is_found_by_echo_requests_of_full_size() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        for probe in &mut node.inspection.probes {
            if matches!(probe.of, Probe::Ping { size: 1420, .. }) {
                probe.outcome = Outcome::Silent;
            }
        }
    });
    let finding = found(&picture, "paris", "MtuBlackHole");
    assert_eq!((finding.object.as_str(), finding.state), ("node/paris-2", State::Failed));
    assert!(
        finding.evidence.starts_with("10.52.0.1 answers small echo requests and none of 1420 bytes"),
        "{}",
        finding.evidence
    );
}

// === Nodes ===

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

// === The control plane ===

#[test]
fn a_broker_that_is_away_and_a_credential_that_is_refused_are_told_apart() {
    let mut picture = healthy();
    set_condition(
        berlin(&mut picture),
        "berlin",
        condition("BrokerReachable", "False", "Unreachable", "not reached since then"),
    );
    assert_eq!(told(&picture), [is(Check::Broker, "berlin", "member/berlin", State::Failed, "BrokerUnreachable")]);
    let mut picture = healthy();
    set_condition(berlin(&mut picture), "berlin", condition("Joined", "False", "CredentialRefused", "it was revoked"));
    assert_eq!(told(&picture), [is(Check::Broker, "berlin", "member/berlin", State::Failed, "CredentialRefused")]);
    assert_eq!(found(&picture, "berlin", "CredentialRefused").evidence, "CredentialRefused: it was revoked");
}

#[test]
fn a_member_that_is_not_heard_of_is_a_warning_to_the_others() {
    let mut picture = healthy();
    set_condition(paris(&mut picture), "berlin", condition("Alive", "False", "Silent", "last heard of then"));
    assert_eq!(told(&picture), [is(Check::Broker, "paris", "cluster/berlin", State::Warning, "MemberSilent")]);
}

#[test]
fn addresses_that_two_clusters_claim_are_told() {
    let mut picture = healthy();
    // The nodes of paris are in what berlin says are its pods.
    let Part::Seen(members) = &mut paris(&mut picture).members else { panic!() };
    members[1].spec.pod_cidrs = vec!["192.168.7.0/24".to_owned()];
    let finding = found(&picture, "paris", "Overlap");
    assert_eq!(
        (finding.check, finding.state, finding.object.as_str()),
        (Check::Overlap, State::Failed, "cluster/berlin")
    );
    assert!(finding.evidence.contains("192.168."), "{}", finding.evidence);
}

#[test]
fn a_cluster_that_gets_no_virtual_addresses_is_told() {
    let mut picture = healthy();
    set_condition(paris(&mut picture), "paris", condition("Virtual", "False", "PoolExhausted", "no block is left"));
    assert_eq!(told(&picture), [is(Check::Overlap, "paris", "cluster", State::Failed, "Overlap")]);
}

#[test]
fn versions_that_are_too_far_apart_are_told_and_one_step_is_not() {
    let version = |version: &str, protocol| {
        let mut picture = healthy();
        let Part::Seen(members) = &mut paris(&mut picture).members else { panic!() };
        members[1].spec.version = version.to_owned();
        members[1].spec.protocol = protocol;
        told(&picture).into_iter().filter(|finding| finding.0 == Check::Version).collect::<Vec<_>>()
    };
    let skew = [is(Check::Version, "paris", "cluster/berlin", State::Failed, "VersionSkew")];
    assert_eq!(version("0.2.7", 1), []);
    assert_eq!(version("0.3.0", 1), []);
    assert_eq!(version("0.4.0", 1), skew);
    assert_eq!(version("1.0.0", 1), skew);
    assert_eq!(version("0.1.0", 2), skew);
    assert_eq!(version("unknown", 1), []);
}

#[test]
fn an_upgrade_that_has_not_reached_all_pods_is_a_warning() {
    let mut picture = healthy();
    let Part::Seen(pods) = &mut paris(&mut picture).pods else { panic!() };
    pods[0].spec.as_mut().unwrap().containers[0].image = Some("linkspan/linkspan:0.2.0".to_owned());
    assert_eq!(told(&picture), [is(Check::Version, "paris", "cluster", State::Warning, "MixedVersions")]);
    assert!(found(&picture, "paris", "MixedVersions").evidence.contains("linkspan/linkspan:0.2.0 (node)"));
}

#[test]
fn roles_that_are_missing_are_named() {
    let mut picture = healthy();
    let Part::Seen(roles) = &mut paris(&mut picture).roles else { panic!() };
    roles.retain(|role| role != "Role/linkspan-coredns");
    assert_eq!(found(&picture, "paris", "MissingRoles").evidence, "missing: Role/linkspan-coredns");
}

// === Names and services ===

#[test]
fn cluster_dns_that_does_not_forward_is_told() {
    let mut picture = healthy();
    let Part::Seen(configs) = &mut paris(&mut picture).configs else { panic!() };
    configs.remove("kube-system/coredns-custom");
    assert_eq!(told(&picture), [is(Check::Dns, "paris", "cluster-dns", State::Failed, "CoreDnsNotWired")]);
    assert!(found(&picture, "paris", "CoreDnsNotWired").evidence.contains("coredns-custom"));
}

#[test]
fn a_wrong_answer_of_cluster_dns_is_told_with_the_right_one() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.names[0].addresses.clear();
        node.inspection.names[0].answer = "NXDOMAIN".to_owned();
    });
    let finding = found(&picture, "paris", "WrongAnswer");
    assert!(finding.evidence.ends_with("NXDOMAIN with no address, where 10.43.0.77 belongs"), "{}", finding.evidence);
}

fn alter_export(picture: &mut Picture, new: k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition) {
    let Part::Seen(exports) = &mut berlin(picture).exports else { panic!() };
    let conditions = &mut exports[0].status.as_mut().unwrap().conditions;
    conditions.retain(|condition| condition.type_ != new.type_);
    conditions.push(new);
}

#[test]
fn an_export_in_conflict_and_one_without_a_service_are_told() {
    let mut picture = healthy();
    alter_export(&mut picture, condition("Conflict", "True", "PortConflict", "port http is 80 here and 8080 in paris"));
    assert_eq!(
        told(&picture),
        [is(Check::Services, "berlin", "serviceexport/default/web", State::Failed, "ExportConflict")]
    );
    let mut picture = healthy();
    alter_export(&mut picture, condition("Valid", "False", "NoService", "there is no Service web"));
    assert_eq!(found(&picture, "berlin", "ExportInvalid").evidence, "NoService: there is no Service web");
}

#[test]
fn an_export_without_endpoints_is_told_where_it_is_and_where_it_is_imported() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(slices) = &mut cluster.slices else { panic!() };
        for endpoint in slices
            .iter_mut()
            .filter(|slice| slice.metadata.name.as_deref() != Some("linkspan-dns-x"))
            .flat_map(|slice| &mut slice.endpoints)
        {
            endpoint.conditions.as_mut().unwrap().ready = Some(false);
        }
    }
    let finding = found(&picture, "berlin", "ExportWithoutEndpoints");
    assert_eq!(
        (finding.object.as_str(), finding.evidence.as_str()),
        ("serviceexport/default/web", "Service default/web has 2 endpoints, none of them ready")
    );
    assert_eq!(
        found(&picture, "paris", "ImportWithoutEndpoints").evidence,
        "2 endpoints of berlin, none of them ready"
    );
}

#[test]
fn policies_that_let_no_other_cluster_in_are_a_warning() {
    let mut picture = healthy();
    berlin(&mut picture).policies = objects(json!([{
        "metadata": { "name": "own-only", "namespace": "default" },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.52.0.0/16" } }] }] },
    }]));
    assert_eq!(
        told(&picture),
        [is(Check::Firewall, "berlin", "serviceexport/default/web", State::Warning, "PolicyDrops")]
    );
}

// === What cannot be seen ===

#[test]
fn without_leases_the_gateway_is_the_one_that_says_so() {
    let mut picture = healthy();
    let why = "missing permission: list leases.coordination.k8s.io in namespace linkspan-system";
    paris(&mut picture).leases = Part::Unseen(Unseen { what: "leases".to_owned(), why: why.to_owned() });
    assert_eq!(picture.clusters[0].active_gateway().as_deref(), Some("paris-1"));
    assert_eq!(picture.clusters[0].peer("berlin").unwrap().state, "up");
    let Part::Seen(gateways) = &mut paris(&mut picture).gateways else { panic!() };
    gateways[0].status.as_mut().unwrap().active = false;
    assert_eq!(picture.clusters[0].active_gateway(), None);
}

#[test]
fn what_the_person_may_not_see_is_unknown_and_the_rest_is_checked() {
    let mut picture = healthy();
    let why = "missing permission: list pods in the whole cluster";
    paris(&mut picture).pods = Part::Unseen(Unseen { what: "pods".to_owned(), why: why.to_owned() });
    let findings = diagnose(&picture);
    assert_eq!(exit_code(&findings), 3);
    let unseen: Vec<(Check, &str)> =
        findings.iter().filter(|f| f.state == State::Unknown).map(|f| (f.check, f.evidence.as_str())).collect();
    // Exported services are in berlin, so that the firewall of paris needs no pods.
    assert_eq!(unseen, [(Check::Nodes, why), (Check::Rbac, why), (Check::Version, why)]);
    assert!(findings.iter().all(|finding| finding.state != State::Failed));
}

/// Unknown findings of one cluster: check, object and evidence.
fn unknown(picture: &Picture, cluster: &str) -> Vec<(Check, String, String)> {
    let findings = diagnose(picture).into_iter();
    let of = findings.filter(|f| f.state == State::Unknown && f.cluster == cluster);
    of.map(|f| (f.check, f.object, f.evidence)).collect()
}

/// Checks of one cluster in which something is good.
fn good(picture: &Picture, cluster: &str) -> Vec<Check> {
    let findings = diagnose(picture).into_iter();
    let mut checks: Vec<Check> =
        findings.filter(|f| f.state == State::Ok && f.cluster == cluster).map(|f| f.check).collect();
    checks.dedup();
    checks
}

#[test]
fn an_api_server_that_does_not_answer_leaves_nothing_good_and_is_told_once_for_each_check() {
    let mut picture = healthy();
    let why = "the API server did not answer within 15s (--request-timeout)";
    *paris(&mut picture) = ClusterPicture::dark("paris", why);
    assert_eq!(good(&picture, "paris"), []);
    let told: Vec<Check> = unknown(&picture, "paris").into_iter().map(|(check, _, _)| check).collect();
    assert_eq!(told, Check::ALL);
    assert!(unknown(&picture, "paris").iter().all(|(_, object, told)| object == "the API server" && told == why));
    let table = table(&diagnose(&picture), crate::kubectl::output::Format::Table, Default::default());
    let rows: Vec<&str> = table.lines().filter(|line| line.contains("paris")).collect();
    assert_eq!(rows.len(), 1, "{table}");
    assert_eq!(rows[0].split_whitespace().collect::<Vec<_>>()[..4], ["?", "unknown", "all", "paris"]);
}

#[test]
fn what_only_nodes_could_tell_is_unknown_where_nobody_asked_them() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        cluster.inspections.clear();
    }
    let expected = [Check::Cni, Check::Dns, Check::Firewall, Check::KubeProxy, Check::Mtu, Check::Nodes];
    let (of_nodes, others): (Vec<_>, Vec<_>) =
        unknown(&picture, "paris").into_iter().partition(|(check, _, _)| *check != Check::Connections);
    // GatewayNodes of these clusters say nothing of peers.
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].2, "the gateway says nothing of berlin");
    let told = of_nodes;
    assert_eq!(told.iter().map(|(check, _, _)| *check).collect::<Vec<_>>(), expected);
    assert!(told.iter().all(|(_, what, why)| what == "all 2 nodes" && why == "the node was not asked"), "{told:?}");
    assert_eq!(exit_code(&diagnose(&picture)), 3);
    // What API servers tell is checked nevertheless.
    let well = good(&picture, "paris");
    assert!([Check::Broker, Check::Clock, Check::Overlap, Check::Version].iter().all(|check| well.contains(check)));
    assert!([Check::Cni, Check::KubeProxy, Check::Mtu].iter().all(|check| !well.contains(check)));
}

#[test]
fn where_no_nodes_are_known_none_is_taken_for_well() {
    let mut picture = healthy();
    let cluster = paris(&mut picture);
    cluster.inspections.clear();
    cluster.nodes = Part::Unseen(Unseen { what: "nodes".to_owned(), why: "no nodes".to_owned() });
    cluster.pods = Part::Unseen(Unseen { what: "pods".to_owned(), why: "no pods".to_owned() });
    let told: Vec<Check> = unknown(&picture, "paris").into_iter().map(|(check, _, _)| check).collect();
    for check in [Check::Cni, Check::Dns, Check::Firewall, Check::KubeProxy, Check::Mtu, Check::Nodes] {
        assert!(told.contains(&check), "{check}: {told:?}");
    }
}

#[test]
fn a_node_that_told_a_part_is_unknown_for_the_rest() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.unanswered = Some("pod linkspan-node-2 did not answer within 20 s".to_owned());
    });
    let told = unknown(&picture, "paris");
    assert_eq!(told.len(), 6);
    assert!(told.iter().all(|(_, what, why)| what == "node paris-2" && why.ends_with("within 20 s")), "{told:?}");
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.unseen.push("the packet filter: nft is not there".to_owned());
    });
    let told: Vec<Check> = unknown(&picture, "paris").into_iter().map(|(check, _, _)| check).collect();
    assert_eq!(told, [Check::Cni, Check::Firewall, Check::KubeProxy]);
    let findings = diagnose(&picture);
    let of_cni = findings.iter().filter(|f| f.check == Check::Cni && f.cluster == "paris" && f.state == State::Ok);
    assert_eq!(of_cni.map(|f| f.object.as_str()).collect::<Vec<_>>(), ["node/paris-1"]);
    // A process that says nothing of its tunnel: what API servers know of it is not enough for the MTU.
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-1", |node| {
        node.status = Part::Unseen(Unseen { what: "the process".to_owned(), why: "no socket".to_owned() });
    });
    let told: Vec<Check> = unknown(&picture, "paris").into_iter().map(|(check, _, _)| check).collect();
    assert_eq!(told, [Check::Connections, Check::Mtu, Check::Nodes]);
}

#[test]
fn without_slices_no_service_is_taken_for_well() {
    let mut picture = healthy();
    berlin(&mut picture).slices = Part::Unseen(Unseen { what: "endpointslices".to_owned(), why: "no".to_owned() });
    let findings = diagnose(&picture);
    let of_services: Vec<(State, &str)> = findings
        .iter()
        .filter(|f| f.check == Check::Services && f.cluster == "berlin")
        .map(|f| (f.state, f.object.as_str()))
        .collect();
    assert_eq!(of_services, [(State::Unknown, "endpointslices")]);
}

#[test]
fn who_may_not_read_the_id_is_not_told_that_the_cluster_has_none() {
    let mut picture = healthy();
    let why = "missing permission: get clusterproperties.about.k8s.io in the whole cluster";
    paris(&mut picture).id = Part::Unseen(Unseen { what: "the cluster ID".to_owned(), why: why.to_owned() });
    let findings = diagnose(&picture);
    assert!(findings.iter().all(|finding| finding.state != State::Failed), "{findings:#?}");
    assert!(unknown(&picture, "paris").iter().any(|(check, _, told)| *check == Check::Broker && told == why));
    // Services that nobody may list are none that are missing.
    let mut picture = healthy();
    paris(&mut picture).services = Part::Unseen(Unseen { what: "services".to_owned(), why: "no".to_owned() });
    assert!(diagnose(&picture).iter().all(|finding| finding.state != State::Failed));
    assert!(unknown(&picture, "paris").iter().any(|(check, what, _)| *check == Check::Dns && what == "services"));
}

#[test]
fn an_empty_picture_and_clusters_of_which_nothing_was_seen_are_no_panic() {
    assert_eq!(diagnose(&Picture::default()), []);
    let blind = Picture { clusters: vec![ClusterPicture { context: "x".to_owned(), ..ClusterPicture::default() }] };
    assert_eq!(exit_code(&diagnose(&blind)), 3);
    let _ = questions(&blind);
}

#[test]
fn a_picture_survives_being_written_down() {
    let text = serde_json::to_string(&healthy()).unwrap();
    let read: Picture = serde_json::from_str(&text).unwrap();
    assert_eq!(diagnose(&read), diagnose(&healthy()));
}

// === NetworkPolicies ===

mod policies {
    use super::super::policy::{Direction, Other, Ruling, ruling};
    use super::*;

    /// What one policy says of a connection of pod default/web (10.52.0.9), whose port `http` is 8080.
    fn ruled(spec: serde_json::Value, direction: Direction, address: &str, port: u16, protocol: &str) -> Ruling {
        let mut web = pod("default", "web", "n", "10.52.0.9", json!({ "app": "web" }));
        web["spec"]["containers"][0]["ports"] = json!([{ "name": "http", "containerPort": 8080 }]);
        let cluster = ClusterPicture {
            pods: objects(json!([web, pod("shop", "cart", "n", "10.52.0.30", json!({ "app": "cart" }))])),
            namespaces: objects(json!([{ "metadata": { "name": "shop", "labels": { "team": "a" } } }])),
            policies: objects(json!([{ "metadata": { "name": "p", "namespace": "default" }, "spec": spec }])),
            ..ClusterPicture::default()
        };
        let pod = cluster.pod("default", "web").unwrap();
        ruling(&cluster, pod, direction, &Other { address: ip(address), port: Some(port), protocol })
    }

    fn ingress(rule: serde_json::Value, address: &str, port: u16) -> bool {
        let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule] });
        match ruled(spec, Direction::Ingress, address, port, "TCP") {
            Ruling::Allowed(policy) => {
                assert_eq!(policy, "default/p");
                true
            }
            Ruling::Dropped(policies) => {
                assert_eq!(policies, ["default/p"]);
                false
            }
            Ruling::Free => panic!("the policy selects all pods"),
        }
    }

    #[test]
    fn blocks_mean_addresses_less_those_that_are_excepted() {
        let block = json!({ "from": [{ "ipBlock": { "cidr": "10.42.0.0/16", "except": ["10.42.9.0/24"] } }] });
        assert!(ingress(block.clone(), "10.42.1.7", 80));
        assert!(!ingress(block.clone(), "10.42.9.7", 80));
        assert!(!ingress(block, "100.64.0.7", 80), "a virtual address is not the native one");
    }

    #[test]
    fn selectors_mean_pods_of_this_cluster_only() {
        let anybody = json!({ "from": [{ "namespaceSelector": {}, "podSelector": {} }] });
        assert!(!ingress(anybody.clone(), "10.42.1.7", 80), "a pod of another cluster");
        assert!(ingress(anybody, "10.52.0.30", 80));
        assert!(!ingress(json!({ "from": [{ "podSelector": {} }] }), "10.52.0.30", 80), "of another namespace");
        let team = |name: &str| json!({ "from": [{ "namespaceSelector": { "matchLabels": { "team": name } } }] });
        assert!(ingress(team("a"), "10.52.0.30", 80));
        assert!(!ingress(team("b"), "10.52.0.30", 80));
    }

    #[test]
    fn ports_have_numbers_ranges_names_and_protocols() {
        let to = |port: serde_json::Value| json!({ "ports": [port] });
        assert!(ingress(json!({}), "10.42.1.7", 80), "an empty rule lets everything in");
        assert!(ingress(to(json!({ "port": 80 })), "10.42.1.7", 80));
        assert!(!ingress(to(json!({ "port": 81 })), "10.42.1.7", 80));
        assert!(ingress(to(json!({ "port": 8000, "endPort": 8100 })), "10.42.1.7", 8080));
        assert!(!ingress(to(json!({ "port": 80, "protocol": "UDP" })), "10.42.1.7", 80));
        assert!(ingress(to(json!({ "port": "http" })), "10.42.1.7", 8080));
        assert!(!ingress(to(json!({ "port": "http" })), "10.42.1.7", 80));
    }

    #[test]
    fn a_policy_is_about_the_directions_that_it_names_or_has_rules_for() {
        let free = |spec, direction| ruled(spec, direction, "10.42.1.7", 80, "TCP") == Ruling::Free;
        assert!(free(json!({ "podSelector": {} }), Direction::Egress));
        assert!(!free(json!({ "podSelector": {} }), Direction::Ingress));
        assert!(!free(json!({ "podSelector": {}, "egress": [{}] }), Direction::Egress));
        assert!(free(json!({ "podSelector": {}, "policyTypes": ["Egress"] }), Direction::Ingress));
        assert!(free(json!({ "podSelector": { "matchLabels": { "app": "db" } } }), Direction::Ingress));
    }

    #[test]
    fn expressions_select_by_what_is_there_and_what_is_not() {
        let of = |key: &str, operator: &str, values: &[&str]| {
            let spec = json!({ "podSelector": { "matchExpressions": [{ "key": key, "operator": operator, "values": values }] } });
            ruled(spec, Direction::Ingress, "10.42.1.7", 80, "TCP") != Ruling::Free
        };
        assert!(of("app", "In", &["web", "x"]) && !of("app", "In", &["x"]));
        assert!(of("app", "NotIn", &["x"]) && !of("app", "NotIn", &["web"]));
        assert!(of("app", "Exists", &[]) && !of("tier", "Exists", &[]));
        assert!(of("tier", "DoesNotExist", &[]) && !of("app", "DoesNotExist", &[]));
    }
}
