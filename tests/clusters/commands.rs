//! `kubectl linkspan` as a person runs it against joined clusters.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::Run;

use crate::joined::Joined;

/// What `verify` proves for each ordered pair of clusters with two pods each: from each pod to both pods by address, to
/// one with large packets and by name, and to the service by name over TCP and UDP.
const PROOFS_OF_A_PAIR: usize = 12;
/// How many there are more where pods have an IPv6 address too: from each to both.
const PROOFS_OF_IPV6: usize = 4;

/// `linkspan ARGS` on all clusters at once.
pub fn everywhere(joined: &Joined, args: &[&str]) -> Run {
    let files = joined.bed.clusters.iter().map(|cluster| cluster.kubeconfig_path().display().to_string());
    let files = files.flat_map(|file| ["--kubeconfig".to_owned(), file]);
    Run::new(env!("CARGO_BIN_EXE_linkspan"), args.iter().map(|&arg| arg.to_owned()).chain(files))
}

fn array(text: &str) -> Result<Vec<Value>> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
    value.as_array().cloned().with_context(|| format!("no list: {text}"))
}

/// All proofs between all clusters, and then no trace of the pods.
pub fn verify_proves_it(joined: &mut Joined) -> Result<()> {
    proofs(joined, &["verify", "-o", "json"], 0)
}

/// The same, and the gateway of each cluster is restarted.
pub fn verify_restarts_gateways(joined: &mut Joined) -> Result<()> {
    proofs(joined, &["verify", "--failover", "-o", "json"], joined.bed.clusters.len())
}

fn proofs(joined: &Joined, args: &[&str], more: usize) -> Result<()> {
    let outcomes = array(&everywhere(joined, args).stdout()?)?;
    for outcome in &outcomes {
        ensure!(outcome["ok"] == true, "{outcome}");
        if outcome["proof"] == "failover" {
            eprintln!("clusters: {}", outcome["detail"]);
        }
    }
    let clusters = joined.bed.clusters.len();
    let dual = joined.bed.clusters.iter().all(|cluster| cluster.spec.ipv6.is_some());
    let of_a_pair = PROOFS_OF_A_PAIR + if dual { PROOFS_OF_IPV6 } else { 0 };
    let expected = clusters * (clusters - 1) * of_a_pair + more;
    ensure!(outcomes.len() == expected, "{} proofs, not {expected}: {outcomes:#?}", outcomes.len());
    for cluster in &joined.bed.clusters {
        let there = cluster.kubectl(["get", "namespace", "linkspan-verify", "--ignore-not-found", "-o", "name"])?;
        ensure!(there.stdout()?.is_empty(), "test pods are left in {}", cluster.spec.name);
    }
    Ok(())
}

/// Figures of both directions.
pub fn bench_measures(joined: &mut Joined) -> Result<()> {
    let figures = array(&everywhere(joined, &["bench", "--seconds", "2", "-o", "json"]).stdout()?)?;
    ensure!(figures.len() == 2, "{figures:#?}");
    for one in figures {
        ensure!(one["tcpMbps"].as_f64().is_some_and(|rate| rate > 1.0), "{one}");
        ensure!(one["roundTrip"]["count"] == 2000 && one["name"]["count"] == 200, "{one}");
    }
    Ok(())
}
