//! `linkspan leave`.

use clap::Args as ClapArgs;

use super::change::Change;
use crate::kubectl::contexts::Contexts;
use crate::kubectl::install::leave;

const LEAVE: &str = "\
Examples:
  linkspan leave
  linkspan leave --context berlin --dry-run

It removes what this cluster has on the broker and what the others have here, all ServiceImports with their Services and \
EndpointSlices, and stops cluster DNS from forwarding clusterset.local. ServiceExports stay, and so does Linkspan itself, \
which may join again with another token; `linkspan uninstall --cluster` takes it out, too.";

/// Leave the clusterset.
#[derive(Debug, ClapArgs)]
#[command(after_help = LEAVE)]
pub(super) struct Leave {
    /// How long the leaving is watched, in seconds; 0 does not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn leave(args: Leave) -> anyhow::Result<()> {
    super::on_one(&args.contexts, async |target| {
        let steps = args.change.steps(target);
        match leave::leave(&steps, args.wait).await? {
            Some(left) => steps.say(&format!("it goes on without this command; still there: {left}")),
            None => Ok(()),
        }
    })
    .await
}
