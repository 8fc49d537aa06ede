//! Names, exports and imports.

use super::*;
use crate::kubectl::diagnose::questions;
use crate::kubectl::picture::samples::answer;

#[test]
fn cluster_dns_that_does_not_forward_is_told() {
    let mut picture = healthy();
    let Part::Seen(configs) = &mut paris(&mut picture).configs else { panic!() };
    configs.remove("kube-system/coredns-custom");
    assert_eq!(told(&picture), [is(Check::Dns, "paris", "cluster-dns", State::Failed, "CoreDnsNotWired")]);
    assert!(found(&picture, "paris", "CoreDnsNotWired").evidence.contains("coredns-custom"));
}

#[test]
fn a_server_of_others_for_the_same_zone_is_told() {
    let mut picture = healthy();
    let Part::Seen(configs) = &mut paris(&mut picture).configs else { panic!() };
    let data = configs.get_mut("kube-system/coredns-custom").unwrap().data.as_mut().unwrap();
    data.insert("lighthouse.server".to_owned(), "clusterset.local:53 {\n    forward . 10.43.5.5\n}\n".to_owned());
    assert_eq!(told(&picture), [is(Check::Dns, "paris", "cluster-dns", State::Failed, "CoreDnsNotWired")]);
    let evidence = found(&picture, "paris", "CoreDnsNotWired").evidence;
    assert!(
        evidence
            .starts_with("key lighthouse.server of ConfigMap coredns-custom has a server for clusterset.local already"),
        "{evidence}"
    );
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

/// paris imports `web` with these addresses of its own, and cluster DNS of a node of paris answers its first question so.
fn answered(ips: &[&str], code: &str, addresses: &[&str]) -> Picture {
    let mut picture = healthy();
    let Part::Seen(imports) = &mut paris(&mut picture).imports else { panic!() };
    imports[0].spec.ips = ips.iter().map(|text| (*text).to_owned()).collect();
    answer(&mut picture, questions);
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.names[0].answer = code.to_owned();
        node.inspection.names[0].addresses = addresses.iter().map(|text| ip(text)).collect();
    });
    picture
}

#[test]
fn a_name_is_asked_for_in_a_family_that_it_has() {
    let asked = |picture: &Picture| picture.clusters[0].inspection("paris-2").unwrap().names[0].of.v6;
    let only_v6 = answered(&["fd43::77"], "NOERROR", &["fd43::77"]);
    assert!(asked(&only_v6));
    assert_eq!(told(&only_v6), []);
    let both = answered(&["fd43::77", "10.43.0.77"], "NOERROR", &["10.43.0.77"]);
    assert!(!asked(&both), "cluster DNS has an IPv4 address itself");
    assert_eq!(told(&both), []);
    let other = answered(&["fd43::77", "10.43.0.77"], "NOERROR", &["10.43.0.78"]);
    assert!(found(&other, "paris", "WrongAnswer").evidence.ends_with("10.43.0.78, where 10.43.0.77 belongs"));
}

#[test]
fn a_name_server_that_fails_is_told_even_where_no_address_belongs() {
    let empty = |answer: &str| {
        let mut picture = answered(&[], answer, &[]);
        let Part::Seen(slices) = &mut paris(&mut picture).slices else { panic!() };
        slices.retain(|slice| slice.metadata.name.as_deref() != Some("imported-web-berlin"));
        diagnose(&picture).into_iter().any(|finding| finding.reason == "WrongAnswer")
    };
    assert_eq!(["NOERROR", "NXDOMAIN", "SERVFAIL", "no answer within 3 s"].map(empty), [false, false, true, true]);
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
