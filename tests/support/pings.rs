//! Pings of which none may be lost.

use std::collections::HashSet;
use std::process::{Child, Output};
use std::thread::JoinHandle;

/// Seconds that the last answers may take, on a machine that is busy with other tests.
const PATIENCE: u32 = 60;

/// A `ping` that runs, and whose words are read meanwhile: they are more than a pipe holds.
pub struct Pings {
    judged: u32,
    output: JoinHandle<Output>,
}

impl Pings {
    /// Starts `ping`: `spawn` adds to these arguments whom it asks, and pipes its output.
    pub fn start(seconds: u32, per_second: u32, spawn: impl FnOnce(&[String]) -> Child) -> Self {
        let judged = seconds * per_second;
        // Without a deadline it waits for the last answers no longer than for two round trips. More are sent than are
        // judged, so that no answer that counts is among the last.
        let (sent, deadline) = (judged + per_second, 2 * seconds + PATIENCE);
        let interval = 1.0 / f64::from(per_second);
        let arguments = format!("-n -i {interval} -c {sent} -w {deadline}");
        let child = spawn(&arguments.split(' ').map(str::to_owned).collect::<Vec<_>>());
        Self { judged, output: std::thread::spawn(move || child.wait_with_output().unwrap()) }
    }

    /// Waits for its end, and panics unless each of the pings was answered.
    pub fn assert_all_answered(self, whose: &str) {
        let output = self.output.join().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let answered: HashSet<u32> = said.lines().filter_map(answered).collect();
        let lost: Vec<_> = (1..=self.judged).filter(|number| !answered.contains(number)).collect();
        let summary: Vec<_> = said.lines().filter(|line| line.contains("packets transmitted")).collect();
        let first = &lost[..lost.len().min(20)];
        assert!(
            lost.is_empty(),
            "{whose}: {} pings of {} have no answer, {first:?} first: {summary:?} {}",
            lost.len(),
            self.judged,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The number of the ping that a line like `64 bytes from 10.52.1.2: icmp_seq=7 ttl=62 time=0.5 ms` tells of.
fn answered(line: &str) -> Option<u32> {
    let number = line.split_once(" bytes from ")?.1.split_once("icmp_seq=")?.1;
    number.split(' ').next()?.parse().ok()
}
