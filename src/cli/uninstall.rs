//! `linkspan uninstall`: of a node, or of a cluster.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args as ClapArgs;

use super::Misuse;
use super::change::Change;
use crate::kubectl::contexts::Contexts;
use crate::kubectl::install::objects::DryRun;
use crate::kubectl::install::uninstall::{self, Order};
use crate::kubectl::output::Format;
use crate::site;

const LONG: &str = "\
Remove Linkspan: from this machine, or with --cluster, --broker or --crds from a cluster.

Of this machine, it removes every link, address, route, rule and nftables table of Linkspan. What others made is not \
touched. `linkspan run` must have been stopped: it would make everything anew. --dry-run tells what would be removed.

Of a cluster (--cluster), it lets the cluster leave its clusterset and deletes what deploy/member has applied; each node \
cleans up behind itself. --broker deletes the broker, --crds the kinds, and with them all objects of these kinds: both \
refuse while clusters are Members there. As `kubectl linkspan uninstall` without any of the three, it means --cluster.";

const EXAMPLES: &str = "\
Examples:
  A node without Kubernetes:
    systemctl stop linkspan && linkspan uninstall --config /etc/linkspan/site.yaml

  A cluster, and the last one together with the broker that it carries:
    linkspan uninstall --cluster --context berlin --crds
    linkspan uninstall --cluster --broker --crds --context paris";

/// Remove Linkspan from this node's network, or from a cluster.
#[derive(Debug, ClapArgs)]
#[command(visible_alias = "cleanup", long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// The site file, for the names of the TUN link and the status socket. Without one, the default names are taken.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of a TUN link to remove too, even if it lacks Linkspan's mark.
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
    #[command(flatten)]
    of_cluster: OfCluster,
}

/// What of a cluster is removed.
#[derive(Debug, ClapArgs)]
struct OfCluster {
    /// Let the cluster leave, and take Linkspan out of it.
    #[arg(long, conflicts_with_all = ["config", "link"])]
    cluster: bool,
    /// Delete the broker that this cluster carries.
    #[arg(long, conflicts_with_all = ["config", "link"])]
    broker: bool,
    /// Delete the kinds of Linkspan and of the Multi-Cluster Services API, with all objects of these kinds.
    #[arg(long, conflicts_with_all = ["config", "link"])]
    crds: bool,
    /// Go on although the cluster does not leave, or other clusters are Members of the broker. A cluster that does not
    /// leave in time then leaves without its broker, for which another 20 seconds are waited at least.
    #[arg(long)]
    force: bool,
    /// How long the leaving is watched, in seconds. With 0 and without --force, nothing is deleted unless it has left already.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=super::WAIT_MAX))]
    wait: u64,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    contexts: Contexts,
}

impl Args {
    /// Whether a cluster is meant, and not this machine.
    fn means_cluster(&self) -> bool {
        self.of_cluster.cluster || self.of_cluster.broker || self.of_cluster.crds
    }

    /// As `kubectl linkspan uninstall`: whoever speaks through kubectl means a cluster.
    pub(super) fn by_kubectl(&mut self) {
        if !self.means_cluster() && self.config.is_none() && self.link.is_none() {
            self.of_cluster.cluster = true;
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if args.means_cluster() {
        return super::runtime()?.block_on(uninstall_cluster(args.of_cluster));
    }
    if args.of_cluster.contexts.is_given() {
        return Err(Misuse("to remove Linkspan from a cluster, give --cluster".to_owned()).into());
    }
    let OfCluster { change, force, .. } = &args.of_cluster;
    if *force || change.output != Format::default() {
        return Err(Misuse("--force and -o are of a cluster: give --cluster, --broker or --crds".to_owned()).into());
    }
    let is_trial = change.trial.dry_run != DryRun::None;
    let mut link = "linkspan0".to_owned();
    let mut socket = PathBuf::from(site::DEFAULT_SOCKET);
    if let Some(file) = &args.config {
        let parsed = site::read(file)?;
        socket = site::beside(file, &parsed.status.socket);
        link = parsed.tunnel.link;
    }
    if crate::status::socket::read(&socket).is_ok() {
        bail!("`linkspan run` still runs here ({} answers); stop it first", socket.display());
    }
    let links = args.link.into_iter().chain([link]).collect();
    let removed = super::runtime()?.block_on(async {
        if is_trial { crate::run::plan_uninstall(links).await } else { crate::run::uninstall(links).await }
    })?;
    match (removed.len(), is_trial) {
        (0, _) => super::print("nothing of Linkspan was there\n"),
        (count, false) => super::print(&format!("{}\nremoved {count} objects\n", removed.join("\n"))),
        (count, true) => super::print(&format!("{}\nwould remove {count} objects (dry run)\n", removed.join("\n"))),
    }
}

async fn uninstall_cluster(args: OfCluster) -> anyhow::Result<()> {
    let order = Order {
        member: args.cluster,
        broker: args.broker,
        crds: args.crds,
        force: args.force,
        wait: args.wait,
        dry_run: args.change.trial.dry_run,
        format: args.change.output,
    };
    super::on_one(&args.contexts, async |target| uninstall::uninstall(target, order).await).await
}
