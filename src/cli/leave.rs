//! `linkspan leave`.

use clap::Args as ClapArgs;

use super::change::Trial;
use crate::kubectl::contexts::Contexts;
use crate::kubectl::install::Steps;
use crate::kubectl::install::leave::{self, Extent};
use crate::kubectl::output::Format;

const LEAVE: &str = "\
Examples:
  linkspan leave
  linkspan leave --context berlin --dry-run

  A cluster whose broker is lost for good:
    linkspan leave --without-broker

It removes what this cluster has on the broker and what the others have here, all ServiceImports with their Services and \
EndpointSlices, and stops cluster DNS from forwarding clusterset.local. ServiceExports stay, and so does Linkspan itself, \
which may join again with another token; `linkspan uninstall --cluster` takes it out, too.";

/// Leave the clusterset.
#[derive(Debug, ClapArgs)]
#[command(after_help = LEAVE)]
pub(super) struct Leave {
    /// How long the leaving is watched, in seconds; 0 does not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=super::WAIT_MAX))]
    wait: u64,
    /// Do not ask the broker, which is lost: only this cluster is cleaned up. Should the broker come back,
    /// `linkspan member remove` is to be run there.
    #[arg(long)]
    without_broker: bool,
    #[command(flatten)]
    trial: Trial,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn leave(args: Leave) -> anyhow::Result<()> {
    let extent = if args.without_broker { Extent::HomeOnly } else { Extent::Everywhere };
    super::on_one(&args.contexts, async |target| {
        let steps = Steps::new(target, args.trial.dry_run, Format::default());
        match leave::leave(&steps, args.wait, extent).await? {
            Some(left) => steps.say(&format!("it goes on without this command; still there: {left}")),
            None => Ok(()),
        }
    })
    .await
}
