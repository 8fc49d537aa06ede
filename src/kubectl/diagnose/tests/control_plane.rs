//! The broker, Members, versions and roles.

use super::*;

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
fn prefixes_that_are_not_known_and_those_that_are_set_wrongly_are_told_apart() {
    for (reason, expected) in [
        ("NoPodCIDRs", "NoNetworks"),
        ("TooManyPodCIDRs", "NoNetworks"),
        ("WrongPodCIDRs", "WrongNetworks"),
        ("WrongServiceCIDRs", "WrongNetworks"),
        ("InvalidCIDRs", "WrongNetworks"),
    ] {
        let mut picture = healthy();
        set_condition(paris(&mut picture), "paris", condition("Networks", "False", reason, "why"));
        assert_eq!(told(&picture), [is(Check::Broker, "paris", "member/paris", State::Failed, expected)]);
        let finding = found(&picture, "paris", expected);
        assert_eq!(finding.evidence, format!("{reason}: why"));
        assert!(finding.fix.contains("in ConfigMap linkspan"), "{}", finding.fix);
    }
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
