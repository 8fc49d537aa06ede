//! A clusterset whose broker was set up by a version before this one.

use controller::api::Member;
use controller::broker::token;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::ApiServer;

use super::support::{
    BROKER, Cluster, KEYS, address, client, deploy, eventually, member, now, set_up_broker, set_up_home, until_refused,
    wanted,
};

/// Fields of Members that the version before virtual addresses did not have.
const NEW_FIELDS: [&str; 3] = ["virtualCIDRs", "virtualOnly", "restingCIDRs"];

/// Makes the definition of Members that of the version before virtual addresses.
fn age(server: &ApiServer) {
    let crd = server.kubectl(["get", "crd", "members.linkspan.dev", "-o", "json"]).unwrap().stdout().unwrap();
    let mut crd: Value = serde_json::from_str(&crd).unwrap();
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let rules = schema["x-kubernetes-validations"].as_array_mut().unwrap();
    rules.retain(|rule| !rule["rule"].as_str().unwrap().contains("virtualOnly"));
    // The API server may write conditions meanwhile, which is no matter to a patch.
    let path = "/spec/versions/0/schema/openAPIV3Schema";
    let removed =
        |field: &&str| json!({ "op": "remove", "path": format!("{path}/properties/spec/properties/{field}") });
    let mut patch: Vec<Value> = NEW_FIELDS.iter().map(removed).collect();
    patch.push(json!({ "op": "replace", "path": format!("{path}/x-kubernetes-validations"), "value": rules }));
    let patch = json!(patch).to_string();
    server.kubectl(["patch", "crd", "members.linkspan.dev", "--type=json", "-p", &patch]).unwrap().done().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_broker_is_told_and_all_is_right_when_it_is_upgraded() {
    let (broker, home) = tokio::task::spawn_blocking(|| {
        let (broker, home) = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
        set_up_broker(&broker);
        set_up_home(&home);
        age(&broker);
        (broker, home)
    })
    .await
    .unwrap();
    let admin = client(broker.kubeconfig()).await;
    let mut clusters = Vec::new();
    // Of two that join within one second, the one whose name comes first counts as older.
    for name in ["berlin", "paris"] {
        let namespace = format!("linkspan-{name}");
        let cluster = Cluster::on(&home, &namespace, name, "10.142.0.0/24", &format!("uid-{name}")).await;
        let token = token::create(&admin, &wanted(&address(&broker), name), now()).await.unwrap();
        cluster.give_token(&token).await;
        clusters.push(cluster);
    }
    let published: Api<Member> = Api::namespaced(admin, BROKER);
    // Definitions count some time after they were written.
    let mut probe = member("probe", "10.142.1.0/24", KEYS[0]);
    probe.spec.virtual_only = true;
    until_refused(&published, &probe, "field not declared in schema").await;
    // Who needs none of the new fields notices nothing.
    clusters[0].start();
    clusters[0].wait_for("berlin", "Published", "True", "Published").await;
    let berlin = published.get("berlin").await.unwrap().spec;
    // Who has to be known by virtual addresses says why the others do not get to know them.
    clusters[1].start();
    let message = clusters[1].wait_for("paris", "Published", "False", "OldBroker").await;
    assert!(message.contains("apply deploy/crds of this version there"), "{message}");
    assert!(message.contains("spec.virtual"), "{message}");
    let there = published.get_opt("paris").await.unwrap();
    assert!(there.is_none_or(|member| member.spec.virtual_cidrs.is_empty()));

    broker.kubectl(["apply", "--server-side", "--force-conflicts", "-k", &deploy("crds")]).unwrap().done().unwrap();
    let dry_run = PatchParams::apply("linkspan").force().dry_run();
    eventually("the new fields are declared", async || {
        published.patch("probe", &dry_run, &Patch::Apply(&probe)).await.is_ok()
    })
    .await;
    // An API server goes on to serve a watch by the definition under which it began, so controllers come after CRDs.
    for cluster in &mut clusters {
        cluster.stop().await;
        cluster.start();
    }
    clusters[1].wait_for("paris", "Published", "True", "Published").await;
    eventually("the broker has the new fields", async || {
        published.get_opt("paris").await.unwrap().is_some_and(|member| member.spec.virtual_only)
    })
    .await;
    let paris = published.get("paris").await.unwrap().spec;
    assert_eq!(paris.virtual_cidrs.iter().map(|block| &*block.pods).collect::<Vec<_>>(), ["10.142.0.0/24"]);
    eventually("berlin gets to know them", async || {
        let copy = clusters[0].members().get_opt("paris").await.unwrap();
        copy.is_some_and(|copy| copy.spec.virtual_cidrs == paris.virtual_cidrs)
    })
    .await;
    // Who was there first keeps its addresses towards those that share none with it.
    let after = published.get("berlin").await.unwrap().spec;
    assert_eq!((after.virtual_only, after.pod_cidrs), (false, berlin.pod_cidrs));
    for cluster in &mut clusters {
        cluster.stop().await;
    }
}
