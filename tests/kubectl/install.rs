//! A broker, two clusters, and services between them, by the commands of the README.

use std::sync::LazyLock;

use serde_json::json;
use testbed::ApiServer;

use crate::{apply_soon, kubeconfig, kubectl, linkspan, wait_served};

/// A broker and a cluster that tests share; each test has cluster IDs and namespaces of its own.
static SHARED: LazyLock<(ApiServer, ApiServer)> = LazyLock::new(|| {
    let servers = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
    let broker = kubeconfig(&[("broker", servers.0.kubeconfig())]);
    let home = kubeconfig(&[("home", servers.1.kubeconfig())]);
    for file in [&broker, &home] {
        linkspan(["deploy-broker", "--kubeconfig", file.to_str().unwrap()]).done();
    }
    for server in [&servers.0, &servers.1] {
        wait_served(server, "members,servicerecords,serviceexports");
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
fn row_5_a_newer_kind_of_others_is_left_alone() {
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
    join(&["--upgrade"]).done();
    let upgraded = concat!("registry.example/linkspan:", env!("CARGO_PKG_VERSION"));
    assert_eq!(system(&["get", "daemonset", "linkspan-node", "-o", image]), upgraded, "the registry stays");
    assert_eq!(system(&["get", "configmap", "linkspan", "-o", "jsonpath={.data.LINKSPAN_CLUSTER_ID}"]), "rome");
    let secret = system(&["get", "secret", "linkspan-join", "-o", "go-template={{.data.token | base64decode}}"]);
    assert!(secret.starts_with("lsj1."), "the token is where the controller looks for it");
    assert!(!said.contains(&secret), "and nowhere else");
    let tokens = linkspan(["token", "list", "--kubeconfig", &file, "-o", "json"]).json();
    let ours = tokens.as_array().unwrap().iter().find(|token| token["cluster"] == "rome").unwrap();
    assert_eq!(ours["state"], "usable");

    // Its Member says that it is ready, as that of a cluster does whose earlier pods go on.
    plant_ready(&home, "rome");
    let watched = |more: &[&str]| {
        let fixed = ["join", "rome", "--kubeconfig", &file, "--context", "home", "--broker-context", "broker"];
        linkspan([&fixed[..], &["--server", &url, "--wait", "20"], more].concat())
    };
    assert!(watched(&[]).done().contains("rome has joined;"), "nothing was applied");
    let said = watched(&["--upgrade"]).failed();
    let (begin, pods) = ("rome is not ready after 20 s: ", " of 2 pods of deployment/linkspan-controller are ");
    assert!(said.contains(begin) && said.contains(pods), "no node takes the new pods: {said}");

    let uninstall = ["uninstall", "--cluster", "--crds", "--wait", "300", "--kubeconfig", &file, "--context", "home"];
    let said = linkspan(uninstall).done();
    assert!(said.contains("daemonset.apps/linkspan-node deleted\n"), "{said}");
    let left = kubectl(&home, &["get", "namespaces,crds,clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!left.contains("linkspan"), "{left}");
}

/// A cluster's own Member that is ready.
fn plant_ready(server: &ApiServer, cluster: &str) {
    let member = format!(
        "{{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: {{ name: {cluster}, namespace: linkspan-system }}, \
         spec: {{ clusterID: {cluster}, clusterUID: x, version: 0.1.0 }} }}"
    );
    apply_soon(server, &member);
    let ready = "{ \"type\": \"Ready\", \"status\": \"True\", \"reason\": \"Ready\", \"message\": \"\", \
                 \"lastTransitionTime\": \"2026-01-01T00:00:00Z\" }";
    let status = format!("{{ \"status\": {{ \"conditions\": [{ready}] }} }}");
    let patch =
        ["patch", "member", cluster, "-n", "linkspan-system", "--subresource=status", "--type=merge", "-p", &status];
    kubectl(server, &patch);
}

/// A credential as the controller keeps it.
fn plant_credential(server: &ApiServer, cluster: &str, broker: &str) {
    server
        .apply(&format!(
            "{{ apiVersion: v1, kind: Secret, metadata: {{ name: linkspan-broker, namespace: linkspan-system }}, stringData: \
             {{ server: \"{broker}\", namespace: linkspan-broker, clusterset: default, cluster: {cluster}, issued: \
             \"2026-01-01T00:00:00Z\", expires: \"2999-01-01T00:00:00Z\", joined-with: \"00ff\", token: x }} }}"
        ))
        .unwrap();
}

#[test]
fn a_cluster_keeps_a_good_credential_gets_a_new_one_for_a_lost_one_and_a_new_id_without() {
    let (broker, home) = (&SHARED.0, ApiServer::start_with_controllers().unwrap());
    let file = kubeconfig(&[("broker", broker.kubeconfig()), ("home", home.kubeconfig())]).display().to_string();
    let url = broker.url();
    let join = |id: &str| {
        let who = ["join", id, "--kubeconfig", &file, "--context", "home", "--broker-context", "broker"];
        linkspan([&who[..], &["--server", &url, "--wait", "0"]].concat())
    };
    let system = |arguments: &[&str]| kubectl(&home, &[arguments, &["-n", "linkspan-system"]].concat());
    let has_token = || system(&["get", "secrets", "-o", "name"]).contains("secret/linkspan-join");
    let use_token = || system(&["delete", "secret", "linkspan-join"]);

    join("kyiv").done();
    use_token();
    plant_credential(&home, "kyiv", "https://other.example:6443");
    let said = join("kyiv").failed();
    let both = format!("kyiv has a credential of the broker at https://other.example:6443, and broker is at {url}:");
    assert!(said.contains(&both), "{said}");
    plant_credential(&home, "kyiv", &format!("{url}/"));
    let said = join("kyiv").done();
    assert!(said.contains("kyiv has a credential of its broker already and keeps it\n"), "{said}");
    assert!(!has_token());

    let member = "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: { name: kyiv, namespace: linkspan-system }, \
                  spec: { clusterID: kyiv, clusterUID: x } }";
    apply_soon(&home, member);
    let refused = "{\"status\":{\"conditions\":[{\"type\":\"Joined\",\"status\":\"False\",\"reason\":\"CredentialRefused\",\
                   \"message\":\"it was revoked\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}";
    system(&["patch", "member", "kyiv", "--subresource=status", "--type=merge", "-p", refused]);
    let said = join("kyiv").done();
    assert!(said.contains("and gets a new token (CredentialRefused: it was revoked)\n"), "{said}");
    assert!(has_token());

    let said = join("oslo").failed();
    assert!(said.contains("this cluster is kyiv already, and is to be oslo: leave first"), "{said}");
    system(&["delete", "secret", "linkspan-broker"]);
    let restarted = || {
        let path = "jsonpath={.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}";
        system(&["get", "daemonset", "linkspan-node", "-o", path])
    };
    assert_eq!(restarted(), "");
    let said = join("oslo").done();
    assert!(said.contains("this cluster was kyiv and is oslo from now on\n"), "{said}");
    assert_eq!(system(&["get", "configmap", "linkspan", "-o", "jsonpath={.data.LINKSPAN_CLUSTER_ID}"]), "oslo");
    assert_ne!(restarted(), "", "pods read the ID when they start");
}

#[test]
fn what_others_need_is_looked_for_before_a_cluster_is_taken_out() {
    let server = ApiServer::start_with_controllers().unwrap();
    let file = kubeconfig(&[("lima", server.kubeconfig())]).display().to_string();
    let run = |arguments: &[&str]| linkspan([arguments, &["--kubeconfig", &file]].concat());
    let url = server.url();
    run(&["deploy-broker"]).done();
    run(&["join", "lima", "--broker-context", "lima", "--server", &url, "--wait", "0"]).done();
    let member = |id: &str| {
        format!(
            "{{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: {{ name: {id}, namespace: linkspan-broker, \
             labels: {{ linkspan.dev/cluster: {id} }} }}, spec: {{ clusterID: {id}, clusterUID: x }} }}"
        )
    };
    apply_soon(&server, &member("lima"));
    let whole = ["uninstall", "--cluster", "--broker", "--crds"];
    // It leaves before its broker goes, and is none of those who lose something.
    run(&[&whole[..], &["--dry-run"]].concat()).done();
    server.apply(&member("quito")).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let said = run(&[&whole[..], more].concat()).failed();
        assert!(said.contains("the broker here has Members (quito), which would be lost"), "{said}");
    }
    // As by somebody who takes the broker away without this cluster, which is a Member itself.
    let said = run(&["uninstall", "--broker"]).failed();
    let this = "Members (lima, quito), which would be lost: let them leave first (lima is this cluster, and does so with --cluster), or";
    assert!(said.contains(this), "{said}");
    let node = || kubectl(&server, &["get", "daemonsets", "-n", "linkspan-system", "-o", "name"]);
    assert_eq!(node(), "daemonset.apps/linkspan-node\n");

    // No controller runs here that could leave.
    kubectl(&server, &["delete", "member", "lima", "quito", "-n", "linkspan-broker"]);
    plant_credential(&server, "lima", &url);
    let said = run(&["uninstall", "--cluster", "--wait", "0"]).failed();
    assert!(said.contains("nothing was uninstalled; still there: the credential (Secret linkspan-broker)"), "{said}");
    assert_eq!(node(), "daemonset.apps/linkspan-node\n");
    let asked = || {
        let path = "jsonpath={.metadata.annotations.linkspan\\.dev/leave}";
        kubectl(&server, &["get", "secret", "linkspan-broker", "-n", "linkspan-system", "-o", path])
    };
    assert_eq!(asked(), "true");
    let said = run(&["leave", "--without-broker", "--wait", "0"]).done();
    assert!(said.contains("it goes on without this command; still there: the credential"), "{said}");
    assert_eq!(asked(), "without-broker");
    let said = run(&["uninstall", "--cluster", "--wait", "0", "--force"]).done();
    assert!(said.contains("it has not left, and leaves without its broker: after 20 s"), "{said}");
    assert!(said.contains("going on although it has not left: after 20 s there is still the credential"), "{said}");
    assert!(said.contains("daemonset.apps/linkspan-node deleted\n"), "{said}");
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

/// What a command prints on a terminal that does not tell its size, as `script` makes one where it has none itself.
fn on_terminal(command: &str, no_color: &str) -> String {
    let mut script = std::process::Command::new("script");
    crate::ended(script.args(["-qec", command, "/dev/null"]).env("NO_COLOR", no_color).env("TERM", "xterm")).done()
}

#[test]
fn a_terminal_without_a_size_breaks_no_line() {
    let file = both();
    linkspan(["token", "create", "geneva", "--server", &SHARED.0.url(), "--kubeconfig", &file]).done();
    let list = format!("{} token list --kubeconfig {file}", env!("CARGO_BIN_EXE_linkspan"));
    let shown = on_terminal(&list, "1");
    let row = shown.lines().find(|line| line.starts_with("geneva ")).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(row.split_whitespace().count(), 4, "{shown}");
    assert!(on_terminal(&list, "").contains("\u{1b}["), "an empty NO_COLOR is none");
    assert!(!shown.contains("\u{1b}["), "{shown}");
}

#[test]
fn what_becomes_of_tokens_and_members_is_shown_before_it_is_done() {
    let (server, file, url) = (&SHARED.0, both(), SHARED.0.url());
    let run = |arguments: &[&str]| linkspan([arguments, &["--kubeconfig", &file]].concat());
    let of_cluster = || {
        let kinds = "members,servicerecords,leases,configmaps,serviceaccounts,roles,rolebindings";
        kubectl(server, &["get", kinds, "-n", "linkspan-broker", "-l", "linkspan.dev/cluster=malmo", "-o", "name"])
    };
    let hows = [("--dry-run", "dry run"), ("--dry-run=client", "dry run"), ("--dry-run=server", "server dry run")];

    let create = ["token", "create", "malmo", "--server", &url];
    for (how, suffix) in hows {
        let said = run(&[&create[..], &[how]].concat()).done();
        assert!(said.starts_with(&format!("serviceaccount/member-malmo created ({suffix})\n")), "{said}");
        assert!(said.ends_with(&format!("\nmalmo could join with the token ({suffix})\n")), "{said}");
        assert_eq!(of_cluster(), "", "{how} stores nothing");
    }
    let told = run(&[&create[..], &["--dry-run", "-o", "json"]].concat()).json();
    assert_eq!((&told["cluster"], &told["token"], &told["deleted"]), (&"malmo".into(), &().into(), &json!([])));
    assert_eq!(told["created"].as_array().unwrap().len(), 8, "{told}");
    run(&create).done();

    // A second token ends the first.
    let before = of_cluster();
    for (how, suffix) in hows {
        let said = run(&[&create[..], &[how]].concat()).done();
        for line in ["rolebinding.rbac.authorization.k8s.io/join-malmo deleted", "serviceaccount/join-malmo created"] {
            assert!(said.contains(&format!("{line} ({suffix})\n")), "{how}: {said}");
        }
        assert_eq!(of_cluster(), before, "{how}");
    }

    let revoked = "rolebinding.rbac.authorization.k8s.io/join-malmo deleted (dry run)\n\
                   role.rbac.authorization.k8s.io/join-malmo deleted (dry run)\n\
                   configmap/join-malmo deleted (dry run)\nserviceaccount/join-malmo deleted (dry run)\n";
    let revoke = ["token", "revoke", "malmo"];
    for (how, suffix) in hows {
        let said = run(&[&revoke[..], &[how]].concat()).done();
        let whole = format!("{revoked}the join token of malmo would be revoked (dry run)\n");
        assert_eq!(said, whole.replace("dry run", suffix));
        assert_eq!(of_cluster(), before, "{how}");
    }
    let said = run(&[&revoke[..], &["--dry-run", "-o", "name"]].concat()).done();
    assert_eq!(said, revoked.replace(" deleted (dry run)", ""));

    let metadata = "metadata: { name: malmo, namespace: linkspan-broker, labels: { linkspan.dev/cluster: malmo } }";
    let member =
        "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, METADATA, spec: { clusterID: malmo, clusterUID: x } }";
    server.apply(&member.replace("METADATA", metadata)).unwrap();
    let before = of_cluster();
    let remove = ["member", "remove", "malmo"];
    for (how, suffix) in hows {
        let said = run(&[&remove[..], &[how]].concat()).done();
        for name in ["member.linkspan.dev/malmo", "serviceaccount/member-malmo", "serviceaccount/join-malmo"] {
            assert!(said.contains(&format!("{name} deleted ({suffix})\n")), "{how}: {said}");
        }
        assert!(said.ends_with(&format!("malmo would be removed from the clusterset ({suffix})\n")), "{said}");
        assert_eq!(of_cluster(), before, "{how}");
    }
    let list = run(&[&remove[..], &["-o", "json"]].concat()).json();
    let is_member = |item: &&serde_json::Value| item["kind"] == "Member" && item["metadata"]["name"] == "malmo";
    assert_eq!(list["items"].as_array().unwrap().iter().filter(is_member).count(), 1, "{list}");
    assert_eq!(of_cluster(), "");
    let said = run(&[&remove[..], &["--dry-run"]].concat()).failed();
    assert!(said.contains("there is no Member malmo in namespace linkspan-broker"), "{said}");
}

#[test]
fn a_broker_of_an_unknown_authority_gives_no_token_that_nobody_could_use() {
    let mut content: serde_json::Value = serde_json::from_str(SHARED.0.kubeconfig()).unwrap();
    let cluster = content["clusters"][0]["cluster"].as_object_mut().unwrap();
    cluster.retain(|key, _| key == "server");
    cluster.insert("insecure-skip-tls-verify".to_owned(), true.into());
    let file = kubeconfig(&[("broker", &content.to_string())]);
    let create = ["token", "create", "graz", "--kubeconfig", file.to_str().unwrap()];
    let url = SHARED.0.url();
    let said = linkspan([&create[..], &["--server", &url]].concat()).failed();
    assert!(said.contains("give --certificates") && said.contains(&url), "{said}");
    let tokens = linkspan(["token", "list", "-o", "name", "--kubeconfig", file.to_str().unwrap()]).done();
    assert!(!tokens.contains("graz"), "{tokens}");

    let authority = file.with_extension("pem");
    std::fs::write(&authority, SHARED.0.ca_certificate()).unwrap();
    let made = linkspan([&create[..], &["--server", &url, "--certificates", authority.to_str().unwrap()]].concat());
    assert!(!made.done().trim().is_empty());
}

#[test]
fn what_is_not_there_is_not_said_to_be_removed() {
    let bare = ApiServer::start().unwrap();
    let file = kubeconfig(&[("broker", SHARED.0.kubeconfig()), ("bare", bare.kubeconfig())]).display().to_string();
    let run = |arguments: &[&str]| linkspan([arguments, &["--kubeconfig", &file]].concat());
    for (arguments, expected) in [
        (["token", "revoke", "nobody"], "there is no join token of nobody in namespace linkspan-broker of broker;"),
        (["member", "remove", "nobody"], "there is no Member nobody in namespace linkspan-broker of broker;"),
    ] {
        let ended = run(&[&arguments[..], &["--context", "broker"]].concat());
        assert_eq!(ended.out, "");
        let said = ended.failed();
        assert!(said.contains(expected), "{said}");
        let said = run(&[&arguments[..], &["--context", "bare"]].concat()).failed();
        assert!(said.contains("there is no broker in namespace linkspan-broker"), "{said}");
    }
    run(&["token", "create", "lost", "--server", &SHARED.0.url(), "--context", "broker"]).done();
    let said = run(&["member", "remove", "lost", "--context", "broker"]).done();
    assert_eq!(said, "lost is removed from the clusterset; the others forget it at once\n");
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
    kubectl(&SHARED.1, &["create", "service", "clusterip", "here", "--tcp=80", "-n", "shop"]);
    for (format, expected) in [
        ("name", "home/serviceexport.multicluster.x-k8s.io/here\n"),
        (
            "yaml",
            "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata:\n  name: here\n  namespace: shop\n",
        ),
    ] {
        let ended = run(&["export", "here", "-o", format]);
        assert_eq!(ended.out, expected, "what was done is printed");
        assert!(ended.failed().contains("broker: there is no service here in namespace shop;"));
    }
    let shown = linkspan(["show", "exports", "-A", "-o", "name", "--all-contexts", "--kubeconfig", &file]).done();
    assert_eq!(shown.lines().filter(|line| line.ends_with("/serviceexport/shop/web")).count(), 2, "{shown}");
    kubectl(&SHARED.1, &["delete", "serviceexport", "here", "-n", "shop"]);
    run(&["unexport", "web"]).done();
    assert_eq!(exports(&SHARED.1), "");
    assert!(run(&["unexport", "web"]).failed().contains("home: shop/web is not exported"));
}

#[test]
fn an_api_server_that_is_not_reached_is_named() {
    // Nobody listens on port 1.
    let nowhere = SHARED.0.kubeconfig().replace(&SHARED.0.url(), "https://127.0.0.1:1");
    let file = kubeconfig(&[("lost", &nowhere), ("gone", &nowhere), ("home", SHARED.1.kubeconfig())]);
    let run = |arguments: &[&str]| linkspan([arguments, &["--kubeconfig", file.to_str().unwrap()]].concat());
    for arguments in [
        &["deploy-broker"][..],
        &["join", "ghent", "--broker-context", "home"],
        &["join", "ghent", "--context", "home", "--broker-context", "lost", "--server", "https://x", "--wait", "0"],
        &["leave"],
        &["uninstall", "--cluster"],
        &["token", "create", "ghent", "--server", "https://x"],
        &["token", "list"],
        &["token", "revoke", "ghent"],
        &["member", "remove", "ghent"],
        &["export", "web"],
        &["unexport", "web"],
    ] {
        let said = run(arguments).failed();
        assert!(said.contains("linkspan: lost at https://127.0.0.1:1: failed to "), "{arguments:?}: {said}");
        assert_eq!(said.matches("lost at ").count(), 1, "{arguments:?}: {said}");
    }
    let said = run(&["export", "web", "--context", "lost,gone"]).failed();
    assert!(said.contains("lost: failed to ") && said.contains("gone: failed to ") && !said.contains(" at "), "{said}");
    let said = run(&["token", "revoke", "nobody", "--context", "home"]).failed();
    assert!(!said.contains("home at "), "what a broker has answered is not about reaching it: {said}");
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
