//! `linkspan lab`: sites out of network namespaces on this machine, joined and proven.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::lab::proof::{self, Proof};
use crate::lab::{self, Access, Family, Lab, OnDrop, Prefix, Proxy, Report, Spec, Target, pod};

/// How long the nodes may take to be ready and joined.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Exit code after a signal: 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;
/// How often a pod's client sends in `pod-beat`.
const BEAT: Duration = Duration::from_millis(5);

/// Build sites out of network namespaces on this machine, join them, and prove that it works
///
/// Without a command: build, start, prove, print one table, and remove everything again. Needs root. The exit code is
/// 0 when every check passed, 1 when one failed, and 2 when the lab could not run.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    shape: Shape,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, ClapArgs)]
struct Shape {
    /// Sites, 2 to 16
    #[arg(long, default_value_t = 2)]
    sites: u8,
    /// Nodes of each site, the gateway node included, 1 to 13
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Pods of each node, 1 to 50
    #[arg(long, default_value_t = 2)]
    pods: u8,
    /// Address families inside and outside the tunnels
    #[arg(long, value_enum, default_value_t = Family::V4)]
    family: Family,
    /// Whose service rules the nodes carry
    #[arg(long, value_enum, default_value_t = Proxy::Mixed)]
    proxy: Proxy,
    /// Give all sites, or the first SITES of them, the very same CIDRs of pods and services
    #[arg(long, value_name = "SITES", num_args = 0..=1, require_equals = true)]
    overlap: Option<Option<u8>>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, ClapArgs)]
struct PlaceArgs {
    /// What the names of the lab's namespaces start with
    #[arg(long, default_value_t = Prefix::default())]
    prefix: Prefix,
    /// The program to run on the nodes; this one if not given
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the lab, start Linkspan on every node, and leave it up
    Up(Shape),
    /// Run the proofs on a lab that is up
    Prove {
        #[command(flatten)]
        place: PlaceArgs,
        /// How to print the result
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Run a command in a pod or on a node, for example `lab exec paris/pod-1 -- ping 10.52.0.2`
    Exec {
        #[command(flatten)]
        place: PlaceArgs,
        /// SITE/POD or SITE/NODE, as `lab status` lists them
        target: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the sites, nodes and pods of a lab that is up
    Status {
        #[command(flatten)]
        place: PlaceArgs,
        /// How to print the result
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Remove the lab, or what a crash left of it
    Down(PlaceArgs),
    /// Serve in a pod
    #[command(hide = true)]
    PodServe {
        label: String,
        /// Prefix of the lab that the process belongs to, for readers of process lists
        #[arg(long)]
        lab: Prefix,
    },
    /// Ask servers from a pod
    #[command(hide = true)]
    PodAsk { questions: Vec<pod::Question> },
    /// Exchange messages with a server from a pod
    #[command(hide = true)]
    PodBeat {
        to: IpAddr,
        #[arg(long)]
        millis: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// The lab could not be built, found or asked. A check that fails is no error: it is exit code 1.
pub async fn run(args: Args) -> Result<ExitCode> {
    let builds = match &args.command {
        None => Some(args.shape.place.prefix.clone()),
        Some(Command::Up(shape)) => Some(shape.place.prefix.clone()),
        Some(_) => None,
    };
    let mut work = tokio::task::spawn_blocking(move || dispatch(args));
    let Some(prefix) = builds else { return work.await.context("the lab's thread panicked")? };
    tokio::select! {
        done = &mut work => done.context("the lab's thread panicked")?,
        signal = interrupted() => {
            signal?;
            eprintln!("interrupted: removing the lab");
            // Takes the ground from under the worker, which then fails and removes what it made since.
            tokio::task::spawn_blocking({ let prefix = prefix.clone(); move || Lab::interrupt(&prefix) }).await??;
            let _ = work.await;
            tokio::task::spawn_blocking(move || Lab::remove(&prefix)).await??;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
    tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
    Ok(())
}

fn dispatch(args: Args) -> Result<ExitCode> {
    match args.command {
        None => whole(args.shape, args.output),
        Some(Command::Up(shape)) => up(shape),
        Some(Command::Prove { place, output }) => prove(&place, output),
        Some(Command::Exec { place, target, command }) => exec(&place, &target, &command),
        Some(Command::Status { place, output }) => status(&place, output),
        Some(Command::Down(place)) => down(&place),
        Some(Command::PodServe { label, lab }) => {
            pod::serve(&label).with_context(|| format!("in lab {lab}")).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::PodAsk { questions }) => print_json(&pod::ask(&questions)),
        Some(Command::PodBeat { to, millis }) => print_json(&pod::beat(to, BEAT, Duration::from_millis(millis))?),
    }
}

fn whole(shape: Shape, output: Output) -> Result<ExitCode> {
    let steps = Steps::new();
    let mut lab = built(&shape, &steps)?;
    let mut report = proofs(&mut lab, proof::BEFORE, &steps)?;
    start(&mut lab, &steps)?;
    report.rows.extend(proofs(&mut lab, proof::AFTER, &steps)?.rows);
    steps.say("removing the lab");
    lab.down()?;
    steps.done();
    print(&report, output)
}

fn up(shape: Shape) -> Result<ExitCode> {
    let steps = Steps::new();
    let mut lab = built(&shape, &steps)?;
    start(&mut lab, &steps)?;
    lab.on_drop = OnDrop::Keep;
    steps.done();
    let first = lab.plan.pods().next().map(|place| place.label()).unwrap_or_default();
    let name = lab.plan.sites[1].web_name();
    println!("The lab is up. Try:\n  linkspan lab status\n  linkspan lab exec {first} -- curl http://{name}/");
    println!("  linkspan lab prove\n  linkspan lab down");
    Ok(ExitCode::SUCCESS)
}

/// Builds the lab as the arguments say.
fn built(shape: &Shape, steps: &Steps) -> Result<Lab> {
    let Shape { sites, nodes, pods, family, proxy, overlap, ref place } = *shape;
    let overlapping = overlap.map_or(0, |of| of.unwrap_or(sites));
    let spec = Spec { prefix: place.prefix.clone(), sites, nodes, pods, family, proxy, overlapping };
    steps.say(&format!("building {sites} sites of {nodes} nodes with {pods} pods each"));
    let mut lab = Lab::build(spec, &own_binary()?)?;
    lab.node_binary = node_binary(place)?;
    Ok(lab)
}

fn start(lab: &mut Lab, steps: &Steps) -> Result<()> {
    steps.say("starting Linkspan on every node");
    let begin = lab::now();
    lab.start()?;
    lab.wait_ready(READY_WITHIN)?;
    steps.say(&format!("joined after {:.1} s", begin.elapsed().as_secs_f64()));
    Ok(())
}

fn proofs(lab: &mut Lab, proofs: &[Proof], steps: &Steps) -> Result<Report> {
    proof::run(lab, proofs, |name| steps.say(&format!("proving: {name}")))
}

fn prove(place: &PlaceArgs, output: Output) -> Result<ExitCode> {
    let mut lab = opened(place, Access::Exclusive)?;
    let steps = Steps::new();
    let report = proofs(&mut lab, proof::AFTER, &steps)?;
    steps.done();
    print(&report, output)
}

fn exec(place: &PlaceArgs, label: &str, command: &[String]) -> Result<ExitCode> {
    let lab = opened(place, Access::Shared)?;
    let Some(target) = lab.plan.find(label) else {
        let known: Vec<_> = lab.plan.pods().map(|place| place.label()).collect();
        bail!("the lab has no pod or node `{label}`; its pods are {}", known.join(", "));
    };
    let mut run = lab.run_in(target, command).command();
    if let Target::Node(_, node) = target {
        run.current_dir(lab.node_dir(&node.name));
    }
    // A shell may stay open for long, and `lab down` shall work beside it.
    drop(lab);
    let status =
        run.stdin(std::process::Stdio::inherit()).status().with_context(|| format!("failed to run {run:?}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn status(place: &PlaceArgs, output: Output) -> Result<ExitCode> {
    let mut lab = opened(place, Access::Shared)?;
    let overview = lab.overview();
    if output == Output::Json {
        return print_json(&overview);
    }
    println!("{}", lab::overview_table(&overview));
    Ok(ExitCode::SUCCESS)
}

fn down(place: &PlaceArgs) -> Result<ExitCode> {
    let found = Lab::remove(&place.prefix)?;
    println!("{}", if found { "The lab is removed." } else { "There was no lab." });
    Ok(ExitCode::SUCCESS)
}

fn opened(place: &PlaceArgs, access: Access) -> Result<Lab> {
    let lab = Lab::open(&place.prefix, &own_binary()?, access)?;
    let mut lab = lab.with_context(|| format!("there is no lab `{}`: run `linkspan lab up`", place.prefix))?;
    lab.node_binary = node_binary(place)?;
    Ok(lab)
}

fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().context("failed to find this program's own file")
}

fn node_binary(place: &PlaceArgs) -> Result<PathBuf> {
    let Some(path) = &place.binary else { return own_binary() };
    // The nodes' processes start in another folder.
    path.canonicalize().with_context(|| format!("failed to find the program {}", path.display()))
}

fn print(report: &Report, output: Output) -> Result<ExitCode> {
    match output {
        Output::Table => println!("{}", report.table()),
        Output::Json => print_json(&report.json()).map(drop)?,
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode> {
    println!("{}", serde_json::to_string(value).context("failed to render JSON")?);
    Ok(ExitCode::SUCCESS)
}

/// What the lab is doing: a spinner on a terminal, plain lines otherwise.
struct Steps {
    bar: Option<ProgressBar>,
}

impl Steps {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::default_spinner().template("{spinner} {elapsed:>3} {msg}").expect("a fixed template"),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    fn say(&self, step: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(step.to_owned()),
            None => eprintln!("{step}"),
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
