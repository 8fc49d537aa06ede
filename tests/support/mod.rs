//! What tests of several binaries share.

use std::net::IpAddr;
use std::path::Path;

use linkspan::lab::pod::{Question, Transport};
use linkspan::lab::{Lab, Report, Spec, Target};

/// The program under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_linkspan"))
}

/// A lab of this shape under a prefix of its own; it is removed when the test ends, however it ends. A machine on which
/// it cannot be built fails the test.
pub fn lab(prefix: &str, spec: Spec) -> Lab {
    let prefix = prefix.parse().expect("a valid prefix");
    Lab::build(Spec { prefix, ..spec }, binary()).unwrap_or_else(|error| panic!("the lab cannot be built: {error:#}"))
}

/// Panics with the whole table when a row failed.
pub fn assert_passed(report: &Report) {
    assert!(report.passed(), "{}", report.table());
}

/// The address that a server sees when a pod asks it, or what went wrong.
pub fn seen(lab: &Lab, from: &str, over: Transport, to: &str) -> Result<String, String> {
    let to: IpAddr = to.parse().expect("an address");
    let netns = lab.plan.find(from).expect("a pod or node of the lab").netns().to_owned();
    let answers = lab.ask(&netns, &[Question { over, to }]).unwrap_or_else(|error| panic!("{error:#}"));
    answers[0].seen.clone().map(|source| source.to_string())
}

/// What a command in a pod or on a node prints; a command that fails fails the test.
pub fn output(lab: &Lab, target: &str, command: &[&str]) -> String {
    let target: Target<'_> = lab.plan.find(target).expect("a pod or node of the lab");
    let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
    lab.run_in(target, &command).stdout().unwrap_or_else(|error| panic!("{error:#}"))
}
