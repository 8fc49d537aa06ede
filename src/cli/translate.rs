//! `linkspan translate`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use serde::Serialize;

use super::Misuse;
use super::status::Output;
use crate::kubectl::contexts::Contexts;
use crate::kubectl::output::{Progress, json, yaml};
use crate::kubectl::picture::{ClusterPicture, ask, look};
use crate::kubectl::translate::{explain, questions, unexplained};
use crate::site;
use crate::status::{AddressesReport, Explanation, socket};

const LONG: &str = "\
Tell what an address is called on each side, where clusters with equal prefixes know each other by virtual addresses.

Takes an address of a cluster's pods or services as the cluster itself has it, or as others know it, and prints both, and \
which of them each other cluster uses: in its NetworkPolicies, its logs, and what its servers see. The address of a service \
is used by those alone that have it for nothing else.

With a context, and as a plugin of kubectl, it reads the Members of that cluster, and so knows the addresses of all clusters \
as that one sees them. It takes the address of a node of that cluster as well, which pods on the host network have, too: they \
call other clusters from an address among the node's pods, and the node is asked for it. Without, it asks the process that runs \
on this node, or reads a site file; of another cluster's address these tell whose it is, and the process of a node in \
Kubernetes does not know who uses addresses of services.";

const EXAMPLES: &str = "\
Examples:
  kubectl linkspan translate 10.42.0.5 --context paris
  kubectl linkspan translate 100.64.0.5 --context paris,berlin -o json
  linkspan translate 10.42.0.5
  linkspan translate 10.42.0.5 --config site.yaml";

/// Tell by which address other clusters know one of this cluster, and the other way round.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// An address of a pod or service, in either form, or with a context of a node.
    address: IpAddr,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
    /// The status socket of a running process.
    #[arg(long, env = "LINKSPAN_SOCKET", hide_env = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A site file to read instead; no process needs to run. Default without either: ask /run/linkspan/linkspan.sock.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    #[command(flatten)]
    contexts: Contexts,
}

/// `by_kubectl`: whoever calls it so has clusters in mind, and no node.
pub(super) async fn run(args: Args, by_kubectl: bool) -> anyhow::Result<()> {
    let is_local = args.config.is_some() || args.socket.is_some();
    match args.contexts.is_given() || by_kubectl && !is_local {
        true if is_local => {
            Err(Misuse("--socket and --config are of a node, and contexts of clusters".to_owned()).into())
        }
        true => by_clusters(&args).await,
        false => by_node(args),
    }
}

/// As one cluster sees an address.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    /// The cluster that was looked at.
    from: String,
    #[serde(flatten)]
    found: Explanation,
}

async fn by_clusters(args: &Args) -> anyhow::Result<()> {
    let targets = args.contexts.targets().await?;
    let progress = Progress::start("looking at clusters");
    let mut picture = look(&targets).await;
    let questions: Vec<_> = picture.clusters.iter().map(|cluster| questions(cluster, args.address)).collect();
    ask(&targets, &mut picture, &questions).await;
    drop(progress);
    let all = || picture.clusters.iter();
    let found: Vec<Seen> = all()
        .filter_map(|cluster| Some(Seen { from: cluster.name().to_owned(), found: explain(cluster, args.address)? }))
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = all().map(ClusterPicture::name).collect();
        let unseen = || all().find_map(|cluster| cluster.members.unseen());
        let unseen = || unseen().map(|unseen| format!("{} were not seen: {}", unseen.what, unseen.why));
        let why = all().find_map(|cluster| unexplained(cluster, args.address)).or_else(unseen);
        let why = why.map(|why| format!("; {why}")).unwrap_or_default();
        bail!("{} is in no prefix of {}, nor of a cluster that it is joined with{why}", args.address, names.join(", "));
    }
    let text = |seen: &Seen| format!("{:<9}{}\n{}", "From", seen.from, describe(&seen.found));
    super::print(&match args.output {
        Output::Table | Output::Wide => found.iter().map(text).collect::<Vec<_>>().join("\n"),
        Output::Json => json(&found)?,
        Output::Yaml => yaml(&found)?,
    })
}

fn by_node(args: Args) -> anyhow::Result<()> {
    let (cluster, addresses) = match &args.config {
        Some(file) => {
            let site = site::read(file)?;
            let addresses = AddressesReport::from(&site);
            (site.cluster, addresses)
        }
        None => {
            let path = args.socket.unwrap_or_else(|| PathBuf::from(site::DEFAULT_SOCKET));
            let report = socket::read(&path)?;
            (report.cluster, report.addresses)
        }
    };
    let found = addresses.explain(&cluster, args.address).with_context(|| {
        format!("{} is in no prefix of {cluster}, nor of a cluster that it is joined with", args.address)
    })?;
    super::print(&match args.output {
        Output::Table => describe(&found),
        Output::Wide => describe(&found) + &prefixes(&addresses),
        Output::Json => json(&found)?,
        Output::Yaml => yaml(&found)?,
    })
}

/// As people read it.
fn describe(found: &Explanation) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<9}{text}");
    };
    line("Cluster", &found.cluster);
    if let Some(node) = &found.node {
        line("Node", &format!("{node}, which calls others from an address among its pods"));
    }
    match (found.native, found.r#virtual) {
        (None, _) => line("Here", &format!("{}; what it is there, that cluster knows", found.address)),
        (Some(native), None) => line("Native", &format!("{native}, without a virtual address")),
        (Some(native), Some(other)) => {
            line("Native", &native.to_string());
            line("Virtual", &other.to_string());
        }
    }
    for known in &found.known_as {
        line("Known", &format!("to {} as {}", known.cluster, known.address));
    }
    out
}

fn prefixes(addresses: &AddressesReport) -> String {
    addresses.translation.iter().map(|pair| format!("{:<9}{} is {}\n", "Prefix", pair.native, pair.r#virtual)).collect()
}
