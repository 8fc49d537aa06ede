//! `linkspan trace`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args as ClapArgs;

use super::why::{Ends, Seen, look_between, not_found};
use crate::kubectl::contexts::{Contexts, Namespace};
use crate::kubectl::output::{Format, Progress, Screen};
use crate::kubectl::speech::Speech;
use crate::kubectl::trace::{self, Sender, exit_code, plan};
use crate::kubectl::why::{Client, Goal, NotFound, client, goal, goal_targets};

const LONG: &str = "\
Count a flow at each place that it passes, there and back, and tell between which two places packets are lost.

FROM and TO are what `linkspan why` takes. A node as FROM sends echo requests itself. A pod's packets are counted while a COMMAND \
runs in it, or while it calls by itself for --seconds. Only packets between these two addresses are counted, and with a port \
behind TO only those of that port. Counters are rules of nftables on the nodes of the way that drop and change nothing; they are \
removed at the end, and by the node itself if this command does not come to it.

With segmentation offload, large packets are counted as one on one node and as several on another: of a pod's packets only their \
absence tells a loss, of a node's echo requests each one that is missing.";

const EXAMPLES: &str = "\
Examples:
  kubectl linkspan trace node/paris-2 to berlin/pod/db-0 -n shop --context paris,berlin
  kubectl linkspan trace client to web --context paris,berlin -- \\
    curl -sS http://web.default.svc.clusterset.local
  kubectl linkspan trace client to 10.52.1.9:5432 --seconds 30 --context paris,berlin -o json

Exit codes:
  0  nothing is lost
  1  packets are lost, none was sent, or an end was not found
  2  it could not run, for want of a kubeconfig that can be read or of a permission, say
  3  nothing is lost where it could be counted, and it could not be counted everywhere
  64 wrong use of the command line

It needs the permissions of `linkspan diagnose`, and get and create pods/exec in the client's namespace for a COMMAND.";

/// Exit code where it could not run: an end that nobody could see, as the right to count on nodes, is a matter of permissions.
const UNSEEN: u8 = 2;
/// Most echo requests of one trace.
const PACKETS_MAX: i64 = 1000;
/// Longest time for which a client is watched, in seconds.
const SECONDS_MAX: u64 = 3600;

/// Count a flow at each hop, and tell where packets are lost.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    ends: Ends,
    /// A command that calls, to be run in the pod FROM.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The container in which COMMAND runs. Default: the first one.
    #[arg(short, long, value_name = "NAME", requires = "command")]
    container: Option<String>,
    /// How many echo requests a node sends.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=PACKETS_MAX))]
    packets: u32,
    /// For how long a pod is watched that calls by itself.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// How it is shown; `name` tells only the reason of a loss.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    contexts: Contexts,
}

pub(super) async fn run(args: Args, speech: Speech) -> anyhow::Result<ExitCode> {
    let seen = look_between(&args.ends, &args.namespace, &args.contexts).await?;
    let Seen { targets, picture, from, to, namespace } = seen;
    let ends = client(&picture, &from, &namespace)
        .and_then(|from| goal(&picture, &from, &to, &namespace).map(|goal| (from, goal)));
    let (from, goal) = match ends {
        Ok(ends) => ends,
        Err(end) => return Ok(not_found(&end, UNSEEN, &speech)),
    };
    let called = goal_targets(&from, &goal, to.port);
    if called.is_empty() {
        return Ok(not_found(&without_endpoints(&from, &goal), UNSEEN, &speech));
    }
    let sender = sender(&args, &from)?;
    let echo = match &sender {
        Sender::Node { identifier, .. } => Some(*identifier),
        _ => None,
    };
    let plan = plan(&picture, &from, &called, echo).map_err(|error| anyhow!(error))?;
    let progress = Progress::start("counting");
    let traces = trace::run(&targets, &picture, &from, &goal.label(), &plan, &sender, &progress).await;
    drop(progress);
    let traces = traces.map_err(|error| anyhow!(error))?;
    super::print(&trace::render(&traces, args.output, Screen::of_stdout())?)?;
    Ok(ExitCode::from(exit_code(&traces)))
}

fn without_endpoints(from: &Client<'_>, goal: &Goal<'_>) -> NotFound {
    let (label, reason) = (goal.label(), "`linkspan why` tells the reason");
    let namespace = match goal {
        Goal::Service(service) => service.namespace.as_str(),
        Goal::Address { .. } => "",
    };
    match from.cluster.slices.unseen_in(namespace).or(from.cluster.imports.unseen_in(namespace)) {
        Some(unseen) => NotFound { text: format!("no endpoint of {label} was seen: {}", unseen.why), may_be: true },
        None => NotFound { text: format!("{label} has no ready endpoint: {reason}"), may_be: false },
    }
}

fn sender(args: &Args, from: &Client<'_>) -> anyhow::Result<Sender> {
    match (from.pod.is_some(), args.command.is_empty()) {
        (false, false) => {
            let wrong =
                format!("a COMMAND runs in a pod, and {} is none: name a pod, or leave COMMAND out", from.label);
            Err(super::Misuse(wrong).into())
        }
        (false, true) => {
            // Two traces at a time are told apart by it.
            let identifier = (std::process::id() & 0xffff) as u16;
            Ok(Sender::Node { packets: args.packets, identifier })
        }
        (true, false) => Ok(Sender::Command { words: args.command.clone(), container: args.container.clone() }),
        (true, true) => Ok(Sender::Client { time: Duration::from_secs(args.seconds) }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_stand_behind_the_ends_and_a_command_behind_them() {
        let last = ["-o", "json", "--kubeconfig", "x", "--", "curl", "-sS", "http://web/"];
        for words in [&["a", "->", "b"][..], &["a", "to", "b"], &["a", "b"], &["a -> b"]] {
            let line = Line::try_parse_from(["trace"].iter().chain(words).chain(&last)).expect("a command line").args;
            let told = line.ends.words();
            assert_eq!(told, words);
            assert_eq!((line.output, line.command.join(" ").as_str()), (Format::Json, "curl -sS http://web/"));
        }
    }
}
