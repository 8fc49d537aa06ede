//! `linkspan deploy-broker`.

use clap::Args as ClapArgs;

use super::change::{Change, Trial};
use crate::kubectl::contexts::Contexts;
use crate::kubectl::install::broker;

const LONG: &str = "\
Make a cluster's API server a broker, where clusters meet.

A broker is a namespace (linkspan-broker) with rights and admission policies, and the kinds of Linkspan and of the \
Multi-Cluster Services API. No pod runs there. Any API server will do that all clusters reach: that of one of them, or one \
without nodes. The command applies what this program has inside, the same as deploy/crds and deploy/broker; once more does \
no harm, and a newer program brings the broker up to date.";

const EXAMPLES: &str = "\
Examples:
  Two joined clusters:
    linkspan deploy-broker --context paris
    linkspan join paris --context paris --broker-context paris
    linkspan join berlin --context berlin --broker-context paris

  The manifests, for Git:
    linkspan deploy-broker --dry-run -o yaml > broker.yaml";

/// Make a cluster's API server a broker, where clusters meet.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Change { trial: Trial { dry_run }, output } = args.change;
    super::on_one(&args.contexts, async |target| broker::deploy(target, dry_run, output).await).await
}
