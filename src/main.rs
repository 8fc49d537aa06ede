//! The linkspan program.

use std::process::ExitCode;

use clap::Parser as _;
use linkspan::cli::Cli;

/// The command could not do its work.
const UNABLE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(UNABLE)
    })
}
