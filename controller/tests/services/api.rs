//! The API itself, as the CRDs and roles that Linkspan ships make it: rows 1 to 4, 24 and 106.

use controller::api::ServiceImport;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Error, Resource as _};
use serde_json::{Value, json};

use super::support::{Shop, create, until};

/// ServiceExports or ServiceImports in that version.
fn api(shop: &Shop, kind: &str, plural: &str, version: &str) -> Api<DynamicObject> {
    let group = "multicluster.x-k8s.io";
    let resource = ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: kind.into(),
        plural: plural.into(),
    };
    Api::namespaced_with(shop.client.clone(), &shop.namespace, &resource)
}

fn object(version: &str, kind: &str, spec: Value) -> DynamicObject {
    let version = format!("multicluster.x-k8s.io/{version}");
    let object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "by-hand" }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

fn spec() -> Value {
    json!({ "type": "ClusterSetIP", "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }], "ips": ["10.43.0.9"] })
}

#[tokio::test]
async fn row_1_both_versions_are_served_and_the_newer_one_is_stored() {
    let shop = Shop::open("row-1").await;
    let crds: Api<CustomResourceDefinition> = Api::all(shop.client.clone());
    let exported = json!({ "exportedLabels": { "a": "b" } });
    let clusters = json!({ "clusters": [{ "cluster": "c9" }] });
    let kinds = [
        ("ServiceExport", "serviceexports", exported, json!({ "conditions": [] })),
        ("ServiceImport", "serviceimports", spec(), clusters),
    ];
    for (kind, plural, spec, status) in kinds {
        let crd = crds.get(&format!("{plural}.multicluster.x-k8s.io")).await.unwrap();
        let versions = crd.spec.versions;
        let served: Vec<_> =
            versions.iter().map(|version| (version.name.as_str(), version.served, version.storage)).collect();
        assert_eq!(served, [("v1alpha1", true, false), ("v1beta1", true, true)]);
        let older = api(&shop, kind, plural, "v1alpha1");
        older.create(&PostParams::default(), &object("v1alpha1", kind, spec.clone())).await.unwrap();
        let patch = Patch::Merge(json!({ "status": status }));
        let written = older.patch_status("by-hand", &PatchParams::default(), &patch).await.unwrap();
        let read = api(&shop, kind, plural, "v1beta1").get("by-hand").await.unwrap();
        assert_eq!(read.data["spec"], spec);
        assert_eq!(read.data["spec"], written.data["spec"]);
        if kind == "ServiceImport" {
            assert_eq!(read.data["status"], status, "nobody else writes it");
        }
    }
}

#[tokio::test]
async fn row_2_the_status_is_written_apart() {
    let shop = Shop::open("row-2").await;
    let imports = api(&shop, "ServiceImport", "serviceimports", "v1beta1");
    let made = imports.create(&PostParams::default(), &object("v1beta1", "ServiceImport", spec())).await.unwrap();
    let status = json!({ "clusters": [{ "cluster": "c9" }] });
    let mut changed = made.clone();
    changed.data["status"] = status.clone();
    let replaced = imports.replace("by-hand", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(replaced.data.get("status"), None);
    let patch = Patch::Merge(json!({ "status": status, "spec": { "type": "Headless" } }));
    let told = imports.patch_status("by-hand", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!((&told.data["status"], &told.data["spec"]), (&status, &made.data["spec"]));
    assert_eq!(told.metadata.generation, made.metadata.generation);
}

#[tokio::test]
async fn row_3_short_names_and_columns_are_those_of_the_api() {
    let shop = Shop::open("row-3").await;
    shop.open_for_sale().await;
    let ip = shop.imported_from(&["c1"]).await.spec.ips.remove(0);
    let header = async |name: &str| {
        let printed = shop.kubectl(&["get", name, "-n", "row-3"]).await;
        let words = printed.lines().next().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        (words.join(" "), printed)
    };
    for name in ["svcim", "svcimport"] {
        let (columns, printed) = header(name).await;
        assert_eq!(columns, "NAME TYPE IP AGE");
        assert!(printed.contains("ClusterSetIP") && printed.contains(&ip), "{printed}");
    }
    for name in ["svcex", "svcexport"] {
        let (columns, printed) = header(name).await;
        assert!(columns.starts_with("NAME ") && printed.contains("web"));
    }
    // It asks the API server anew, and the next one has what it was told.
    let kinds = shop.kubectl(&["api-resources", "--categories=multicluster", "-o", "name"]).await;
    // ClusterProperties are in it, too, once a test has brought their kind.
    let kinds: Vec<_> = kinds.lines().filter(|kind| kind.ends_with(".multicluster.x-k8s.io")).collect();
    assert_eq!(kinds, ["serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"]);
    let printed = shop.kubectl(&["get", "multicluster", "-n", "row-3", "-o", "name"]).await;
    for object in ["serviceexport.multicluster.x-k8s.io/web", "serviceimport.multicluster.x-k8s.io/web"] {
        assert!(printed.lines().any(|line| line == object), "{printed}");
    }
}

#[tokio::test]
async fn row_4_limits_are_in_the_schema() {
    let shop = Shop::open("row-4").await;
    let imports = api(&shop, "ServiceImport", "serviceimports", "v1beta1");
    let bad = [
        json!({ "type": "Foo" }),
        json!({ "ips": ["10.43.0.1", "10.43.0.2", "10.43.0.3"] }),
        json!({ "ipFamilies": ["IPv4", "IPv6", "IPv4"] }),
        json!({ "ports": null }),
    ];
    for change in bad {
        let mut spec = spec();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        match imports.create(&PostParams::default(), &object("v1beta1", "ServiceImport", spec)).await {
            Err(Error::Api(status)) => assert_eq!(status.code, 422, "{change}: {status:?}"),
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn row_24_people_export_services_and_only_look_at_imports() {
    let shop = Shop::open("row-24").await;
    let roles: Api<ClusterRole> = Api::all(shop.client.clone());
    let shipped: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(include_str!("../../../deploy/member/roles.yaml")).unwrap();
    let shipped = shipped.into_iter().filter(|object| object["kind"] == "ClusterRole");
    for role in shipped.map(|object| serde_json::from_value::<ClusterRole>(object).unwrap()) {
        let name = role.metadata.name.clone().unwrap();
        // What the roles of every cluster become when these are added up to them.
        let added = ["view", "edit", "admin"].into_iter().filter(|to| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            role.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(&label))
        });
        for to in added {
            let binding = json!({
                "metadata": { "name": format!("{name}-{to}") },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": to }]
            });
            create::<k8s_openapi::api::rbac::v1::RoleBinding>(&shop.client, &shop.namespace, binding).await;
        }
        roles.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(role)).await.unwrap();
    }
    let may = async |user: &str, verb: &str, resource: &str| {
        let attributes = json!({
            "namespace": shop.namespace, "verb": verb, "group": "multicluster.x-k8s.io", "resource": resource
        });
        let review: SubjectAccessReview = serde_json::from_value(json!({
            "metadata": {}, "spec": { "user": user, "resourceAttributes": attributes }
        }))
        .unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(shop.client.clone());
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    // The last role and the last binding: those before are seen no later.
    until("the roles count", async || may("admin", "get", "serviceimports").await.then_some(())).await;
    until("the roles count", async || may("admin", "create", "serviceexports").await.then_some(())).await;
    for user in ["view", "edit", "admin"] {
        assert!(may(user, "list", ServiceImport::plural(&()).as_ref()).await);
        for verb in ["create", "update", "patch", "delete", "deletecollection"] {
            assert!(!may(user, verb, "serviceimports").await, "{user} may {verb}");
            assert!(!may(user, verb, "serviceimports/status").await, "{user} may {verb}");
        }
        assert_eq!(may(user, "create", "serviceexports").await, user != "view");
    }
}

#[tokio::test]
async fn row_106_cluster_properties_are_approved_and_limited() {
    let shop = Shop::open("row-106").await;
    let crd: CustomResourceDefinition =
        serde_saphyr::from_str(include_str!("../../../deploy/crds/about.k8s.io_clusterproperties.yaml")).unwrap();
    assert!(crd.metadata.annotations.as_ref().unwrap().contains_key("api-approved.kubernetes.io"));
    let crds: Api<CustomResourceDefinition> = Api::all(shop.client.clone());
    let name = crd.metadata.name.clone().unwrap();
    crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(crd)).await.unwrap();
    let holds = async |kind: &str| {
        let conditions = crds.get(&name).await.unwrap().status?.conditions?;
        conditions.into_iter().find(|told| told.type_ == kind && told.status == "True")
    };
    // The API server takes no kind of *.k8s.io that nobody has approved.
    until("the kind is approved", async || holds("KubernetesAPIApprovalPolicyConformant").await).await;
    until("the kind is served", async || holds("Established").await).await;
    let resource = ApiResource {
        group: "about.k8s.io".into(),
        version: "v1beta1".into(),
        api_version: "about.k8s.io/v1beta1".into(),
        kind: "ClusterProperty".into(),
        plural: "clusterproperties".into(),
    };
    let properties: Api<DynamicObject> = Api::all_with(shop.client.clone(), &resource);
    let code = async |length: usize| {
        let property: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
            "metadata": { "name": format!("of-{length}.example.com") }, "spec": { "value": "ü".repeat(length) }
        }))
        .unwrap();
        match properties.create(&PostParams::default(), &property).await {
            Ok(_) => 201,
            Err(Error::Api(status)) => status.code,
            Err(error) => panic!("{error}"),
        }
    };
    until("the kind can be made", async || (code(1).await == 201).then_some(())).await;
    assert_eq!((code(128_000).await, code(128_001).await, code(0).await), (201, 422, 422));
}
