//! `linkspan run`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;

use crate::run::{AtExit, Options, Source};

const LONG: &str = "\
Join this node to the clusters that a site file names, until a signal comes.

On the gateway node it opens the tunnel device; on every node it sets links, routes, rules and the nftables table \
`inet linkspan`, and heals them when something changes them; on nodes with a listen address of their own it serves names. \
The site file is read again when it changes. A wrong new version is refused and the old one stays in use; `linkspan \
status` and the log say why.

SIGTERM and SIGINT drain: not ready, then names stop, then tunnels. Links and routes stay, so that a restart adopts them \
and connections survive; --remove-on-exit or `linkspan uninstall` removes them.";

const EXAMPLES: &str = "\
Examples:
  linkspan run --config /etc/linkspan/site.yaml
  linkspan run --config site.yaml --node paris-w1 --log debug
  NODE_NAME=paris-gw linkspan run --config site.yaml --log-format json";

/// Join this node to the clusters that a site file names.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The site file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    node: NodeName,
    /// Remove links, routes, rules and the nftables table at the end.
    #[arg(long)]
    remove_on_exit: bool,
}

/// Which node of the site this is.
#[derive(Debug, ClapArgs)]
pub(super) struct NodeName {
    /// This node's name in the site file. Default: NODE_NAME, else the host name.
    #[arg(long, env = "NODE_NAME", hide_env = true, value_name = "NAME")]
    node: Option<String>,
}

impl NodeName {
    /// The name that was given, or the host name.
    pub(super) fn resolve(self) -> anyhow::Result<String> {
        match self.node.filter(|name| !name.is_empty()) {
            Some(name) => Ok(name),
            None => {
                let name = nix::unistd::gethostname().context("failed to read the host name; give --node")?;
                Ok(name.to_string_lossy().into_owned())
            }
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let at_exit = if args.remove_on_exit { AtExit::Remove } else { AtExit::Keep };
    let options = Options { source: Source::File(args.config), node: args.node.resolve()?, at_exit };
    super::runtime()?.block_on(crate::run::run(options))
}
