//! Throughput, latency and cost of Linkspan and of other userspace WireGuards, in one run on one machine.
//!
//! Two network namespaces are joined by one veth pair of MTU 1500. Every contender in turn gets a device in each, with
//! an inner MTU of 1420, and carries the same traffic: TCP with one and four streams and both ways at once (iperf3),
//! UDP of 1300 and 64 bytes (a sender of our own, see [`flood`]), and pings, idle and under a full TCP stream.
//! The contenders take turns over several rounds, since the machine may be shared; what is reported are medians over
//! rounds, and ratios as medians of the ratios within each round. Every second round goes backwards, so that none always
//! runs after the same other: a machine may give less to whoever comes after a busy one.
//!
//! Two bounds say what this machine could do at best: [`bound`].
//!
//! The last line is `RESULT` and `key=value` pairs; the same and more goes to `target/bench/throughput.json`.

mod bound;
mod contender;
mod flood;
mod measure;
mod net;
mod report;
mod soak;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use contender::Contender;

/// Throughput, latency and cost, in one run with other WireGuards.
#[derive(Debug, Parser)]
struct Options {
    /// One round of short runs: shows that all work, and roughly how fast.
    #[arg(long)]
    quick: bool,
    /// How often each contender takes its turn [default: 5, quick: 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each TCP run [default: 5, quick: 2].
    #[arg(long)]
    seconds: Option<u32>,
    /// Only these contenders, by name; bare-veth always runs, for the bound needs it.
    #[arg(long, value_delimiter = ',', env = "LINKSPAN_BENCH_ONLY")]
    only: Vec<String>,
    /// Instead of all that, one stream through Linkspan for so many seconds: does the rate hold, and memory stay?
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(60..))]
    soak: Option<u32>,
    /// cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program does when it starts itself inside a namespace.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    FloodSend(flood::Send),
    #[command(hide = true)]
    FloodReceive(flood::Receive),
}

/// How long everything takes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    rounds: usize,
    seconds: u32,
    flood_seconds: f64,
    pings: u32,
    /// After so long without traffic a tunnel counts as idle.
    settle: Duration,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.part {
        Some(Part::FloodSend(send)) => return flood::send(send),
        Some(Part::FloodReceive(receive)) => return flood::receive(receive),
        None => (),
    }
    let plan = plan(&options);
    if let Some(seconds) = options.soak {
        net::remove_leftovers()?;
        return soak::run(Contender::Linkspan2, Plan { seconds, ..plan });
    }
    let contenders = choose(&options.only)?;
    let seconds = contenders.len() as f64 * plan.rounds as f64 * measure::seconds_of_one_turn(plan);
    println!("{} contenders, {} rounds, about {:.0} minutes", contenders.len(), plan.rounds, (seconds / 60.0).ceil());

    net::remove_leftovers()?;
    let mut record = report::Record::new(plan);
    for round in 0..plan.rounds {
        record.wake_up(bound::wake_up_seconds()?);
        for contender in order(&contenders, round) {
            let sample = measure::turn(contender, plan).with_context(|| format!("measuring {}", contender.name()))?;
            println!("round {} {:22} {}", round + 1, contender.name(), sample.summary());
            record.add(contender, sample);
        }
    }
    for contender in contenders.iter().filter(|contender| **contender != Contender::Bare) {
        record.idle(*contender, measure::idle_wakeups_per_s(*contender, plan)?);
    }
    if contenders.contains(&Contender::Linkspan2) {
        record.rss100(measure::rss_with_peers(100).context("measuring Linkspan with 100 peers")?);
    }
    record.print();
    record.save()
}

/// Each round begins with another one, every second one goes backwards.
fn order(contenders: &[Contender], round: usize) -> Vec<Contender> {
    let mut order = contenders.to_vec();
    let count = order.len();
    order.rotate_left(round / 2 % count);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn plan(options: &Options) -> Plan {
    let (rounds, seconds, flood_seconds, pings, settle) =
        if options.quick { (1, 2, 0.5, 100, 3) } else { (5, 5, 1.5, 300, 25) };
    let settle = Duration::from_secs(settle);
    Plan {
        settle,
        rounds: options.rounds.unwrap_or(rounds),
        seconds: options.seconds.unwrap_or(seconds),
        flood_seconds,
        pings,
    }
}

fn choose(only: &[String]) -> Result<Vec<Contender>> {
    if let Some(unknown) = only.iter().find(|name| Contender::ALL.iter().all(|contender| contender.name() != **name)) {
        let names: Vec<_> = Contender::ALL.iter().map(Contender::name).collect();
        bail!("there is no contender '{unknown}'; there are {}", names.join(", "));
    }
    let wanted = |contender: &Contender| {
        *contender == Contender::Bare || only.is_empty() || only.contains(&contender.name().to_owned())
    };
    Ok(Contender::ALL.into_iter().filter(wanted).collect())
}
