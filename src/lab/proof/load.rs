//! A full TCP stream by iperf3, beside which something is done to its path.

use std::process::{Child, Output};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{Place, Run, wait_until};

/// How long a server may take to listen.
const LISTENS: Duration = Duration::from_secs(3);

/// The stream, and who receives it.
pub struct Load {
    client: Child,
    server: Child,
}

impl Load {
    /// Begins a stream of so many seconds to an address of `to`.
    ///
    /// # Errors
    /// iperf3 cannot be run.
    pub fn start(from: Place<'_>, to: Place<'_>, address: &str, seconds: u64) -> Result<Self> {
        let server = server(to).spawn()?;
        wait_until(LISTENS, || is_listening(to));
        let client = client(from, address, &seconds.to_string()).spawn()?;
        Ok(Self { client, server })
    }

    /// Waits for its end, and tells what arrived in the last second.
    ///
    /// # Errors
    /// iperf3 cannot be waited for.
    pub fn end(mut self) -> Result<Result<f64, String>> {
        let Output { stdout, .. } = self.client.wait_with_output().context("waiting for iperf3")?;
        // It has served its one stream, or has never got one.
        let _ = self.server.kill();
        self.server.wait().context("waiting for iperf3")?;
        Ok(last_second(&String::from_utf8_lossy(&stdout)))
    }
}

/// iperf3 that serves one stream in a pod.
pub fn server(to: Place<'_>) -> Run {
    Run::in_pod(&to.pod.netns, "iperf3", ["-s", "-1", "--idle-timeout", "10"])
}

/// iperf3 that sends one from a pod, and tells of it as JSON.
pub fn client(from: Place<'_>, address: &str, seconds: &str) -> Run {
    Run::in_pod(&from.pod.netns, "iperf3", ["-c", address, "-t", seconds, "-J", "--connect-timeout", "3000"])
}

/// Whether that server listens.
pub fn is_listening(to: Place<'_>) -> bool {
    let listed = Run::in_netns(&to.pod.netns, "ss", ["-Hltn", "sport = :5201"]).stdout();
    listed.is_ok_and(|text| !text.trim().is_empty())
}

/// What `iperf3 -J` prints, unless that is an error.
pub fn report(said: &str) -> Result<Value, String> {
    let said: Value = serde_json::from_str(said).map_err(|error| format!("iperf3 said nothing: {error}"))?;
    said["error"].as_str().map_or(Ok(()), |error| Err(error.to_owned()))?;
    Ok(said)
}

/// Gbit/s in the last interval that `iperf3 -J` tells of. A stream that stands still then has not survived.
fn last_second(said: &str) -> Result<f64, String> {
    let said = report(said)?;
    let last = said["intervals"].as_array().and_then(|all| all.last());
    let rate = last.and_then(|last| last["sum"]["bits_per_second"].as_f64()).unwrap_or_default() / 1e9;
    if rate > 0.0 { Ok(rate) } else { Err("nothing was sent in the last second".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_stands_still_at_its_end_has_not_survived() {
        let said = |last: f64| {
            let interval = |rate: f64| format!(r#"{{"sum": {{"bits_per_second": {rate}}}}}"#);
            format!(r#"{{"intervals": [{}, {}]}}"#, interval(2e9), interval(last))
        };
        assert_eq!(last_second(&said(3e9)), Ok(3.0));
        assert_eq!(last_second(&said(0.0)), Err("nothing was sent in the last second".to_owned()));
        assert_eq!(last_second(r#"{"error": "control socket closed"}"#), Err("control socket closed".to_owned()));
        assert!(last_second("").is_err());
    }
}
