//! What goes up and what comes down.

use std::time::Duration;

use controller::api::{GatewayNode, GatewayNodeSpec, GatewayNodeStatus, Member, ServiceRecord};
use controller::members::{ANNOTATION_JOINED_AT, judge};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use testbed::wait;

use super::support::{
    BROKER, Cluster, KEYS, PATIENCE, admin, apply, broker, client, deploy, eventually, home, id, joined, member,
    new_token, now, record,
};

/// Keys are unique among all that the tests share.
const KEY_OF_BERLIN: &str = "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=";

const KEY_OF_STILL: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

async fn publish(cluster: &mut Cluster) {
    let name = cluster.config.cluster.to_string();
    cluster.give_token(&new_token(&name).await).await;
    cluster.start();
    cluster.wait_for(&name, "Published", "True", "Published").await;
}

/// A node that is a gateway of `cluster`. Nodes belong to the whole API server, so names tell them apart.
async fn add_gateway(cluster: &Cluster, node: &str, key: &str) {
    let nodes: Api<Node> = Api::all(client(home().kubeconfig()).await);
    let object = json!({ "metadata": { "name": node } });
    nodes.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let gateways: Api<GatewayNode> = Api::namespaced(cluster.client.clone(), &cluster.config.namespace);
    let spec = GatewayNodeSpec { public_key: key.to_owned(), endpoints: vec!["198.51.100.7:51820".into()], lanes: 2 };
    let mut gateway = GatewayNode::new(node, spec);
    gateway.status = Some(GatewayNodeStatus::default());
    apply(&gateways, &gateway).await.unwrap();
}

async fn elect(cluster: &Cluster, node: &str) {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.config.namespace);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "linkspan-gateway" }, "spec": { "holderIdentity": node },
    });
    apply(&leases, &serde_json::from_value(lease).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_renews_its_lease_no_more_is_told_of_until_it_does() {
    let mut paris = Cluster::new("still-paris", "10.131.0.0/24").await;
    add_gateway(&paris, "still-node", KEY_OF_STILL).await;
    let leases: Api<Lease> = Api::namespaced(paris.client.clone(), &paris.config.namespace);
    let renew = async || {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "linkspan-gateway" },
            "spec": { "holderIdentity": "still-node", "leaseDurationSeconds": 2, "renewTime": MicroTime(now()) },
        });
        apply(&leases, &serde_json::from_value(lease).unwrap()).await.unwrap();
    };
    renew().await;
    publish(&mut paris).await;
    paris.wait_for("still-paris", "Gateways", "True", "Active").await;
    renew().await;
    let message = paris.wait_for("still-paris", "Gateways", "False", "NoActiveGateway").await;
    assert!(
        message.starts_with("gateway still-node has not renewed Lease linkspan-gateway for 60 s or more"),
        "{message}"
    );
    let own = paris.members().get("still-paris").await.unwrap();
    assert!(own.spec.gateways[0].active, "the others find out by themselves");
    renew().await;
    paris.wait_for("still-paris", "Gateways", "True", "Active").await;
    paris.stop().await;
}

#[tokio::test]
async fn own_records_go_up_and_are_withdrawn_when_they_go() {
    let mut paris = Cluster::new("up-paris", "10.130.0.0/24").await;
    publish(&mut paris).await;
    let published: Api<ServiceRecord> = Api::namespaced(admin().await, BROKER);
    apply(&paris.records(), &record("up-paris", "default", "web", "10.130.0.9")).await.unwrap();
    eventually("the record is published", async || published.get_opt("up-paris.default.web").await.unwrap().is_some())
        .await;
    apply(&paris.records(), &record("up-paris", "default", "web", "10.130.0.10")).await.unwrap();
    eventually("the change is published", async || {
        let record = published.get("up-paris.default.web").await.unwrap();
        record.spec.slices[0].endpoints[0].addresses == ["10.130.0.10"]
    })
    .await;
    published.delete("up-paris.default.web", &DeleteParams::default()).await.unwrap();
    eventually("what somebody deleted comes back", async || {
        published.get_opt("up-paris.default.web").await.unwrap().is_some()
    })
    .await;
    paris.records().delete("up-paris.default.web", &DeleteParams::default()).await.unwrap();
    eventually("the record is withdrawn", async || published.get_opt("up-paris.default.web").await.unwrap().is_none())
        .await;
    paris.stop().await;
}

#[tokio::test]
async fn an_own_record_that_the_broker_refuses_says_so() {
    let mut paris = Cluster::new("refused-paris", "10.131.0.0/24").await;
    publish(&mut paris).await;
    apply(&paris.records(), &record("refused-paris", "kube-system", "dns", "10.131.0.9")).await.unwrap();
    let message = paris.wait_for_record("refused-paris.kube-system.dns", "False", "RefusedByBroker").await;
    assert!(message.contains("kube-system is reserved"), "{message}");
    paris.stop().await;
}

#[tokio::test]
async fn members_and_records_come_down_with_their_age_and_go_when_they_are_gone() {
    let mut paris = Cluster::new("down-paris", "10.132.0.0/24").await;
    publish(&mut paris).await;
    let (_, berlin) = joined("down-berlin").await;
    let members: Api<Member> = Api::namespaced(berlin.clone(), BROKER);
    let records: Api<ServiceRecord> = Api::namespaced(berlin, BROKER);
    let original = apply(&members, &member("down-berlin", "10.132.1.0/24", KEYS[0])).await.unwrap();
    apply(&records, &record("down-berlin", "default", "web", "10.132.1.9")).await.unwrap();
    paris.wait_for("down-berlin", "Ready", "True", "Ready").await;
    paris.wait_for_record("down-berlin.default.web", "True", "Accepted").await;
    let copy = paris.members().get("down-berlin").await.unwrap();
    let joined_at = original.metadata.creation_timestamp.unwrap().0.to_string();
    assert_eq!(copy.metadata.annotations.as_ref().unwrap()[ANNOTATION_JOINED_AT], joined_at);
    let all = [copy, paris.members().get("down-paris").await.unwrap()];
    let verdicts = judge(&id("down-paris"), &all, &[]);
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts["down-berlin"].accepted().unwrap().routes, ["10.132.1.0/24".parse().unwrap()]);
    // Without its prefix, the Member's endpoints are foreign.
    apply(&members, &member("down-berlin", "10.132.2.0/24", KEYS[0])).await.unwrap();
    paris.wait_for_record("down-berlin.default.web", "False", "ForeignAddress").await;
    records.delete("down-berlin.default.web", &DeleteParams::default()).await.unwrap();
    members.delete("down-berlin", &DeleteParams::default()).await.unwrap();
    eventually("the copies go", async || {
        paris.members().get_opt("down-berlin").await.unwrap().is_none()
            && paris.records().get_opt("down-berlin.default.web").await.unwrap().is_none()
    })
    .await;
    paris.stop().await;
}

#[tokio::test]
async fn a_record_of_no_member_is_refused() {
    let mut paris = Cluster::new("nomember-paris", "10.133.0.0/24").await;
    publish(&mut paris).await;
    let (_, stray) = joined("stray").await;
    let records: Api<ServiceRecord> = Api::namespaced(stray, BROKER);
    apply(&records, &record("stray", "default", "web", "10.133.1.9")).await.unwrap();
    paris.wait_for_record("stray.default.web", "False", "NoMember").await;
    paris.stop().await;
}

#[tokio::test]
async fn a_silent_member_is_told_and_stays_in_use() {
    let mut paris = Cluster::new("silent-paris", "10.134.0.0/24").await;
    let mut oslo = Cluster::new("silent-oslo", "10.134.1.0/24").await;
    publish(&mut paris).await;
    publish(&mut oslo).await;
    paris.wait_for("silent-oslo", "Alive", "True", "Heartbeat").await;
    oslo.stop().await;
    let message = paris.wait_for("silent-oslo", "Alive", "False", "Silent").await;
    assert!(message.contains("last known state is used"), "{message}");
    oslo.start();
    paris.wait_for("silent-oslo", "Alive", "True", "Heartbeat").await;
    oslo.stop().await;
    paris.stop().await;
}

#[tokio::test]
async fn a_gateway_that_takes_over_is_known_on_the_broker_at_once() {
    let mut paris = Cluster::new("gw-paris", "10.135.0.0/24").await;
    let message = {
        publish(&mut paris).await;
        paris.wait_for("gw-paris", "Gateways", "False", "NoGateway").await
    };
    assert!(message.contains("linkspan.dev/gateway=true"), "{message}");
    add_gateway(&paris, "gw-paris-1", KEYS[1]).await;
    add_gateway(&paris, "gw-paris-2", KEYS[2]).await;
    paris.wait_for("gw-paris", "Gateways", "False", "NoActiveGateway").await;
    elect(&paris, "gw-paris-1").await;
    paris.wait_for("gw-paris", "Gateways", "True", "Active").await;
    let published: Api<Member> = Api::namespaced(admin().await, BROKER);
    let active = async || {
        let member = published.get("gw-paris").await.unwrap();
        member.spec.gateways.into_iter().find(|gateway| gateway.active).map(|gateway| gateway.node)
    };
    eventually("the first gateway is known", async || active().await.as_deref() == Some("gw-paris-1")).await;
    let started = tokio::time::Instant::now();
    elect(&paris, "gw-paris-2").await;
    while active().await.as_deref() != Some("gw-paris-2") {
        // The goal is 100 ms; tests run beside each other.
        assert!(started.elapsed() < Duration::from_secs(60), "the first gateway is still known");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("a gateway change reached the broker in {:?}", started.elapsed());
    paris.stop().await;
}

#[tokio::test]
async fn a_cluster_that_has_settled_writes_nothing_but_heartbeats() {
    let mut paris = Cluster::new("settled-paris", "10.136.0.0/24").await;
    publish(&mut paris).await;
    let (_, berlin) = joined("settled-berlin").await;
    apply(&Api::namespaced(berlin.clone(), BROKER), &member("settled-berlin", "10.136.1.0/24", KEY_OF_BERLIN))
        .await
        .unwrap();
    let records: Api<ServiceRecord> = Api::namespaced(berlin, BROKER);
    apply(&records, &record("settled-berlin", "default", "web", "10.136.1.9")).await.unwrap();
    apply(&paris.records(), &record("settled-paris", "default", "web", "10.136.0.9")).await.unwrap();
    paris.wait_for_record("settled-berlin.default.web", "True", "Accepted").await;
    paris.wait_for_record("settled-paris.default.web", "True", "Published").await;
    paris.wait_for("settled-berlin", "Alive", "False", "Silent").await;
    let published: Api<Member> = Api::namespaced(admin().await, BROKER);
    let versions = async || {
        let mut versions = Vec::new();
        for name in ["settled-paris", "settled-berlin"] {
            versions.push(paris.members().get(name).await.unwrap().metadata.resource_version);
            versions.push(paris.records().get(&format!("{name}.default.web")).await.unwrap().metadata.resource_version);
        }
        versions.push(published.get("settled-paris").await.unwrap().metadata.resource_version);
        versions
    };
    // A last write may come late, and what others leave behind when they go is written as well; nothing else is.
    let mut quiet = 0;
    let mut before = versions().await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let after = versions().await;
        quiet = if before == after { quiet + 1 } else { 0 };
        before = after;
        if quiet == 2 {
            break;
        }
    }
    assert_eq!(quiet, 2, "something is written over several heartbeats");
    paris.stop().await;
}

#[test]
fn applying_the_broker_twice_changes_nothing() {
    for base in ["crds", "broker"] {
        // It exits with 1 where something would change, or where the API server says something of a kind meanwhile.
        let base = deploy(base);
        wait::retry(PATIENCE, || broker().kubectl(["diff", "--server-side", "-k", &base])?.done()).unwrap();
    }
}

#[test]
fn deleting_a_part_of_linkspan_takes_no_crd_along() {
    for base in ["member", "broker"] {
        let built = broker().kubectl(["kustomize", &deploy(base)]).unwrap().stdout().unwrap();
        assert!(built.contains("kind: Namespace"), "{built}");
        assert!(!built.contains("kind: CustomResourceDefinition"), "deploy/{base} has CRDs, and with them all objects");
    }
}
