//! Leaving where something stands in the way: another cluster under the same ID, a lost broker; and what of others stays.

use std::time::Duration;

use controller::api::{Member, ServiceRecord};
use controller::broker::{DryRun, ask_to_leave, ask_to_leave_without_broker, token};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::support::{
    BROKER, Cluster, KEYS, LASTING, address, admin, apply, client, eventually, home, id, join_as, joined, member,
    new_token, now, record, set_up_broker, set_up_home, start, wanted,
};

/// The ClusterProperties of a cluster.
struct Properties(Api<DynamicObject>);

impl Properties {
    const ID: &str = "cluster.clusterset.k8s.io";
    const CLUSTERSET: &str = "clusterset.k8s.io";

    fn of(cluster: &Cluster) -> Self {
        let kind = GroupVersionKind::gvk("about.k8s.io", "v1alpha1", "ClusterProperty");
        let kind = ApiResource::from_gvk_with_plural(&kind, "clusterproperties");
        Self(Api::all_with(cluster.client.clone(), &kind))
    }

    /// As somebody else does it. Established kinds are served a moment later.
    async fn make(&self, name: &str, value: &str) {
        let property = json!({
            "apiVersion": "about.k8s.io/v1alpha1", "kind": "ClusterProperty",
            "metadata": { "name": name }, "spec": { "value": value },
        });
        let property: DynamicObject = serde_json::from_value(property).unwrap();
        eventually(name, async || self.0.create(&PostParams::default(), &property).await.is_ok()).await;
    }

    /// What one says, and whether it is Linkspan's.
    async fn get(&self, name: &str) -> Option<(String, bool)> {
        let property = self.0.get_opt(name).await.unwrap()?;
        let value = property.data["spec"]["value"].as_str().unwrap().to_owned();
        Some((value, property.metadata.labels.is_some_and(|labels| !labels.is_empty())))
    }
}

#[tokio::test]
async fn row_105_a_refused_duplicate_that_leaves_takes_nothing_from_the_first() {
    let mut first = Cluster::with_uid("double", "10.146.0.0/24", "uid-double-1").await;
    first.config.lease_duration = LASTING;
    let (credential, _) = joined("double").await;
    first.give_credential(&credential).await;
    first.start();
    first.wait_for("double", "Published", "True", "Published").await;
    apply(&first.records(), &record("double", "default", "web", "10.146.0.9")).await.unwrap();
    let admin = admin().await;
    let records: Api<ServiceRecord> = Api::namespaced(admin.clone(), BROKER);
    eventually("its service is published", async || records.get_opt("double.default.web").await.unwrap().is_some())
        .await;
    let mut second = Cluster::with_uid("double", "10.146.1.0/24", "uid-double-2").await;
    second.give_credential(&credential).await;
    second.start();
    second.wait_for("double", "Unique", "False", "DuplicateID").await;

    ask_to_leave(&second.client, &second.config.namespace).await.unwrap();
    let message = second.wait_for("double", "Joined", "False", "Left").await;
    assert!(message.contains("another living cluster has this ID"), "{message}");
    assert!(second.secrets().get_opt("linkspan-broker").await.unwrap().is_none());
    // A second one that does not know yet who holds the ID when it is asked asks itself.
    second.stop().await;
    second.give_credential(&credential).await;
    ask_to_leave(&second.client, &second.config.namespace).await.unwrap();
    second.start();
    eventually("it has left again", async || second.secrets().get_opt("linkspan-broker").await.unwrap().is_none())
        .await;
    second.stop().await;

    let member = Api::<Member>::namespaced(admin.clone(), BROKER).get("double").await.unwrap();
    assert_eq!(member.spec.cluster_uid, "uid-double-1");
    records.get("double.default.web").await.unwrap();
    Api::<ServiceAccount>::namespaced(admin.clone(), BROKER).get("member-double").await.unwrap();
    Api::<RoleBinding>::namespaced(admin.clone(), BROKER).get("member-double").await.unwrap();
    let lease = Api::<Lease>::namespaced(admin, BROKER).get("member-double").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("uid-double-1"));
    first.wait_for("double", "Unique", "True", "Unique").await;
    first.wait_for("double", "Joined", "True", "Joined").await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_and_its_copy_are_told_of_each_other_and_one_leaves_without_the_other() {
    let mut first = Cluster::with_uid("copied", "10.147.0.0/24", "uid-copied").await;
    // Who finds nothing but its own heartbeats for a while, since the other one's are late, takes itself for alone.
    first.config.heartbeat = Duration::from_secs(3);
    let (credential, _) = joined("copied").await;
    first.give_credential(&credential).await;
    first.start();
    first.wait_for("copied", "Published", "True", "Published").await;
    let mut copy = Cluster::on(home(), "home-uid-copied-2", "copied", "10.147.0.0/24", "uid-copied").await;
    copy.config.heartbeat = first.config.heartbeat;
    copy.give_credential(&credential).await;
    copy.start();
    for one in [&first, &copy] {
        let message = one.wait_for("copied", "Unique", "False", "DuplicateID").await;
        assert!(message.contains("one is a copy of the other"), "{message}");
    }

    ask_to_leave(&copy.client, &copy.config.namespace).await.unwrap();
    let message = copy.wait_for("copied", "Joined", "False", "Left").await;
    assert!(message.contains("another living cluster has this ID"), "{message}");
    copy.stop().await;
    first.wait_for("copied", "Unique", "True", "Unique").await;
    first.wait_for("copied", "Published", "True", "Published").await;
    Api::<Member>::namespaced(admin().await, BROKER).get("copied").await.unwrap();
    Api::<RoleBinding>::namespaced(admin().await, BROKER).get("member-copied").await.unwrap();
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_104_a_cluster_leaves_a_lost_broker_by_cleaning_up_at_home() {
    let (mut broker, home) = (start(set_up_broker).await, start(set_up_home).await);
    let broker_admin = client(broker.kubeconfig()).await;
    let token = token::create(&broker_admin, &wanted(&address(&broker), "paris"), now()).await.unwrap();
    let mut paris = Cluster::on(&home, "linkspan-system", "paris", "10.143.0.0/24", "uid-paris").await;
    paris.give_token(&token).await;
    paris.start();
    let (_, berlin) = join_as(&broker_admin, &address(&broker), "berlin").await;
    apply(&Api::namespaced(berlin.clone(), BROKER), &member("berlin", "10.143.1.0/24", KEYS[0])).await.unwrap();
    apply(&Api::namespaced(berlin, BROKER), &record("berlin", "default", "web", "10.143.1.9")).await.unwrap();
    paris.wait_for_record("berlin.default.web", "True", "Accepted").await;
    paris.wait_for("paris", "Properties", "True", "Told").await;
    broker.stop().unwrap();

    ask_to_leave(&paris.client, &paris.config.namespace).await.unwrap();
    let message = paris.wait_for("paris", "Joined", "False", "Leaving").await;
    assert!(message.contains("`linkspan leave --without-broker`"), "{message}");
    assert!(paris.members().get_opt("berlin").await.unwrap().is_some(), "it may be back in a moment");
    ask_to_leave_without_broker(&paris.client, &paris.config.namespace).await.unwrap();
    let message = paris.wait_for("paris", "Joined", "False", "Left").await;
    assert!(message.contains("`linkspan member remove paris`"), "{message}");
    assert!(paris.members().get_opt("berlin").await.unwrap().is_none());
    assert!(paris.records().get_opt("berlin.default.web").await.unwrap().is_none());
    for secret in ["linkspan-broker", "linkspan-join"] {
        assert!(paris.secrets().get_opt(secret).await.unwrap().is_none(), "{secret}");
    }
    let properties = Properties::of(&paris);
    assert_eq!((properties.get(Properties::ID).await, properties.get(Properties::CLUSTERSET).await), (None, None));

    broker.restart().unwrap();
    let broker_admin = client(broker.kubeconfig()).await;
    token::remove_member(&broker_admin, BROKER, &id("paris"), DryRun::None).await.unwrap();
    assert!(Api::<Member>::namespaced(broker_admin, BROKER).get_opt("paris").await.unwrap().is_none());
    paris.stop().await;
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_keeps_nobody_from_leaving() {
    let mut cluster = Cluster::new("unreadable", "10.144.0.0/24").await;
    let secret = json!({ "metadata": { "name": "linkspan-broker", "annotations": { "linkspan.dev/leave": "true" } } });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    cluster.secrets().create(&PostParams::default(), &secret).await.unwrap();
    cluster.start();
    let message = cluster.wait_for("unreadable", "Joined", "False", "Left").await;
    assert!(message.contains("the broker was not asked"), "{message}");
    assert!(cluster.secrets().get_opt("linkspan-broker").await.unwrap().is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn row_103_and_104_properties_of_others_are_neither_changed_nor_deleted() {
    let home = start(set_up_home).await;
    let mut cluster = Cluster::on(&home, "linkspan-system", "proper", "10.145.0.0/24", "uid-proper").await;
    let properties = Properties::of(&cluster);
    properties.make(Properties::ID, "proper").await;
    properties.make(Properties::CLUSTERSET, "other").await;
    cluster.give_token(&new_token("proper").await).await;
    cluster.start();
    let message = cluster.wait_for("proper", "Properties", "False", "ForeignProperty").await;
    assert!(message.starts_with("ClusterProperty clusterset.k8s.io says \"other\" and not \"fleet\","), "{message}");
    let theirs = |value: &str| Some((value.to_owned(), false));
    assert_eq!(properties.get(Properties::ID).await, theirs("proper"));
    assert_eq!(properties.get(Properties::CLUSTERSET).await, theirs("other"));
    cluster.wait_for("proper", "Published", "True", "Published").await;

    properties.0.delete(Properties::CLUSTERSET, &DeleteParams::default()).await.unwrap();
    cluster.wait_for("proper", "Properties", "True", "Told").await;
    assert_eq!(properties.get(Properties::CLUSTERSET).await, Some(("fleet".to_owned(), true)));
    ask_to_leave(&cluster.client, &cluster.config.namespace).await.unwrap();
    cluster.wait_for("proper", "Joined", "False", "Left").await;
    assert_eq!(properties.get(Properties::ID).await, theirs("proper"));
    assert_eq!(properties.get(Properties::CLUSTERSET).await, None);
    cluster.stop().await;
}
