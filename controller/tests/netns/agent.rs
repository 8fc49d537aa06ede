//! A node pass as a process of its own, for tests that run it in a network namespace or kill it.
//!
//! Reads one line of JSON, a `Desired`, from standard input. `plan` prints the plan; `pass` runs one pass and prints
//! what it did; `watch` runs passes, the first at once and then one after each change, and prints a line after each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::process::ExitCode;

use controller::node::{self, Desired, Interest, Kernel, Watch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = std::env::args().nth(1).expect("plan, pass or watch");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let desired: Desired = serde_json::from_str(&line).unwrap();
    let (kernel, connection) = Kernel::open().unwrap();
    tokio::spawn(connection);
    match mode.as_str() {
        "plan" => print!("{}", node::plan(&desired, &node::observe(&kernel).await.unwrap())),
        "pass" => return pass(&kernel, &desired).await,
        "watch" => watch(&kernel, &desired).await,
        other => panic!("{other}: not plan, pass or watch"),
    }
    ExitCode::SUCCESS
}

async fn pass(kernel: &Kernel, desired: &Desired) -> ExitCode {
    let report = node::pass(kernel, desired).await.unwrap();
    report.applied.iter().for_each(|action| println!("{action}"));
    report.failed.iter().for_each(|failure| eprintln!("{failure}"));
    report.obstacles.iter().for_each(|obstacle| println!("# {obstacle}"));
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn watch(kernel: &Kernel, desired: &Desired) {
    let (mut watch, connection) = Watch::open(Interest::of(desired)).unwrap();
    tokio::spawn(connection);
    loop {
        let report = node::pass(kernel, desired).await.unwrap();
        println!("applied {} failed {}", report.applied.len(), report.failed.len());
        watch.changed().await.unwrap();
    }
}
