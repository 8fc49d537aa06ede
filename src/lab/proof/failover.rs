//! A gateway process is killed under a full stream and started again.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::load::Load;
use crate::lab::clock::unix;
use crate::lab::pod::Heartbeat;
use crate::lab::{Lab, Row, Run, Signal, pause};

/// How long traffic may stay away once the process has been started again.
const BACK_WITHIN: f64 = 1000.0;
/// How long the messages go on, and when the process is killed after their start.
const BEATING: Duration = Duration::from_secs(10);
const CALM: Duration = Duration::from_secs(1);

/// Kills the gateway process of each site with SIGKILL and starts it again at once, while a pod of another site
/// exchanges messages with one behind that gateway every 5 ms, and sends it a full TCP stream.
///
/// # Errors
/// A process cannot be started or killed.
pub fn failover(lab: &mut Lab) -> Result<Vec<Row>> {
    (0..lab.plan.sites.len()).map(|site| kill_one(lab, site)).collect()
}

fn kill_one(lab: &mut Lab, killed: usize) -> Result<Row> {
    let sites = &lab.plan.sites;
    let (here, there) = (&sites[killed], &sites[(killed + 1) % sites.len()]);
    let (from, to) = (there.pods().last().context("a site has pods")?, here.pods().last().context("a site has pods")?);
    let address = to.addresses_seen_from(there).first().copied().context("a pod has an address")?.to_string();
    let (labels, gateway) = ((from.label(), to.label()), here.gateway().name.clone());
    let millis = BEATING.as_millis().to_string();
    let run = Run::in_netns(&from.pod.netns, lab.binary(), ["lab", "pod-beat", &address, "--millis", &millis]);
    let mut child = run.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    let mut next = || lines.next().transpose().map(Option::unwrap_or_default);
    if next()? != "beating" {
        let output = child.wait_with_output()?;
        bail!("`{run}` does not begin: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let load = Load::start(from, to, &address, BEATING.as_secs() - 1)?;
    pause(CALM);
    let killed_at = unix().as_secs_f64() * 1000.0;
    lab.stop_node(&gateway, Signal::KILL)?;
    lab.start_node(&gateway)?;
    let started_at = unix().as_secs_f64() * 1000.0;
    let said = next()?;
    child.wait()?;
    let beats: Heartbeat = serde_json::from_str(&said).with_context(|| format!("`{run}` said `{said}`"))?;
    let stream = load.end()?;
    let found = match lab.node_pid(&gateway) {
        Some(_) => judge(&beats, stream, killed_at, started_at),
        None => Err(format!("linkspan on {gateway} ended again: {}", lab.last_words(&gateway, 1))),
    };
    Ok(Row::new(&format!("kill -9 {gateway}"), &labels.0, &labels.1, found))
}

/// Judges by datagrams; TCP adds its own retransmission timer to the gap, and only has to survive.
fn judge(beats: &Heartbeat, stream: Result<f64, String>, killed_at: f64, started_at: f64) -> Result<String, String> {
    let found = format!(
        "gap {:.0} ms (UDP), {:.0} ms (TCP), connection {}",
        beats.udp.longest_gap,
        beats.tcp.longest_gap,
        if beats.tcp.alive { "survived" } else { "lost" },
    );
    let late = beats.udp.gap_end > started_at + BACK_WITHIN && beats.udp.gap_end > killed_at;
    if !beats.udp.alive || !beats.tcp.alive {
        return Err(format!("{found}; no traffic at the end"));
    }
    if late && beats.udp.longest_gap > BACK_WITHIN {
        return Err(format!("{found}; must be back within {:.0} s of the start", BACK_WITHIN / 1000.0));
    }
    match stream {
        Ok(rate) => Ok(format!("{found}, as did a stream of {rate:.1} Gbit/s")),
        Err(error) => Err(format!("{found}; the full stream did not survive: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::pod::Beats;

    fn beats(gap: f64, end: f64, alive: bool) -> Heartbeat {
        let one = Beats { longest_gap: gap, gap_end: end, answers: 100, alive };
        Heartbeat { udp: one, tcp: one }
    }

    #[test]
    fn a_short_gap_passes_and_a_long_one_or_a_lost_connection_fails() {
        let judged = |beats: &Heartbeat, stream| judge(beats, stream, 10_100.0, 10_150.0);
        let short = beats(300.0, 10_400.0, true);
        let found = "gap 300 ms (UDP), 300 ms (TCP), connection survived, as did a stream of 2.5 Gbit/s";
        assert_eq!(judged(&short, Ok(2.5)), Ok(found.to_owned()));
        assert!(judged(&short, Err("stuck".to_owned())).expect_err("lost").ends_with("did not survive: stuck"));
        let long = judged(&beats(1_700.0, 11_800.0, true), Ok(2.5));
        assert!(long.expect_err("too long").ends_with("must be back within 1 s of the start"));
        assert!(judged(&beats(300.0, 10_400.0, false), Ok(2.5)).is_err());
    }
}
