//! `linkspan show`.

use clap::Args as ClapArgs;

use crate::kubectl::contexts::Contexts;
use crate::kubectl::output::Format;
use crate::kubectl::show::{self, Order, Topic};
use crate::kubectl::speech::Speech;

const LONG: &str = "\
Show how the clusterset stands, as each cluster sees it; many clusters are asked at once.

It reads API objects only and changes nothing. The rights of ClusterRole linkspan-viewer are enough, which every `view` of \
a cluster has; what may not be read is named on standard error, and the rest is shown.";

const EXAMPLES: &str = "\
Examples:
  linkspan show
  linkspan show connections --all-contexts --watch
  linkspan show exports -n shop
  linkspan show members -o json | jq -r '.[] | select(.ready | not) | .cluster,.message'

States of a connection:
  up          traffic reaches it
  idle        no traffic yet, or none since the last session ended
  connecting  handshakes are sent and not answered yet
  down        it does not answer; in brackets: since when it was not up, whatever came between

Exit code 1 says that something could not be read.";

/// Show members, gateways, connections, exports, imports, networks and versions.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// What is shown.
    #[arg(value_enum, value_name = "TOPIC", default_value_t = Topic::All)]
    topic: Topic,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Show it again every two seconds, until interrupted; elsewhere than on a terminal, when it has changed.
    #[arg(short, long)]
    watch: bool,
    /// The namespace of exports and imports. Default: all.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces, which is the default; for who is used to give it to kubectl.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn run(args: Args, speech: Speech) -> anyhow::Result<()> {
    let targets = args.contexts.targets().await?;
    let namespace = args.namespace.filter(|_| !args.all_namespaces);
    let order = Order { topic: args.topic, namespace, format: args.output, speech };
    match args.watch {
        true => show::watch(&targets, &order).await,
        false => show::show(&targets, &order).await,
    }
}
