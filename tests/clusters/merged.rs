//! A service that both clusters export, with ports of their own, while pods of both have connections to it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::wait;

use crate::joined::{CLUSTERS, Joined, eventually};
use crate::pods;
use crate::policies::answers;
use crate::restarts::under_load;

const SERVICE: &str = "merged";
const NAME: &str = "merged.default.svc.clusterset.local";
/// Connections that are made to see who answers: by chance a pod of four is left out once in 25 000 times.
const CONNECTIONS: usize = 40;
/// An export is as old as the second in which it was made, and of two of one second paris' is the younger one.
const SECOND: Duration = Duration::from_millis(1100);
/// How long pods call after a change that must not disturb them.
const WATCHED: Duration = Duration::from_secs(2);

/// paris exports first, by port 8080 of its pods, berlin by port 80 of its own. No call fails and no connection ends: not
/// when berlin comes with another port, and not when all is computed anew without paris.
pub fn rows_40_51_and_52_who_comes_and_goes_disturbs_no_connection(joined: &mut Joined) -> Result<()> {
    let joined = &*joined;
    serve(joined, "paris", 80, 8080)?;
    joined.linkspan("paris", &["export", SERVICE, "-n", "default"])?.done()?;
    is_answered_by(joined, &["paris"])?;
    wait::pause(SECOND);
    under_load(joined, NAME, || {
        serve(joined, "berlin", 81, 80)?;
        joined.linkspan("berlin", &["export", SERVICE, "-n", "default"])?.done()?;
        conflict_is(joined, "PortConflict")?;
        wait::pause(WATCHED);
        is_answered_by(joined, &["paris"])?;
        serve(joined, "berlin", 80, 80)?;
        conflict_is(joined, "NoConflicts")?;
        is_answered_by(joined, &CLUSTERS)?;
        joined.linkspan("paris", &["unexport", SERVICE, "-n", "default"])?.done()?;
        is_answered_by(joined, &["berlin"])?;
        wait::pause(WATCHED);
        Ok(())
    })?;
    joined.linkspan("berlin", &["unexport", SERVICE, "-n", "default"])?.done()?;
    CLUSTERS.iter().try_for_each(|name| joined.cluster(name)?.kubectl(["delete", "service", SERVICE])?.done())
}

fn serve(joined: &Joined, cluster: &str, port: u16, of_pods: u16) -> Result<()> {
    joined.cluster(cluster)?.apply(&format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: {SERVICE}, namespace: default }}, \
         spec: {{ selector: {{ app: web }}, ports: [{{ name: http, port: {port}, targetPort: {of_pods} }}] }} }}"
    ))
}

/// Waits until both exports say so.
fn conflict_is(joined: &Joined, reason: &str) -> Result<()> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Conflict\")].reason}";
    for name in CLUSTERS {
        eventually(|| {
            let said = joined.cluster(name)?.kubectl(["get", "serviceexport", SERVICE, "-o", path])?.stdout()?;
            ensure!(said == reason, "the export of {name} says {said:?}, not {reason}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until pods in each cluster are answered by all pods of these clusters and no others, each at the port that its own
/// cluster has said.
fn is_answered_by(joined: &Joined, exporters: &[&str]) -> Result<()> {
    let mut expected = BTreeSet::new();
    for exporter in exporters {
        let port = if *exporter == "paris" { pods::AT_8080 } else { "" };
        let nodes = &joined.cluster(exporter)?.nodes;
        expected.extend(nodes.iter().map(|node| format!("{}{port}", pods::name(&node.name))));
    }
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        eventually(|| {
            let answers = answers(cluster, &format!("{name}-1"), NAME, CONNECTIONS)?;
            let all = answers.values().sum::<usize>() == CONNECTIONS;
            ensure!(all && answers.keys().eq(&expected), "in {name} {answers:?} answer, not {expected:?}");
            Ok(())
        })?;
    }
    Ok(())
}
