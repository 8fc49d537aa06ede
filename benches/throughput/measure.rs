//! One turn of one contender: all its traffic, and what that cost.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::contender::{self, Contender, Tunnel};
use crate::net::{Net, Running, Side, finish};
use crate::{Plan, bound};

const IPERF_PORT: &str = "5201";
const FLOOD_PORT: u16 = 5300;
/// Offered packets per second, ending with as many as the sender can. Under overload a tunnel may deliver fewer than
/// it could, so the best of all counts.
const FLOOD_RATES: [u64; 4] = [150_000, 300_000, 600_000, 0];
/// How long the cipher is measured before and after a TCP run.
const CIPHER: Duration = Duration::from_millis(500);
/// Kernel clock ticks per second in /proc (USER_HZ, the same on every Linux of today).
const TICKS: f64 = 100.0;

/// What one turn measured.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Gbit/s of TCP payload, one stream.
    pub tcp1_gbps: f64,
    /// Core-seconds to seal and open one bit of that, measured before and after it.
    pub aead_s_per_bit: f64,
    /// Core-seconds of the whole machine per gigabyte of that.
    pub cpu_s_per_gb: f64,
    /// Core-seconds of the two tunnel processes per gigabyte of that.
    pub process_cpu_s_per_gb: f64,
    /// Share of the machine's cores that was busy during it, 0 to 1.
    pub busy: f64,
    /// Gbit/s, four streams.
    pub tcp4_gbps: f64,
    /// Gbit/s, one stream each way, both together.
    pub bidir_gbps: f64,
    /// Gbit/s of payload of 1300-byte datagrams that arrived.
    pub udp1300_gbps: f64,
    /// Thousands of 64-byte datagrams per second that arrived.
    pub udp64_kpps: f64,
    /// Median round trip, idle, in milliseconds.
    pub rtt_ms: f64,
    /// Median round trip under one full TCP stream.
    pub rtt_load_ms: f64,
    /// 99th percentile of the same.
    pub rtt_load_p99_ms: f64,
    /// Resident memory of the larger end after all this, in MiB.
    pub rss_mib: f64,
    /// Share of the machine that others used just before, 0 to 1.
    pub noise: f64,
}

impl Sample {
    /// The most telling figures in one line.
    pub fn summary(&self) -> String {
        format!(
            "tcp {:6.2} Gbit/s, x4 {:6.2}, udp64 {:5.0} kpps, rtt {:.3} ms, others used {:.0} % of the machine",
            self.tcp1_gbps,
            self.tcp4_gbps,
            self.udp64_kpps,
            self.rtt_ms,
            self.noise * 100.0
        )
    }
}

/// About how long [`turn`] takes.
pub fn seconds_of_one_turn(plan: Plan) -> f64 {
    let floods = (FLOOD_RATES.len() + 2) as f64 * (plan.flood_seconds + 0.5);
    f64::from(plan.seconds + 1) * 4.0 + 2.0 * CIPHER.as_secs_f64() + floods + f64::from(plan.pings) * 0.01 + 5.0
}

/// Starts a contender, measures everything once, and stops it.
pub fn turn(contender: Contender, plan: Plan) -> Result<Sample> {
    let net = Net::new()?;
    let noise = busy_share(Duration::from_millis(500))?;
    let tunnel = contender.start(&net)?;
    let bench = Bench { net: &net, contender, plan };

    let rtt_ms = median(&mut bench.ping(plan.pings, "0.01")?)?;
    let cipher_before = bound::seal_and_open_seconds_per_bit(CIPHER)?;
    let before = Cost::now(&tunnel)?;
    let one = bench.tcp(&["-P", "1"])?;
    let cost = Cost::now(&tunnel)?.since(&before);
    let aead_s_per_bit = f64::midpoint(cipher_before, bound::seal_and_open_seconds_per_bit(CIPHER)?);
    let tcp4_gbps = bench.tcp(&["-P", "4"])?.gbps;
    let bidir_gbps = bench.tcp(&["--bidir"])?.gbps;
    let mut loaded = bench.ping_under_load()?;
    let rtt_load_ms = median(&mut loaded)?;
    Ok(Sample {
        tcp1_gbps: one.gbps,
        aead_s_per_bit,
        cpu_s_per_gb: cost.machine / one.gigabytes,
        process_cpu_s_per_gb: cost.processes / one.gigabytes,
        busy: cost.machine / cost.wall / cores() as f64,
        tcp4_gbps,
        bidir_gbps,
        udp1300_gbps: bench.flood(1300, &FLOOD_RATES[2..])? * 1300.0 * 8.0 / 1e9,
        udp64_kpps: bench.flood(64, &FLOOD_RATES)? / 1e3,
        rtt_ms,
        rtt_load_ms,
        rtt_load_p99_ms: loaded[loaded.len() * 99 / 100],
        rss_mib: rss_mib(&tunnel)?,
        noise,
    })
}

/// Resident memory of a Linkspan with `peers` peers, in MiB.
pub fn rss_with_peers(peers: usize) -> Result<f64> {
    let net = Net::new()?;
    let tunnel = contender::linkspan_with_peers(&net, peers)?;
    std::thread::sleep(Duration::from_secs(2));
    rss_mib(&tunnel)
}

/// Times per second that the two processes are woken when nothing has passed for `plan.settle`.
pub fn idle_wakeups_per_s(contender: Contender, plan: Plan) -> Result<f64> {
    let net = Net::new()?;
    let tunnel = contender.start(&net)?;
    std::thread::sleep(plan.settle);
    wakeups(&tunnel, Duration::from_secs(5))
}

/// Cores of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where traffic is made.
pub struct Bench<'a> {
    /// The two ends.
    pub net: &'a Net,
    /// What carries it.
    pub contender: Contender,
    /// For how long.
    pub plan: Plan,
}

struct Tcp {
    gbps: f64,
    gigabytes: f64,
}

impl Bench<'_> {
    fn iperf(&self, options: &[&str]) -> std::process::Command {
        let mut command = self.net.command(Side::A, "iperf3");
        let (from, to) = (self.contender.address(Side::A), self.contender.called(Side::B));
        command
            .args(["-c", to, "-B", from, "-p", IPERF_PORT, "-J", "-t", &self.plan.seconds.to_string()])
            .args(options);
        command
    }

    /// A server for one run. One that serves several stops listening for a moment after each.
    fn server(&self) -> Result<Running> {
        let mut server = self.net.command(Side::B, "iperf3");
        let server = self.net.spawn(server.args(["-s", "-1", "-p", IPERF_PORT]).stdout(Stdio::null()))?;
        for _ in 0..500 {
            let mut listening = self.net.command(Side::B, "ss");
            if !finish(listening.args(["-ltnH", &format!("sport = :{IPERF_PORT}")]))?.stdout.is_empty() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("iperf3 does not listen on port {IPERF_PORT}");
    }

    /// One iperf3 run to its end.
    fn iperf_report(&self, options: &[&str]) -> Result<Value> {
        let _server = self.server()?;
        let output = finish(&mut self.iperf(options))?;
        serde_json::from_slice(&output.stdout).context("reading what iperf3 printed")
    }

    /// Gbit/s of one stream, over each `step` of the plan's time.
    pub fn tcp_rates(&self, step: Duration) -> Result<Vec<f64>> {
        let report = self.iperf_report(&["-P", "1", "-i", &step.as_secs().to_string()])?;
        let intervals = report["intervals"].as_array().context("iperf3 told of no intervals")?;
        Ok(intervals.iter().filter_map(|interval| Some(interval["sum"]["bits_per_second"].as_f64()? / 1e9)).collect())
    }

    /// One iperf3 run: what the receivers got.
    fn tcp(&self, options: &[&str]) -> Result<Tcp> {
        let report = self.iperf_report(options)?;
        let mut tcp = Tcp { gbps: 0.0, gigabytes: 0.0 };
        for sum in ["sum_received", "sum_received_bidir_reverse"] {
            let sum = &report["end"][sum];
            tcp.gbps += sum["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9;
            tcp.gigabytes += sum["bytes"].as_f64().unwrap_or(0.0) / 1e9;
        }
        if tcp.gigabytes <= 0.0 {
            bail!("iperf3 moved nothing: {}", report["error"]);
        }
        Ok(tcp)
    }

    /// Round trips of single pings in milliseconds, sorted.
    fn ping(&self, count: u32, interval: &str) -> Result<Vec<f64>> {
        let mut command = self.net.command(Side::A, "ping");
        let (from, to) = (self.contender.address(Side::A), self.contender.called(Side::B));
        command.args(["-n", "-i", interval, "-c", &count.to_string(), "-I", from, to]);
        let output = String::from_utf8(finish(&mut command)?.stdout)?;
        let time = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse().ok();
        let mut times: Vec<f64> = output.lines().filter_map(time).collect();
        times.sort_by(f64::total_cmp);
        if times.is_empty() {
            bail!("no ping was answered: {output}");
        }
        Ok(times)
    }

    fn ping_under_load(&self) -> Result<Vec<f64>> {
        let _server = self.server()?;
        let mut load = self.iperf(&["-P", "1"]);
        let load = self.net.spawn(load.stdout(Stdio::null()))?;
        std::thread::sleep(Duration::from_millis(500));
        let pings = self.ping((self.plan.seconds - 1) * 50, "0.02");
        wait_gone(load.pid());
        pings
    }

    /// The most datagrams of `size` bytes per second that arrived, over several offered rates.
    fn flood(&self, size: usize, rates: &[u64]) -> Result<f64> {
        let mut best = 0.0_f64;
        for rate in rates {
            best = best.max(self.flood_once(size, *rate)?);
        }
        Ok(best)
    }

    fn flood_once(&self, size: usize, rate: u64) -> Result<f64> {
        let own = std::env::current_exe()?;
        let at = format!("{}:{FLOOD_PORT}", self.contender.address(Side::B));
        let to = format!("{}:{FLOOD_PORT}", self.contender.called(Side::B));
        let mut receiver = self.net.command(Side::B, &own);
        receiver.args(["flood-receive", "--at", &at]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut receiver = receiver.spawn().context("starting the receiver")?;
        let mut output = BufReader::new(receiver.stdout.take().context("the receiver's output is a pipe")?);
        output.read_line(&mut String::new())?;
        let mut sender = self.net.command(Side::A, &own);
        sender.args(["flood-send", "--from", &format!("{}:0", self.contender.address(Side::A)), "--to", &to]);
        sender.args(["--size", &size.to_string(), "--rate", &rate.to_string()]);
        finish(sender.args(["--seconds", &self.plan.flood_seconds.to_string()]))?;
        let mut said = String::new();
        output.read_to_string(&mut said)?;
        receiver.wait()?;
        let (count, seconds) = said.trim().split_once(' ').with_context(|| format!("the receiver said {said:?}"))?;
        let (count, seconds): (f64, f64) = (count.parse()?, seconds.parse()?);
        Ok(if seconds > 0.0 { count / seconds } else { 0.0 })
    }
}

/// Core-seconds spent since the machine and the processes began.
struct Cost {
    machine: f64,
    processes: f64,
    at: Instant,
    wall: f64,
}

impl Cost {
    fn now(tunnel: &Tunnel) -> Result<Self> {
        let mut processes = 0.0;
        for pid in tunnel.pids() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name in parentheses may hold spaces; utime and stime are fields 14 and 15 (proc_pid_stat(5)).
            let fields = stat.rsplit_once(')').context("a stat line has a name in parentheses")?.1;
            let fields: Vec<f64> = fields.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
            processes += (fields[11] + fields[12]) / TICKS;
        }
        Ok(Self { machine: machine_busy()?, processes, at: Instant::now(), wall: 0.0 })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            machine: self.machine - before.machine,
            processes: self.processes - before.processes,
            at: self.at,
            wall: (self.at - before.at).as_secs_f64(),
        }
    }
}

/// Core-seconds that the machine was busy since it started: all but idle, iowait, steal and what guests repeat.
fn machine_busy() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat has a line for all cores")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { bail!("/proc/stat reads {line:?}") };
    Ok((user + nice + system + irq + softirq) / TICKS)
}

fn busy_share(span: Duration) -> Result<f64> {
    let before = machine_busy()?;
    std::thread::sleep(span);
    Ok((machine_busy()? - before) / span.as_secs_f64() / cores() as f64)
}

/// Voluntary context switches per second of all threads of both ends: each is one wake-up.
fn wakeups(tunnel: &Tunnel, span: Duration) -> Result<f64> {
    let count = || -> Result<f64> {
        let mut sum = 0.0;
        for pid in tunnel.pids() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
                sum += field(&status, "voluntary_ctxt_switches:").unwrap_or(0.0);
            }
        }
        Ok(sum)
    };
    let before = count()?;
    std::thread::sleep(span);
    Ok((count()? - before) / span.as_secs_f64())
}

/// Resident memory of the larger end, in MiB.
pub fn rss_mib(tunnel: &Tunnel) -> Result<f64> {
    let mut largest = 0.0_f64;
    for pid in tunnel.pids() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        largest = largest.max(field(&status, "VmRSS:").context("a running process has a VmRSS")? / 1024.0);
    }
    Ok(largest)
}

fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The middle one of the values, which are sorted then; of an even number the larger one.
pub fn median(values: &mut [f64]) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("no values")
}

/// Waits for a program that ends by itself.
fn wait_gone(pid: u32) {
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while state().rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')) {
        std::thread::sleep(Duration::from_millis(50));
    }
}
