//! Options of commands that change clusters.

use clap::Args as ClapArgs;

use crate::kubectl::install::objects::DryRun;
use crate::kubectl::output::Format;

/// Whether it is done, and how it is shown.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Change {
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
    /// How the objects are shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}
