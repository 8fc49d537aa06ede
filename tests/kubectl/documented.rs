//! Commands of README and docs, as they are written there: on API servers without nodes, and where programs are put.

use std::path::Path;

use testbed::{ApiServer, Port};

use crate::documentation::list::Test;
use crate::documentation::{Shell, pages};
use crate::{apply_soon, kubeconfig, kubectl};

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A kind of others that takes anything, and an object of it.
fn kind(server: &ApiServer, plural: &str, kind: &str, group: &str, version: &str) {
    let singular = kind.to_lowercase();
    server
        .apply(&format!(
            "{{ apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{ name: {plural}.{group} }}, \
             spec: {{ group: {group}, scope: Namespaced, names: {{ plural: {plural}, singular: {singular}, kind: {kind} }}, \
             versions: [{{ name: {version}, served: true, storage: true, schema: {{ openAPIV3Schema: {{ type: object, \
             x-kubernetes-preserve-unknown-fields: true }} }} }}] }} }}"
        ))
        .unwrap();
    let established = ["wait", "crd", &format!("{plural}.{group}"), "--for=condition=Established", "--timeout=300s"];
    kubectl(server, &established);
}

#[test]
fn programs_are_installed_as_the_readme_says() {
    let shell = Shell::new();
    let local = shell.folder().join("local");
    std::fs::create_dir_all(local.join("bin")).unwrap();
    let path = format!("{}:/usr/bin:/bin", local.join("bin").display());
    let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/kubectl");
    std::os::unix::fs::symlink(kubectl, local.join("bin/kubectl")).unwrap();
    // Only what was installed is found.
    let shell = shell.with("LOCAL", local.display().to_string()).with("PATH", path);
    shell.run_all(Test::Plugin).unwrap();
    let said =
        shell.command("kubectl linkspan version --client && kubectl __complete linkspan show conn").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "linkspan 0.1.0\nconnections\n:4\n", "{said:?}");
}

#[test]
fn documented_commands_do_on_api_servers_what_pages_say() {
    let [paris, broker] = [(); 2].map(|()| ApiServer::start_with_controllers().unwrap());
    kubectl(&paris, &["create", "service", "clusterip", "web", "--tcp=80"]);
    for server in [&paris, &broker] {
        kubectl(server, &["create", "namespace", "shop"]);
        kubectl(server, &["create", "service", "clusterip", "web", "--tcp=80", "-n", "shop"]);
    }
    // Fleet's own clusters, which it would have made.
    kubectl(&paris, &["create", "namespace", "fleet-default"]);
    kind(&paris, "clusters", "Cluster", "fleet.cattle.io", "v1alpha1");
    let cluster = "{ apiVersion: fleet.cattle.io/v1alpha1, kind: Cluster, metadata: { name: c-m-x7k2, \
                   namespace: fleet-default } }";
    apply_soon(&paris, cluster);
    // A Member that somebody else's controller has written.
    for folder in ["crds", "broker"] {
        kubectl(&broker, &["apply", "--server-side", "-k", &format!("{}/deploy/{folder}", env!("CARGO_MANIFEST_DIR"))]);
    }
    let member = "{ apiVersion: linkspan.dev/v1alpha1, kind: Member, metadata: { name: oslo, \
                  namespace: linkspan-broker, labels: { linkspan.dev/cluster: oslo } }, \
                  spec: { clusterID: oslo, clusterUID: x } }";
    apply_soon(&broker, member);
    let file = path(&kubeconfig(&[("paris", paris.kubeconfig()), ("broker", broker.kubeconfig())]));
    let (port, shell) =
        (Port::reserve().unwrap(), Shell::new().with("KUBECONFIG", file).with("BROKER_URL", broker.url()));
    let shell = shell.with("PORT", port.number.to_string());
    shell.run_all(Test::Servers).unwrap();
    let policies = pages::manifests("NetworkPolicy");
    assert_ne!(policies, [], "no page has an example any more");
    for (page, manifest) in policies {
        paris.apply(&manifest).unwrap_or_else(|error| panic!("{page}: {error:#}"));
    }
}

#[test]
fn charts_are_installed_and_upgraded_as_pages_say() {
    let server = ApiServer::start_with_controllers().unwrap();
    // Those of the Prometheus Operator.
    kind(&server, "podmonitors", "PodMonitor", "monitoring.coreos.com", "v1");
    kind(&server, "prometheusrules", "PrometheusRule", "monitoring.coreos.com", "v1");
    // Those that pods of builds before would have found.
    kubectl(&server, &["create", "namespace", "linkspan-system"]);
    for name in ["linkspan-gateway", "linkspan-controller"] {
        let lease = format!(
            "{{ apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{ name: {name}, namespace: linkspan-system }} }}"
        );
        server.apply(&lease).unwrap();
    }
    let file = path(&kubeconfig(&[("edge", server.kubeconfig())]));
    Shell::new().with("KUBECONFIG", file).with("URL", server.url()).run_all(Test::Helm).unwrap();
    let config =
        ["get", "configmap", "linkspan", "-n", "linkspan-system", "-o", "jsonpath={.data.LINKSPAN_CLUSTER_ID}"];
    assert_eq!(kubectl(&server, &config), "paris", "an upgrade keeps the values");
}
