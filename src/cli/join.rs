//! `linkspan join`.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use controller::broker::JoinToken;
use controller::broker::token::{LIFETIME, Replace};
use controller::members::ClusterId;
use zeroize::Zeroizing;

use super::Misuse;
use super::change::{Change, Trial};
use super::token::Issue;
use crate::kubectl::contexts::{Contexts, Target};
use crate::kubectl::install::join::{self, Install, Order, Source};

/// Largest join token that is read, in bytes.
const TOKEN_MAX: u64 = 64 * 1024;

const LONG: &str = "\
Join this cluster to a clusterset.

With --broker-context or --broker-kubeconfig, this one command does everything: it makes a token on the broker, applies the \
kinds and Linkspan itself to the cluster, gives it the token, and waits until it is ready. Without, the token comes from \
--token-file or standard input, made by `linkspan token create` where somebody has rights on the broker.

Linkspan's manifests are applied where it is not there yet; --upgrade and --image apply them in any case, and \
--keep-manifests never, for clusters whose manifests come from Git or Helm. After an upgrade it waits for all new pods, too, \
with --wait counted anew from each step of the rollout.

A cluster that has joined keeps its credential. Where the broker takes it no longer, as after `linkspan member remove`, the \
command with a broker makes a new token. A cluster that has left may join under another ID.";

const EXAMPLES: &str = "\
Examples:
  With rights in both clusters:
    linkspan join berlin --context berlin --broker-context paris
    linkspan join berlin --kubeconfig berlin.yaml --broker-kubeconfig paris.yaml

  With rights in one only: on the broker, then here:
    linkspan token create berlin > berlin.token
    linkspan join --token-file berlin.token

The same from Git: Secret linkspan-join with the token under `token`, and LINKSPAN_CLUSTER_ID in ConfigMap linkspan, both \
in namespace linkspan-system.";

/// Join this cluster to a clusterset.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Join {
    /// The ID that the cluster gets: one RFC 1123 label, unique in the clusterset. A token has it inside.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<ClusterId>,
    /// File with the join token. Default without a broker: standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["broker_context", "broker_kubeconfig"])]
    token_file: Option<PathBuf>,
    /// Linkspan's image. Default: that of this version, from the repository from which the cluster has it, else linkspan/linkspan.
    #[arg(long, value_name = "IMAGE", conflicts_with = "keep_manifests")]
    image: Option<String>,
    /// Apply Linkspan's manifests although it is there.
    #[arg(long, conflicts_with = "keep_manifests")]
    upgrade: bool,
    /// Apply no manifests.
    #[arg(long)]
    keep_manifests: bool,
    /// How long the joining is watched, in seconds; 0 does not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(..=super::WAIT_MAX))]
    wait: u64,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    contexts: Contexts,
    #[command(flatten)]
    broker: Broker,
}

/// The broker, for who has rights on it.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Broker")]
struct Broker {
    /// Context of the broker's cluster. Default: the current one of --broker-kubeconfig.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    broker_context: Option<String>,
    /// Kubeconfig file of the broker's cluster. Default: that of --kubeconfig.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    broker_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    issue: Issue,
}

pub(super) async fn join(args: Join) -> anyhow::Result<()> {
    let source = source(&args).await?;
    let install = match (args.keep_manifests, args.upgrade || args.image.is_some()) {
        (true, _) => Install::Never,
        (false, true) => Install::Always,
        (false, false) => Install::IfAbsent,
    };
    let Change { trial: Trial { dry_run }, output: format } = args.change;
    let order = Order { source, install, image: args.image, wait: args.wait, dry_run, format };
    super::on_one(&args.contexts, async |target| join::join(target, order).await).await
}

async fn source(args: &Join) -> anyhow::Result<Source> {
    if let (Some(cluster), Some(broker)) = (&args.cluster, args.broker.target(&args.contexts).await?) {
        let order = args.broker.issue.order(cluster.clone(), LIFETIME, Replace::No)?;
        return Ok(Source::Broker(Box::new(broker), Box::new(order)));
    }
    if args.cluster.is_some() && args.token_file.is_none() {
        let wrong =
            "no broker is named: give --broker-context or --broker-kubeconfig, or a join token with --token-file";
        return Err(Misuse(wrong.to_owned()).into());
    }
    let token: JoinToken = read_token(args.token_file.as_deref())?.parse()?;
    if let Some(cluster) = args.cluster.as_ref().filter(|cluster| **cluster != token.cluster) {
        bail!("the token is for cluster {}, and not for {cluster}", token.cluster);
    }
    Ok(Source::Token(Box::new(token)))
}

impl Broker {
    async fn target(&self, contexts: &Contexts) -> anyhow::Result<Option<Target>> {
        if self.broker_context.is_none() && self.broker_kubeconfig.is_none() {
            return Ok(None);
        }
        let broker = contexts.elsewhere(self.broker_kubeconfig.clone(), self.broker_context.clone());
        broker.one().await.context("the broker").map(Some)
    }
}

/// A token is too long to be typed, and a terminal would be waited for without a word.
fn refuse_terminal(is_terminal: bool) -> anyhow::Result<()> {
    if is_terminal {
        bail!(
            "no join token is given: name its file with --token-file, write it to standard input, or name the broker with \
             --broker-context"
        );
    }
    Ok(())
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    match file {
        Some(file) => {
            let opened = std::fs::File::open(file);
            let opened = opened.with_context(|| format!("failed to read the token file {}", file.display()))?;
            opened.take(TOKEN_MAX).read_to_string(&mut text)
        }
        None => {
            refuse_terminal(std::io::stdin().is_terminal())?;
            std::io::stdin().take(TOKEN_MAX).read_to_string(&mut text)
        }
    }
    .context("failed to read the join token")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_waited_for() {
        let error = refuse_terminal(true).unwrap_err().to_string();
        assert!(error.starts_with("no join token is given: name its file with --token-file"), "{error}");
        refuse_terminal(false).unwrap();
    }
}
