//! K3s, Fleet, Argo CD and External Secrets: what each of them would apply.

use serde_json::json;

use super::*;

/// The CRDs and the member, as `kubectl apply -k` has them; Helm keeps CRDs by an annotation.
fn all() -> Objects {
    let mut all = base("deploy/crds");
    for crd in all.values_mut() {
        crd["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
    }
    all.extend(base("deploy/member"));
    all
}

/// `all`, less the namespace, which somebody else makes.
fn all_but_namespace() -> Objects {
    let mut all = all();
    all.remove("Namespace /linkspan-system").expect("it is part of the base");
    all
}

/// The same objects, with pods of the image that the examples of Fleet and Argo CD name: nobody pulls the default one.
fn from_registry(mut objects: Objects) -> Objects {
    let mut images = 0;
    let containers = objects.values_mut().filter_map(|object| object.pointer_mut("/spec/template/spec/containers/0"));
    for image in containers.map(|container| &mut container["image"]) {
        assert_eq!(*image, concat!("linkspan/linkspan:", env!("CARGO_PKG_VERSION")));
        *image = concat!("registry.example/linkspan:", env!("CARGO_PKG_VERSION")).into();
        images += 1;
    }
    assert_eq!(images, 3, "node, controller and DNS");
    objects
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn k3s_makes_the_same_objects() {
    let mut found = Objects::new();
    for document in documents(&read("deploy/k3s/linkspan.yaml")) {
        if document["kind"] != "HelmChart" {
            found.extend(objects(&document.to_string()));
            continue;
        }
        let spec = &document["spec"];
        assert_eq!(spec["failurePolicy"], "abort", "an uninstall takes the cluster out of its clusterset");
        assert_eq!(document["metadata"]["namespace"], "kube-system", "K3s looks there");
        // As `helm package` names it.
        let archive = text(&spec["chart"]).strip_prefix("https://%{KUBERNETES_API}%/static/charts/").unwrap();
        let name = archive.strip_suffix(concat!("-", env!("CARGO_PKG_VERSION"), ".tgz")).expect(archive);
        let values = spec["valuesContent"].as_str().unwrap_or_default();
        found.extend(chart(name, text(&spec["targetNamespace"]), values));
    }
    assert_same("K3s", &found, &all());
}

/// The folder of a chart in this tree that Fleet would clone.
fn cloned(chart: &Value) -> &str {
    let folder = text(chart).strip_prefix("git::https://github.com/linkspan/linkspan//deploy/helm/").unwrap();
    folder.split('?').next().unwrap()
}

/// What Fleet renders on a cluster with these labels: its text templates are filled in, the first customization that
/// fits is taken.
fn fleet(labels: &[(&str, &str)]) -> Objects {
    let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let mut found = Objects::new();
    for bundle in ["crds", "linkspan"] {
        let mut file = documents(&read(format!("deploy/fleet/{bundle}/fleet.yaml"))).remove(0);
        assert_eq!(file["namespaceLabels"]["pod-security.kubernetes.io/enforce"], "privileged");
        let fits = |customization: &&Value| {
            let wanted = customization["clusterSelector"]["matchLabels"].as_object().unwrap();
            wanted.iter().all(|(key, value)| label(key) == value.as_str())
        };
        let customizations = file["targetCustomizations"].as_array().cloned().unwrap_or_default();
        let special = customizations.iter().find(fits).map(|customization| customization["helm"]["values"].clone());
        let mut values = file["helm"]["values"].take();
        for (key, value) in special.as_ref().and_then(Value::as_object).into_iter().flatten() {
            values[key] = value.clone();
        }
        let id = r#""${ index .ClusterLabels \"linkspan.dev/cluster-id\" | quote }""#;
        // Fleet writes such a text without quotes of its own, fills it in, and reads what comes out as YAML.
        let quoted = format!("{:?}", label("linkspan.dev/cluster-id").unwrap());
        let values = values.to_string().replace(id, &quoted);
        assert!(!values.contains("${"), "a template that this test does not know: {values}");
        found.extend(chart(cloned(&file["helm"]["chart"]), text(&file["defaultNamespace"]), &values));
    }
    found
}

#[test]
fn fleet_makes_the_same_objects_with_the_id_of_each_cluster() {
    let mut found = fleet(&[("linkspan.dev/cluster-id", "paris"), ("linkspan.dev/ring", "early")]);
    assert_eq!(without_config_marks(&mut found), 3);
    let wanted = with_config(all_but_namespace(), json!({ "LINKSPAN_CLUSTER_ID": "paris" }));
    assert_same("Fleet", &found, &from_registry(wanted));
}

#[test]
fn clusters_of_the_fleet_are_told_apart_by_labels() {
    let small = fleet(&[("linkspan.dev/cluster-id", "kiosk-7"), ("linkspan.dev/size", "single-node")]);
    assert_eq!(small["ConfigMap linkspan-system/linkspan"]["data"], json!({ "LINKSPAN_CLUSTER_ID": "kiosk-7" }));
    assert_eq!(small["Deployment linkspan-system/linkspan-controller"]["spec"]["replicas"], 1);
    assert_eq!(small["Deployment linkspan-system/linkspan-dns"]["spec"]["replicas"], 1);
    let numeric = fleet(&[("linkspan.dev/cluster-id", "7")]);
    assert_eq!(numeric["ConfigMap linkspan-system/linkspan"]["data"], json!({ "LINKSPAN_CLUSTER_ID": "7" }));
    let other = fleet(&[("linkspan.dev/cluster-id", "rome"), ("linkspan.dev/port", "4500")]);
    let config = json!({ "LINKSPAN_CLUSTER_ID": "rome", "LINKSPAN_PORT": "4500" });
    assert_eq!(other["ConfigMap linkspan-system/linkspan"]["data"], config);
}

#[test]
fn rings_leave_no_cluster_out_and_come_one_after_another() {
    let file = &documents(&read("deploy/fleet/linkspan/fleet.yaml"))[0];
    assert_eq!(file["dependsOn"], json!([{ "name": documents(&read("deploy/fleet/crds/fleet.yaml"))[0]["name"] }]));
    let strategy = &file["rolloutStrategy"];
    assert_eq!(strategy["maxUnavailablePartitions"], 0);
    let rings = strategy["partitions"].as_array().unwrap();
    let named: Vec<&Value> = rings
        .iter()
        .filter_map(|ring| ring.pointer("/clusterSelector/matchLabels")?.get("linkspan.dev/ring"))
        .collect();
    let rest = &rings.last().unwrap()["clusterSelector"]["matchExpressions"][0];
    assert_eq!(rest, &json!({ "key": "linkspan.dev/ring", "operator": "NotIn", "values": named }));
}

#[test]
fn argo_cd_makes_the_same_objects() {
    let set = documents(&read("deploy/argocd/applicationset.yaml")).remove(0);
    let spec = &set["spec"]["template"]["spec"];
    assert_eq!(
        spec["syncPolicy"]["managedNamespaceMetadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "privileged"
    );
    let mut found = Objects::new();
    for source in spec["sources"].as_array().unwrap() {
        assert_eq!(source["targetRevision"], concat!("v", env!("CARGO_PKG_VERSION")));
        let name = text(&source["path"]).strip_prefix("deploy/helm/").unwrap();
        let values = source.pointer("/helm/valuesObject").cloned().unwrap_or_else(|| json!({})).to_string();
        let id = r#"{{ index .metadata.labels \"linkspan.dev/cluster-id\" }}"#;
        found.extend(chart(name, text(&spec["destination"]["namespace"]), &values.replace(id, "paris")));
    }
    without_config_marks(&mut found);
    let wanted = with_config(all_but_namespace(), json!({ "LINKSPAN_CLUSTER_ID": "paris" }));
    assert_same("Argo CD", &found, &from_registry(wanted));
}

#[test]
fn the_external_secret_is_the_one_that_the_controller_reads() {
    use controller::api::names::{SECRET_JOIN, SYSTEM_NAMESPACE};
    let external = &documents(&read("deploy/external-secrets/join-token.yaml"))[0];
    assert_eq!(external["metadata"]["namespace"], SYSTEM_NAMESPACE);
    assert_eq!(external["spec"]["target"]["name"], SECRET_JOIN);
    assert_eq!(external["spec"]["data"][0]["secretKey"], controller::broker::TOKEN_KEY);
}
