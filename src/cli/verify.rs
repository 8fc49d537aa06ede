//! `linkspan verify`.

use clap::Args as ClapArgs;

use super::staged::{Staged, run_id};
use crate::kubectl::verify::{self, Options};

const LONG: &str = "\
Prove that clusters are joined, with test pods in each.

The command makes namespace linkspan-verify in all named clusters, with pods of Linkspan's own image on two nodes, and exports \
them. From each pod it then calls the pods and services of all other clusters, by address and by name, over TCP and UDP and with \
packets of full size, and compares the source that the server saw with the address by which its cluster knows the caller. It \
removes everything again, also when it is interrupted; a second interruption ends it at once. Test pods of another run that has \
not ended are left alone.

Contexts that do not answer, are of no Member or have test pods of another run are left out as long as two others remain, and \
told at the end.";

const EXAMPLES: &str = "\
Examples:
  linkspan verify --context paris,berlin
  linkspan verify --all-contexts --failover -o json

Exit codes:
  0  all is proven
  1  something is not
  2  it could not run, or was ended, or its test pods could not be removed
  3  all is proven between the clusters that could be used; others were left out
  64 wrong use of the command line

It needs the permissions of ClusterRole linkspan-viewer, and to get, create, patch and delete namespaces; and in namespace \
linkspan-verify to get, create and patch stateful sets, services and service exports, and to get and create pods/exec. With \
--failover it deletes pods in namespace linkspan-system as well.";

/// Prove with test pods that clusters are joined: addresses, names, sources, large packets.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// Also restart the active gateway of each cluster, and measure how long traffic stops. Connections of others feel it.
    #[arg(long)]
    failover: bool,
    #[command(flatten)]
    staged: Staged,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { failover, staged } = args;
    let options = Options { failover, afterwards: staged.afterwards(), output: staged.output };
    verify::verify(&staged.targets().await?, &run_id()?, options).await
}
