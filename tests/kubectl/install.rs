//! A broker, two clusters, and services between them, by the commands of the README.

use std::sync::LazyLock;

use testbed::ApiServer;

use crate::{kubeconfig, kubectl, linkspan};

/// A broker and a cluster that tests share; each test has cluster IDs and namespaces of its own.
static SHARED: LazyLock<(ApiServer, ApiServer)> = LazyLock::new(|| {
    let servers = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
    let broker = kubeconfig(&[("broker", servers.0.kubeconfig())]);
    let home = kubeconfig(&[("home", servers.1.kubeconfig())]);
    for file in [&broker, &home] {
        linkspan(["deploy-broker", "--kubeconfig", file.to_str().unwrap()]).done();
    }
    servers
});

/// Both, in one kubeconfig.
fn both() -> String {
    let file = kubeconfig(&[("broker", SHARED.0.kubeconfig()), ("home", SHARED.1.kubeconfig())]);
    file.display().to_string()
}

#[test]
fn a_broker_is_made_once_and_a_second_time_changes_nothing() {
    let server = ApiServer::start_with_controllers().unwrap();
    let file = kubeconfig(&[("fresh", server.kubeconfig())]);
    let run = |more: &[&str]| linkspan([&["deploy-broker", "--kubeconfig", file.to_str().unwrap()], more].concat());

    for how in ["--dry-run", "--dry-run=server"] {
        let said = run(&[how]).done();
        assert!(said.contains("namespace/linkspan-broker created ("), "{said}");
        assert!(
            !kubectl(&server, &["get", "namespaces,crds", "-o", "name"]).contains("linkspan"),
            "{how} stores nothing"
        );
    }
    let list: serde_json::Value = run(&["--dry-run", "-o", "json"]).json();
    let kinds: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "CustomResourceDefinition").count(), 6, "{kinds:?}");

    let said = run(&[]).done();
    assert!(said.contains("customresourcedefinition.apiextensions.k8s.io/members.linkspan.dev created\n"), "{said}");
    assert!(said.contains("role.rbac.authorization.k8s.io/linkspan-member created\n"), "{said}");
    assert!(said.ends_with("--broker-context fresh`\n"), "{said}");
    let said = run(&[]).done();
    assert!(!said.contains("created") && !said.contains("configured"), "{said}");
    assert!(said.starts_with("18 objects needed no change\n"), "{said}");

    let said = linkspan(["uninstall", "--broker", "--crds", "--kubeconfig", file.to_str().unwrap()]).done();
    assert!(said.contains("role.rbac.authorization.k8s.io/linkspan-member deleted"), "{said}");
}

#[test]
fn a_newer_kind_of_others_is_left_alone() {
    let server = ApiServer::start().unwrap();
    let file = kubeconfig(&[("fresh", server.kubeconfig())]);
    let crd = std::fs::read_to_string("deploy/crds/multicluster.x-k8s.io_serviceexports.yaml").unwrap();
    server.apply(&crd.replace("release-version: \"v0.5.2\"", "release-version: \"v0.6.0\"")).unwrap();
    let said = linkspan(["deploy-broker", "--kubeconfig", file.to_str().unwrap()]).done();
    let name = "customresourcedefinition.apiextensions.k8s.io/serviceexports.multicluster.x-k8s.io";
    assert!(said.contains(&format!("{name} kept, it is newer\n")), "{said}");
    let label = "jsonpath={.metadata.labels.multicluster\\.x-k8s\\.io/release-version}";
    assert_eq!(kubectl(&server, &["get", "crd", "serviceexports.multicluster.x-k8s.io", "-o", label]), "v0.6.0");
}

#[test]
fn a_cluster_gets_everything_by_one_command() {
    let (broker, home) = (&SHARED.0, ApiServer::start_with_controllers().unwrap());
    let file = kubeconfig(&[("broker", broker.kubeconfig()), ("home", home.kubeconfig())]).display().to_string();
    let url = broker.url();
    let join = |more: &[&str]| {
        let fixed = ["join", "rome", "--kubeconfig", &file, "--context", "home", "--broker-context", "broker"];
        linkspan([&fixed[..], &["--server", &url, "--wait", "0"], more].concat())
    };

    let said = join(&["--dry-run"]).done();
    assert!(said.contains("rome would join; no token was made"), "{said}");
    assert!(!kubectl(broker, &["get", "serviceaccounts", "-n", "linkspan-broker", "-o", "name"]).contains("rome"));

    let said = join(&["--image", "registry.example/linkspan:7"]).done();
    assert!(said.contains("daemonset.apps/linkspan-node created\n"), "{said}");
    assert!(said.contains(&format!("rome joins {url}\n")), "{said}");
    let system = |arguments: &[&str]| kubectl(&home, &[arguments, &["-n", "linkspan-system"]].concat());
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(system(&["get", "daemonset", "linkspan-node", "-o", image]), "registry.example/linkspan:7");
    assert_eq!(system(&["get", "configmap", "linkspan", "-o", "jsonpath={.data.LINKSPAN_CLUSTER_ID}"]), "rome");
    let secret = system(&["get", "secret", "linkspan-join", "-o", "go-template={{.data.token | base64decode}}"]);
    assert!(secret.starts_with("lsj1."), "the token is where the controller looks for it");
    assert!(!said.contains(&secret), "and nowhere else");
    let tokens = linkspan(["token", "list", "--kubeconfig", &file, "-o", "json"]).json();
    let ours = tokens.as_array().unwrap().iter().find(|token| token["cluster"] == "rome").unwrap();
    assert_eq!(ours["state"], "usable");

    let said =
        linkspan(["join", "oslo", "--kubeconfig", &file, "--context", "home", "--broker-context", "broker"]).failed();
    assert!(said.contains("this cluster is rome already"), "{said}");

    let said = linkspan(["uninstall", "--cluster", "--crds", "--kubeconfig", &file, "--context", "home"]).done();
    assert!(said.contains("daemonset.apps/linkspan-node deleted\n"), "{said}");
    let left = kubectl(&home, &["get", "namespaces,crds,clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!left.contains("linkspan"), "{left}");
}

#[test]
fn a_broker_with_members_is_not_removed_by_accident() {
    let (server, file) = (&SHARED.1, both());
    server
        .apply(
            "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: { name: kept, namespace: linkspan-broker, \
             labels: { linkspan.dev/cluster: kept } }, spec: { clusterID: kept, clusterUID: x } }",
        )
        .unwrap();
    for what in ["--broker", "--crds"] {
        let said = linkspan(["uninstall", what, "--kubeconfig", &file, "--context", "home"]).failed();
        assert!(said.contains("the broker here has Members (kept)"), "{said}");
    }
    kubectl(server, &["get", "member", "kept", "-n", "linkspan-broker"]);
}

#[test]
fn a_token_is_made_listed_and_taken_back() {
    let file = both();
    let url = SHARED.0.url();
    let token = |arguments: &[&str]| linkspan([&["token"], arguments, &["--kubeconfig", &file]].concat());
    let said = token(&["create", "vienna"]).failed();
    assert!(said.contains("which other clusters cannot: give --server"), "{said}");
    let made = token(&["create", "vienna", "--server", &url, "-o", "json"]).json();
    assert_eq!((&made["cluster"], &made["server"]), (&"vienna".into(), &url.as_str().into()));
    let packed = made["token"].as_str().unwrap();
    let listed = token(&["list"]).done();
    let row = listed.lines().find(|line| line.starts_with("vienna ")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("usable"), "{listed}");
    assert!(!listed.contains(packed));
    assert!(token(&["list", "-o", "name"]).done().lines().any(|line| line == "token/vienna"));
    token(&["revoke", "vienna"]).done();
    assert!(!token(&["list", "-o", "yaml"]).done().contains("vienna"));
}

#[test]
fn a_service_is_exported_by_many_clusters_at_once() {
    let file = both();
    for server in [&SHARED.0, &SHARED.1] {
        kubectl(server, &["create", "namespace", "shop"]);
        kubectl(server, &["create", "service", "clusterip", "web", "--tcp=80", "-n", "shop"]);
    }
    let run = |arguments: &[&str]| {
        linkspan([arguments, &["-n", "shop", "--kubeconfig", &file, "--context", "broker,home"]].concat())
    };
    let exports = |server| kubectl(server, &["get", "serviceexports", "-n", "shop", "-o", "name"]);
    assert!(run(&["export", "web", "--dry-run=server"]).done().contains("home: exported shop/web (server dry run)\n"));
    assert_eq!(exports(&SHARED.0), "");
    let said = run(&["export", "web"]).done();
    assert!(said.contains("broker: exported shop/web;") && said.contains("home: exported shop/web;"), "{said}");
    for server in [&SHARED.0, &SHARED.1] {
        assert_eq!(exports(server), "serviceexport.multicluster.x-k8s.io/web\n");
    }
    let said = run(&["export", "absent"]).failed();
    assert!(said.contains("broker: there is no service absent in namespace shop;"), "{said}");
    run(&["unexport", "web"]).done();
    assert_eq!(exports(&SHARED.1), "");
    assert!(run(&["unexport", "web"]).failed().contains("home: shop/web is not exported"));
}

#[test]
fn a_right_that_is_missing_is_named() {
    let eve = kubeconfig(&[("home", &SHARED.1.kubeconfig_of("eve", None).unwrap())]).display().to_string();
    let said = linkspan(["export", "web", "-n", "kube-system", "--kubeconfig", &eve]).failed();
    assert!(said.contains("missing permission: get services in namespace kube-system"), "{said}");
    let said = linkspan(["deploy-broker", "--kubeconfig", &eve]).failed();
    let right = "missing permission: get customresourcedefinitions.apiextensions.k8s.io in the whole cluster";
    assert!(said.contains(right), "{said}");
    let said = linkspan(["token", "list", "--kubeconfig", &both(), "--as", "eve"]).failed();
    assert!(said.contains("missing permission: list serviceaccounts in namespace linkspan-broker"), "{said}");
}
