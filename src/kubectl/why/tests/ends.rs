//! What names and addresses mean.

use controller::api::ServiceExport;
use serde_json::{Value, json};

use super::{answer, broken, healthy, objects, paris, story};
use crate::kubectl::diagnose::State;
use crate::kubectl::picture::samples::pod;
use crate::kubectl::picture::{ClusterPicture, Part, Picture};
use crate::kubectl::why::{Goal, Story, client, goal, parse, why};

fn end(text: &str) -> parse::End {
    parse::end(text, &["paris", "berlin"]).unwrap()
}

fn add_pod(cluster: &mut ClusterPicture, pod: Value) {
    let Part::Seen(pods) = &mut cluster.pods else { panic!("pods were seen") };
    pods.push(serde_json::from_value(pod).unwrap());
}

fn refused(picture: &Picture, from: &str, to: &str) -> String {
    why(picture, &end(from), &end(to), "default").unwrap_err().text
}

fn evidence<'a>(story: &'a Story, what: &str) -> &'a str {
    &story.hops.iter().find(|hop| hop.what == what).unwrap_or_else(|| panic!("no {what}: {story:#?}")).evidence
}

/// A Deployment of the name of its Service, as `kubectl create deployment` and `kubectl expose` make them.
fn with_deployment() -> Picture {
    let mut picture = healthy();
    let labels = json!({ "app": "web", "pod-template-hash": "5d9c" });
    let mut of_web = pod("default", "web-5d9c-x", "berlin-2", "10.52.1.30", labels);
    of_web["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c", "uid": "1", "controller": true }]);
    add_pod(&mut picture.clusters[1], of_web);
    picture
}

#[test]
fn a_name_that_a_service_has_means_the_service() {
    let by_name = story(with_deployment(), "client", "web", |_| {});
    assert_eq!(by_name.to, "web.default.svc.clusterset.local");
    let unexported = story(with_deployment(), "client", "web", |picture| {
        for cluster in &mut picture.clusters {
            cluster.exports = objects::<ServiceExport>(json!([]));
            cluster.imports = objects(json!([]));
        }
    });
    assert_eq!(broken(&unexported).2, "NotExported");
    let by_kind = story(with_deployment(), "client", "berlin/deploy/web:80", |_| {});
    assert_eq!(by_kind.to, "pod default/web-5d9c-x of berlin");
}

#[test]
fn a_clusterset_ip_is_its_service_and_other_ips_of_services_are_told_apart() {
    let by_ip = story(healthy(), "client", "10.43.0.77:80", |_| {});
    assert_eq!((by_ip.to.as_str(), by_ip.broken()), ("web.default.svc.clusterset.local", None));
    let own = refused(&healthy(), "client", "10.43.0.53:53");
    assert_eq!(
        own,
        "10.43.0.53 is Service linkspan-system/linkspan-dns of paris itself: Linkspan has no part in the way to it"
    );
    let nobodys = refused(&healthy(), "client", "10.43.200.1:80");
    assert_eq!(nobodys, "10.43.200.1 is among the addresses of services of paris, and none has it");
    let mut blind = healthy();
    paris(&mut blind).services = ClusterPicture::dark("paris", "you may not").services;
    let end = why(&blind, &end("client"), &end("10.43.200.1:80"), "default").unwrap_err();
    assert!(end.may_be && end.text.ends_with("was not seen: you may not"), "{end}");
}

/// Nobody asks for the name of an address.
#[test]
fn a_clusterset_ip_needs_no_names() {
    let unwired = |to: &str| {
        story(healthy(), "client", to, |picture| {
            let Part::Seen(configs) = &mut paris(picture).configs else { panic!("configs were seen") };
            configs.remove("kube-system/coredns-custom");
        })
    };
    assert_eq!(broken(&unwired("web")).2, "CoreDnsNotWired");
    let by_ip = unwired("10.43.0.77:80");
    assert_eq!(by_ip.broken(), None);
    assert!(
        !by_ip.hops.iter().any(|hop| ["cluster DNS", "resolver", "name"].contains(&hop.what.as_str())),
        "{by_ip:#?}"
    );
}

#[test]
fn a_named_cluster_is_asked_alone_whether_a_name_is_a_service() {
    let mut picture = healthy();
    let Part::Seen(services) = &mut paris(&mut picture).services else { panic!("services were seen") };
    let own =
        json!({ "metadata": { "name": "on-berlin-2", "namespace": "default" }, "spec": { "clusterIP": "10.43.0.60" } });
    services.push(serde_json::from_value(own).unwrap());
    let pod = story(picture, "client", "berlin/on-berlin-2:80", |_| {});
    assert_eq!((pod.to.as_str(), pod.broken()), ("pod default/on-berlin-2 of berlin", None));
}

#[test]
fn different_things_of_one_name_in_two_clusters_are_asked_for() {
    let mut picture = with_deployment();
    add_pod(paris(&mut picture), pod("default", "shop", "paris-1", "10.42.0.40", json!({})));
    let labels = json!({ "pod-template-hash": "77" });
    let mut of_shop = pod("default", "shop-77-x", "berlin-2", "10.52.1.41", labels);
    of_shop["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-77", "uid": "1", "controller": true }]);
    add_pod(&mut picture.clusters[1], of_shop);
    assert!(refused(&picture, "shop", "web").contains("in paris and berlin"));
}

#[test]
fn slices_that_nobody_may_see_are_not_taken_for_none() {
    let blind = |to: &str| {
        story(healthy(), "client", to, |picture| {
            paris(picture).slices = ClusterPicture::dark("paris", "you may not list endpointslices").slices;
        })
    };
    for to in ["web", "berlin/svc/web"] {
        let story = blind(to);
        assert_eq!((story.broken(), story.exit_code()), (None, 3), "{to}");
        assert_eq!(evidence(&story, "endpoints"), "you may not list endpointslices");
    }
}

/// Both families of a service are followed by a client that has both, and one of them by a client that has one.
#[test]
fn endpoints_of_a_family_that_the_client_does_not_have_are_not_followed() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(slices) = &mut cluster.slices else { panic!("slices were seen") };
        let mut six = slices[0].clone();
        six.address_type = "IPv6".to_owned();
        six.endpoints.truncate(1);
        six.endpoints[0].addresses = vec!["fd00:52::9".to_owned()];
        slices.push(six);
    }
    let four = story(picture.clone(), "client", "web", |_| {});
    assert_eq!((four.broken(), four.exit_code()), (None, 0), "{four:#?}");
    let from = client(&picture, &end("client"), "default").unwrap();
    let six: std::net::IpAddr = "fd00:52::9".parse().unwrap();
    assert_eq!(from.address_to(six), None);
    let Part::Seen(pods) = &mut picture.clusters[0].pods else { panic!("pods were seen") };
    let status =
        pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some("client")).unwrap().status.as_mut().unwrap();
    status.pod_ips = serde_json::from_value(json!([{ "ip": "10.42.1.7" }, { "ip": "fd00:42::7" }])).unwrap();
    let from = client(&picture, &end("client"), "default").unwrap();
    assert_eq!(from.address_to(six), Some("fd00:42::7".parse().unwrap()));
}

#[test]
fn what_several_clusters_have_is_asked_for() {
    let mut picture = healthy();
    add_pod(&mut picture.clusters[1], pod("default", "client", "berlin-2", "10.52.1.31", json!({})));
    assert_eq!(
        refused(&picture, "client", "web"),
        "pod default/client is in paris and berlin: write which one is meant, paris/... for example"
    );
    assert_eq!(story(picture, "paris/client", "web", |_| {}).broken(), None);
}

/// Both have 10.42.1.0/24: one has a pod of the address, and the other only its prefix.
#[test]
fn an_address_is_rather_a_pod_than_a_prefix() {
    let mut picture = healthy();
    let Part::Seen(nodes) = &mut picture.clusters[1].nodes else { panic!("nodes were seen") };
    let spec = nodes[1].spec.as_mut().unwrap();
    (spec.pod_cidr, spec.pod_cidrs) = (Some("10.42.1.0/24".to_owned()), None);
    let found = client(&picture, &end("10.42.1.7"), "default").unwrap();
    assert_eq!((found.cluster.name(), found.label.as_str()), ("paris", "pod default/client"));
    assert!(client(&picture, &end("10.42.1.99"), "default").unwrap_err().text.contains("in paris and berlin"));
}

#[test]
fn a_service_calls_by_a_pod_behind_it() {
    let story = story(healthy(), "berlin/svc/web", "paris/pod/client:80", |_| {});
    assert_eq!(story.from, "pod default/on-berlin-1 behind service web of berlin");
}

#[test]
fn a_port_that_the_service_does_not_have_is_told_with_those_it_has() {
    let wrong = story(healthy(), "client", "web.default.svc.clusterset.local:9999", |_| {});
    assert_eq!(broken(&wrong), ("paris", "port", "NoSuchPort"));
    assert_eq!(evidence(&wrong, "port"), "port 9999 is asked for, and the service has 80");
}

#[test]
fn a_second_port_is_followed_as_the_first_one_is() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(imports) = &mut cluster.imports else { panic!("imports were seen") };
        imports[0]
            .spec
            .ports
            .push(serde_json::from_value(json!({ "name": "admin", "port": 443, "protocol": "TCP" })).unwrap());
        let Part::Seen(slices) = &mut cluster.slices else { panic!("slices were seen") };
        for slice in slices {
            let port = serde_json::from_value(json!({ "name": "admin", "port": 8443, "protocol": "TCP" })).unwrap();
            slice.ports.get_or_insert_default().push(port);
        }
    }
    let second = story(picture, "client", "web.default.svc.clusterset.local:443", |_| {});
    assert_eq!(evidence(&second, "kube-proxy on node paris-2"), "carries clusterset IP 10.43.0.77 (nftables)");
    assert!(second.hops.iter().any(|hop| hop.what == "connection from node paris-2 to 10.52.0.9:8443"), "{second:#?}");
    assert_eq!(second.broken(), None);
}

#[test]
fn a_host_name_means_its_endpoint_alone() {
    let mut picture = healthy();
    for cluster in &mut picture.clusters {
        let Part::Seen(imports) = &mut cluster.imports else { panic!("imports were seen") };
        imports[0].spec.ips.clear();
        imports[0].spec.kind = serde_json::from_value(json!("Headless")).unwrap();
        let Part::Seen(slices) = &mut cluster.slices else { panic!("slices were seen") };
        for endpoint in slices.iter_mut().flat_map(|slice| &mut slice.endpoints) {
            let hosts = [("10.52.0.9", "db-0"), ("10.52.1.9", "db-1")];
            let host = hosts.into_iter().find(|(address, _)| endpoint.addresses == [*address]);
            endpoint.hostname = host.map(|(_, host)| host.to_owned());
        }
    }
    let name = "db-1.berlin.web.default.svc.clusterset.local:5432";
    let answered = |code: &str, addresses: &[&str]| {
        story(picture.clone(), "client", name, |picture| {
            super::alter(paris(picture), "paris-2", |node| {
                let seen = node.inspection.names.iter_mut().find(|seen| seen.of.name.starts_with("db-1.")).unwrap();
                seen.answer = code.to_owned();
                seen.addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            });
        })
    };
    assert_eq!(broken(&answered("NXDOMAIN", &[])), ("paris", "name", "WrongAnswer"));
    assert_eq!(broken(&answered("NOERROR", &["10.52.0.9"])), ("paris", "name", "WrongAnswer"));
    let story = answered("NOERROR", &["10.52.1.9"]);
    assert_eq!(evidence(&story, "name"), "db-1.berlin.web.default.svc.clusterset.local is 10.52.1.9");
    assert_eq!(story.to, "db-1.berlin.web.default.svc.clusterset.local");
    assert!(story.hops.iter().any(|hop| hop.what == "pod default/on-berlin-2"), "{story:#?}");
    assert!(!story.hops.iter().any(|hop| hop.what == "pod default/on-berlin-1"), "{story:#?}");
    assert!(story.hops.iter().any(|hop| hop.what == "connection from node paris-2 to 10.52.1.9:5432"), "{story:#?}");
}

#[test]
fn a_host_that_is_not_ready_is_told_by_its_name() {
    let gone = story(healthy(), "client", "db-7.berlin.web.default.svc.clusterset.local", |_| {});
    assert_eq!(broken(&gone), ("paris", "endpoints", "ExportWithoutEndpoints"));
    assert!(evidence(&gone, "endpoints").contains("with the host name db-7"), "{gone:#?}");
}

#[test]
fn who_does_not_ask_cluster_dns_is_told() {
    let resolver = |change: &dyn Fn(&mut Value)| {
        let mut picture = healthy();
        let mut special = pod("default", "special", "paris-2", "10.42.1.8", json!({}));
        change(&mut special);
        add_pod(paris(&mut picture), special);
        let story = story(picture, "special", "web", |_| {});
        let hop = story.hops.iter().find(|hop| hop.what == "resolver").cloned();
        hop.map(|hop| (hop.state, hop.evidence))
    };
    let warned = |evidence: &str| Some((State::Warning, evidence.to_owned()));
    assert_eq!(resolver(&|_| {}), None);
    let on_host = |pod: &mut Value| pod["spec"]["hostNetwork"] = true.into();
    let told = "with hostNetwork, dnsPolicy ClusterFirst means the resolver of the node";
    assert_eq!(resolver(&on_host), warned(told));
    let minded = |pod: &mut Value| {
        on_host(pod);
        pod["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet".into();
    };
    assert_eq!(resolver(&minded), None);
    let own = |server: &'static str| {
        move |pod: &mut Value| {
            pod["spec"]["dnsPolicy"] = "None".into();
            pod["spec"]["dnsConfig"] = json!({ "nameservers": [server] });
        }
    };
    assert_eq!(resolver(&own("9.9.9.9")), warned("dnsPolicy None, and it asks 9.9.9.9"));
    assert_eq!(resolver(&own("10.43.0.10")), None, "cluster DNS, by its address");
    let node = story(healthy(), "node/paris-2", "web.default.svc.clusterset.local", |_| {});
    assert_eq!(evidence(&node, "resolver"), "a node asks the servers of its own /etc/resolv.conf");
    assert_eq!(node.broken(), None);
}

/// Policies are about pods, and what shares its node's network is none to them (networking.k8s.io/v1).
#[test]
fn policies_have_no_say_in_what_a_pod_on_its_nodes_network_sends() {
    let mut picture = healthy();
    let mut special = pod("default", "special", "paris-2", "192.168.7.12", json!({}));
    special["spec"]["hostNetwork"] = true.into();
    add_pod(paris(&mut picture), special);
    let deny = json!([{ "metadata": { "name": "deny", "namespace": "default" }, "spec": { "podSelector": {}, "policyTypes": ["Egress"] } }]);
    paris(&mut picture).policies = objects(deny);
    assert_eq!(story(picture, "special", "web", |_| {}).broken(), None);
}

#[test]
fn a_goal_is_found_without_any_answer_of_nodes() {
    let mut picture = healthy();
    answer(&mut picture, |picture| picture.clusters.iter().map(|_| std::collections::BTreeMap::new()).collect());
    let from = client(&picture, &end("client"), "default").unwrap();
    assert!(matches!(goal(&picture, &from, &end("web"), "default"), Ok(Goal::Service(_))));
}
