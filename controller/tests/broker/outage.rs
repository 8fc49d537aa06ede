//! The broker away, and back.

use controller::api::{Member, ServiceRecord};
use controller::broker::{DryRun, ask_to_leave, token};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::ApiServer;

use super::support::{
    BROKER, Cluster, KEYS, address, apply, client, deploy, eventually, id, join_as, member, now, record, refusal,
    set_up_broker, set_up_home, start, wanted,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_everything_stays_and_changes_follow_when_it_is_back() {
    let mut broker = start(set_up_broker).await;
    let home = start(set_up_home).await;
    let admin = client(broker.kubeconfig()).await;
    let token = token::create(&admin, &wanted(&address(&broker), "paris"), now()).await.unwrap();
    let mut paris = Cluster::on(&home, "linkspan-system", "paris", "10.140.0.0/24", "uid-paris").await;
    paris.give_token(&token).await;
    paris.start();
    let (_, berlin) = join_as(&admin, &address(&broker), "berlin").await;
    apply(&Api::namespaced(berlin.clone(), BROKER), &member("berlin", "10.140.1.0/24", KEYS[0])).await.unwrap();
    let records: Api<ServiceRecord> = Api::namespaced(berlin, BROKER);
    for name in ["web", "gone"] {
        apply(&records, &record("berlin", "default", name, "10.140.1.9")).await.unwrap();
        paris.wait_for_record(&format!("berlin.default.{name}"), "True", "Accepted").await;
    }
    paris.wait_for("berlin", "Ready", "True", "Ready").await;
    let told = async |reason: &str| {
        let events: Api<Event> = Api::namespaced(paris.client.clone(), "linkspan-system");
        let is_it = |event: &&Event| {
            let about = event.regarding.as_ref().and_then(|about| about.name.as_deref());
            (event.reason.as_deref(), about) == (Some(reason), Some("paris"))
        };
        let events = events.list(&Default::default()).await.unwrap();
        events.iter().filter(is_it).map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum::<i32>()
    };
    // Once, if it was not joined at once.
    let (answered, silent) = (told("BrokerReachable").await, told("Unreachable").await);

    broker.stop().unwrap();
    let message = paris.wait_for("paris", "BrokerReachable", "False", "Unreachable").await;
    assert!(message.starts_with("not reached since 20"), "{message}");
    eventually("an Event tells of it", async || told("Unreachable").await > silent).await;
    assert_eq!(told("BrokerReachable").await, answered, "that it answers is no news before");
    // A change at home goes on, and waits.
    apply(&paris.records(), &record("paris", "default", "late", "10.140.0.9")).await.unwrap();
    // Another controller comes up from what its own API server knows.
    paris.stop().await;
    paris.start();
    paris.wait_for("paris", "BrokerReachable", "False", "Unreachable").await;
    assert!(paris.members().get_opt("berlin").await.unwrap().is_some());
    for name in ["web", "gone"] {
        let copy = paris.records().get(&format!("berlin.default.{name}")).await.unwrap();
        assert_eq!(copy.spec.slices[0].endpoints[0].addresses, ["10.140.1.9"]);
    }

    broker.restart().unwrap();
    let admin = client(broker.kubeconfig()).await;
    let published: Api<ServiceRecord> = Api::namespaced(admin.clone(), BROKER);
    published.delete("berlin.default.gone", &DeleteParams::default()).await.unwrap();
    paris.wait_for("paris", "BrokerReachable", "True", "Reachable").await;
    eventually("what waited is published", async || published.get_opt("paris.default.late").await.unwrap().is_some())
        .await;
    eventually("what went meanwhile goes", async || {
        paris.records().get_opt("berlin.default.gone").await.unwrap().is_none()
    })
    .await;
    paris.wait_for_record("berlin.default.web", "True", "Accepted").await;
    paris.wait_for("paris", "Properties", "True", "Told").await;
    rows_103_and_104_properties_come_stay_and_go(&mut paris, &home).await;
    no_trace_is_left_on_the_broker(&admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_deleted_takes_nothing_from_its_members() {
    let broker = start(set_up_broker).await;
    let home = start(set_up_home).await;
    let admin = client(broker.kubeconfig()).await;
    let token = token::create(&admin, &wanted(&address(&broker), "paris"), now()).await.unwrap();
    let mut paris = Cluster::on(&home, "linkspan-system", "paris", "10.141.0.0/24", "uid-paris").await;
    paris.give_token(&token).await;
    paris.start();
    paris.wait_for("paris", "Published", "True", "Published").await;
    let (_, berlin) = join_as(&admin, &address(&broker), "berlin").await;
    apply(&Api::namespaced(berlin.clone(), BROKER), &member("berlin", "10.141.1.0/24", KEYS[0])).await.unwrap();
    apply(&Api::namespaced(berlin, BROKER), &record("berlin", "default", "web", "10.141.1.9")).await.unwrap();
    paris.wait_for_record("berlin.default.web", "True", "Accepted").await;
    // Without controllers, the objects of a namespace that ends are deleted here: the own one last.
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.delete(BROKER, &DeleteParams::default()).await.unwrap();
    let (members, records): (Api<Member>, Api<ServiceRecord>) =
        (Api::namespaced(admin.clone(), BROKER), Api::namespaced(admin, BROKER));
    records.delete("berlin.default.web", &DeleteParams::default()).await.unwrap();
    members.delete("berlin", &DeleteParams::default()).await.unwrap();
    // Time to see it, while paris itself is still there.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    members.delete("paris", &DeleteParams::default()).await.unwrap();
    let message = paris.wait_for("paris", "Published", "False", "RefusedByBroker").await;
    assert!(message.contains("being terminated"), "{message}");
    assert!(paris.members().get_opt("berlin").await.unwrap().is_some());
    let copy = paris.records().get("berlin.default.web").await.unwrap();
    assert_eq!(copy.spec.slices[0].endpoints[0].addresses, ["10.141.1.9"]);
    paris.stop().await;
}

async fn rows_103_and_104_properties_come_stay_and_go(paris: &mut Cluster, home: &ApiServer) {
    let kind = GroupVersionKind::gvk("about.k8s.io", "v1alpha1", "ClusterProperty");
    let kind = ApiResource::from_gvk_with_plural(&kind, "clusterproperties");
    let properties: Api<DynamicObject> = Api::all_with(paris.client.clone(), &kind);
    let value = async |name: &str| {
        let property = properties.get_opt(name).await.unwrap()?;
        Some(property.data["spec"]["value"].as_str().unwrap().to_owned())
    };
    assert_eq!(value("cluster.clusterset.k8s.io").await.as_deref(), Some("paris"));
    assert_eq!(value("clusterset.k8s.io").await.as_deref(), Some("fleet"));
    let policies = format!("{}/admission.yaml", deploy("member"));
    home.kubectl(["apply", "-f", &policies]).unwrap().done().unwrap();
    let attempt = async |patch: serde_json::Value| {
        // If it is let through, nothing is done.
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        properties.patch("cluster.clusterset.k8s.io", &params, &Patch::Merge(patch)).await
    };
    eventually("the cluster ID cannot be changed", async || {
        let error = attempt(json!({ "spec": { "value": "rome" } })).await.err().map(|error| error.to_string());
        error.is_some_and(|error| error.contains("k8s.io is paris as long as this cluster is a member"))
    })
    .await;
    let unlabelled = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } });
    assert_eq!(refusal(attempt(unlabelled).await).0, 403);
    attempt(json!({ "metadata": { "annotations": { "note": "of somebody" } } })).await.unwrap();
    ask_to_leave(&paris.client, &paris.config.namespace).await.unwrap();
    paris.wait_for("paris", "Joined", "False", "Left").await;
    assert_eq!(value("cluster.clusterset.k8s.io").await, None);
    assert_eq!(value("clusterset.k8s.io").await, None);
    assert!(paris.members().get_opt("berlin").await.unwrap().is_none());
    paris.stop().await;
}

async fn no_trace_is_left_on_the_broker(admin: &kube::Client) {
    let members: Api<Member> = Api::namespaced(admin.clone(), BROKER);
    let records: Api<ServiceRecord> = Api::namespaced(admin.clone(), BROKER);
    let names: Vec<String> = members.list(&Default::default()).await.unwrap().iter().map(Member::name_any).collect();
    assert_eq!(names, ["berlin"]);
    assert!(records.list(&Default::default()).await.unwrap().iter().all(|record| record.spec.cluster_id == "berlin"));
    token::remove_member(admin, BROKER, &id("berlin"), DryRun::None).await.unwrap();
    assert!(members.list(&Default::default()).await.unwrap().items.is_empty());
}
