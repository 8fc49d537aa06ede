//! Clusters that do not use each other, and what keeps the news of one from the other.

use controller::api::Member;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::{berlin, broken, objects, paris, story, web};
use crate::kubectl::diagnose::State;
use crate::kubectl::picture::samples::{alter_peer, healthy};
use crate::kubectl::picture::{ClusterPicture, Part, Picture};
use crate::kubectl::why::{Hop, Story};

fn members(cluster: &mut ClusterPicture) -> &mut Vec<Member> {
    let Part::Seen(members) = &mut cluster.members else { panic!("Members were seen") };
    members
}

fn member<'a>(cluster: &'a mut ClusterPicture, id: &str) -> &'a mut Member {
    members(cluster).iter_mut().find(|member| member.spec.cluster_id == id).unwrap()
}

/// Adds a Member that came after all others to what every cluster knows.
pub(super) fn newcomer(picture: &mut Picture, id: &str, spec: Value) {
    let joined_at = json!({ "linkspan.dev/joined-at": "2026-11-20T00:00:00Z" });
    let mut object = json!({
        "metadata": { "name": id, "namespace": "linkspan-system", "annotations": joined_at },
        "spec": { "clusterID": id, "clusterUID": id, "version": "0.1.0" },
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    for cluster in &mut picture.clusters {
        members(cluster).push(serde_json::from_value(object.clone()).unwrap());
    }
}

fn set_condition(cluster: &mut ClusterPicture, kind: &str, reason: &str) {
    let condition: Condition = serde_json::from_value(json!({
        "type": kind, "status": "False", "reason": reason, "message": "as the controller says",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }))
    .unwrap();
    let own = cluster.id().unwrap().to_owned();
    let conditions = &mut member(cluster, &own).status.as_mut().unwrap().conditions;
    conditions.retain(|one| one.type_ != kind);
    conditions.push(condition);
}

/// What is told beside the way.
fn warnings(story: &Story) -> Vec<(&str, &str, &str)> {
    let warnings = story.hops.iter().filter(|hop| hop.state == State::Warning);
    warnings.map(|hop| (hop.cluster.as_str(), hop.what.as_str(), hop.reason.as_str())).collect()
}

fn hop<'a>(story: &'a Story, reason: &str) -> &'a Hop {
    story.hops.iter().find(|hop| hop.reason == reason).unwrap_or_else(|| panic!("no {reason}: {story:#?}"))
}

#[test]
fn an_address_of_a_refused_member_is_told_with_its_refusal() {
    let mut picture = healthy();
    newcomer(&mut picture, "oslo", json!({ "podCIDRs": ["192.168.7.12/32"] }));
    let story = story(picture, "client", "192.168.7.12:80", |_| {});
    assert_eq!(broken(&story), ("paris", "Member oslo", "Overlap"));
    let told = story.broken().unwrap();
    assert!(told.evidence.contains("192.168.7.12 of a node of this cluster"), "{told:?}");
    assert!(!told.fix.is_empty(), "{told:?}");
}

#[test]
fn an_address_of_a_member_of_another_protocol_is_told_with_both_versions() {
    let mut picture = healthy();
    let spec = json!({ "podCIDRs": ["10.62.0.0/16"], "protocol": 9, "minProtocol": 8, "version": "9.0.0" });
    newcomer(&mut picture, "rome", spec);
    let story = story(picture, "client", "10.62.0.9:80", |_| {});
    assert_eq!(broken(&story), ("paris", "Member rome", "VersionSkew"));
    assert_eq!(story.broken().unwrap().evidence, "paris runs 0.1.0 (protocol 1), rome runs 9.0.0 (protocol 9)");
}

#[test]
fn an_address_that_no_member_claims_stays_unknown() {
    let mut picture = healthy();
    newcomer(&mut picture, "rome", json!({ "podCIDRs": ["10.62.0.0/16"], "protocol": 9, "minProtocol": 8 }));
    let story = story(picture, "client", "10.63.0.9:80", |_| {});
    assert_eq!(broken(&story), ("paris", "address", "UnknownAddress"));
}

/// rome has the addresses of berlin, which was here first.
#[test]
fn a_pod_of_a_refused_cluster_is_not_taken_for_one_that_has_its_address() {
    let mut picture = healthy();
    newcomer(&mut picture, "rome", json!({ "podCIDRs": ["10.52.0.0/16"] }));
    let mut rome = picture.clusters[1].clone();
    rome.context = "rome".to_owned();
    rome.id = Part::Seen(Some("rome".to_owned()));
    picture.clusters.push(rome);
    let from = super::parse::end("client", &[]).unwrap();
    let to = super::parse::end("rome/pod/on-berlin-2:80", &["rome"]).unwrap();
    let story = super::why(&picture, &from, &to, "default").unwrap();
    assert_eq!(broken(&story), ("paris", "Member rome", "Overlap"));
    assert!(story.hops.iter().all(|hop| !hop.what.starts_with("tunnel")), "{story:#?}");
}

#[test]
fn a_cluster_that_refuses_the_client_is_told_before_the_tunnel() {
    let mut picture = healthy();
    member(berlin(&mut picture), "paris").spec.pod_cidrs.push("192.168.8.11/32".to_owned());
    let story = story(picture, "client", "berlin/pod/on-berlin-2:80", |_| {});
    assert_eq!(broken(&story), ("berlin", "Member paris", "Overlap"));
}

#[test]
fn a_cluster_of_which_the_client_has_not_heard_is_told_with_the_reason() {
    let forget = |picture: &mut Picture| members(paris(picture)).retain(|member| member.spec.cluster_id == "paris");
    let mut unknown = healthy();
    forget(&mut unknown);
    let to = "berlin/pod/on-berlin-2:80";
    assert_eq!(broken(&story(unknown.clone(), "client", to, |_| {})), ("paris", "Member berlin", "UnknownMember"));
    set_condition(berlin(&mut unknown), "Joined", "CredentialRefused");
    let told = story(unknown, "client", to, |_| {});
    assert_eq!(broken(&told), ("berlin", "broker", "CredentialRefused"));
    assert_eq!(hop(&told, "UnknownMember").state, State::Failed);
}

#[test]
fn a_service_that_waits_for_the_broker_is_told_with_why_it_waits() {
    let not_imported = |change: &dyn Fn(&mut Picture)| {
        web(|picture| {
            paris(picture).imports = objects(json!([]));
            change(picture);
        })
    };
    assert_eq!(broken(&not_imported(&|_| {})), ("paris", "import", "NotImported"));
    for (kind, reason, told) in
        [("BrokerReachable", "Unreachable", "BrokerUnreachable"), ("Joined", "CredentialRefused", "CredentialRefused")]
    {
        let of_exporter = not_imported(&|picture| set_condition(berlin(picture), kind, reason));
        assert_eq!(broken(&of_exporter), ("berlin", "broker", told));
        assert!(of_exporter.broken().unwrap().evidence.contains("as the controller says"));
        let of_client = not_imported(&|picture| set_condition(paris(picture), kind, reason));
        assert_eq!(broken(&of_client), ("paris", "broker", told));
        assert_eq!(hop(&of_client, "NotImported").state, State::Failed);
    }
}

#[test]
fn an_export_that_is_not_ready_is_told_with_why_it_waits() {
    let story = web(|picture| {
        set_condition(berlin(picture), "BrokerReachable", "Unreachable");
        let Part::Seen(exports) = &mut berlin(picture).exports else { panic!("exports were seen") };
        let ready = &mut exports[0].status.as_mut().unwrap().conditions[1];
        (ready.status, ready.reason) = ("False".to_owned(), "Pending".to_owned());
    });
    assert_eq!(broken(&story), ("berlin", "broker", "BrokerUnreachable"));
    assert_eq!(hop(&story, "ExportNotReady").state, State::Failed);
}

#[test]
fn a_broker_that_is_away_breaks_no_way_that_is_there() {
    let story = web(|picture| set_condition(berlin(picture), "BrokerReachable", "Unreachable"));
    assert_eq!((story.broken(), story.exit_code()), (None, 0));
    assert_eq!(warnings(&story), [("berlin", "broker", "BrokerUnreachable")]);
    let elsewhere = web(|picture| {
        set_condition(berlin(picture), "BrokerReachable", "Unreachable");
        super::alter(paris(picture), "paris-2", |node| node.inspection.services[0].programmed = Some(false));
    });
    assert_eq!(broken(&elsewhere).2, "VipNotProgrammed", "the broker has nothing to do with it");
}

#[test]
fn a_clock_is_told_beside_the_way_and_first_where_it_shuts_the_broker_out() {
    let five_hours_late = |picture: &mut Picture| {
        let Part::Seen(server) = &mut berlin(picture).server else { panic!("the API server answered") };
        let clock = server.clock.as_mut().unwrap();
        (clock.from, clock.to) = (clock.from - 18_000_000, clock.to - 18_000_000);
    };
    let works = web(five_hours_late);
    assert_eq!((works.broken(), works.exit_code()), (None, 0));
    assert_eq!(warnings(&works), [("berlin", "clock of api-server", "ClockOff")]);
    let shut_out = web(|picture| {
        five_hours_late(picture);
        set_condition(berlin(picture), "Joined", "CredentialRefused");
        paris(picture).imports = objects(json!([]));
    });
    assert_eq!(broken(&shut_out), ("berlin", "clock of api-server", "ClockOff"));
    assert_eq!(hop(&shut_out, "CredentialRefused").state, State::Failed);
}

#[test]
fn versions_that_are_far_apart_and_paths_that_are_narrow_are_told_beside_the_way() {
    let story = web(|picture| {
        member(paris(picture), "berlin").spec.version = "9.0.0".to_owned();
        alter_peer(paris(picture), "berlin", |peer| peer.mtu = 1300);
    });
    assert_eq!((story.broken(), story.exit_code()), (None, 0));
    let told = [("paris", "version of berlin", "VersionSkew"), ("paris", "MTU of the tunnel", "MtuBlackHole")];
    assert_eq!(warnings(&story), told);
}

#[test]
fn a_service_whose_exporters_were_not_all_seen_may_be_exported() {
    let mut picture = healthy();
    picture.clusters.truncate(1);
    picture.clusters[0].imports = objects(json!([]));
    let story = story(picture, "client", "web.default.svc.clusterset.local", |_| {});
    assert_eq!(broken(&story), ("paris", "import", "NotImported"));
    assert_eq!(story.broken().unwrap().cause, "if berlin exports it, this cluster has not imported it");
}
