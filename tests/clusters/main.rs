//! The whole promise on real Kubernetes: two clusters of two nodes each, with flannel, kube-proxy, CoreDNS and real pods,
//! joined through a broker by the manifests of `deploy/`.
//!
//! Few tests, because clusters cost a minute: the steps of each run in order, each told on standard error, and the first
//! that fails ends it with what the clusters say of themselves. Those whose namespaces have the same prefix wait for each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod commands;
#[path = "../documented/mod.rs"]
mod documentation;
mod documented;
mod faults;
mod gather;
mod joined;
mod merged;
mod names;
mod overlap;
mod pods;
mod policies;
mod questions;
mod restarts;
mod skew;
mod sources;
mod steps;
mod takeover;
mod traces;

use anyhow::Result;
use joined::{CLUSTERS, Joined, SAME, TWO};
use testbed::Spec;

/// A step, and what it proves.
type Step = (&'static str, fn(&mut Joined) -> Result<()>);

/// Clusters of these kinds, not joined yet.
fn start(prefix: &'static str, specs: &[Spec]) -> Joined {
    Joined::start(prefix, specs).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Two that have both families, joined by the commands of the documentation.
fn two_dual() -> Joined {
    let joined = start(TWO, &[Spec::paris().dual(), Spec::berlin().dual()]);
    documented::two_join(&joined).unwrap_or_else(|error| panic!("{error:#}"));
    joined
}

fn run(mut joined: Joined, steps: &[Step]) {
    for (what, step) in steps {
        eprintln!("clusters {}: {what}", joined.prefix);
        if let Err(error) = step(&mut joined) {
            panic!("{what}: {error:#}\n{}", joined.describe());
        }
    }
    joined.down().unwrap();
}

/// `tests/run.sh` knows these by the name of this module.
mod whole_clusters {
    use super::*;

    #[test]
    fn two_clusters_are_joined_by_the_manifests_and_keep_every_promise() {
        run(two_dual(), &steps::ALL);
    }

    #[test]
    fn clusters_with_the_same_prefixes_are_joined_by_the_same_commands() {
        run(start(SAME, &overlap::specs()), &overlap::ALL);
    }

    #[test]
    #[ignore = "twenty faults that are made and healed one by one take longer than all other tests: `make faults`"]
    fn faults_are_named_by_diagnose_and_by_why() {
        let joined = start(TWO, &[Spec::paris(), Spec::berlin()]);
        for name in CLUSTERS {
            let gateway = format!("{name}-1");
            let label = ["label", "node", &gateway, "linkspan.dev/gateway=true"];
            joined
                .cluster(name)
                .and_then(|cluster| cluster.kubectl(label)?.done())
                .unwrap_or_else(|error| panic!("{error:#}"));
            joined.join(name).unwrap_or_else(|error| panic!("{error:#}"));
        }
        if let Err(error) = faults::all(&joined) {
            panic!("{error:#}\n{}", joined.describe());
        }
        joined.down().unwrap();
    }

    #[test]
    #[ignore = "each command of the documentation, with what it waits for, takes minutes: `make documented`"]
    fn two_clusters_are_used_by_the_commands_of_the_documentation() {
        let used: Step = ("commands of the documentation do what pages say", documented::two_are_used);
        run(two_dual(), &[&steps::ALL[..6], &[used]].concat());
    }

    #[test]
    #[ignore = "each command of the documentation, with what it waits for, takes minutes: `make documented`"]
    fn three_clusters_are_used_and_left_by_the_commands_of_the_documentation() {
        run(start(SAME, &overlap::specs()), &[&overlap::ALL[..4], &overlap::DOCUMENTED[..]].concat());
    }

    #[test]
    #[ignore = "it needs an earlier build: `make skew`"]
    fn an_earlier_build_and_this_one_are_joined_upgraded_and_rolled_back() {
        let joined = start(TWO, &[Spec::paris(), Spec::berlin()]);
        skew::join(&joined).unwrap_or_else(|error| panic!("{error:#}"));
        run(joined, &skew::ALL);
    }
}
