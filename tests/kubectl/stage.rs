//! What `verify` makes in clusters and takes away again. There are no nodes on which its pods could run, so that it waits
//! for them until it is ended; `tests/clusters` has the rest.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testbed::{ApiServer, wait};

use crate::silent::config;
use crate::{PATIENCE, apply_soon, kubeconfig, kubectl, linkspan};

/// `linkspan verify` under way.
struct Verify(Child);

impl Verify {
    fn start(kubeconfig: &str, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
        command.args(["verify", "--all-contexts", "--kubeconfig", kubeconfig]).args(more);
        command.env_remove("KUBECONFIG").env_remove("HOME").stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// What it says in the end, which comes soon.
    fn told(mut self) -> String {
        let ended = wait::retry(PATIENCE, || {
            anyhow::ensure!(self.0.try_wait()?.is_some(), "it still runs");
            Ok(())
        });
        ended.unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(2), "it was ended");
        let mut told = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        told
    }
}

impl Drop for Verify {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn member(id: &str) -> ApiServer {
    let server = ApiServer::start_with_controllers().unwrap();
    for base in ["crds", "member"] {
        server.apply_base(base).unwrap();
    }
    let property = format!(
        "{{ apiVersion: about.k8s.io/v1alpha1, kind: ClusterProperty, metadata: {{ name: cluster.clusterset.k8s.io }}, \
         spec: {{ value: {id} }} }}"
    );
    apply_soon(&server, &property);
    server
}

/// The namespace of test pods; null where there is none.
fn space(server: &ApiServer) -> Value {
    let args = ["get", "namespace", "linkspan-verify", "-o", "json", "--ignore-not-found"];
    let said = kubectl(server, &args);
    if said.is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() }
}

/// Waits until the test pods of a new run are made.
fn made(server: &ApiServer, before: &str) -> String {
    let found = wait::retry(PATIENCE, || {
        let run = space(server)["metadata"]["annotations"]["linkspan.dev/verify-run"].clone();
        let run = run.as_str().filter(|run| *run != before).map(str::to_owned);
        let sets = kubectl(server, &["get", "statefulsets", "-n", "linkspan-verify", "-o", "name"]);
        anyhow::ensure!(sets.contains("probe"), "no test pods yet");
        run.ok_or_else(|| anyhow::anyhow!("no run yet"))
    });
    found.unwrap()
}

#[test]
fn a_run_takes_away_what_is_its_own_and_nothing_else() {
    let (paris, berlin) = (member("paris"), member("berlin"));
    let file = kubeconfig(&[("paris", paris.kubeconfig()), ("berlin", berlin.kubeconfig())]).display().to_string();

    // Of a run that has not ended, as far as anybody knows.
    berlin
        .apply(
            "{ apiVersion: v1, kind: Namespace, metadata: { name: linkspan-verify, annotations: { \
             linkspan.dev/verify-run: seven }, labels: { app.kubernetes.io/part-of: linkspan-verify } } }",
        )
        .unwrap();
    let refused = linkspan(["verify", "--all-contexts", "--kubeconfig", &file]);
    let said = refused.error;
    assert_eq!(refused.code, Some(2), "nothing was tried: {said}");
    assert!(said.contains("berlin has test pods of another run since ") && said.contains("(ID seven)"), "{said}");
    assert!(space(&berlin)["metadata"]["deletionTimestamp"].is_null() && !space(&berlin).is_null());
    assert!(space(&paris).is_null());

    // Once it is said to be left, it is taken over, and goes with what was made; also by `kill`.
    let kept = ["annotate", "namespace", "linkspan-verify", "linkspan.dev/verify-kept=true"];
    kubectl(&berlin, &kept);
    // A context that is of no use stops nobody.
    let away = config(&json!({ "server": "https://127.0.0.1:1" }));
    let three = [("paris", paris.kubeconfig()), ("away", away.as_str()), ("berlin", berlin.kubeconfig())];
    let run = Verify::start(&kubeconfig(&three).display().to_string(), &[]);
    assert_eq!(made(&paris, ""), made(&berlin, "seven"));
    run.signal("TERM");
    let told = run.told();
    assert!(told.contains("ended by SIGTERM; and left out: failed to ask away which cluster it is: "), "{told}");
    assert!(space(&paris).is_null() && space(&berlin).is_null());

    // What is kept says so.
    let run = Verify::start(&file, &["--keep"]);
    let first = made(&paris, "");
    made(&berlin, "");
    run.signal("HUP");
    assert!(run.told().contains("ended by SIGHUP"));
    for server in [&paris, &berlin] {
        assert_eq!(space(server)["metadata"]["annotations"]["linkspan.dev/verify-kept"], "true");
    }

    // Who does not want to wait for the end is told what is left.
    let run = Verify::start(&file, &[]);
    made(&paris, &first);
    made(&berlin, &first);
    let stay = ["--type=merge", "-p", "{\"metadata\":{\"finalizers\":[\"example.org/stay\"]}}"];
    for server in [&paris, &berlin] {
        kubectl(server, &[&["patch", "namespace", "linkspan-verify"], &stay[..]].concat());
    }
    run.signal("INT");
    let going = wait::retry(PATIENCE, || {
        anyhow::ensure!(!space(&paris)["metadata"]["deletionTimestamp"].is_null(), "not yet");
        Ok(())
    });
    going.unwrap();
    run.signal("INT");
    let told = run.told();
    let left = "SIGINT while test pods were being removed: namespace linkspan-verify may be left in paris, berlin";
    assert!(told.contains("ended by SIGINT") && told.contains(left), "{told}");
}
