//! The charts: the same objects as the kustomize bases, values where they belong, and wrong ones refused.

use serde_json::json;

use super::*;

/// The version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Takes away what keeps CRDs when a release goes, which the bases have no use for.
fn without_keep(mut objects: Objects) -> Objects {
    for (name, object) in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        let annotations = metadata["annotations"].as_object_mut().unwrap();
        assert_eq!(annotations.remove("helm.sh/resource-policy"), Some(json!("keep")), "{name}");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    objects
}

#[test]
fn the_defaults_render_to_the_objects_of_the_kustomize_bases() {
    assert_same("linkspan", &chart("linkspan", "default", ""), &base("deploy/member"));
    assert_same("linkspan-broker", &chart("linkspan-broker", "default", ""), &base("deploy/broker"));
    assert_same("linkspan-crds", &without_keep(chart("linkspan-crds", "default", "")), &base("deploy/crds"));
}

#[test]
fn a_release_in_the_namespace_itself_does_not_make_it() {
    let (mut member, mut broker) = (base("deploy/member"), base("deploy/broker"));
    member.remove("Namespace /linkspan-system").expect("it is part of the base");
    broker.remove("Namespace /linkspan-broker").expect("it is part of the base");
    assert_same("linkspan", &chart("linkspan", "linkspan-system", ""), &member);
    assert_same("linkspan-broker", &chart("linkspan-broker", "linkspan-broker", ""), &broker);
}

#[test]
fn files_of_charts_are_those_that_they_were_copied_from() {
    let mut compared = 0;
    for (copy, origin) in [
        ("linkspan/files/member", "member"),
        ("linkspan/files/observability", "observability"),
        ("linkspan-crds/files", "crds"),
        ("linkspan-broker/files", "broker"),
    ] {
        for file in files::below(&tree().join("deploy/helm").join(copy)) {
            let name = file.strip_prefix(tree().join("deploy/helm").join(copy)).unwrap();
            let origin = tree().join("deploy").join(origin).join(name);
            assert!(read(&file) == read(&origin), "{} differs: run deploy/helm/copy.sh", file.display());
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} files were compared");
}

#[test]
fn all_versions_are_the_programs() {
    for name in ["linkspan", "linkspan-crds", "linkspan-broker"] {
        let chart = &documents(&read(format!("deploy/helm/{name}/Chart.yaml")))[0];
        assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(VERSION), &json!(VERSION)), "{name}");
        assert_eq!(chart["name"], name);
    }
    assert_eq!(documents(&read("deploy/member/kustomization.yaml"))[0]["images"][0]["newTag"], VERSION);
    for file in ["fleet/crds/fleet.yaml", "fleet/linkspan/fleet.yaml"] {
        let chart = documents(&read(format!("deploy/{file}")))[0]["helm"]["chart"].as_str().unwrap().to_owned();
        assert!(chart.ends_with(&format!("?ref=v{VERSION}")), "{file}: {chart}");
    }
}

#[test]
fn values_go_where_they_belong() {
    let values = "
image: { repository: registry.example/linkspan, tag: '9', pullPolicy: Always }
imagePullSecrets: [{ name: registry }]
cluster:
  id: paris
  podCIDRs: [10.42.0.0/16, 'fd00:42::/56']
  serviceCIDRs: [10.43.0.0/16]
  virtualPool: [100.64.0.0/10]
  allowedPrefixes: [10.0.0.0/8, 100.64.0.0/10]
  reservedNamespaces: [kube-system, secrets]
join: { token: '  abc  ' }
gateway: { selector: 'role=edge', port: 4500, lanes: 2, mtu: 1400 }
log: 'info,controller=debug'
otlp: { endpoint: 'https://collector', certificate: \"-----BEGIN CERTIFICATE-----\\nMIIB\\n\" }
extraConfig: { LINKSPAN_OTHER: 'yes' }
node: { maxUnavailable: 10%, priorityClassName: '', tolerations: [], resources: { limits: { memory: 1Gi } } }
controller: { replicas: 1, podAnnotations: { a: b } }
dns: { tolerations: [{ operator: Exists }] }
";
    let rendered = chart("linkspan", "linkspan-system", values);
    assert_eq!(
        rendered["ConfigMap linkspan-system/linkspan"]["data"],
        json!({
            "LINKSPAN_CLUSTER_ID": "paris",
            "LINKSPAN_POD_CIDRS": "10.42.0.0/16,fd00:42::/56",
            "LINKSPAN_SERVICE_CIDRS": "10.43.0.0/16",
            "LINKSPAN_VIRTUAL_POOL": "100.64.0.0/10",
            "LINKSPAN_ALLOWED_PREFIXES": "10.0.0.0/8,100.64.0.0/10",
            "LINKSPAN_RESERVED_NAMESPACES": "kube-system,secrets",
            "LINKSPAN_GATEWAY_SELECTOR": "role=edge",
            "LINKSPAN_PORT": "4500",
            "LINKSPAN_LANES": "2",
            "LINKSPAN_MTU": "1400",
            "LINKSPAN_LOG": "info,controller=debug",
            "LINKSPAN_OTLP_ENDPOINT": "https://collector",
            "LINKSPAN_OTLP_CERTIFICATE": "-----BEGIN CERTIFICATE-----\nMIIB\n",
            "LINKSPAN_OTHER": "yes",
        })
    );
    assert_eq!(rendered["Secret linkspan-system/linkspan-join"]["stringData"], json!({ "token": "abc" }));
    let node = &rendered["DaemonSet linkspan-system/linkspan-node"]["spec"];
    let pod = &node["template"]["spec"];
    assert_eq!(node["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    assert_eq!(pod["containers"][0]["image"], "registry.example/linkspan:9");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!((pod.get("priorityClassName"), pod.get("tolerations")), (None, None));
    // Helm merges maps: what is not named keeps its default.
    let memory = json!({ "requests": { "cpu": "50m", "memory": "48Mi" }, "limits": { "memory": "1Gi" } });
    assert_eq!(pod["containers"][0]["resources"], memory);
    let controller = &rendered["Deployment linkspan-system/linkspan-controller"]["spec"];
    assert_eq!(
        (&controller["replicas"], &controller["template"]["metadata"]["annotations"]["a"]),
        (&json!(1), &json!("b"))
    );
    let dns = &rendered["Deployment linkspan-system/linkspan-dns"]["spec"]["template"]["spec"];
    assert_eq!(dns["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(without_config_marks(&mut rendered.clone()), 3, "a new configuration replaces the pods of every role");
}

#[test]
fn a_digest_comes_before_a_tag() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let rendered = chart("linkspan", "default", &format!("image: {{ tag: x, digest: '{digest}' }}"));
    let image =
        &rendered["Deployment linkspan-system/linkspan-dns"]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &json!(format!("linkspan/linkspan@{digest}")));
}

#[test]
fn wrong_values_are_refused_by_their_names() {
    for (values, told) in [
        ("cluster: { id: Paris }", "at '/cluster/id': 'Paris' does not match pattern"),
        ("cluster: { id: paris.example }", "at '/cluster/id'"),
        ("cluster: { podCIDRs: 10.42.0.0/16 }", "at '/cluster/podCIDRs': got string, want array"),
        ("cluster: { serviceCIDRs: [10.43.0.0] }", "at '/cluster/serviceCIDRs/0'"),
        ("gateway: { port: 65535 }", "at '/gateway/port': maximum: got 65,535, want 65,534"),
        ("gateway: { port: '51820' }", "at '/gateway/port': got string"),
        ("gateway: { lanes: 17 }", "at '/gateway/lanes'"),
        ("gateway: { mtu: 576 }", "at '/gateway/mtu'"),
        ("otlp: { endpoint: 'grpc://collector' }", "at '/otlp/endpoint'"),
        ("otlp: { certificate: /etc/ca.crt }", "at '/otlp/certificate'"),
        ("dns: { replicas: 0 }", "at '/dns/replicas'"),
        ("image: { digest: abc }", "at '/image/digest'"),
        ("extraConfig: { PATH: /bin }", "PATH"),
        ("clusterID: paris", "additional properties 'clusterID' not allowed"),
        (
            "extraConfig: { LINKSPAN_PORT: '1' }\ngateway: { port: 2 }",
            "extraConfig.LINKSPAN_PORT is set by a value of its own",
        ),
        ("monitoring: { podMonitor: true, serviceMonitor: true }", "everything would be scraped twice"),
    ] {
        let error = template("linkspan", "default", values).expect_err(values);
        assert!(error.contains(told), "{values}: {error}");
    }
    for name in ["linkspan-crds", "linkspan-broker"] {
        let error = template(name, "default", "nope: 1").expect_err(name);
        assert!(error.contains("'nope' not allowed"), "{name}: {error}");
    }
}

#[test]
fn crds_of_others_can_be_left_to_them() {
    let names = |values| chart("linkspan-crds", "default", values).into_keys().collect::<Vec<_>>();
    assert_eq!(
        names("mcsAPI: false\naboutAPI: false"),
        ["gatewaynodes.linkspan.dev", "members.linkspan.dev", "servicerecords.linkspan.dev"]
            .map(|name| format!("CustomResourceDefinition /{name}"))
    );
    assert_eq!(names("").len(), 6);
}

#[test]
fn the_brokers_quota_is_the_one_for_kubectl() {
    let quota = "ResourceQuota linkspan-broker/linkspan";
    assert_eq!(chart("linkspan-broker", "default", "").get(quota), None);
    let with = chart("linkspan-broker", "default", "quota: true");
    assert_eq!(with.get(quota), objects(&read("deploy/broker/quota.yaml")).get(quota));
}

#[test]
fn monitoring_is_off_until_it_is_asked_for() {
    let kinds = |values| {
        let plain = chart("linkspan", "default", "");
        let with = chart("linkspan", "default", values);
        with.into_keys().filter(|name| !plain.contains_key(name)).collect::<Vec<_>>()
    };
    assert_eq!(kinds("monitoring: { podMonitor: true }"), ["PodMonitor linkspan-system/linkspan"]);
    assert_eq!(
        kinds("monitoring: { serviceMonitor: true }"),
        ["Service linkspan-system/linkspan-metrics", "ServiceMonitor linkspan-system/linkspan"]
    );
    let labelled = chart("linkspan", "default", "monitoring: { podMonitor: true, labels: { release: prometheus } }");
    assert_eq!(labelled["PodMonitor linkspan-system/linkspan"]["metadata"]["labels"]["release"], "prometheus");
}
