//! What `verify` and `bench` have in common: they make test pods in clusters.

use clap::Args as ClapArgs;

use crate::kubectl::contexts::{Contexts, Target};
use crate::kubectl::output::Format;
use crate::kubectl::stage::{Afterwards, RunId};

/// Options of commands that make test pods.
#[derive(Debug, ClapArgs)]
pub(super) struct Staged {
    /// Leave the test pods where they are, for people to look at; the next run without it takes them over and removes them.
    #[arg(long)]
    keep: bool,
    /// How the result is shown; `name` lists what `verify` could not prove, and between which pods `bench` has measured.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
    #[command(flatten)]
    contexts: Contexts,
}

impl Staged {
    /// The clusters that get test pods.
    pub(super) async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        self.contexts.targets().await
    }

    /// What becomes of the test pods.
    pub(super) fn afterwards(&self) -> Afterwards {
        if self.keep { Afterwards::Keep } else { Afterwards::Remove }
    }
}

/// By what this run knows its test pods.
pub(super) fn run_id() -> anyhow::Result<RunId> {
    RunId::draw(rand::rngs::OsRng)
}
