//! Clocks, and packets of full size.

use super::*;

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
fn of_two_clocks_neither_is_called_right() {
    let mut picture = healthy();
    picture.clusters.truncate(1);
    let paris = paris(&mut picture);
    paris.inspections.clear();
    let Part::Seen(server) = &mut paris.server else { panic!() };
    server.clock = Some(Clock { before: 100_000, from: 200_000, to: 200_999, after: 100_050 });
    let finding = found(&picture, "paris", "ClockOff");
    assert_eq!(finding.evidence, "99 s behind the only other clock");
    assert!(finding.fix.starts_with("see which of the two is wrong"), "{}", finding.fix);
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
