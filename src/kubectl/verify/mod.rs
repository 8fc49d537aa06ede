//! `kubectl linkspan verify`: proves with test pods that clusters are joined. Calls are planned from what the clusters
//! know (`plan`), made, and judged by what the servers saw (`judge`).

mod failover;
mod judge;
mod plan;
mod run;
mod table;

use anyhow::bail;

use super::contexts::Target;
use super::output::{self, Format, Progress, Screen};
use super::stage::{self, Stage};
pub use judge::Outcome;
pub use plan::{Call, Kind};

/// What is to be proven, and how it is told.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Also restart each cluster's gateway and measure how long traffic stops.
    pub failover: bool,
    /// Leave the test pods.
    pub keep: bool,
    /// How the outcomes are shown.
    pub output: Format,
}

/// Proves it, and takes away what it made, also when it is interrupted.
///
/// # Errors
/// Something is not as it should be, or could not be tried.
pub async fn verify(targets: &[Target], options: Options) -> anyhow::Result<()> {
    let prove = async |stage: &Stage, progress: &Progress| prove(stage, options.failover, progress).await;
    let outcomes = stage::with(targets, options.keep, prove).await?;
    output::print(&table::render(&outcomes, options.output, Screen::of_stdout())?)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    if failed > 0 {
        bail!("{failed} of {} proofs failed; `linkspan diagnose` looks for the reason", outcomes.len());
    }
    Ok(())
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
