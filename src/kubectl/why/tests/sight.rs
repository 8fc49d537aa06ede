//! Somebody who sees one namespace of a cluster and nothing else: what was not seen is not told to be missing.

use super::{State, parse, why};
use crate::kubectl::picture::samples::healthy;
use crate::kubectl::picture::{ClusterPicture, Part, Partly, Picture, Unseen};
use crate::kubectl::why::{NotFound, Story, goal_targets};

fn denied(what: &str) -> Unseen {
    Unseen { what: what.to_owned(), why: format!("missing permission: list {what} in the whole cluster") }
}

/// What is in namespace default.
fn only_default<K: kube::Resource + Clone>(part: &Part<Vec<K>>, what: &str) -> Part<Vec<K>> {
    let here = |object: &&K| object.meta().namespace.as_deref() == Some("default");
    let seen = part.all().iter().filter(here).cloned().collect();
    Part::Partly(Partly { seen, namespaces: vec!["default".to_owned()], rest: denied(what) })
}

/// paris, for somebody who may view namespace default.
fn narrow() -> Picture {
    let all = healthy().clusters.remove(0);
    let paris = ClusterPicture {
        server: all.server.clone(),
        exports: only_default(&all.exports, "serviceexports"),
        imports: only_default(&all.imports, "serviceimports"),
        pods: only_default(&all.pods, "pods"),
        services: only_default(&all.services, "services"),
        slices: only_default(&all.slices, "endpointslices"),
        policies: only_default(&all.policies, "networkpolicies"),
        ..ClusterPicture::dark("paris", "missing permission: get configmaps in namespace linkspan-system")
    };
    Picture { clusters: vec![paris] }
}

fn ask(from: &str, to: &str) -> Result<Story, NotFound> {
    let (from, to) = (parse::end(from, &["paris"]).unwrap(), parse::end(to, &["paris"]).unwrap());
    why(&narrow(), &from, &to, "default")
}

fn states(story: &Story) -> Vec<(&str, State)> {
    story.hops.iter().map(|hop| (hop.what.as_str(), hop.state)).collect()
}

#[test]
fn an_address_that_may_be_anybodys_is_not_taken_for_unknown() {
    let story = ask("client", "10.42.0.7:80").unwrap();
    let told =
        [("pod default/client", State::Ok), ("NetworkPolicies (Egress)", State::Ok), ("address", State::Unknown)];
    assert_eq!((states(&story).as_slice(), story.exit_code()), (&told[..], 3));
    assert!(story.hops[2].evidence.contains("missing permission: get configmaps"), "{story:#?}");
}

#[test]
fn a_pod_of_the_same_namespace_is_followed_to_the_end() {
    let story = ask("client", "10.42.1.7:80").unwrap();
    assert!(story.hops.iter().any(|hop| hop.what == "pod default/client" && hop.evidence.starts_with("ready")));
    assert_eq!((story.broken(), story.exit_code()), (None, 0));
}

#[test]
fn a_service_of_the_namespace_is_told_as_far_as_it_is_seen() {
    let story = ask("client", "web").unwrap();
    let state = |what: &str| states(&story).iter().find(|(found, _)| *found == what).map(|(_, state)| *state);
    assert_eq!(state("cluster DNS"), Some(State::Unknown));
    assert_eq!(state("import"), Some(State::Ok));
    assert_eq!(state("kube-proxy on node paris-2"), Some(State::Unknown));
    assert_eq!((story.broken(), story.exit_code()), (None, 3));
}

#[test]
fn an_end_that_is_not_seen_may_be_there_unless_its_namespace_was_seen() {
    let any = ask("nobody", "web").unwrap_err();
    assert!(any.may_be);
    assert_eq!(any.text, {
        let right = "missing permission: get configmaps in namespace linkspan-system";
        format!("pod, deployment, service or node nobody was not seen in namespace default of paris: {right}")
    });
    let pod = ask("pod/nobody", "web").unwrap_err();
    assert_eq!((pod.text.as_str(), pod.may_be), ("there is no pod nobody in namespace default of paris", false));
    let other = ask("shop/pod/nobody", "web").unwrap_err();
    assert!(other.may_be && other.text.contains("missing permission: list pods in the whole cluster"), "{other}");
}

#[test]
fn endpoints_of_a_service_are_found_in_its_namespace() {
    let picture = narrow();
    let from = super::super::client(&picture, &parse::end("client", &[]).unwrap(), "default").unwrap();
    let goal = super::super::goal(&picture, &from, &parse::end("web", &[]).unwrap(), "default").unwrap();
    let called: Vec<String> = goal_targets(&from, &goal, None).iter().map(|one| one.address.to_string()).collect();
    assert_eq!(called, ["10.52.0.9", "10.52.1.9"]);
}
