//! What tokens of the controller and of a node are good for, by the roles and policies of `deploy/member`.

use controller::api::{GatewayNode, Member};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::support::{SYSTEM, client, installed, pod, until};

const OWN: &str = "linkspan.dev";

fn slice(name: &str, labels: &Value, address: &str) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels }, "addressType": "IPv4", "ports": [],
        "endpoints": [{ "addresses": [address] }],
    }))
    .unwrap()
}

fn service(name: &str, labels: &Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels }, "spec": { "ports": [{ "port": 80 }] },
    }))
    .unwrap()
}

fn refused<T: std::fmt::Debug>(result: kube::Result<T>, why: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_token_of_the_controller_touches_nothing_of_others() {
    let server = installed().await;
    let slices = |client: &Client, namespace: &str| Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let services = |client: &Client| Api::<Service>::namespaced(client.clone(), "default");
    let admin = client(server.kubeconfig()).await;
    let thief = pod(&server, "linkspan-controller", "a").await;
    let post = PostParams::default();
    let of_web = json!({ "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "others" });
    slices(&admin, "default").create(&post, &slice("web-1", &of_web, "10.1.0.1")).await.unwrap();
    services(&admin).create(&post, &service("derived-others", &json!({}))).await.unwrap();

    let merge = async |name: &str, patch: Value| {
        slices(&thief, "default").patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let seized = json!({
        "metadata": { "labels": { "endpointslice.kubernetes.io/managed-by": OWN } },
        "endpoints": [{ "addresses": ["10.9.9.9"] }],
    });
    // Policies are in force some time after they were written.
    until("policies are in force", async || {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let error = services(&thief).create(&dry, &service("web", &json!({}))).await.err()?;
        error.to_string().contains("derived Services only").then_some(())
    })
    .await;
    refused(merge("web-1", seized).await, "EndpointSlices that it manages only");
    refused(slices(&thief, "default").delete("web-1", &DeleteParams::default()).await, "that it manages only");
    let dns = json!({ "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": OWN });
    refused(
        slices(&thief, "kube-system").create(&post, &slice("dns", &dns, "10.9.9.9")).await,
        "EndpointSlices of derived Services only",
    );
    let label = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": OWN } } });
    let taken = services(&thief).patch("derived-others", &PatchParams::default(), &Patch::Merge(label.clone())).await;
    refused(taken, "derived Services only");

    // What it is there for.
    let own = json!({ "kubernetes.io/service-name": "derived-web", "endpointslice.kubernetes.io/managed-by": OWN });
    slices(&thief, "default").create(&post, &slice("own", &own, "10.1.0.2")).await.unwrap();
    merge("own", json!({ "endpoints": [{ "addresses": ["10.1.0.3"] }] })).await.unwrap();
    let renamed = json!({ "metadata": { "labels": { "kubernetes.io/service-name": "web" } } });
    refused(merge("own", renamed).await, "EndpointSlices of derived Services only");
    slices(&thief, "default").delete("own", &DeleteParams::default()).await.unwrap();
    let labels = &label["metadata"]["labels"];
    services(&thief).create(&post, &service("derived-web", labels)).await.unwrap();

    // A derived Service takes nobody else's traffic, and opens no door.
    let shape = "type ClusterIP without selector and externalIPs only";
    for evil in [
        json!({ "externalIPs": ["203.0.113.7"] }),
        json!({ "selector": { "app": "secret" } }),
        json!({ "type": "NodePort" }),
        json!({ "type": "LoadBalancer" }),
        json!({ "type": "ExternalName", "externalName": "evil.example", "clusterIP": null, "clusterIPs": null }),
    ] {
        let patch = Patch::Merge(json!({ "spec": evil }));
        refused(services(&thief).patch("derived-web", &PatchParams::default(), &patch).await, shape);
        let mut made = serde_json::to_value(service("derived-evil", labels)).unwrap();
        made["spec"].as_object_mut().unwrap().extend(evil.as_object().unwrap().clone());
        refused(services(&thief).create(&post, &serde_json::from_value(made).unwrap()).await, shape);
    }
    // What an administrator has opened stays open, and does not hold up the rest.
    let opened = Patch::Merge(json!({ "spec": { "externalIPs": ["203.0.113.8"] } }));
    services(&admin).patch("derived-web", &PatchParams::default(), &opened).await.unwrap();
    let port = Patch::Merge(json!({ "spec": { "ports": [{ "port": 81 }] } }));
    services(&thief).patch("derived-web", &PatchParams::default(), &port).await.unwrap();
    services(&thief).delete("derived-web", &DeleteParams::default()).await.unwrap();
    says_who_this_cluster_is_and_nothing_else(&admin, &thief).await;
}

/// By the ClusterProperties of the membership, of which it makes, changes and deletes no others.
async fn says_who_this_cluster_is_and_nothing_else(admin: &Client, thief: &Client) {
    let kind = GroupVersionKind::gvk("about.k8s.io", "v1alpha1", "ClusterProperty");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusterproperties");
    let properties = |client: &Client| Api::<DynamicObject>::all_with(client.clone(), &resource);
    let property = |name: &str, value: &str| {
        json!({ "apiVersion": "about.k8s.io/v1alpha1", "kind": "ClusterProperty", "metadata": { "name": name },
            "spec": { "value": value } })
    };
    let theirs = "zone.example.com";
    let params = PatchParams::apply("thief").force();
    let apply = async |client: &Client, name: &str, value: &str| {
        properties(client).patch(name, &params, &Patch::Apply(property(name, value))).await
    };
    refused(apply(thief, theirs, "evil").await, "clusterproperties.about.k8s.io");
    until("the kind is served", async || apply(admin, theirs, "a").await.ok()).await;
    refused(apply(thief, theirs, "evil").await, "cannot patch resource \"clusterproperties\"");
    let gone = properties(thief).delete(theirs, &DeleteParams::default()).await;
    assert!(gone.unwrap_err().to_string().contains("cannot delete resource \"clusterproperties\""));
    for name in ["cluster.clusterset.k8s.io", "clusterset.k8s.io"] {
        apply(thief, name, "c1").await.unwrap();
        apply(thief, name, "c2").await.unwrap();
        properties(thief).delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// Leases are a matter of their own: see `lease`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_token_of_a_node_speaks_for_that_node_only() {
    const OTHERS: &str = "node a may write the GatewayNode of its own name only";
    let server = installed().await;
    let admin = client(server.kubeconfig()).await;
    let thief = pod(&server, "linkspan-node", "a").await;
    let gateways = |client: &Client| Api::<GatewayNode>::namespaced(client.clone(), SYSTEM);
    let gateway = |name: &str, lanes: u8| {
        json!({
            "apiVersion": "linkspan.dev/v1alpha1", "kind": "GatewayNode", "metadata": { "name": name },
            "spec": { "publicKey": format!("{}A=", "A".repeat(42)), "lanes": lanes },
        })
    };
    let apply = async |client: &Client, name: &str, lanes: u8, params: PatchParams| {
        gateways(client).patch(name, &params.force(), &Patch::Apply(gateway(name, lanes))).await
    };
    let params = || PatchParams::apply("test");
    let report = async |name: &str| {
        let status = Patch::Merge(json!({ "status": { "active": true } }));
        gateways(&thief).patch_status(name, &PatchParams::default(), &status).await
    };
    until("the kind is served", async || apply(&admin, "b", 1, params()).await.ok()).await;
    // Policies are in force some time after they were written.
    until("policies are in force", async || {
        let error = apply(&thief, "c", 1, params().dry_run()).await.err()?;
        error.to_string().contains(OTHERS).then_some(())
    })
    .await;
    refused(apply(&thief, "b", 2, params()).await, OTHERS);
    refused(report("b").await, OTHERS);
    refused(gateways(&thief).delete("b", &DeleteParams::default()).await, OTHERS);

    // What it is there for.
    apply(&thief, "a", 1, params()).await.unwrap();
    assert!(report("a").await.unwrap().status.unwrap().active);
    apply(&thief, "a", 2, params()).await.unwrap();
    gateways(&thief).delete("a", &DeleteParams::default()).await.unwrap();

    let secrets = Api::<Secret>::namespaced(thief.clone(), SYSTEM);
    refused(secrets.get("linkspan-broker").await, "cannot get resource \"secrets\"");
    refused(secrets.list(&ListParams::default()).await, "cannot list resource \"secrets\"");
    let (none, labels) = (PatchParams::default(), Patch::Merge(json!({ "metadata": { "labels": { "x": "y" } } })));
    let members = Api::<Member>::namespaced(thief.clone(), SYSTEM);
    refused(members.patch("c1", &none, &labels).await, "cannot patch resource \"members\"");
    let coredns = Api::<ConfigMap>::namespaced(thief.clone(), "kube-system");
    refused(coredns.patch("coredns", &none, &labels).await, "cannot patch resource \"configmaps\"");
    let nodes = Api::<Node>::all(thief.clone());
    refused(nodes.patch("a", &none, &labels).await, "cannot patch resource \"nodes\"");
}
