//! What `gather` gives away. Logs of pods are not here: there are no nodes; `tests/clusters` has them.

use std::collections::BTreeMap;
use std::io::Read as _;

use testbed::{ApiServer, wait};

use crate::{Ended, PATIENCE, kubeconfig, kubectl, linkspan, wait_served};

const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJl";
const PLAIN: &str = "correct-horse-Battery-staple-planted";

/// A cluster and broker in which secrets stand everywhere that people have put them by mistake.
fn planted() -> (ApiServer, Vec<String>) {
    let server = ApiServer::start_with_controllers().unwrap();
    let file = kubeconfig(&[("paris", server.kubeconfig())]).display().to_string();
    linkspan(["deploy-broker", "--kubeconfig", &file]).done();
    let url = server.url();
    let join = ["join", "paris", "--kubeconfig", &file, "--broker-context", "paris", "--server", &url, "--wait", "0"];
    linkspan(join).done();
    wait_served(&server, "gatewaynodes,serviceexports");
    let token = kubectl(
        &server,
        &[
            "get",
            "secret",
            "linkspan-join",
            "-n",
            "linkspan-system",
            "-o",
            "go-template={{.data.token | base64decode}}",
        ],
    );
    let client_key = serde_json::from_str::<serde_json::Value>(server.kubeconfig()).unwrap();
    let client_key = client_key["users"][0]["user"]["client-key-data"].as_str().unwrap().to_owned();
    // kubectl's own way notes every object whole in an annotation.
    let objects = [
        format!("{{ apiVersion: v1, kind: Secret, metadata: {{ name: planted }}, stringData: {{ pass: {PLAIN} }} }}"),
        format!(
            "{{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: planted }}, data: {{ LINKSPAN_TOKEN: short, \
             file: 'key {PRIVATE}', words: 'it is {PLAIN}.', head: '{JWT}', config: 'client-key-data: {client_key}', \
             joined: 'by {token}' }} }}"
        ),
        format!(
            "{{ apiVersion: events.k8s.io/v1, kind: Event, metadata: {{ name: planted }}, eventTime: \
             2026-01-01T00:00:00.000000Z, reportingController: x, reportingInstance: x, action: x, reason: x, type: \
             Normal, regarding: {{ kind: Pod, name: x, namespace: linkspan-system }}, note: 'Bearer {JWT}' }}"
        ),
        format!(
            "{{ apiVersion: linkspan.dev/v1alpha1, kind: GatewayNode, metadata: {{ name: n1 }}, spec: {{ publicKey: \
             \"{PUBLIC}\", lanes: 1 }} }}"
        ),
    ];
    for object in objects {
        server.kubectl(["apply", "-n", "linkspan-system", "-f", "-"]).unwrap().input(object).done().unwrap();
    }
    shop(&server);
    let env = ["set", "env", "deployment/linkspan-dns", "-n", "linkspan-system", "DB_PASSWORD=planted-word"];
    kubectl(&server, &env);
    let secrets = [&token, PRIVATE, JWT, PLAIN, &client_key, "planted-word", "LINKSPAN_TOKEN: short"];
    (server, secrets.map(str::to_owned).to_vec())
}

/// A namespace with an exported service, in which the same was done, and one that shares nothing.
fn shop(server: &ApiServer) {
    let (note, selector) = (format!("note: 'Bearer {JWT}'"), "{ matchLabels: { app: web } }");
    let objects = [
        format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: web, annotations: {{ {note} }} }}, \
             spec: {{ ports: [{{ port: 80 }}] }} }}"
        ),
        format!(
            "{{ apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{ name: web-1, annotations: {{ {note} }} }}, \
             addressType: IPv4, endpoints: [{{ addresses: [10.42.0.9] }}] }}"
        ),
        format!(
            "{{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{ name: web, annotations: {{ {note} }} }}, \
             spec: {{ podSelector: {selector} }} }}"
        ),
        format!(
            "{{ apiVersion: v1, kind: Event, metadata: {{ name: web }}, reason: x, type: Normal, \
             involvedObject: {{ kind: Pod, name: x, namespace: shop }}, message: 'it is {PLAIN}, Bearer {JWT}' }}"
        ),
        "{ apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceExport, metadata: { name: web } }".to_owned(),
    ];
    for namespace in ["shop", "apart"] {
        kubectl(server, &["create", "namespace", namespace]);
    }
    for object in objects {
        server.kubectl(["apply", "-n", "shop", "-f", "-"]).unwrap().input(object).done().unwrap();
    }
    // As a controller might quote somebody's answer.
    let status = serde_json::json!({ "status": { "conditions": [{
        "type": "Valid", "status": "False", "reason": "NoService", "message": format!("it said: Bearer {JWT}"),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    let patch = ["--subresource=status", "--type=merge", "-p", &status.to_string()];
    kubectl(server, &[&["patch", "serviceexport", "web", "-n", "shop"], &patch[..]].concat());
}

/// What is gathered of it.
fn assert_shop(files: &BTreeMap<String, String>) {
    for (path, word) in [
        ("services", "name: web"),
        ("endpointslices.discovery.k8s.io", "10.42.0.9"),
        ("networkpolicies.networking.k8s.io", "podSelector"),
        ("events", "Bearer (removed)"),
    ] {
        let text = &files[&format!("linkspan-gather/paris/namespaces/shop/{path}.yaml")];
        assert!(text.contains(word), "{path}: {text}");
    }
    assert!(files.keys().all(|path| !path.contains("/namespaces/apart/")), "{:?}", files.keys());
    let findings: Vec<serde_json::Value> = serde_json::from_str(&files["linkspan-gather/diagnose.json"]).unwrap();
    let invalid = findings.iter().find(|finding| finding["reason"] == "ExportInvalid").unwrap();
    assert_eq!((&invalid["cluster"], &invalid["object"]), (&"paris".into(), &"serviceexport/shop/web".into()));
    assert!(invalid["evidence"].as_str().unwrap().contains("it said: Bearer (removed)"), "{invalid}");
    for check in ["broker", "cni", "rbac", "version"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}: {findings:#?}");
    }
}

/// The files of an archive that a command has made.
fn unpacked(file: &std::path::Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    files
}

fn gather(kubeconfig: &str, file: &std::path::Path) -> Ended {
    linkspan(["gather", "--kubeconfig", kubeconfig, "--file", file.to_str().unwrap()])
}

/// Waits until the API server knows of a role that somebody got just now, who may list exports by it.
fn authorized(kubeconfig: &str, namespace: &[&str]) {
    let listed = wait::retry(PATIENCE, || {
        let shown = linkspan(["show", "exports", "--kubeconfig", kubeconfig].iter().chain(namespace));
        anyhow::ensure!(shown.code == Some(0), "{}", shown.error);
        Ok(())
    });
    listed.unwrap();
}

#[test]
fn an_archive_has_everything_but_secrets() {
    let (server, secrets) = planted();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("admin.tar.gz");
    let file = kubeconfig(&[("paris", server.kubeconfig())]).display().to_string();
    let said = gather(&file, &archive).done();
    assert!(said.contains("admin.tar.gz has "), "{said}");
    let files = unpacked(&archive);
    let object = |path: &str| &files[&format!("linkspan-gather/paris/objects/{path}")];
    assert!(object("linkspan-system/gatewaynodes.linkspan.dev.yaml").contains(PUBLIC), "public keys stay");
    assert!(object("linkspan-system/secrets.yaml").contains("linkspan-join"), "names of Secrets stay");
    assert!(object("linkspan-system/configmaps.yaml").contains("it is (removed)."), "what is around a secret stays");
    assert!(object("linkspan-system/events.yaml").contains("Bearer (removed)"));
    assert!(object("linkspan-system/deployments.apps.yaml").contains("DB_PASSWORD"));
    assert!(object("linkspan-broker/serviceaccounts.yaml").contains("join-paris"));
    assert!(files["linkspan-gather/summary.txt"].contains("GATEWAYS\n"));
    assert_shop(&files);
    assert_clean(&files, &secrets);
    assert!(gather(&file, &archive).failed().contains("failed to make "), "nothing is overwritten");

    kubectl(&server, &["create", "clusterrolebinding", "ada", "--clusterrole=linkspan-viewer", "--user=ada"]);
    let viewer = kubeconfig(&[("paris", &server.kubeconfig_of("ada", None).unwrap())]).display().to_string();
    authorized(&viewer, &["-A"]);
    let archive = folder.path().join("viewer.tar.gz");
    let shown = gather(&viewer, &archive);
    assert_eq!(shown.code, Some(0), "{}", shown.error);
    assert!(shown.error.contains("missing permission: list secrets in namespace linkspan-system"), "{}", shown.error);
    let files = unpacked(&archive);
    assert!(files["linkspan-gather/missing.txt"].contains("list secrets"));
    assert!(files.contains_key("linkspan-gather/paris/objects/linkspan-system/configmaps.yaml"));
    assert_shop(&files);
    // That one has no form: only who may read the Secret knows that it is one.
    let formed: Vec<String> = secrets.into_iter().filter(|secret| secret != PLAIN).collect();
    assert_clean(&files, &formed);

    let exports =
        ["create", "clusterrole", "exports", "--verb=list", "--resource=serviceexports.multicluster.x-k8s.io"];
    kubectl(&server, &exports);
    kubectl(&server, &["create", "clusterrolebinding", "bob", "--clusterrole=exports", "--user=bob"]);
    let few = kubeconfig(&[("paris", &server.kubeconfig_of("bob", None).unwrap())]).display().to_string();
    authorized(&few, &["-n", "shop"]);
    let shown = gather(&few, &folder.path().join("few.tar.gz"));
    let missing =
        "not gathered: paris: namespaces/shop/services.yaml: missing permission: list services in namespace shop\n";
    assert!(shown.code == Some(0) && shown.error.contains(missing), "{}", shown.error);
}

#[test]
fn a_cluster_that_is_away_is_told_once_and_no_archive_is_left_of_nothing() {
    let (mut away, here) = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
    let both = kubeconfig(&[("here", here.kubeconfig()), ("away", away.kubeconfig())]).display().to_string();
    let alone = kubeconfig(&[("away", away.kubeconfig())]).display().to_string();
    away.stop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("both.tar.gz");
    let file = archive.to_str().unwrap();
    let ended = linkspan(["gather", "--all-contexts", "--kubeconfig", &both, "--file", file]);
    assert_eq!(ended.code, Some(3), "{}", ended.error);
    assert!(ended.error.ends_with("linkspan: nothing is in it of away\n"), "{}", ended.error);
    let told: Vec<&str> = ended.error.lines().filter(|line| line.contains("away: ")).collect();
    assert_eq!(told.len(), 1, "{}", ended.error);
    assert!(told[0].starts_with("not gathered: away: everything: ") && told[0].contains("refused"), "{}", ended.error);
    let files = unpacked(&archive);
    assert!(files.contains_key("linkspan-gather/here/version.txt"));
    let findings: Vec<serde_json::Value> = serde_json::from_str(&files["linkspan-gather/diagnose.json"]).unwrap();
    let of_away = findings.iter().filter(|finding| finding["cluster"] == "away");
    assert!(
        of_away.clone().count() > 10 && of_away.clone().all(|finding| finding["state"] == "unknown"),
        "{findings:#?}"
    );

    let archive = folder.path().join("alone.tar.gz");
    let said = gather(&alone, &archive).failed();
    assert!(said.contains("no cluster gives anything: away: everything: "), "{said}");
    assert!(!archive.exists());
}

fn assert_clean(files: &BTreeMap<String, String>, secrets: &[String]) {
    use base64::Engine as _;
    for (path, text) in files {
        for secret in secrets {
            let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
            assert!(!text.contains(secret.as_str()), "{path} has {secret}");
            assert!(!text.contains(&base64), "{path} has {secret} in base64");
        }
        assert!(!text.contains("lsj1.") && !text.contains("PRIVATE KEY"), "{path}");
    }
}
