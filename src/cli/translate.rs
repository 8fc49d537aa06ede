//! `linkspan translate`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::status::Output;
use crate::kubectl::output::{json, yaml};
use crate::site;
use crate::status::{AddressesReport, Explanation, socket};

const LONG: &str = "\
Tell what an address is called on each side, where clusters with equal prefixes know each other by virtual addresses.

Takes an address of this cluster's pods or services as the cluster itself has it, or as others know it, and prints both,
and which of them each other cluster uses: in its NetworkPolicies, its logs, and what its servers see. Of another
cluster's address it tells whose it is.";

const EXAMPLES: &str = "\
Examples:
  linkspan translate 10.42.0.5
  linkspan translate 100.64.0.5 -o json
  linkspan translate 10.42.0.5 --config site.yaml";

/// Tell by which address other clusters know one of this cluster, and the other way round.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// An address of a pod, service or node, in either form.
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
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
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
