//! Each fault of which somebody may ask, in a picture in which all else is well.

mod clocks_and_sizes;
mod control_plane;
mod nodes;
mod policies;
mod services;
mod tunnels;
mod unseen;

use std::net::IpAddr;

use controller::node::Way;
use controller::node::filter::{Effect, Hit};
use serde_json::json;

use super::*;
use crate::kubectl::inspect::{Outcome, Probe};
use crate::kubectl::picture::samples::{alter, alter_peer, healthy, objects, pod};
use crate::kubectl::picture::{Clock, Part};

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

fn hit(effect: Effect, place: &str, rule: &str, certain: bool) -> Hit {
    let hook = "any".to_owned();
    Hit { effect, place: place.to_owned(), hook, rule: rule.to_owned(), certain, ours: false }
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
