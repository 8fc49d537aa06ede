//! Options of commands that change clusters.

use clap::Args as ClapArgs;

use crate::kubectl::contexts::Target;
use crate::kubectl::install::Steps;
use crate::kubectl::install::objects::DryRun;
use crate::kubectl::output::Format;

/// Whether it is done.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Trial {
    /// Only show what would be done (client), or let the API server check it and store nothing (server).
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "client"
    )]
    pub(super) dry_run: DryRun,
}

/// Whether it is done, and how it is shown.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Change {
    #[command(flatten)]
    pub(super) trial: Trial,
    /// How the objects are shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

impl Change {
    /// Steps in this cluster.
    pub(super) fn steps(self, target: Target) -> Steps {
        Steps::new(target, self.trial.dry_run, self.output)
    }
}
