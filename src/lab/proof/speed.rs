//! How fast one TCP stream crosses between two sites, by iperf3.

use anyhow::{Context as _, Result};

use super::load;
use crate::lab::{Lab, Place, Row, each, wait_until};

/// Seconds of each measurement.
const SECONDS: &str = "3";

/// From the first pod of each site to the first pod of the next one (gateway to gateway), and between the last pods
/// of the first two sites (through a worker node at each end).
///
/// # Errors
/// iperf3 cannot be run.
pub fn speed(lab: &mut Lab) -> Result<Vec<Row>> {
    let sites = &lab.plan.sites;
    let mut paths = Vec::new();
    for (from, to) in sites.iter().zip(&sites[1..]) {
        paths.extend(from.pods().next().zip(to.pods().next()));
    }
    if sites[0].nodes.len() > 1 {
        paths.extend(sites[0].pods().last().zip(sites[1].pods().last()));
    }
    // One after the other: they would share the machine.
    paths.into_iter().map(|(from, to)| measure(from, to)).collect()
}

fn measure(from: Place<'_>, to: Place<'_>) -> Result<Row> {
    let address = to.addresses_seen_from(from.site).first().copied().context("a pod has an address")?.to_string();
    let (server, client) = (load::server(to), load::client(from, &address, SECONDS));
    let said = each([true, false], |serve| {
        if serve {
            return server.output().map(|_| String::new());
        }
        wait_until(std::time::Duration::from_secs(3), || load::is_listening(to));
        Ok(String::from_utf8_lossy(&client.output()?.stdout).into_owned())
    })?;
    Ok(Row::new("iperf3", &from.label(), &to.label(), read(&said[1])))
}

/// Reads what `iperf3 -J` prints. A stream that carried nothing has failed.
fn read(said: &str) -> Result<String, String> {
    let said = load::report(said)?;
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default();
    let again = said["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or_default();
    if rate > 0.0 {
        Ok(format!("{:.2} Gbit/s, 1 TCP stream, {again} retransmits", rate / 1e9))
    } else {
        Err("nothing arrived".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_passes_and_silence_does_not() {
        let good = r#"{"end": {"sum_sent": {"retransmits": 7}, "sum_received": {"bits_per_second": 4250000000.0}}}"#;
        assert_eq!(read(good), Ok("4.25 Gbit/s, 1 TCP stream, 7 retransmits".to_owned()));
        assert_eq!(read(r#"{"error": "unable to connect"}"#), Err("unable to connect".to_owned()));
        assert_eq!(read(r#"{"end": {}}"#), Err("nothing arrived".to_owned()));
        assert!(read("").is_err());
    }
}
