//! `linkspan status`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use crate::kubectl::output::{json, terminal_width, yaml};
use crate::site;
use crate::status::{Detail, Report, socket, table};

/// How often `--watch` asks.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// Clears the screen and the scroll-back, and goes home (ECMA-48 ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

const LONG: &str = "\
Show what the `linkspan run` of this node does: peers with their state and why, handshakes, round-trip time, loss and \
MTU, offloads, drops by reason, names, and the last pass over the node.";

const EXAMPLES: &str = "\
Examples:
  linkspan status
  linkspan status -o wide --watch
  linkspan status -o json | jq '.tunnel.peers[] | select(.state != \"up\") | .name'
  linkspan status --config site.yaml

States of a peer:
  up          traffic reaches it
  idle        no traffic yet, or none since the last session ended
  connecting  handshakes are sent and not answered yet
  down        it does not answer";

/// Show peers, names and the last pass of this node.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
    /// The status socket of the process.
    #[arg(long, env = "LINKSPAN_SOCKET", hide_env = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The site file, whose status.socket is taken. Default without either: /run/linkspan/linkspan.sock.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Show it again each second, until interrupted.
    #[arg(short, long)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For people, with keys, prefixes, lanes and reasons.
    Wide,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let path = match (&args.socket, &args.config) {
        (Some(path), _) => path.clone(),
        (None, Some(file)) => site::read_socket(file)?,
        (None, None) => PathBuf::from(site::DEFAULT_SOCKET),
    };
    loop {
        let shown = socket::read(&path).and_then(|report| render(&report, args.output));
        if !args.watch {
            return super::print(&shown?);
        }
        // A process that is restarted is waited for.
        let text = shown.unwrap_or_else(|error| format!("{error:#}\n"));
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        super::print(&format!("{clear}{text}"))?;
        std::thread::sleep(WATCH_PERIOD);
    }
}

fn render(report: &Report, output: Output) -> anyhow::Result<String> {
    let terminal = std::io::stdout().is_terminal();
    let width = terminal_width();
    match output {
        Output::Table => Ok(table(report, Detail::Normal, terminal, width)),
        Output::Wide => Ok(table(report, Detail::Wide, terminal, width)),
        Output::Json => json(report),
        Output::Yaml => yaml(report),
    }
}
