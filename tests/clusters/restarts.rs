//! Controllers that end, all at once, while there is traffic.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Cluster, wait};

use crate::joined::{CLUSTERS, Joined, SYSTEM, eventually};
use crate::pods;

/// How often all controllers are deleted.
const ROUNDS: usize = 3;
/// A service that nobody touches.
pub const STEADY: &str = "web.default.svc.clusterset.local";
const CONTROLLERS: &str = "app.kubernetes.io/component=controller";

/// Both replicas of both clusters, again and again, while berlin's exports change and pods of both clusters have connections
/// by name.
pub fn all_controllers_restart_under_load(joined: &mut Joined) -> Result<()> {
    let joined = &*joined;
    let addresses = || CLUSTERS.iter().map(|name| address(joined.cluster(name)?)).collect::<Result<Vec<_>>>();
    let before = addresses()?;
    under_load(joined, STEADY, || change_and_restart(joined))?;
    ensure!(addresses()? == before, "the clusterset IPs were {before:?}");
    let last = ROUNDS - 1;
    for kind in ["serviceexport", "service"] {
        joined.cluster("berlin")?.kubectl(["delete", kind, &changing(last)])?.done()?;
    }
    CLUSTERS.iter().try_for_each(|name| are_imported(joined.cluster(name)?, &[]))
}

/// In each round one export comes and the one before goes, while nobody is there to see to it.
fn change_and_restart(joined: &Joined) -> Result<()> {
    let berlin = joined.cluster("berlin")?;
    for round in 0..ROUNDS {
        let mut before = Vec::new();
        for name in CLUSTERS {
            before.push(controllers(joined.cluster(name)?)?);
        }
        // Without force: kubelet 1.34 panics when a pod goes that it has not started yet.
        let end = ["delete", "pods", "-n", SYSTEM, "-l", CONTROLLERS, "--now", "--wait=false"];
        CLUSTERS.iter().try_for_each(|name| joined.cluster(name)?.kubectl(end)?.done())?;
        let name = changing(round);
        berlin.apply(&format!(
            "{{ apiVersion: v1, kind: Service, metadata: {{ name: {name}, namespace: default }}, \
             spec: {{ selector: {{ app: web }}, ports: [{{ name: http, port: 80 }}] }} }}\n---\n\
             {{ apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceExport, \
             metadata: {{ name: {name}, namespace: default }} }}"
        ))?;
        if let Some(gone) = round.checked_sub(1) {
            berlin.kubectl(["delete", "serviceexport,service", &changing(gone)])?.done()?;
        }
        for (name, before) in CLUSTERS.iter().zip(before) {
            are_replaced(joined.cluster(name)?, &before)?;
        }
    }
    let last = changing(ROUNDS - 1);
    for name in CLUSTERS {
        are_imported(joined.cluster(name)?, &[&last])?;
        let url = format!("http://{last}.default.svc.clusterset.local/");
        eventually(|| pods::read(joined.cluster(name)?, &format!("{name}-1"), &url))?;
    }
    Ok(())
}

fn changing(round: usize) -> String {
    format!("changing-{round}")
}

/// Waits until these and no others of the services that change are imported.
fn are_imported(cluster: &Cluster, wanted: &[&str]) -> Result<()> {
    let jsonpath = "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}";
    eventually(|| {
        let said = cluster.kubectl(["get", "serviceimports", "-o", jsonpath])?.stdout()?;
        let found: Vec<_> = said.lines().filter(|name| name.starts_with("changing-")).collect();
        ensure!(found == wanted, "{} imports {found:?}, not {wanted:?}", cluster.spec.name);
        Ok(())
    })
}

/// Waits until two others have come for these, and one of them leads.
fn are_replaced(cluster: &Cluster, before: &BTreeSet<String>) -> Result<()> {
    eventually(|| {
        let now = controllers(cluster)?;
        ensure!(now.len() == 2 && now.is_disjoint(before), "{now:?} have come for {before:?}");
        Ok(())
    })?;
    let rollout = ["rollout", "status", "deployment/linkspan-controller", "-n", SYSTEM, "--timeout=300s"];
    cluster.kubectl(rollout)?.done()
}

fn controllers(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let said = cluster.kubectl(["get", "pods", "-n", SYSTEM, "-l", CONTROLLERS, "-o", "name"])?.stdout()?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn address(cluster: &Cluster) -> Result<String> {
    cluster.kubectl(["get", "serviceimport", "web", "-o", "jsonpath={.spec.ips[0]}"])?.stdout()
}

/// Calls a service by its name and asks for that name, again and again, beside one connection that lasts; tells what fails,
/// and at last how often it has called, how many lines came by the one that lasts, and whether that is still there.
const LOAD: &str = r#"
curl -sSN "http://$NAME/cgi-bin/slow" > /tmp/slow 2>&1 &
calls=0
until [ -e /tmp/stop ] || [ $calls = 20000 ]; do
  calls=$((calls + 1))
  curl -sS --fail --max-time 30 "http://$NAME/" 2>&1 > /dev/null | sed "s/^/call $calls: /"
  dig +short +time=5 +tries=3 "$NAME" A | grep -q "^[0-9]" || echo "name $calls: no answer"
  sleep 0.1
done
kill $! && lasts=yes
echo "$calls $(wc -l < /tmp/slow) $lasts"
"#;

/// Does something while a pod of each cluster has connections to a host by its name, none of which may fail.
///
/// # Errors
/// It fails, or a call does, or the connection that lasts has ended.
pub fn under_load(joined: &Joined, host: &str, something: impl FnOnce() -> Result<()>) -> Result<()> {
    let script = &format!("NAME={host}\n{LOAD}");
    let run = &|name: &str, script: &str| {
        joined.cluster(name)?.exec("default", &pods::name(&format!("{name}-1")), &["/bin/sh", "-c", script])
    };
    std::thread::scope(|scope| {
        CLUSTERS.iter().try_for_each(|name| run(name, "rm -f /tmp/stop /tmp/slow").map(drop))?;
        let loads = CLUSTERS.map(|name| scope.spawn(move || run(name, script)));
        let begun = CLUSTERS.iter().try_for_each(|name| eventually(|| run(name, "test -s /tmp/slow")).map(drop));
        let began = wait::now();
        let done = begun.and_then(|()| something());
        let seconds = began.elapsed().as_secs() as usize;
        // All of them, so that none goes on when another one has failed.
        let stopped = CLUSTERS.map(|name| eventually(|| run(name, "touch /tmp/stop")));
        for (name, load) in CLUSTERS.into_iter().zip(loads) {
            let said = load.join().unwrap()?;
            let lines: Vec<_> = said.lines().collect();
            let [told] = lines[..] else { bail!("calls in {name} failed:\n{said}") };
            let told: Vec<_> = told.split_whitespace().collect();
            let [calls, slow, "yes"] = told[..] else { bail!("{name}: a connection has ended: {told:?}") };
            let (calls, slow) = (calls.parse::<usize>()?, slow.parse::<usize>()?);
            eprintln!("clusters: {calls} calls and {slow} lines in {seconds} s in {name}, and none has failed");
            // How many there are is up to the machine.
            ensure!(calls > ROUNDS && slow > ROUNDS, "{name}: {calls} calls and {slow} lines in {seconds} s");
        }
        stopped.into_iter().try_for_each(|stopped| stopped.map(drop))?;
        done.context("under load")
    })
}
