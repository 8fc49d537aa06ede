//! `linkspan count`.

use std::io::Read as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use controller::node::counters::{Flow, Hook, Link, Only, Pair};
use controller::node::{Counting, Desired};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::status::Output;
use crate::kubectl::inspect::probe::echoes;
use crate::kubectl::output::{self, Format, Listing, Screen};
use crate::kubectl::trace::Said;

const LONG: &str = "\
Count packets between two addresses where they come into and go out of this node, by kind of link.

The counters are rules of nftables in a table of their own; they drop and change nothing, and are removed at the end. \
`linkspan trace` runs it in the linkspan-node pods of all nodes on the way.";

const EXAMPLES: &str = "\
Examples:
  linkspan count --from 10.42.1.7 --to 10.52.0.9
  linkspan count --from 10.42.1.7 --to 10.52.0.9 --seconds 60 -o json

  On a node without Kubernetes:
    linkspan count --from 10.42.1.7 --to 10.52.0.9 --config site.yaml";

/// How long an echo request waits for its answer.
const EACH: Duration = Duration::from_millis(800);

/// Count the packets of a flow that pass this node.
#[derive(Debug, ClapArgs)]
#[command(long_about = LONG, after_help = EXAMPLES)]
pub(super) struct Args {
    /// Who calls, as packets on this node have it.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "flow", requires = "to")]
    from: Option<IpAddr>,
    /// Who is called, as packets on this node have it.
    #[arg(long, value_name = "ADDRESS", requires = "from")]
    to: Option<IpAddr>,
    /// For how long.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// What is counted in JSON, as `kubectl linkspan` asks it.
    #[arg(long, value_name = "JSON", hide = true, value_parser = flow, conflicts_with = "from")]
    flow: Option<Flow>,
    /// Say when it begins, and end when something is written to standard input.
    #[arg(long, hide = true)]
    until_told: bool,
    /// Say when it begins, send so many of the flow's echo requests, and end.
    #[arg(long, value_name = "COUNT", hide = true, conflicts_with = "until_told")]
    send: Option<u16>,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    place: super::inspect::Place,
}

fn flow(text: &str) -> Result<Flow, serde_json::Error> {
    serde_json::from_str(text)
}

pub(super) async fn run(mut args: Args) -> anyhow::Result<()> {
    let mut flow = args.flow.take().unwrap_or_default();
    flow.pairs.extend(args.from.zip(args.to).map(|(client, server)| Pair { client, server }));
    if flow.pairs.iter().any(|pair| pair.client.is_ipv4() != pair.server.is_ipv4()) {
        bail!("both addresses must be IPv4, or both IPv6");
    }
    (flow.tunnel, flow.vxlan) = links(args.place.desired()?);
    // Listened for before there is something to be removed.
    let mut end = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let counting = Counting::start(std::process::id(), flow.clone()).await?;
    let work = async {
        if args.until_told || args.send.is_some() {
            output::print("counting\n")?;
        }
        match args.send {
            Some(packets) => send(&flow, packets).await,
            None => {
                wait(args.seconds, args.until_told).await;
                Ok((None, None))
            }
        }
    };
    let sent = tokio::select! {
        sent = work => sent,
        _ = end.recv() => Ok((None, None)),
        _ = interrupt.recv() => Ok((None, None)),
    };
    let counts = counting.finish().await?;
    let (sent, answered) = sent?;
    let said = Said { counts, sent, answered };
    let text = match args.output {
        Output::Table | Output::Wide => table(&said),
        Output::Json => output::json(&said)?,
        Output::Yaml => output::yaml(&said)?,
    };
    super::print(&text)
}

/// Names of the tunnel's and the VXLAN's link.
fn links(desired: Desired) -> (Option<String>, Option<String>) {
    (desired.tunnel.map(|tunnel| tunnel.link), Some(desired.vxlan.link))
}

async fn wait(seconds: u64, until_told: bool) {
    let time = tokio::time::sleep(Duration::from_secs(seconds));
    if !until_told {
        return time.await;
    }
    let (tell, told) = oneshot::channel();
    // A thread that nobody waits for: a read of standard input cannot be cancelled.
    std::thread::spawn(move || {
        // At its end, too: who asked has gone.
        let _ = std::io::stdin().read(&mut [0]);
        let _ = tell.send(());
    });
    tokio::select! {
        _ = told => {}
        () = time => {}
    }
}

/// How many echo requests were sent, and how many answered.
async fn send(flow: &Flow, packets: u16) -> anyhow::Result<(Option<u32>, Option<u32>)> {
    let (Some(pair), Some(Only::Echo { identifier })) = (flow.pairs.first().copied(), flow.only) else {
        bail!("only echo requests of one pair of addresses can be sent");
    };
    let asked = tokio::task::spawn_blocking(move || echoes(pair.client, pair.server, identifier, packets, EACH));
    let answered = asked.await?.with_context(|| format!("failed to send echo requests to {}", pair.server))?;
    Ok((Some(packets.into()), Some(answered.into())))
}

fn table(said: &Said) -> String {
    let mut listing = Listing::new(&["LINK", "DIRECTION", "THERE", "BACK"], &[]);
    for count in &said.counts {
        let link = match count.link {
            Link::Tunnel => "tunnel",
            Link::Vxlan => "vxlan",
            Link::Other => "other",
        };
        let hook = match count.hook {
            Hook::In => "in",
            Hook::Out => "out",
        };
        listing.rows.push(vec![link.into(), hook.into(), count.there.into(), count.back.into()]);
    }
    listing.draw(Format::Table, Screen::of_stdout())
}
