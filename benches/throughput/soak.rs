//! One full TCP stream for minutes, through several rekeys (every 120 s): does the rate hold, and memory stay?

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::contender::{Contender, Tunnel};
use crate::measure::{Bench, median, rss_mib};
use crate::net::{Net, Side, finish};
use crate::{Plan, measure};

/// Time between two looks at memory and handshakes, and the span over which a rate is told.
const STEP: Duration = Duration::from_secs(10);
/// What the tunnel may do before it counts: caches fill, and the kernel finds its windows.
const WARM_UP: usize = 1;
/// What the second half has at least of the first: a machine that others use takes some of it.
const LEAST_RATE: f64 = 0.8;
/// What memory may grow by.
const MOST_GROWTH_MIB: f64 = 1.0;

/// Carries one stream for `plan.seconds`, prints what was seen, and the line `RESULT`; fails when the rate has dropped or memory
/// has grown.
pub fn run(contender: Contender, plan: Plan) -> Result<()> {
    let net = Net::new()?;
    let tunnel = contender.start(&net)?;
    let bench = Bench { net: &net, contender, plan };
    let watched = std::thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(|| bench.tcp_rates(STEP));
        let seen = watch(&net, &tunnel, Duration::from_secs(plan.seconds.into()));
        let rates = load.join().map_err(|_| anyhow::anyhow!("the stream's thread panicked"))??;
        Ok((rates, seen?))
    });
    let (rates, seen) = watched?;
    report(&rates, &seen)
}

/// What a look has shown.
#[derive(Debug, Clone, Copy)]
struct Look {
    rss_mib: f64,
    /// Age of the newest handshake, in seconds.
    handshake: f64,
}

fn watch(net: &Net, tunnel: &Tunnel, span: Duration) -> Result<Vec<Look>> {
    let from = Instant::now();
    let mut looks = Vec::new();
    while from.elapsed() + STEP <= span {
        std::thread::sleep(STEP);
        let look = Look { rss_mib: rss_mib(tunnel)?, handshake: handshake_age(net, tunnel)? };
        println!(
            "{:4.0} s  {:5.1} MiB  handshake {:3.0} s ago",
            from.elapsed().as_secs_f64(),
            look.rss_mib,
            look.handshake
        );
        looks.push(look);
    }
    Ok(looks)
}

fn handshake_age(net: &Net, tunnel: &Tunnel) -> Result<f64> {
    let mut status = net.command(Side::A, env!("CARGO_BIN_EXE_linkspan"));
    status.args(["status", "-o", "json", "--socket"]).arg(tunnel.status_socket(Side::A));
    let status: Value = serde_json::from_slice(&finish(&mut status)?.stdout).context("reading the status")?;
    let peers = status["tunnel"]["peers"].as_array().context("the status tells of no peers")?;
    // The others are absent.
    peers.iter().find_map(|peer| peer["handshakeSeconds"].as_f64()).context("no peer has had a handshake")
}

/// What was seen after the warm-up.
fn warmed_up<T>(all: &[T]) -> Result<&[T]> {
    all.get(WARM_UP..).filter(|rest| rest.len() >= 2).context("too short: give it a minute at least")
}

fn report(rates: &[f64], looks: &[Look]) -> Result<()> {
    let (rates, looks) = (warmed_up(rates)?, warmed_up(looks)?);
    let (first, last) = rates.split_at(rates.len() / 2);
    let (first, last) = (median(&mut first.to_vec())?, median(&mut last.to_vec())?);
    let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let rekeys = looks.windows(2).filter(|pair| pair[1].handshake < pair[0].handshake).count();
    let growth = looks[looks.len() - 1].rss_mib - looks[0].rss_mib;
    println!(
        "RESULT soak_first_half_gbps={first:.3} soak_last_half_gbps={last:.3} soak_lowest_gbps={lowest:.3} \
         soak_rekeys={rekeys} soak_rss_growth_mib={growth:.2} cores={}",
        measure::cores()
    );
    ensure!(last >= first * LEAST_RATE, "the rate has dropped from {first:.2} to {last:.2} Gbit/s");
    ensure!(growth <= MOST_GROWTH_MIB, "memory has grown by {growth:.1} MiB");
    Ok(())
}
