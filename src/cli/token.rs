//! `linkspan token` and `linkspan member`: what an administrator of the broker does with join tokens and Members.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use controller::api::names::BROKER_NAMESPACE;
use controller::broker::token::Replace;
use controller::members::ClusterId;

use super::change::{Change, Trial};
use crate::kubectl::contexts::{Contexts, Target};
use crate::kubectl::install::Steps;
use crate::kubectl::install::objects::DryRun;
use crate::kubectl::install::tokens::{self, Order};
use crate::kubectl::output::{Format, Progress};

const EXAMPLES: &str = "\
Examples:
  Let the cluster paris join, within a day and once:
    linkspan token create paris > paris.token

  See and take back:
    linkspan token list
    linkspan token revoke paris --dry-run
    linkspan token revoke paris";

/// Make, list and revoke join tokens, with the rights of an administrator of the broker.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a token with which one cluster may join once. It is a secret. Where a cluster of that ID has joined before,
    /// its heartbeat is waited for, for 40 s.
    Create(Create),
    /// List join tokens and what became of them.
    List(List),
    /// Take a cluster's join token back. A cluster that has joined stays.
    Revoke(Revoke),
}

const MEMBER_EXAMPLES: &str = "\
Examples:
  A cluster that burned down, or whose credential was stolen; first what would be removed:
    linkspan member remove berlin --context paris --dry-run
    linkspan member remove berlin --context paris";

/// Remove lost Members, with the rights of an administrator of the broker.
#[derive(Debug, ClapArgs)]
#[command(after_help = MEMBER_EXAMPLES)]
pub(super) struct Member {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Remove a Member that is lost: its objects, its credential and its join token. One that lives should `leave`.
    Remove(Revoke),
}

/// Which broker.
#[derive(Debug, ClapArgs)]
struct Broker {
    /// Namespace of the broker.
    #[arg(long, value_name = "NAME", default_value = BROKER_NAMESPACE)]
    broker_namespace: String,
    #[command(flatten)]
    contexts: Contexts,
}

/// What a token says of the broker.
#[derive(Debug, ClapArgs)]
pub(super) struct Issue {
    /// URL at which the cluster reaches the broker's API server. Default: that of the kubeconfig, or where that is a
    /// loopback address, the one that the API server tells.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Certificates that the API server is known by, PEM. Default: those of the kubeconfig.
    #[arg(long, value_name = "FILE")]
    certificates: Option<PathBuf>,
    /// Name of the clusterset.
    #[arg(long, value_name = "NAME", default_value = "default")]
    clusterset: String,
}

impl Issue {
    /// An order for a token of a broker in the usual namespace.
    pub(super) fn order(&self, cluster: ClusterId, lifetime: Duration, replace: Replace) -> anyhow::Result<Order> {
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("failed to read the certificates {}", file.display()))
        };
        Ok(Order {
            cluster,
            namespace: BROKER_NAMESPACE.to_owned(),
            clusterset: self.clusterset.clone(),
            server: self.server.clone(),
            certificates: self.certificates.as_ref().map(read).transpose()?,
            lifetime,
            replace,
        })
    }
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// ID of the cluster that may join.
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterId,
    #[command(flatten)]
    issue: Issue,
    /// How long the token can be used: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    lifetime: Duration,
    /// Revoke the credential of a living cluster with that ID: this one replaces it.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    trial: Trial,
    /// How it is shown; the token is in all but `name`.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, ClapArgs)]
struct List {
    /// How they are shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Debug, ClapArgs)]
struct Revoke {
    /// ID of the cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterId,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    broker: Broker,
}

impl Broker {
    async fn work(&self, work: impl AsyncFnOnce(Target) -> anyhow::Result<()>) -> anyhow::Result<()> {
        super::on_one(&self.contexts, work).await
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create(args).await,
        Command::List(List { output, broker }) => {
            broker.work(async |target| tokens::list(&target, &broker.broker_namespace, output).await).await
        }
        Command::Revoke(Revoke { cluster, change, broker }) => {
            let namespace = &broker.broker_namespace;
            broker.work(async |target| tokens::revoke(&mut change.steps(target), namespace, &cluster).await).await
        }
    }
}

pub(super) async fn member(args: Member) -> anyhow::Result<()> {
    let MemberCommand::Remove(Revoke { cluster, change, broker }) = args.command;
    let namespace = &broker.broker_namespace;
    broker.work(async |target| tokens::remove_member(&mut change.steps(target), namespace, &cluster).await).await
}

async fn create(args: Create) -> anyhow::Result<()> {
    let replace = if args.replace { Replace::Yes } else { Replace::No };
    let order = Order {
        namespace: args.broker.broker_namespace.clone(),
        ..args.issue.order(args.cluster, args.lifetime, replace)?
    };
    let work = async |target: Target| match args.trial.dry_run {
        DryRun::None => {
            let progress = Progress::start(format!("making a join token of {}", order.cluster));
            let token = tokens::create(&target, &order).await?;
            drop(progress);
            tokens::show(&token, args.output)
        }
        dry_run => tokens::rehearse(&mut Steps::new(target, dry_run, args.output), &order).await,
    };
    args.broker.work(work).await
}

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let form = || format!("{text:?} is no time; write a number and s, m, h or d, such as 24h");
    let unit = text.chars().last().ok_or_else(form)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(form()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| form())?;
    number.checked_mul(seconds).filter(|seconds| *seconds <= 366 * 86_400).map(Duration::from_secs).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for bad in ["", "h", "24", "-1h", "1w", "99999999999999999999d", "9999d", "1ü"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
