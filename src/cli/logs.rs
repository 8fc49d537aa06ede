//! Logs: to standard error, so that standard output stays what was asked for.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// How much is logged: error, warn, info, debug or trace, for all or for parts: `info,tunnel=debug`.
    #[arg(long, global = true, env = "LINKSPAN_LOG", default_value = "info", value_name = "LEVEL", hide_env = true)]
    log: String,
    /// How a log line looks.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people; in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl Logs {
    /// Sends what is logged to standard error.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log).with_context(|| {
            format!("--log (LINKSPAN_LOG) {:?} is not a level such as info, or info,tunnel=debug", self.log)
        })?;
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
            Format::Json => logs.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("logs cannot be started: {error}"))
    }
}
