//! What lies in `deploy/`, as files: it parses, holds no secret, and gives pods no more than they need.

use std::collections::BTreeSet;

use super::*;

/// All files below a folder, sorted.
pub(super) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn deployed() -> Vec<(String, String)> {
    let files = below(&tree().join("deploy"));
    let named = |file: PathBuf| {
        let text = read(&file);
        (file.strip_prefix(tree()).unwrap().to_string_lossy().into_owned(), text)
    };
    let files: Vec<_> = files.into_iter().map(named).collect();
    assert!(files.len() > 60, "deploy/ is not where it was");
    files
}

#[test]
fn every_document_parses_and_says_what_it_is() {
    let mut seen = 0;
    for (name, text) in deployed() {
        let is = |ending: &str| name.ends_with(ending);
        if is(".json") {
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        // Templates are no YAML before they are rendered, which other tests do.
        if !is(".yaml") || name.contains("/templates/") {
            continue;
        }
        // Files of values have no kind, and Fleet's are known by their names.
        let typed = !is("/values.yaml") && !is("/fleet.yaml") && !is("/Chart.yaml") && !is("tests.yaml");
        for document in documents(&text) {
            let told = document["apiVersion"].is_string() && document["kind"].is_string();
            assert!(told || !typed, "{name}: a document without apiVersion and kind: {document}");
            seen += 1;
        }
    }
    assert!(seen > 60, "only {seen} documents");
}

/// What looks like a secret: private keys in PEM, tokens of ServiceAccounts and other JWTs, keys of WireGuard, and Secrets
/// with something in them.
fn secret_in(text: &str) -> Option<String> {
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key".to_owned());
    }
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-.".contains(c)));
    for word in words {
        if word.starts_with("eyJ") && word.len() > 30 {
            return Some(format!("a token: {word}"));
        }
        let digits = word.trim_end_matches('=').len();
        if word.len() == 44 && digits == 43 && word.chars().any(|c| c.is_ascii_uppercase()) {
            return Some(format!("a key: {word}"));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    let secret = lines.iter().any(|line| line.trim_end() == "kind: Secret");
    let filled = lines.iter().any(|line| matches!(line.trim_end(), "data:" | "stringData:"));
    (secret && filled).then(|| "a Secret with data".to_owned())
}

#[test]
fn no_secret_is_in_git() {
    for (name, text) in deployed() {
        // The chart makes Secret linkspan-join of a value that is empty unless somebody sets it.
        if name == "deploy/helm/linkspan/templates/config.yaml" {
            assert!(text.contains("token: {{ trim . | quote }}"), "{name} makes its Secret of something else");
            continue;
        }
        assert_eq!(secret_in(&text), None, "{name}");
    }
    let values = &documents(&read("deploy/helm/linkspan/values.yaml"))[0];
    assert_eq!(values["join"]["token"], "");
}

#[test]
fn secrets_would_be_found() {
    for text in [
        "-----BEGIN EC PRIVATE KEY-----\nMHcC",
        "token: eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJ4In0.c2ln",
        "privateKey: yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=",
        "apiVersion: v1\nkind: Secret\ndata:\n  token: YWJj\n",
    ] {
        assert!(secret_in(text).is_some(), "{text}");
    }
    assert_eq!(secret_in("kind: ConfigMap\ndata:\n  a: b\n"), None);
}

/// The one container of a pod, which says what it needs and how it is watched.
fn container(pod: &Value) -> &Value {
    let containers = pod["containers"].as_array().unwrap();
    assert!(containers.len() == 1 && pod["initContainers"].is_null(), "{pod:#}");
    let container = &containers[0];
    for what in ["cpu", "memory"] {
        assert!(container["resources"]["requests"][what].is_string(), "no request for {what}: {container:#}");
    }
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
    }
    container
}

/// What every container may not do, in a pod with the seccomp profile of its runtime.
fn assert_confined(pod: &Value, container: &Value) {
    assert_eq!(pod["securityContext"]["seccompProfile"], serde_json::json!({ "type": "RuntimeDefault" }));
    let own = &container["securityContext"];
    assert!(own["seccompProfile"].is_null(), "the pod's is overruled: {own}");
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(own["privileged"], false);
    assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]));
}

/// That the chart is the same as this base is a test of `charts`.
#[test]
fn nodes_may_change_their_network_and_nothing_else_of_the_host() {
    let objects = base("deploy/member");
    let pod = &objects["DaemonSet linkspan-system/linkspan-node"]["spec"]["template"]["spec"];
    let container = container(pod);
    assert_confined(pod, container);
    assert_eq!(container["securityContext"]["capabilities"]["add"], serde_json::json!(["NET_ADMIN", "NET_RAW"]));
    assert_eq!(pod["hostNetwork"], true);
    assert!(pod["hostPID"].is_null() && pod["hostIPC"].is_null(), "{pod:#}");
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    let folders = pod["volumes"].as_array().unwrap().iter().filter_map(|volume| volume["hostPath"]["path"].as_str());
    assert_eq!(folders.collect::<Vec<_>>(), ["/var/lib/linkspan", "/dev/net/tun"]);
}

#[test]
fn controllers_and_name_servers_have_no_capability_and_are_drained_one_by_one() {
    let objects = base("deploy/member");
    for name in ["linkspan-controller", "linkspan-dns"] {
        let deployment = &objects[&format!("Deployment linkspan-system/{name}")]["spec"];
        let pod = &deployment["template"]["spec"];
        let container = container(pod);
        assert_confined(pod, container);
        assert!(container["securityContext"]["capabilities"]["add"].is_null(), "{name}");
        assert!(pod["hostNetwork"].is_null(), "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["priorityClassName"], "system-cluster-critical", "{name}");
        let budget = &objects[&format!("PodDisruptionBudget linkspan-system/{name}")]["spec"];
        assert_eq!((&deployment["replicas"], &budget["maxUnavailable"]), (&Value::from(2), &Value::from(1)), "{name}");
        assert_eq!(budget["selector"], deployment["selector"], "{name}");
    }
}

/// Some API servers refuse these classes in a namespace without a quota for them.
#[test]
fn a_quota_names_the_priority_classes_of_all_pods() {
    let objects = base("deploy/member");
    let classes =
        objects.values().filter_map(|object| object["spec"]["template"]["spec"]["priorityClassName"].as_str());
    let classes: BTreeSet<&str> = classes.collect();
    assert_eq!(classes.len(), 2, "{classes:?}");
    assert_eq!(
        objects["ResourceQuota linkspan-system/linkspan-critical"]["spec"]["scopeSelector"]["matchExpressions"],
        serde_json::json!([{ "scopeName": "PriorityClass", "operator": "In", "values": classes }])
    );
}
