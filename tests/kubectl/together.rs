//! Two clusters from nothing to joined and back, with their controllers. What nodes would say is written by hand.

use std::process::{Child, Command, Stdio};

use testbed::{ApiServer, wait};

use crate::{PATIENCE, apply_soon, kubeconfig, kubectl, linkspan};

/// A controller outside of its cluster, which ends with this value.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Controller {
    fn start(id: &str, server: &ApiServer, pods: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
        command.args(["controller", "--cluster-id", id, "--name", id]).env("KUBECONFIG", server.kubeconfig_path());
        command.env("LINKSPAN_POD_CIDRS", pods).env("LINKSPAN_LOG", "error").stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

/// A node, the GatewayNode that it writes, and the Lease that it takes.
fn plant_gateway(server: &ApiServer, key: char, address: &str) {
    let key = format!("{}=", key.to_string().repeat(43));
    let objects = format!(
        "{{ apiVersion: v1, kind: Node, metadata: {{ name: n1, labels: {{ linkspan.dev/gateway: \"true\" }} }} }}\n---\n\
         {{ apiVersion: linkspan.dev/v1alpha1, kind: GatewayNode, metadata: {{ name: n1, namespace: linkspan-system }}, \
         spec: {{ publicKey: \"{key}\", lanes: 1, endpoints: [\"{address}:51820\"] }} }}\n---\n\
         {{ apiVersion: coordination.k8s.io/v1, kind: Lease, \
         metadata: {{ name: linkspan-gateway, namespace: linkspan-system }}, spec: {{ holderIdentity: n1 }} }}"
    );
    apply_soon(server, &objects);
}

#[test]
fn three_commands_join_two_clusters_and_one_takes_each_out_again() {
    let start = |services| ApiServer::options().controllers().service_cidrs(services).start().unwrap();
    let (paris, berlin) = (start("10.43.0.0/16"), start("10.53.0.0/16"));
    let file = kubeconfig(&[("paris", paris.kubeconfig()), ("berlin", berlin.kubeconfig())]).display().to_string();
    let run = |arguments: &[&str]| linkspan([arguments, &["--kubeconfig", &file]].concat());
    let url = paris.url();
    let join = |id: &str, seconds: &str| {
        run(&["join", id, "--context", id, "--broker-context", "paris", "--server", &url, "--wait", seconds]).done()
    };

    run(&["deploy-broker"]).done();
    join("paris", "0");
    join("berlin", "0");
    let of_paris = Controller::start("paris", &paris, "10.42.0.0/16");
    let of_berlin = Controller::start("berlin", &berlin, "10.52.0.0/16");
    plant_gateway(&paris, 'A', "192.0.2.1");
    plant_gateway(&berlin, 'E', "192.0.2.2");
    // Once more, as who was impatient: nothing is made anew, and it is waited for.
    for id in ["paris", "berlin"] {
        let said = join(id, "300");
        assert!(said.ends_with(&format!("{id} has joined; `kubectl linkspan show` tells how it stands\n")), "{said}");
        assert!(!said.contains("created"), "{said}");
    }

    let members = || {
        let shown = run(&["show", "members", "--all-contexts", "-o", "json"]).json();
        let rows = shown.as_array().unwrap().clone();
        rows.iter().map(|row| format!("{}/{} {}", row["context"], row["cluster"], row["ready"])).collect::<Vec<_>>()
    };
    let all = [
        "\"paris\"/\"berlin\" true",
        "\"paris\"/\"paris\" true",
        "\"berlin\"/\"berlin\" true",
        "\"berlin\"/\"paris\" true",
    ];
    eventually(|| members() == all, || format!("{:?}", members()));

    kubectl(&berlin, &["create", "service", "clusterip", "web", "--tcp=80"]);
    run(&["export", "web", "--context", "berlin"]).done();
    let imports = || run(&["show", "imports", "--context", "paris"]).done();
    eventually(|| imports().contains("berlin"), imports);
    let row = imports().lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((row[0].as_str(), row[1].as_str(), row[4].as_str()), ("default", "web", "80/TCP"));

    // These controllers are no pods, which end with their Deployment: what they wrote later would stay.
    let leave = |id: &str, controller: Controller| {
        let said = run(&["leave", "--context", id, "--wait", "300"]).done();
        assert!(said.contains("this cluster has left the clusterset\n"), "{said}");
        drop(controller);
    };
    leave("berlin", of_berlin);
    run(&["uninstall", "--cluster", "--crds", "--context", "berlin", "--wait", "300"]).done();
    let left = kubectl(&berlin, &["get", "namespaces,crds,clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!left.contains("linkspan"), "{left}");
    let names = || run(&["show", "members", "--context", "paris", "-o", "name"]).done();
    eventually(|| names() == "member/paris\n", names);
    leave("paris", of_paris);
    let whole = ["uninstall", "--cluster", "--broker", "--crds", "--context", "paris", "--wait", "300"];
    let said = run(&whole).done();
    assert!(said.contains("namespace/linkspan-broker deleted\n"), "{said}");
    let left = kubectl(&paris, &["get", "namespaces,crds,clusterroles,validatingadmissionpolicies", "-o", "name"]);
    assert!(!left.contains("linkspan"), "{left}");
}

/// Waits until it is so, which takes a second on an idle machine.
fn eventually(mut so: impl FnMut() -> bool, told: impl Fn() -> String) {
    let waited = wait::retry(PATIENCE, || {
        anyhow::ensure!(so(), "not yet");
        Ok(())
    });
    assert!(waited.is_ok(), "{}", told());
}
