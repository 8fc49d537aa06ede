//! `linkspan gather`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use k8s_openapi::jiff::Timestamp;

use crate::kubectl::contexts::Contexts;
use crate::kubectl::gather;

const LONG: &str = "\
Gather everything about Linkspan from clusters into one archive, for somebody who is asked for help.

In it are objects, logs of all pods of Linkspan and of cluster DNS, what `linkspan status` and `linkspan inspect` say on each \
node, what nodes answer to the questions of `linkspan diagnose`, its findings, events, versions, and a summary. Of namespaces \
with exported or imported services there are Services, EndpointSlices and NetworkPolicies, and events where services are exported.

Secrets are removed: data of Secrets, tokens, passwords and private keys, wherever they stand; where you may read Secrets of \
Linkspan's namespaces, their values (but for short ones in lower case, which are names as a rule) are also looked for and taken \
out in all else. Names and addresses stay. What you may not read is left out and listed; where nothing could be had of a whole \
cluster, the exit code is 3. The archive has its name when it is whole; a command that is interrupted leaves a hidden file that \
begins with it and ends in .partial.";

const EXAMPLES: &str = "\
Examples:
  linkspan gather --context paris,berlin
  linkspan gather --all-contexts --file case-17.tar.gz
  tar -tzf case-17.tar.gz";

/// Gather objects, logs and the state of nodes into one archive without secrets.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The archive, which must not exist yet. Default: linkspan-gather-TIME.tar.gz.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let file = args.file.unwrap_or_else(|| format!("{}.tar.gz", now.strftime("linkspan-gather-%Y%m%d-%H%M%S")).into());
    gather::gather(&args.contexts.targets().await?, &file, now).await
}
