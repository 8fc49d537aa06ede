//! `kubectl linkspan bench`: what the way between clusters carries, between the test pods of [`stage`].

mod table;

use std::time::Duration;

use serde::Serialize;

use super::contexts::Target;
use super::output::{self, Format, Progress, Screen};
use super::stage::{self, Afterwards, Cluster, Deadline, RunId, Stage};
use crate::echo::client::{Carried, Times};

/// Round trips and names that are measured.
const ROUND_TRIPS: &str = "2000";
const NAMES: &str = "200";
/// How long names are tried again, from the begin on: CoreDNS takes up to two minutes to see that it shall forward.
const NAMES_KNOWN: Duration = Duration::from_secs(120);
/// Longest time of each measurement: round trips around the earth, names that are asked for upstream, and for what begins
/// and ends a throughput.
const ROUND_TRIPS_MAX: Duration = Duration::from_secs(600);
const NAMES_MAX: Duration = Duration::from_secs(60);
const MARGIN: Duration = Duration::from_secs(40);

/// What is measured, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seconds for each throughput.
    pub seconds: u64,
    /// Whether the test pods stay.
    pub afterwards: Afterwards,
    /// How the figures are shown.
    pub output: Format,
}

/// Figures of one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Cluster ID and pod that calls.
    pub from: String,
    /// Node of that pod.
    pub from_node: String,
    /// Cluster ID and pod that answers.
    pub to: String,
    /// One TCP connection, payload, in Mbit/s.
    pub tcp_mbps: Option<f64>,
    /// Round trips of 64 bytes over an open connection, in microseconds.
    pub round_trip: Option<Times>,
    /// Resolution of a name under clusterset.local, as programs in pods resolve it, in microseconds.
    pub name: Option<Times>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Measures, and takes away what it made, also when it is interrupted. `run` is by what its test pods are known.
///
/// # Errors
/// It could not run. Or it did, and something could not be measured or taken away: then it is a
/// [`Shortfall`](stage::Shortfall), and what was measured is printed before.
pub async fn bench(targets: &[Target], run: &RunId, options: Options) -> anyhow::Result<()> {
    let measure = async |stage: &Stage, progress: &Progress| measure(stage, options.seconds, progress).await;
    let done = stage::with(targets, run, options.afterwards, measure).await?;
    output::print(&table::render(&done.outcome, options.output, Screen::of_stdout())?)?;
    let failures: Vec<&str> = done.outcome.iter().flat_map(|one| &one.failures).map(String::as_str).collect();
    let wrong = (!failures.is_empty()).then(|| format!("not all was measured: {}", failures.join("; ")));
    Ok(done.end(wrong)?)
}

/// One direction after the other: each shall have the machines for itself.
async fn measure(stage: &Stage, seconds: u64, progress: &Progress) -> Vec<Figures> {
    let known = Deadline::after(NAMES_KNOWN);
    let mut all = Vec::new();
    for near in &stage.clusters {
        for far in stage.clusters.iter().filter(|far| far.id != near.id) {
            progress.now(format!("measuring from {} to {}", near.id, far.id));
            all.extend(direction(near, far, seconds, &known).await);
        }
    }
    all
}

async fn direction(near: &Cluster, far: &Cluster, seconds: u64, known: &Deadline) -> Option<Figures> {
    let pod = near.pods.first()?;
    let (server, addresses) = near.known.get(&far.id)?.pods.iter().next()?;
    let target = stage::at(*addresses.first()?);
    let name = format!("{}.{}.svc.clusterset.local:{}", stage::service(&far.id), stage::NAMESPACE, stage::PORT);
    let mut failures = Vec::new();
    let mut keep = |what: &str, error: String| failures.push(format!("{what} from {} to {}: {error}", near.id, far.id));
    let trips = near.call::<Times>(&pod.name, &["round-trips", &target, "--count", ROUND_TRIPS], ROUND_TRIPS_MAX).await;
    let round_trip = trips.map_err(|error| keep("round trips", error)).ok();
    let words = ["send", &target, "--seconds", &seconds.to_string()];
    let sent = near.call::<Carried>(&pod.name, &words, Duration::from_secs(seconds) + MARGIN).await;
    let sent = sent.map_err(|error| keep("throughput", error)).ok();
    let words = ["names", &name, "--count", NAMES];
    let names = known.retry(async || near.call::<Times>(&pod.name, &words, NAMES_MAX).await).await;
    let names = names.map_err(|error| keep("names", error)).ok();
    Some(Figures {
        from: format!("{}/{}", near.id, pod.name),
        from_node: pod.node.clone(),
        to: format!("{}/{server}", far.id),
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        tcp_mbps: sent.map(|sent| sent.bytes as f64 * 8.0 / sent.seconds / 1e6),
        round_trip,
        name: names,
        failures,
    })
}
