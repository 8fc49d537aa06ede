//! A node pass as a process of its own, for tests that run it in a network namespace or kill it.
//!
//! Reads one line of JSON, a `Desired`, from standard input. `plan` prints the plan; `pass` runs one pass and prints
//! what it did; `half` is killed in the middle of a pass; `watch` runs passes, the first at once and then one after each
//! change, and prints a line after each. `mtu ADDRESS...` reads nothing, and prints the MTU towards each address that has a
//! way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::process::ExitCode;

use controller::node::{self, Desired, Interest, Kernel, Plan, Watch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = std::env::args().nth(1).expect("plan, pass, half, watch or mtu");
    if mode == "mtu" {
        let to = std::env::args().skip(2).map(|address| address.parse().unwrap()).collect();
        node::link_mtus(&to).unwrap().iter().for_each(|(address, mtu)| println!("{address} {mtu}"));
        return ExitCode::SUCCESS;
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let desired: Desired = serde_json::from_str(&line).unwrap();
    let (kernel, connection) = Kernel::open().unwrap();
    tokio::spawn(connection);
    match mode.as_str() {
        "plan" => print!("{}", node::plan(&desired, &node::observe(&kernel).await.unwrap())),
        "pass" => return pass(&kernel, &desired).await,
        "half" => half(&kernel, &desired).await,
        "watch" => watch(&kernel, &desired).await,
        other => panic!("{other}: not plan, pass, half, watch or mtu"),
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

/// Writes half of a plan, and dies on the spot while requests of the other half are under way.
async fn half(kernel: &Kernel, desired: &Desired) {
    let mut first = node::plan(desired, &node::observe(kernel).await.unwrap());
    let obstacles = first.obstacles.clone();
    let second = Plan { actions: first.actions.split_off(first.actions.len() / 2), obstacles };
    assert!(node::apply(kernel, first).await.failed.is_empty());
    tokio::select! {
        biased;
        // Turns of the runtime, not time: however slow the machine is, few of the thousands are answered by then.
        () = turns(20) => std::process::abort(),
        _ = node::apply(kernel, second) => panic!("the pass was over before it was killed"),
    }
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
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
