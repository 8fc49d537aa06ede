//! `linkspan bench`.

use clap::Args as ClapArgs;

use super::staged::{Staged, run_id};
use crate::kubectl::bench::{self, Options};

const LONG: &str = "\
Measure what the way between clusters carries: throughput of one TCP connection, round trips over an open connection, and \
resolution of names, between test pods in each direction.

The command makes namespace linkspan-verify as `linkspan verify` does, and removes it again. Each direction is measured alone. \
Traffic of others is in the figures, and feels the measurement. Contexts that are of no use are left out as long as two others \
remain, and told at the end.";

const EXAMPLES: &str = "\
Examples:
  linkspan bench --context paris,berlin
  linkspan bench --context paris,berlin --seconds 30 -o json

Exit codes:
  0  all was measured
  1  something could not be measured
  2  it could not run, or was ended, or its test pods could not be removed
  3  all was measured between the clusters that could be used; others were left out
  64 wrong use of the command line";

/// Measure throughput, round trips and names between clusters.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// Seconds for each throughput.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    staged: Staged,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { seconds, staged } = args;
    let options = Options { seconds, afterwards: staged.afterwards(), output: staged.output };
    bench::bench(&staged.targets().await?, &run_id()?, options).await
}
