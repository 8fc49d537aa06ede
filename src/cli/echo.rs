//! `linkspan echo` and `linkspan call`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use crate::echo::client::{self, Transport};
use crate::echo::server;
use crate::kubectl::output;

const ECHO: &str = "\
Examples:
  linkspan echo --port 8080

It answers whoever reaches it, so it is for tests: `kubectl linkspan verify` and `bench` run it in pods that they remove.";

/// Serve as a counterpart of `linkspan call`: tell callers what is seen of them.
#[derive(Debug, ClapArgs)]
#[command(after_help = ECHO)]
pub(super) struct Echo {
    /// Port on TCP and UDP.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "::", value_name = "ADDRESS")]
    address: IpAddr,
    /// What it calls itself. Default: the host's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

const CALL: &str = "\
Examples:
  linkspan call who web.shop.svc.clusterset.local:8080 --transport udp
  linkspan call send 10.52.1.9:8080 --seconds 10

Each prints one line of JSON.";

/// Call a server of `linkspan echo`, and measure.
#[derive(Debug, ClapArgs)]
#[command(after_help = CALL)]
pub(super) struct Call {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask who answers, and whom it sees.
    Who {
        /// Name or address and port.
        target: String,
        /// How it is called.
        #[arg(long, value_enum, default_value_t = Transport::Tcp)]
        transport: Transport,
    },
    /// Send bytes and have them back.
    Carry {
        /// Name or address and port.
        target: String,
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        bytes: usize,
    },
    /// Send as fast as it goes.
    Send {
        /// Name or address and port.
        target: String,
        /// For how long.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Measure round trips of 64 bytes.
    RoundTrips {
        /// Name or address and port.
        target: String,
        /// How many.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Measure how long the name takes to resolve.
    Names {
        /// Name and port.
        target: String,
        /// How often it is asked for.
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// Call again and again, and tell the longest time without an answer.
    Watch {
        /// Name or address and port.
        target: String,
        /// For how long.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

/// Between calls of `watch`.
const EVERY: Duration = Duration::from_millis(100);

pub(super) fn echo(args: Echo) -> anyhow::Result<()> {
    let name = match args.name {
        Some(name) => name,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    super::runtime()?.block_on(server::serve(SocketAddr::new(args.address, args.port), name))
}

pub(super) async fn call(args: Call) -> anyhow::Result<()> {
    let text = match args.what {
        What::Who { target, transport } => serde_json::to_string(&client::call(&target, transport).await?),
        What::Carry { target, bytes } => serde_json::to_string(&client::carry(&target, bytes).await?),
        What::Send { target, seconds } => {
            serde_json::to_string(&client::send(&target, Duration::from_secs(seconds)).await?)
        }
        What::RoundTrips { target, count } => serde_json::to_string(&client::round_trips(&target, count).await?),
        What::Names { target, count } => serde_json::to_string(&client::names(&target, count).await?),
        What::Watch { target, seconds } => {
            serde_json::to_string(&client::watch(&target, Duration::from_secs(seconds), EVERY).await?)
        }
    }?;
    output::print(&format!("{text}\n"))
}
