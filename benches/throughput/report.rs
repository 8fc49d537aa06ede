//! Medians over the rounds, ratios within them, a table, and one line for machines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use serde_json::{Map, json};

use crate::contender::Contender;
use crate::measure::{Sample, cores};
use crate::{Plan, bound};

/// What the site file's `lanes: auto` gives on a machine with two cores: the configuration that is judged.
const SUBJECT: Contender = Contender::Linkspan2;

/// Everything that was measured.
#[derive(Debug)]
pub struct Record {
    plan: Plan,
    wake_ups: Vec<f64>,
    rss100: Option<f64>,
    idle: BTreeMap<Contender, f64>,
    samples: BTreeMap<Contender, Vec<Sample>>,
}

type Figure = fn(&Sample) -> f64;

impl Record {
    /// Nothing yet.
    pub fn new(plan: Plan) -> Self {
        Self { plan, wake_ups: Vec::new(), rss100: None, idle: BTreeMap::new(), samples: BTreeMap::new() }
    }

    /// Adds a measurement of how long a thread on an idle core takes to wake up, in seconds.
    pub fn wake_up(&mut self, seconds: f64) {
        self.wake_ups.push(seconds);
    }

    /// Adds the resident memory of Linkspan with 100 peers, in MiB.
    pub fn rss100(&mut self, mib: f64) {
        self.rss100 = Some(mib);
    }

    /// Adds how often a contender is woken per second, both ends together, when nothing passes.
    pub fn idle(&mut self, contender: Contender, wakeups_per_s: f64) {
        self.idle.insert(contender, wakeups_per_s);
    }

    /// Adds one turn.
    pub fn add(&mut self, contender: Contender, sample: Sample) {
        self.samples.entry(contender).or_default().push(sample);
    }

    /// Prints the table, the bound, and the line `RESULT`.
    pub fn print(&self) {
        const COLUMNS: [(&str, Figure, usize); 11] = [
            ("TCP x1\nGbit/s", |sample| sample.tcp1_gbps, 2),
            ("x4\nGbit/s", |sample| sample.tcp4_gbps, 2),
            ("both ways\nGbit/s", |sample| sample.bidir_gbps, 2),
            ("UDP 1300\nGbit/s", |sample| sample.udp1300_gbps, 2),
            ("UDP 64\nkpps", |sample| sample.udp64_kpps, 0),
            ("RTT\nms", |sample| sample.rtt_ms, 3),
            ("loaded\nms", |sample| sample.rtt_load_ms, 2),
            ("p99\nms", |sample| sample.rtt_load_p99_ms, 2),
            ("CPU\ns/GB", |sample| sample.cpu_s_per_gb, 2),
            ("of it\nprocess", |sample| sample.process_cpu_s_per_gb, 2),
            ("RSS\nMiB", |sample| sample.rss_mib, 1),
        ];
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let names = COLUMNS.iter().map(|(name, ..)| *name);
        table.set_header(std::iter::once("").chain(names).chain(std::iter::once("idle\nwakes/s")));
        for contender in self.samples.keys() {
            let cell = |figure: Figure, digits: usize| {
                self.median(*contender, figure).map_or_else(String::new, |value| format!("{value:.digits$}"))
            };
            let cells = COLUMNS.iter().map(|(_, figure, digits)| cell(*figure, *digits));
            let idle = self.idle.get(contender).map_or_else(String::new, |wakeups| format!("{wakeups:.1}"));
            table.add_row(std::iter::once(contender.name().to_owned()).chain(cells).chain(std::iter::once(idle)));
        }
        println!("{table}");
        println!("medians of {} rounds; CPU is of the whole machine, both ends and iperf3 included", self.plan.rounds);
        if let Some(noise) = self.median(Contender::Bare, |sample| sample.noise).filter(|noise| *noise > 0.1) {
            println!("others used {:.0} % of this machine: repeat this when it is quiet", noise * 100.0);
        }
        let result: Vec<_> = self.result().iter().map(|(key, value)| format!("{key}={value}")).collect();
        println!("RESULT {}", result.join(" "));
    }

    /// Writes everything to `target/bench/throughput.json`.
    pub fn save(&self) -> Result<()> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let samples: Map<_, _> =
            self.samples.iter().map(|(contender, samples)| (contender.name().to_owned(), json!(samples))).collect();
        let all = json!({
            "result": self.result().into_iter().collect::<BTreeMap<_, _>>(),
            "cores": cores(),
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "wake_up_seconds": self.wake_ups,
            "samples": samples,
        });
        let path = folder.join("throughput.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&all)?).with_context(|| format!("writing {}", path.display()))
    }

    /// The figures that the project is judged by. A key is missing when a contender did not run.
    fn result(&self) -> Vec<(&'static str, f64)> {
        let bounds = self.bounds_gbps();
        let tcp1 = self.median(SUBJECT, |sample| sample.tcp1_gbps);
        let figures: [(&str, Option<f64>); 27] = [
            ("tcp1_gbps", tcp1),
            ("tcp4_gbps", self.median(SUBJECT, |sample| sample.tcp4_gbps)),
            ("bidir_gbps", self.median(SUBJECT, |sample| sample.bidir_gbps)),
            ("one_lane_tcp1_gbps", self.median(Contender::Linkspan1, |sample| sample.tcp1_gbps)),
            ("bound_gbps", median(bounds.clone())),
            ("share_of_bound", self.share_of_bound(&bounds)),
            ("vs_wireguard_go", self.ratio(Contender::WireguardGo, |sample| sample.tcp1_gbps)),
            ("vs_tailscale", self.ratio(Contender::Tailscale, |sample| sample.tcp1_gbps)),
            ("vs_boringtun_cli", self.ratio(Contender::Boringtun, |sample| sample.tcp1_gbps)),
            ("translated_tcp1", self.ratio(Contender::LinkspanTranslated, |sample| 1.0 / sample.tcp1_gbps)),
            ("translated_tcp4", self.ratio(Contender::LinkspanTranslated, |sample| 1.0 / sample.tcp4_gbps)),
            ("translated_udp64", self.ratio(Contender::LinkspanTranslated, |sample| 1.0 / sample.udp64_kpps)),
            ("fleet_tcp1", self.ratio(Contender::LinkspanFleet, |sample| 1.0 / sample.tcp1_gbps)),
            ("fleet_udp64", self.ratio(Contender::LinkspanFleet, |sample| 1.0 / sample.udp64_kpps)),
            ("udp1300_gbps", self.median(SUBJECT, |sample| sample.udp1300_gbps)),
            ("udp64_kpps", self.median(SUBJECT, |sample| sample.udp64_kpps)),
            ("udp64_vs_go", self.ratio_to_best_go(|sample| sample.udp64_kpps)),
            ("udp1300_vs_go", self.ratio_to_best_go(|sample| sample.udp1300_gbps)),
            ("rtt_ms", self.median(SUBJECT, |sample| sample.rtt_ms)),
            ("rtt_bound_ms", self.rtt_bound_ms()),
            ("wake_up_us", median(self.wake_ups.clone()).map(|seconds| seconds * 1e6)),
            ("rtt_load_ms", self.median(SUBJECT, |sample| sample.rtt_load_ms)),
            ("cpu_s_per_gb", self.median(SUBJECT, |sample| sample.cpu_s_per_gb)),
            ("rss_mib", self.median(SUBJECT, |sample| sample.rss_mib)),
            ("rss100_mib", self.rss100),
            ("idle_wakeups_per_s", self.idle.get(&SUBJECT).copied()),
            ("noise", self.median(Contender::Bare, |sample| sample.noise)),
        ];
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        figures.into_iter().filter_map(|(key, value)| Some((key, round(value?)))).collect()
    }

    /// The bound of each round, by what the cipher took beside the subject's stream and the bare stack took in that round.
    fn bounds_gbps(&self) -> Vec<f64> {
        let of = |contender| self.samples.get(&contender).map_or(&[][..], Vec::as_slice);
        let pairs = of(SUBJECT).iter().zip(of(Contender::Bare));
        // Per gigabyte to per bit.
        pairs.map(|(own, bare)| bound::gbps(cores(), own.aead_s_per_bit, bare.cpu_s_per_gb / 8e9)).collect()
    }

    /// The median over the rounds of the subject's share of the bound of its round.
    fn share_of_bound(&self, bounds: &[f64]) -> Option<f64> {
        let own = self.samples.get(&SUBJECT)?;
        median(own.iter().zip(bounds).map(|(own, bound)| own.tcp1_gbps / bound).collect())
    }

    fn rtt_bound_ms(&self) -> Option<f64> {
        let bare = self.median(Contender::Bare, |sample| sample.rtt_ms)?;
        Some(bound::rtt_ms(bare, median(self.wake_ups.clone())?))
    }

    fn median(&self, contender: Contender, figure: Figure) -> Option<f64> {
        median(self.samples.get(&contender)?.iter().map(figure).collect())
    }

    /// The median over the rounds of the subject's figure divided by the other's in the same round; of the inverse figure,
    /// the other's share of the subject's.
    fn ratio(&self, other: Contender, figure: Figure) -> Option<f64> {
        let pairs = self.samples.get(&SUBJECT)?.iter().zip(self.samples.get(&other)?);
        median(pairs.map(|(own, other)| figure(own) / figure(other)).collect())
    }

    fn ratio_to_best_go(&self, figure: Figure) -> Option<f64> {
        [Contender::WireguardGo, Contender::Tailscale]
            .into_iter()
            .filter_map(|other| self.ratio(other, figure))
            .reduce(f64::min)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}
