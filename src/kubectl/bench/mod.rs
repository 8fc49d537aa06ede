//! `kubectl linkspan bench`: what the way between clusters carries, between the test pods of [`stage`].

mod table;

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::contexts::Target;
use super::output::{self, Format, Progress, Screen};
use super::stage::{self, Cluster, Stage};
use crate::echo::client::{Carried, Times};

/// Round trips and names that are measured.
const ROUND_TRIPS: &str = "2000";
const NAMES: &str = "200";
/// Tries until the name resolves, and the time between them: CoreDNS takes up to two minutes to see that it shall forward.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_secs(2);

/// What is measured, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seconds for each throughput.
    pub seconds: u64,
    /// Leave the test pods.
    pub keep: bool,
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

/// Measures, and takes away what it made, also when it is interrupted.
///
/// # Errors
/// Something could not be measured.
pub async fn bench(targets: &[Target], options: Options) -> anyhow::Result<()> {
    let measure = async |stage: &Stage, progress: &Progress| measure(stage, options.seconds, progress).await;
    let figures = stage::with(targets, options.keep, measure).await?;
    output::print(&table::render(&figures, options.output, Screen::of_stdout())?)?;
    let failures: Vec<&str> = figures.iter().flat_map(|one| &one.failures).map(String::as_str).collect();
    if !failures.is_empty() {
        bail!("not all was measured: {}", failures.join("; "));
    }
    Ok(())
}

/// One direction after the other: each shall have the machines for itself.
async fn measure(stage: &Stage, seconds: u64, progress: &Progress) -> Vec<Figures> {
    let mut all = Vec::new();
    for near in &stage.clusters {
        for far in stage.clusters.iter().filter(|far| far.id != near.id) {
            progress.now(format!("measuring from {} to {}", near.id, far.id));
            all.extend(direction(near, far, seconds).await);
        }
    }
    all
}

async fn direction(near: &Cluster, far: &Cluster, seconds: u64) -> Option<Figures> {
    let pod = near.pods.first()?;
    let (server, addresses) = near.known.get(&far.id)?.pods.iter().next()?;
    let target = stage::at(*addresses.first()?);
    let name = format!("{}.{}.svc.clusterset.local:{}", stage::service(&far.id), stage::NAMESPACE, stage::PORT);
    let mut failures = Vec::new();
    let mut keep = |what: &str, error: String| failures.push(format!("{what} from {} to {}: {error}", near.id, far.id));
    let trips = near.call::<Times>(&pod.name, &["round-trips", &target, "--count", ROUND_TRIPS]).await;
    let round_trip = trips.map_err(|error| keep("round trips", error)).ok();
    let sent = near.call::<Carried>(&pod.name, &["send", &target, "--seconds", &seconds.to_string()]).await;
    let sent = sent.map_err(|error| keep("throughput", error)).ok();
    let names = resolved(near, &pod.name, &name).await.map_err(|error| keep("names", error)).ok();
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

async fn resolved(near: &Cluster, pod: &str, name: &str) -> Result<Times, String> {
    let mut last = Err("it was not tried".to_owned());
    for _ in 0..TRIES {
        last = near.call::<Times>(pod, &["names", name, "--count", NAMES]).await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    last
}
