//! Logs: to standard error, so that standard output stays what was asked for.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::otlp::{self, Collector, Endpoint};

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct Logs {
    /// How much is logged: error, warn, info, debug or trace, for all or for parts: `info,tunnel=debug`.
    #[arg(long, global = true, env = "LINKSPAN_LOG", default_value = "info", value_name = "LEVEL", hide_env = true)]
    log: String,
    /// How a log line looks.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    log_format: Format,
    /// Where metrics, logs and traces go over OTLP: `http://collector.monitoring:4318`, `https://collector.example`. Without
    /// a port, 4318 for http and 443 for https. Default: nowhere.
    #[arg(long, global = true, env = "LINKSPAN_OTLP_ENDPOINT", value_name = "URL", hide_env = true, value_parser = endpoint)]
    otlp_endpoint: Option<Maybe>,
    /// Certificates of the authorities that a collector behind https is known by: a file, or the PEM text itself. Default:
    /// those of the system, of which the image has none.
    #[arg(long, global = true, env = "LINKSPAN_OTLP_CERTIFICATE", value_name = "FILE", hide_env = true)]
    otlp_certificate: Option<String>,
}

/// An endpoint, or an empty text.
#[derive(Debug, Clone)]
struct Maybe(Option<Endpoint>);

fn endpoint(text: &str) -> Result<Maybe, otlp::InvalidEndpoint> {
    if text.trim().is_empty() { Ok(Maybe(None)) } else { text.parse().map(|endpoint| Maybe(Some(endpoint))) }
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
        // That a request failed is said by whoever made it, once and in words; the client says it each time.
        let quiet =
            if self.log.contains("kube_") { "" } else { ",kube_client::client::builder=off,kube_runtime::watcher=off" };
        let filter = |more: &str| {
            EnvFilter::try_new(format!("{}{quiet}{more}", self.log)).with_context(|| {
                format!("--log (LINKSPAN_LOG) {:?} is not a level such as info, or info,tunnel=debug", self.log)
            })
        };
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let logs = match self.log_format {
            Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).boxed(),
            Format::Json => logs.with_ansi(false).json().flatten_event(true).boxed(),
        };
        let bridge = match &self.otlp_endpoint {
            Some(Maybe(Some(endpoint))) => {
                let spans = format!(",{}=debug", otlp::SPANS);
                let certificates = self.otlp_certificate.as_deref().filter(|given| !given.trim().is_empty());
                let collector = Collector::new(endpoint.clone(), certificates)
                    .with_context(|| format!("--otlp-endpoint (LINKSPAN_OTLP_ENDPOINT) {endpoint} cannot be used"))?;
                Some(otlp::install(collector).with_filter(filter(&spans)?))
            }
            _ => None,
        };
        let started = tracing_subscriber::registry().with(logs.with_filter(filter("")?)).with(bridge).try_init();
        started.map_err(|error| anyhow::anyhow!("logs cannot be started: {error}"))
    }
}
