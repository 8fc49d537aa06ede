//! `linkspan export` and `linkspan unexport`.

use clap::Args as ClapArgs;

use super::change::Change;
use crate::kubectl::contexts::{Contexts, Namespace};
use crate::kubectl::install::exports::{self, Order};

const EXPORT: &str = "\
Examples:
  linkspan export web
  linkspan export web --namespace shop --context paris,berlin

It makes the ServiceExport that `kubectl apply` would make, and nothing else:
  apiVersion: multicluster.x-k8s.io/v1beta1
  kind: ServiceExport
  metadata: { name: web, namespace: shop }";

/// Let the clusters of the clusterset use a service.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXPORT)]
pub(super) struct Export {
    #[command(flatten)]
    what: What,
}

const UNEXPORT: &str = "\
Examples:
  linkspan unexport web
  linkspan unexport web --namespace shop --all-contexts";

/// Take a service back from the clusterset; its cluster keeps it.
#[derive(Debug, ClapArgs)]
#[command(after_help = UNEXPORT)]
pub(super) struct Unexport {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, ClapArgs)]
struct What {
    /// Name of the service.
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    contexts: Contexts,
}

impl What {
    fn order(self) -> Order {
        Order {
            service: self.service,
            namespace: self.namespace,
            dry_run: self.change.trial.dry_run,
            format: self.change.output,
        }
    }
}

pub(super) async fn export(args: Export) -> anyhow::Result<()> {
    let targets = args.what.contexts.targets().await?;
    exports::export(targets, &args.what.order()).await
}

pub(super) async fn unexport(args: Unexport) -> anyhow::Result<()> {
    let targets = args.what.contexts.targets().await?;
    exports::unexport(targets, &args.what.order()).await
}
