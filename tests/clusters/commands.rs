//! `kubectl linkspan` as a person runs it against joined clusters.

use anyhow::{Context as _, Error, Result, ensure};
use serde_json::Value;
use testbed::Run;

use crate::documentation::list::Test;
use crate::joined::{Joined, eventually};
use crate::{documented, pods, sources};

/// What `verify` proves for each ordered pair of clusters with two pods each: from each pod to both pods by address, to
/// one with large packets and by name, and to the service by name over TCP and UDP.
const PROOFS_OF_A_PAIR: usize = 12;
/// How many there are more where pods have an IPv6 address too: from each to both.
const PROOFS_OF_IPV6: usize = 4;
/// How often is tried what may take too long on a busy machine, and what `verify` tells of that.
const TRIES: usize = 3;
const TOO_LONG: [&str; 2] = ["more than 5000 ms", "did not answer within 40 s"];

/// `linkspan ARGS` on all clusters at once.
pub fn everywhere(joined: &Joined, args: &[&str]) -> Run {
    everywhere_with(joined, args, &[])
}

/// `linkspan ARGS -- COMMAND` on all clusters at once.
pub fn everywhere_with(joined: &Joined, args: &[&str], command: &[&str]) -> Run {
    let files = joined.bed.clusters.iter().map(|cluster| cluster.kubeconfig_path().display().to_string());
    let files = files.flat_map(|file| ["--kubeconfig".to_owned(), file]);
    let end = (!command.is_empty()).then_some("--");
    let last = end.iter().chain(command).map(|&arg| arg.to_owned());
    Run::new(env!("CARGO_BIN_EXE_linkspan"), args.iter().map(|&arg| arg.to_owned()).chain(files).chain(last))
}

fn array(text: &str) -> Result<Vec<Value>> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
    value.as_array().cloned().with_context(|| format!("no list: {text}"))
}

/// All proofs between all clusters, and then no trace of the pods.
pub fn verify_proves_it(joined: &mut Joined) -> Result<()> {
    proofs(joined, Test::ThreeVerify, 0)
}

/// The same, and the gateway of each cluster is restarted.
pub fn verify_restarts_gateways(joined: &mut Joined) -> Result<()> {
    proofs(joined, Test::TwoVerify, joined.bed.clusters.len())
}

fn proofs(joined: &Joined, test: Test, more: usize) -> Result<()> {
    let outcomes = array(&proven(joined, test)?)?;
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
        eventually(|| {
            ensure!(there.stdout()?.is_empty(), "test pods are left in {}", cluster.spec.name);
            Ok(())
        })?;
    }
    Ok(())
}

/// What `verify` prints; where nothing fails but by taking too long, of another try.
fn proven(joined: &Joined, test: Test) -> Result<String> {
    for _ in 1..TRIES {
        let done = documented::run(joined, test);
        let late = done.as_ref().err().map(all_late).unwrap_or_default();
        if late.is_empty() {
            return done;
        }
        eprintln!("clusters: verify is tried again: {late:?}");
    }
    documented::run(joined, test)
}

/// What is told of what takes too long; nothing where anything else is wrong, too.
fn all_late(error: &Error) -> Vec<String> {
    let told = error.to_string();
    let is_late = |line: &&str| TOO_LONG.iter().any(|late| line.contains(late));
    let late: Vec<String> = told.lines().filter(is_late).map(str::to_owned).collect();
    let failed = told.matches("\"ok\": false").count();
    if late.len() == failed && told.trim_end().ends_with("looks for the reason") { late } else { Vec::new() }
}

/// On a busy machine an answer may come too late to be one, but not each time.
fn tried(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 1..TRIES {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("clusters: it is tried again: {error:#}"),
        }
    }
    attempt()
}

/// Figures of both directions.
pub fn bench_measures(joined: &mut Joined) -> Result<()> {
    tried(|| {
        let figures = array(&documented::run(joined, Test::TwoBench)?)?;
        ensure!(figures.len() == 2, "{figures:#?}");
        for one in figures {
            ensure!(one["tcpMbps"].as_f64().is_some_and(|rate| rate > 1.0), "{one}");
            ensure!(one["roundTrip"]["count"] == 2000 && one["name"]["count"] == 200, "{one}");
        }
        Ok(())
    })
}

/// Echo requests of a trace, as many as are sent without being asked for.
const ECHOES: u64 = 20;

/// A worker's echo requests, and what a pod asks of a service by its name, are counted at every hop; no counter is left.
pub fn trace_counts_every_hop(joined: &mut Joined) -> Result<()> {
    let (near, far) = (worker(joined, "paris")?, worker(joined, "berlin")?);
    let (from, to) = (format!("node/{near}"), format!("berlin/{}", pods::name(&far)));
    tried(|| {
        let echoes = array(&everywhere(joined, &["trace", &from, "to", &to, "-o", "json"]).stdout()?)?;
        ensure!(echoes.len() == 1 && echoes[0]["sent"] == "20 echo requests, 20 answered", "{echoes:#?}");
        // Out of the worker and over both gateways to the other worker's pod: 7 places. Back from there: 7, too.
        ensure!(packets(&echoes[0])? == [ECHOES; 14], "{echoes:#?}");
        Ok(())
    })?;

    let name = "web.default.svc.clusterset.local";
    let url = format!("http://{name}/");
    let from = format!("paris/pod/{}", pods::name(&near));
    let words = ["trace", &from, "to", name, "-o", "json"];
    let asks = everywhere_with(joined, &words, &["curl", "-sS", "--fail", "--max-time", "5", &url]);
    tried(|| {
        let asked = array(&asks.stdout()?)?;
        ensure!(asked.len() == 1 && asked[0]["loss"].is_null(), "one endpoint is asked, and answers: {asked:#?}");
        ensure!(packets(&asked[0])?.iter().all(|packets| *packets > 0), "{asked:#?}");
        Ok(())
    })?;

    // Each endpoint is called from the client's address of its family.
    let name = format!("{}.default.svc.clusterset.local", sources::BOTH);
    for family in ["-4", "-6"] {
        let words = ["trace", &from, "to", &name, "-o", "json"];
        let curl = ["curl", family, "-sS", "--fail", "--max-time", "5", &format!("http://{name}/")];
        tried(|| {
            let asked = array(&everywhere_with(joined, &words, &curl).stdout()?)?;
            ensure!(asked.len() == 1 && asked[0]["loss"].is_null(), "{family}: {asked:#?}");
            ensure!(packets(&asked[0])?.iter().all(|packets| *packets > 0), "{family}: {asked:#?}");
            Ok(())
        })?;
    }

    for node in joined.bed.clusters.iter().flat_map(|cluster| &cluster.nodes) {
        eventually(|| {
            let tables = node.inside(Run::new("nft", ["list", "tables"]))?.stdout()?;
            ensure!(!tables.contains("linkspan-count"), "{} still counts: {tables}", node.name);
            Ok(())
        })?;
    }
    Ok(())
}

/// A node that is not the gateway.
fn worker(joined: &Joined, cluster: &str) -> Result<String> {
    let gateway = joined.gateway(cluster)?;
    let worker = joined.cluster(cluster)?.nodes.iter().find(|node| node.name != gateway);
    worker.map(|node| node.name.clone()).context("all nodes are the gateway")
}

fn packets(trace: &Value) -> Result<Vec<u64>> {
    let spots = trace["spots"].as_array().context("no spots")?;
    spots.iter().map(|spot| spot["packets"].as_u64().with_context(|| format!("not counted: {spot}"))).collect()
}
