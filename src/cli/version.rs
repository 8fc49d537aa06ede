//! `linkspan version`.

use clap::Args as ClapArgs;
use serde_json::json;

use crate::kubectl::contexts::Contexts;
use crate::kubectl::output::{self, Format};
use crate::kubectl::show::{self, Order, Topic};
use crate::kubectl::speech::Speech;
use crate::status::VERSION;

const EXAMPLES: &str = "\
Examples:
  linkspan version
  linkspan version --context paris,berlin

Without a context, `linkspan` tells its own version alone; as a plugin of kubectl it asks the current context, too, unless \
--client is given.";

/// Print the version of this program, and those of clusters.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only the version of this program.
    #[arg(long, conflicts_with_all = ["contexts", "kubeconfig", "all_contexts"])]
    client: bool,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) fn run(args: Args, is_plugin: bool) -> anyhow::Result<()> {
    if args.client || !(is_plugin || args.contexts.is_given()) {
        let own = json!({ "component": "linkspan", "version": VERSION });
        return super::print(&match args.output {
            Format::Table | Format::Wide => format!("linkspan {VERSION}\n"),
            Format::Json => output::json(&own)?,
            Format::Yaml => output::yaml(&own)?,
            Format::Name => "version/linkspan\n".to_owned(),
        });
    }
    super::runtime()?.block_on(async {
        // In versions there is no text that could speak of a call.
        let order = Order { topic: Topic::Versions, namespace: None, format: args.output, speech: Speech::default() };
        show::show(&args.contexts.targets().await?, &order).await
    })
}
