//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod lab;

/// Joins Kubernetes clusters over userspace WireGuard tunnels
#[derive(Debug, Parser)]
#[command(name = "linkspan", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lab(lab::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The command could not do its work.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Lab(args) => lab::run(args).await,
        }
    }
}
