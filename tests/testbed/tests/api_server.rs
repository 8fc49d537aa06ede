//! An API server alone: RBAC, users, and a restart that keeps the data.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::LazyLock;
use std::time::Duration;

use testbed::{ApiServer, wait};

#[test]
fn a_restarted_api_server_keeps_its_data_and_address() {
    let mut server = ApiServer::start().unwrap();
    let url = server.url();
    server.kubectl(["create", "namespace", "kept"]).unwrap().done().unwrap();
    server.stop().unwrap();
    let error = server.kubectl(["get", "namespace", "kept"]).unwrap().done().unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    server.restart().unwrap();
    assert_eq!(server.url(), url);
    server.kubectl(["get", "namespace", "kept"]).unwrap().done().unwrap();
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists(), "it leaves nothing");
}

/// As test binaries share one.
static SHARED: LazyLock<ApiServer> = LazyLock::new(|| ApiServer::start_with_controllers().unwrap());

#[test]
fn users_may_do_what_rbac_says() {
    let kubeconfig = SHARED.folder().join("eve.kubeconfig");
    std::fs::write(&kubeconfig, SHARED.kubeconfig_of("eve", None).unwrap()).unwrap();
    let argument = format!("--kubeconfig={}", kubeconfig.display());
    let error = SHARED.kubectl([&argument, "get", "secrets"]).unwrap().done().unwrap_err().to_string();
    assert!(error.contains("User \"eve\" cannot list resource \"secrets\""), "{error}");
    SHARED.apply(ROLE_BINDING).unwrap();
    // The server's authorizer learns of the binding, and of the rules that are aggregated into `admin`, by watches of its own.
    wait::retry(Duration::from_secs(300), || SHARED.kubectl([&argument, "get", "secrets"])?.done()).unwrap();
}

const ROLE_BINDING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: eve, namespace: default }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: eve }]
";

#[test]
fn controllers_make_and_remove_what_belongs_to_objects() {
    SHARED.kubectl(["create", "namespace", "short"]).unwrap().done().unwrap();
    let account = ["wait", "--for=create", "serviceaccount/default", "-n", "short", "--timeout=300s"];
    SHARED.kubectl(account).unwrap().done().unwrap();
    let deleted = SHARED.kubectl(["delete", "namespace", "short", "--timeout=300s"]).unwrap().stdout().unwrap();
    assert!(deleted.contains("\"short\" deleted"), "{deleted}");
}
