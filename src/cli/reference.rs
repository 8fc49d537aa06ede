//! `linkspan reference`.

use clap::{Args as ClapArgs, CommandFactory as _, ValueEnum};

use crate::{kubectl::output, reference};

const EXAMPLES: &str = "\
Examples:
  linkspan reference cli > docs/reference/cli.md";

/// Print a page of the reference, in Markdown.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Which page.
    #[arg(value_enum)]
    page: Page,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// All commands and options.
    Cli,
    /// Kubernetes objects of Linkspan.
    Crds,
    /// The site file.
    SiteFile,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    output::print(&match args.page {
        Page::Cli => reference::commands(super::Cli::command()),
        Page::Crds => reference::crds()?,
        Page::SiteFile => reference::site_file()?,
    })
}
