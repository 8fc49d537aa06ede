//! `kubectl linkspan verify`: proves with test pods that clusters are joined. Calls are planned from what the clusters
//! know (`plan`), made, and judged by what the servers saw (`judge`).

mod failover;
mod judge;
mod plan;
mod run;
mod table;

use super::contexts::Target;
use super::output::{self, Format, Progress, Screen};
use super::stage::{self, Afterwards, RunId, Stage};
pub use judge::Outcome;
pub use plan::{Call, Kind};

/// What is to be proven, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Also restart each cluster's gateway and measure how long traffic stops.
    pub failover: bool,
    /// Whether the test pods stay.
    pub afterwards: Afterwards,
    /// How the outcomes are shown.
    pub output: Format,
}

/// Proves it, and takes away what it made, also when it is interrupted. `run` is by what its test pods are known.
///
/// # Errors
/// It could not run. Or it did, and something is not as it should be, could not be tried or taken away: then it is a
/// [`Shortfall`](stage::Shortfall), and what was proven is printed before.
pub async fn verify(targets: &[Target], run: &RunId, options: Options) -> anyhow::Result<()> {
    let prove = async |stage: &Stage, progress: &Progress| prove(stage, options.failover, progress).await;
    let done = stage::with(targets, run, options.afterwards, prove).await?;
    output::print(&table::render(&done.outcome, options.output, Screen::of_stdout())?)?;
    let (all, failed) = (done.outcome.len(), done.outcome.iter().filter(|outcome| !outcome.ok).count());
    let wrong =
        (failed > 0).then(|| format!("{failed} of {all} proofs failed; `linkspan diagnose` looks for the reason"));
    Ok(done.end(wrong)?)
}

async fn prove(stage: &Stage, failover: bool, progress: &Progress) -> Vec<Outcome> {
    let calls = plan::plan(stage);
    let mut outcomes = run::all(stage, &calls, progress).await;
    if failover {
        for cluster in &stage.clusters {
            progress.now(format!("restarting the gateway of {}", cluster.id));
            outcomes.push(failover::restart_gateway(stage, cluster).await);
        }
    }
    outcomes
}
