//! `linkspan ui`.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::kubectl::contexts::Contexts;
use crate::kubectl::speech::Speech;
use crate::kubectl::ui::{self, Browser, Nodes, Options};

const LONG: &str = "\
Show the clusterset in the browser: clusters, gateways, tunnels with their state, round-trip time, loss and rate, and exported \
services. What is not as it should be tells why when it is chosen, as `linkspan diagnose` does.

The page is served on 127.0.0.1 to whoever knows the URL that is printed, which has a random part. It needs nothing from the \
network and changes nothing in the clusters. A cluster that cannot be reached is shown as such, and the others go on.";

const EXAMPLES: &str = "\
Examples:
  linkspan ui --all-contexts
  linkspan ui --context paris,berlin --every 30 --no-nodes

  On another machine, through SSH:
    linkspan ui --no-open --port 8900  # there
    ssh -L 8900:127.0.0.1:8900 there   # here; then open the URL that was printed there

What is asked:
  each round   what API servers have, and the active gateway
  each minute  all nodes beside that; every 15 s while something is wrong

Each cluster has rounds of its own, so that a slow one keeps no other waiting.

Permissions are those of `linkspan diagnose`. Without get and create pods/exec in namespace linkspan-system, or with --no-nodes, what \
GatewayNodes tell is shown.";

/// Show the clusterset as a page in the browser.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// TCP port on 127.0.0.1. Default: one that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Seconds between the end of a cluster's round and the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Print the URL, and start no browser.
    #[arg(long)]
    no_open: bool,
    /// Ask API servers alone, not the nodes.
    #[arg(long)]
    no_nodes: bool,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn run(args: Args, speech: Speech) -> anyhow::Result<()> {
    let targets = args.contexts.targets().await?;
    let options = Options {
        port: args.port,
        every: Duration::from_secs(args.every),
        nodes: if args.no_nodes { Nodes::LeftAlone } else { Nodes::Asked },
        browser: if args.no_open { Browser::LeftAlone } else { Browser::Opened },
        speech,
    };
    ui::ui(targets, options).await
}
