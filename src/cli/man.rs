//! `linkspan man`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Command};

const EXAMPLES: &str = "\
Examples:
  linkspan man /usr/local/share/man/man1 && man linkspan-join";

/// Write man pages, one for each command.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder; it is made where it is not there.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub(super) fn run(args: Args, command: Command) -> anyhow::Result<()> {
    let shown = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("failed to make {shown}"))?;
    clap_mangen::generate_to(command, &args.folder).with_context(|| format!("failed to write man pages into {shown}"))
}
