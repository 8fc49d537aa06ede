//! `show` with a viewer's rights, on clusters of which one is away and one has no Linkspan.

use std::sync::LazyLock;

use serde_json::Value;
use testbed::{ApiServer, wait};

use crate::{PATIENCE, apply_soon, kubeconfig, kubectl, linkspan};

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// A cluster with the manifests of a Member, and objects as its controller and its gateway write them.
pub static JOINED: LazyLock<ApiServer> = LazyLock::new(|| {
    let server = ApiServer::start_with_controllers().unwrap();
    for base in ["crds", "member"] {
        server.apply_base(base).unwrap();
    }
    let member = |id: &str, pods: &str| {
        format!(
            "{{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: {{ name: {id}, namespace: linkspan-system }}, \
             spec: {{ clusterID: {id}, clusterUID: x, podCIDRs: [{pods}], version: 0.1.0 }} }}\n---\n"
        )
    };
    let property = "{ apiVersion: about.k8s.io/v1alpha1, kind: ClusterProperty, metadata: { name: cluster.clusterset.k8s.io \
                    }, spec: { value: paris } }\n---\n";
    let gateway = format!(
        "{{ apiVersion: linkspan.dev/v1alpha1, kind: GatewayNode, metadata: {{ name: n1, namespace: linkspan-system }}, \
         spec: {{ publicKey: \"{KEY}\", lanes: 2, endpoints: [\"192.0.2.1:51820\"] }} }}\n---\n"
    );
    let export = "{ apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceExport, metadata: { name: web, namespace: default } }";
    let (paris, berlin) = (member("paris", "10.42.0.0/16"), member("berlin", "10.52.0.0/16"));
    let objects = [&paris, &berlin, property, &gateway, export].concat();
    apply_soon(&server, &objects);
    let status = "{\"status\":{\"active\":true,\"summary\":\"1/1 up\",\"peers\":[{\"cluster\":\"berlin\",\"state\":\"Up\",\
                  \"rttMicroseconds\":21000,\"mtu\":1420,\"rxBytes\":4096,\"txBytes\":1}]}}";
    let patch =
        ["patch", "gatewaynode", "n1", "-n", "linkspan-system", "--subresource=status", "--type=merge", "-p", status];
    kubectl(&server, &patch);
    let lease = "{ apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: { name: linkspan-gateway, namespace: linkspan-system }, \
                 spec: { holderIdentity: n1 } }";
    server.apply(lease).unwrap();
    server
});

/// A kubeconfig of somebody with one role in the whole cluster, or none.
fn person(name: &str, role: Option<&str>) -> String {
    if let Some(role) = role {
        kubectl(
            &JOINED,
            &["create", "clusterrolebinding", name, &format!("--clusterrole={role}"), &format!("--user={name}")],
        );
    }
    kubeconfig(&[("paris", &JOINED.kubeconfig_of(name, None).unwrap())]).display().to_string()
}

#[test]
fn a_viewer_sees_everything_and_no_secret() {
    for (name, role) in [("ada", "linkspan-viewer"), ("bob", "view")] {
        let file = person(name, Some(role));
        // kube-controller-manager adds up roles some time after they were written.
        let shown = wait::retry(PATIENCE, || {
            let shown = linkspan(["show", "-o", "json", "--kubeconfig", &file]);
            anyhow::ensure!(shown.code == Some(0), "{}", shown.error);
            Ok(shown.out)
        });
        let shown: Value = serde_json::from_str(&shown.unwrap()).unwrap();
        let members: Vec<&str> =
            shown["members"].as_array().unwrap().iter().map(|row| row["cluster"].as_str().unwrap()).collect();
        assert_eq!(members, ["berlin", "paris"]);
        assert_eq!((&shown["members"][0]["own"], &shown["members"][1]["own"]), (&false.into(), &true.into()));
        assert_eq!(shown["connections"][0]["rttMilliseconds"], 21.0);
        assert_eq!(shown["exports"][0]["name"], "web");
        let versions = shown["versions"].as_array().unwrap();
        assert!(
            versions.iter().any(|row| row["component"] == "linkspan-node" && row["version"] == "0.1.0"),
            "{versions:?}"
        );
        diagnosed(&file);
        let user = format!("--as={name}");
        let denied = JOINED.kubectl(["get", "secrets", "-n", "linkspan-system", &user]).unwrap().done().unwrap_err();
        assert!(denied.to_string().contains("cannot list resource \"secrets\""), "{denied}");
    }
}

/// A diagnosis of what API servers tell: nothing that it needs is missing but the roles of Linkspan, which are no viewer's.
/// No controller runs here that would say of the broker whether it answers.
fn diagnosed(file: &str) {
    let ended = linkspan(["diagnose", "--no-nodes", "-o", "json", "--kubeconfig", file]);
    let findings: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
    let unseen = findings.iter().filter(|finding| finding["reason"] == "Unseen" && finding["check"] != "broker");
    let unseen: Vec<&str> = unseen.map(|finding| finding["evidence"].as_str().unwrap()).collect();
    assert!(unseen.iter().all(|why| why.contains("list clusterroles")), "{unseen:#?}");
    // The Lease names n1, where no pod runs, as every viewer sees.
    let gateway = findings.iter().find(|finding| finding["reason"] == "GatewayPodDead");
    assert_eq!(gateway.unwrap()["object"], "node/n1");
}

#[test]
fn who_may_see_nothing_is_told_what_is_missing() {
    let said = linkspan(["show", "--kubeconfig", &person("eve", None)]).failed();
    for right in ["list members.linkspan.dev", "list gatewaynodes.linkspan.dev", "list daemonsets.apps"] {
        assert!(said.contains(&format!("missing permission: {right} in namespace linkspan-system")), "{said}");
    }
    assert!(
        said.contains("missing permission: list serviceexports.multicluster.x-k8s.io in the whole cluster"),
        "{said}"
    );
    let said = linkspan(["show", "exports", "-n", "shop", "--kubeconfig", &person("eve", None)]).failed();
    assert!(said.contains("serviceexports.multicluster.x-k8s.io in namespace shop"), "{said}");
}

#[test]
fn the_others_are_shown_although_one_is_away_and_one_has_no_linkspan() {
    let (mut away, bare) = (ApiServer::start().unwrap(), ApiServer::start().unwrap());
    away.stop().unwrap();
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("away", away.kubeconfig()), ("bare", bare.kubeconfig())]);
    let shown = linkspan(["show", "connections", "--all-contexts", "--kubeconfig", file.to_str().unwrap()]);
    assert_eq!(shown.code, Some(1));
    let rows: Vec<Vec<&str>> = shown.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{}", shown.out);
    assert_eq!(rows[1][..5], ["paris", "n1", "berlin", "up", "21ms"]);
    assert!(shown.error.contains("bare: Linkspan is not in this cluster"), "{}", shown.error);
    assert!(
        shown.error.contains("away: failed to list GatewayNodes: ") && shown.error.contains("refused"),
        "{}",
        shown.error
    );
}

#[test]
fn nothing_found_is_said_on_standard_error() {
    let shown = linkspan(["show", "exports", "-n", "empty", "--kubeconfig", &admin()]);
    assert_eq!((shown.code, shown.out.as_str()), (Some(0), ""));
    assert_eq!(shown.error, "No resources found in empty namespace.\n");
}

/// A kubeconfig of the administrator.
fn admin() -> String {
    kubeconfig(&[("paris", JOINED.kubeconfig())]).display().to_string()
}

#[test]
fn what_is_watched_ends_with_its_reader_and_has_no_errors_in_it() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Command, Stdio};
    let mut away = ApiServer::start().unwrap();
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("away", away.kubeconfig())]);
    away.stop().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.args(["show", "members", "-w", "-o", "name", "--all-contexts", "--kubeconfig"]).arg(file);
    command.env_remove("KUBECONFIG").env_remove("HOME").stdin(Stdio::null());
    let mut watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(watching.stdout.take().unwrap());
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        out.read_line(line).unwrap();
    }
    assert_eq!(lines, ["member/berlin\n", "member/paris\n"]);
    // As `head -2` ends.
    drop(out);
    let ended = wait::retry(PATIENCE, || {
        anyhow::ensure!(watching.try_wait()?.is_some(), "it still asks");
        Ok(())
    });
    let _ = watching.kill();
    ended.unwrap();
    assert!(watching.wait().unwrap().success());
    let mut told = String::new();
    watching.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("away: failed to list Members: "), "{told}");
}
