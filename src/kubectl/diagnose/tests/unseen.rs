//! What cannot be seen.

use super::*;

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

#[test]
fn what_was_looked_at_in_vain_is_unknown_and_not_good() {
    let mut picture = healthy();
    alter(paris(&mut picture), "paris-2", |node| {
        node.inspection.services[0].programmed = None;
        node.inspection.services[0].by = "no rules of kube-proxy are seen here".to_owned();
    });
    let Part::Seen(members) = &mut paris(&mut picture).members else { panic!() };
    for member in members {
        member.status.as_mut().unwrap().conditions.retain(|condition| condition.type_ != "Joined");
    }
    alter_peer(paris(&mut picture), "berlin", |peer| peer.state = "idle".to_owned());
    let unknown = unknown(&picture, "paris");
    for (check, why) in [
        (Check::Broker, "member/paris has no condition Joined yet: linkspan-controller has not run, or is not done"),
        (Check::KubeProxy, "no rules of kube-proxy are seen here"),
    ] {
        assert!(unknown.iter().any(|found| found.0 == check && found.2 == why), "{check}: {unknown:#?}");
    }
    let well = good(&picture, "paris");
    assert!(!well.contains(&Check::Broker), "{well:?}");
    let sizes = diagnose(&picture).into_iter().filter(|f| f.check == Check::Mtu && f.cluster == "paris");
    assert_eq!(sizes.map(|f| f.evidence).collect::<Vec<_>>(), ["nothing stands out"]);
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
