//! Starts, uses and removes the testbed from the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use testbed::{Lifetime, Run, Spec, Testbed, relay, wait};

/// Real Kubernetes clusters in network namespaces.
#[derive(Parser)]
struct Arguments {
    /// What the names of all namespaces begin with.
    #[arg(long, default_value = "ltb")]
    prefix: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the clusters paris and berlin, two nodes each, and leave them up.
    Up {
        /// Give both clusters the same pods' and services' addresses.
        #[arg(long)]
        overlap: bool,
    },
    /// Remove every trace of them.
    Down,
    /// Run kubectl as a cluster's administrator.
    Kubectl {
        /// paris or berlin.
        cluster: String,
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a program on a node, in all its namespaces.
    Exec {
        /// For instance paris-1.
        node: String,
        /// The program and its arguments; a shell if there is none.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Import a docker-archive into every node.
    Import {
        /// The archive, a tar file.
        archive: PathBuf,
    },
    /// Kill everything on a node and pull its cable.
    KillNode {
        /// For instance paris-2.
        node: String,
    },
    /// Start a killed node again.
    StartNode {
        /// For instance paris-2.
        node: String,
    },
    /// Kill a cluster's API server.
    StopApi {
        /// paris or berlin.
        cluster: String,
    },
    /// Start it again.
    StartApi {
        /// paris or berlin.
        cluster: String,
    },
    /// Show nodes, pods, events and the end of all logs.
    Describe,
    /// Hand on connections to 127.0.0.1 into a namespace.
    #[command(hide = true)]
    Relay { port: u16, netns: String, target: SocketAddr },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let prefix = arguments.prefix.as_str();
    let open = || Testbed::open(prefix)?.context("there is no testbed: start one with `make cluster`");
    match arguments.command {
        Command::Up { overlap } => up(prefix, overlap)?,
        Command::Down => {
            let found = Testbed::remove(prefix)?;
            eprintln!("testbed: {}", if found { "removed" } else { "there was none" });
        }
        Command::Kubectl { cluster, args } => return hand_over(&open()?.cluster(&cluster)?.kubectl(args)?),
        Command::Exec { node, command } => {
            let (program, args) = command.split_first().map_or(("sh", &[][..]), |(first, rest)| (first, rest));
            return hand_over(&open()?.cluster(cluster_of(&node))?.node(&node)?.inside(Run::new(program, args))?);
        }
        Command::Import { archive } => {
            open()?.clusters.iter().try_for_each(|cluster| cluster.import_image(&archive))?;
        }
        Command::KillNode { node } => open()?.cluster_mut(cluster_of(&node))?.kill_node(&node)?,
        Command::StartNode { node } => open()?.cluster_mut(cluster_of(&node))?.start_node(&node)?,
        Command::StopApi { cluster } => open()?.cluster_mut(&cluster)?.stop_api_server()?,
        Command::StartApi { cluster } => open()?.cluster_mut(&cluster)?.start_api_server()?,
        Command::Describe => open()?.clusters.iter().for_each(|cluster| print!("{}", cluster.describe())),
        Command::Relay { port, netns, target } => {
            relay::serve(&relay::listen(port)?, &netns, target, &AtomicBool::new(false))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(prefix: &str, overlap: bool) -> Result<()> {
    let (paris, mut berlin) = (Spec::paris(), Spec::berlin());
    if overlap {
        (berlin.pod_cidr, berlin.service_cidr) = (paris.pod_cidr, paris.service_cidr);
    }
    let start = wait::now();
    let bed = Testbed::start(prefix, &[paris, berlin], Lifetime::Machine)?;
    println!("two clusters are up after {:.0} s\n", start.elapsed().as_secs_f32());
    for cluster in &bed.clusters {
        let spec = &cluster.spec;
        println!(
            "{:<8} nodes {}  pods {}  services {}",
            spec.name, spec.node_network, spec.pod_cidr, spec.service_cidr
        );
        println!("         API server for nodes and pods of all clusters: {}", cluster.url());
        println!("         export KUBECONFIG={}", cluster.kubeconfig_path().display());
    }
    let program = std::env::args().next().unwrap_or_else(|| "testbed".to_owned());
    println!(
        "\n{program} kubectl paris get pods -A\n{program} exec paris-2 ip route\n{program} import image.tar\n\
         The image {} has a shell and network tools. `make cluster-down` removes everything.",
        testbed::stock::TOOLS
    );
    Ok(())
}

/// A node is named after its cluster.
fn cluster_of(node: &str) -> &str {
    node.rsplit_once('-').map_or(node, |(cluster, _)| cluster)
}

/// Runs a program with this one's terminal.
fn hand_over(run: &Run) -> Result<ExitCode> {
    let mut command = run.command();
    let status = command.stdin(std::process::Stdio::inherit()).status();
    let status = status.with_context(|| format!("failed to start `{run}`"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
