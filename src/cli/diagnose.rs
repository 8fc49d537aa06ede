//! `linkspan diagnose`.

use std::process::ExitCode;

use crate::kubectl::contexts::Contexts;
use crate::kubectl::diagnose::{Check, Finding, ask_nodes, diagnose, exit_code, names, table};
use crate::kubectl::output::{Format, Progress, Screen, json, yaml};
use crate::kubectl::picture::look;
use crate::kubectl::speech::Speech;
use clap::{Args as ClapArgs, ValueEnum};

const LONG: &str = "\
Look at clusters and tell what is wrong with them, with the evidence, the cause and a fix.

What API servers have is read first; then every node is asked through its linkspan-node pod what its kernel has and whom it \
reaches. Name the contexts of all clusters that are concerned: both ends of a tunnel together tell what one end cannot. \
Nothing is changed. What your rights do not let you see is told as unknown, and the rest is checked. Of what is well, tables tell \
with `-o wide` only, and `-o name` nothing: it lists what is not, as CLUSTER/CHECK/OBJECT.";

const EXAMPLES: &str = "\
Examples:
  kubectl linkspan diagnose --context paris,berlin
  kubectl linkspan diagnose firewall mtu --context paris,berlin
  kubectl linkspan diagnose -o json --context paris | jq '.[] | select(.state == \"failed\")'
  kubectl linkspan diagnose -o wide --all-contexts
  kubectl linkspan diagnose -o name --all-contexts | grep ^paris/

Checks:
  broker       joining, the credential, and whether the broker answers
  clock        clocks of API servers and nodes
  cni          routes, and rules of other programs that rewrite sources
  connections  tunnels between gateways
  dns          names under clusterset.local
  firewall     UDP between gateways and nodes, rules that drop, policies before exports
  kube-proxy   whether clusterset IPs are carried on every node
  mtu          packets of full size
  nodes        Linkspan's pods, gateways, and passes
  overlap      addresses that several clusters have
  rbac         roles of Linkspan, and your own permissions
  services     exports and imports
  version      versions within and between clusters

Permissions: those of ClusterRole linkspan-viewer, without which some is not seen; ClusterRole linkspan-diagnose, to list roles \
for the check of that name; and Role linkspan-diagnose in namespace linkspan-system, to get and create pods/exec, without which \
nodes are not asked.

Exit codes:
  0  nothing is wrong; there may be warnings
  1  something has failed
  2  it could not run, for want of a kubeconfig that can be read, say
  3  nothing that was seen has failed, and something could not be seen
  64 wrong use of the command line";

/// Tell what is wrong with clusters, and why.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// What is checked.
    #[arg(value_enum, value_name = "CHECK", default_value = "all")]
    checks: Vec<Wanted>,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Ask API servers alone, not the nodes.
    #[arg(long)]
    no_nodes: bool,
    #[command(flatten)]
    contexts: Contexts,
}

/// A check, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted(Option<Check>);

impl ValueEnum for Wanted {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Wanted; Check::ALL.len() + 1] = {
            let mut all = [Wanted(None); Check::ALL.len() + 1];
            let mut at = 0;
            while at < Check::ALL.len() {
                all[at + 1] = Wanted(Some(Check::ALL[at]));
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.map_or("all", Check::name)))
    }
}

impl Wanted {
    fn holds(self, finding: &Finding) -> bool {
        self.0.is_none_or(|check| check == finding.check)
    }
}

pub(super) async fn run(args: Args, speech: Speech) -> anyhow::Result<ExitCode> {
    let targets = args.contexts.targets().await?;
    let progress = Progress::start("looking at clusters");
    let mut picture = look(&targets).await;
    if !args.no_nodes {
        ask_nodes(&targets, &mut picture, &progress).await;
    }
    drop(progress);
    let mut findings = diagnose(&picture);
    findings.retain(|finding| args.checks.iter().any(|wanted| wanted.holds(finding)));
    findings.iter_mut().for_each(|finding| finding.speak(&speech));
    let text = match args.output {
        Format::Json => json(&findings)?,
        Format::Yaml => yaml(&findings)?,
        Format::Name => names(&findings),
        format => table(&findings, format, Screen::of_stdout()),
    };
    super::print(&text)?;
    Ok(ExitCode::from(exit_code(&findings)))
}
