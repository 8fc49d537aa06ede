//! Path states for the nodes that see no paths: the gateway tells the workers of its cluster which other clusters are
//! down, so that names are the same on every node.
//!
//! A worker connects by TCP from its own address to the gateway's, on the number of the tunnel's port, and hears a line
//! at once, with every change, and each second. A word that is older than [`STALE`] counts no more: then every cluster
//! is trusted, as before the first word.
//!
//! # Whom a worker believes
//! Whoever has the gateway's address on the network between the nodes. The messages bear no key: workers hold no secret,
//! and the same network carries the cluster's packets to the gateway in the clear, so that who can forge one can forge
//! the others. The worst that a forged word does is to leave addresses of real peers unnamed while another cluster has
//! the same service; it adds no name, no address and no route. The gateway answers to addresses of the cluster's nodes
//! only, one connection each, and what it tells is no secret.

mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::Context;
use crate::site::{Loaded, Site};
pub use message::fuzz_path_states;

/// Between two words of the gateway when nothing changes.
const PERIOD: Duration = Duration::from_secs(1);
/// After this long without a word, the last one counts no more.
const STALE: Duration = Duration::from_secs(3);
/// How long a worker may take to accept a word, and the gateway to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between tries to reach the gateway.
const RETRY: Duration = Duration::from_millis(250);
/// Between tries to listen on an address that this node does not have yet.
const LISTEN_RETRY: Duration = Duration::from_secs(2);

/// What a node knows of the paths to other clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing, and why; every cluster is trusted.
    Nothing(String),
    /// The gateway's word.
    Down {
        /// The gateway's name.
        gateway: String,
        /// The clusters whose paths are down.
        clusters: BTreeSet<String>,
    },
}

impl Default for Told {
    fn default() -> Self {
        Self::Nothing("the gateway was not asked yet".to_owned())
    }
}

impl Told {
    /// The clusters that are known to be down.
    pub(super) fn down(&self) -> impl Iterator<Item = &String> {
        let clusters = match self {
            Self::Nothing(_) => None,
            Self::Down { clusters, .. } => Some(clusters),
        };
        clusters.into_iter().flatten()
    }
}

/// This node's part, as its site has it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// The only node, or one that does not know the others yet.
    Alone,
    /// Tells what its device sees.
    Gateway { listen: SocketAddr, nodes: BTreeSet<IpAddr> },
    /// Listens.
    Worker { gateway: String, at: SocketAddr, from: IpAddr, known: BTreeSet<String> },
}

impl Part {
    fn of(loaded: Option<&Loaded>) -> Self {
        let Some(Loaded { site, node, .. }) = loaded else { return Self::Alone };
        let (Some(own), Some(gateway)) = (site.node(node), site.nodes.iter().find(|node| node.gateway)) else {
            return Self::Alone;
        };
        let at = SocketAddr::new(gateway.address, site.tunnel.listen_port);
        let nodes: BTreeSet<IpAddr> = site.nodes.iter().filter(|node| !node.gateway).map(|node| node.address).collect();
        match (own.gateway, nodes.is_empty()) {
            (true, true) => Self::Alone,
            (true, false) => Self::Gateway { listen: at, nodes },
            (false, _) => Self::Worker { gateway: gateway.name.clone(), at, from: own.address, known: clusters(site) },
        }
    }
}

fn clusters(site: &Site) -> BTreeSet<String> {
    site.peers.iter().map(|peer| peer.cluster.clone()).collect()
}

/// Plays this node's part until it is cancelled.
///
/// # Errors
/// When the site is gone, which ends the process anyway.
pub(super) async fn follow(context: Context) -> anyhow::Result<()> {
    let mut sites = context.sites.subscribe();
    loop {
        let part = Part::of(sites.borrow_and_update().as_deref());
        let other = |loaded: &Option<Arc<Loaded>>| Part::of(loaded.as_deref()) != part;
        tokio::select! {
            never = play(&context, &part) => match never {},
            changed = sites.wait_for(other) => drop(changed.context("the site is held as long as the process runs")?),
        }
        context.board.told.send_replace(Told::default());
    }
}

async fn play(context: &Context, part: &Part) -> Infallible {
    match part {
        Part::Alone => std::future::pending().await,
        Part::Gateway { listen, nodes } => tell(*listen, nodes, &context.board.down).await,
        Part::Worker { gateway, at, from, known } => {
            let worker = Worker { gateway, at: *at, from: *from, known, told: &context.board.told };
            worker.listen().await
        }
    }
}

// === The gateway's side ===

/// Tells every worker that connects, for ever.
async fn tell(listen: SocketAddr, nodes: &BTreeSet<IpAddr>, down: &watch::Sender<BTreeSet<String>>) -> Infallible {
    let mut said = String::new();
    loop {
        let error = match TcpListener::bind(listen).await {
            Ok(listener) => {
                said.clear();
                serve(&listener, nodes, down).await
            }
            Err(error) => error,
        };
        let error = error.to_string();
        if error != said {
            tracing::warn!(%listen, %error, "workers are not told of path states; the address is tried again");
        }
        said = error;
        tokio::time::sleep(LISTEN_RETRY).await;
    }
}

/// Serves workers until the listener fails. A second connection of a node takes the place of its first.
async fn serve(
    listener: &TcpListener,
    nodes: &BTreeSet<IpAddr>,
    down: &watch::Sender<BTreeSet<String>>,
) -> std::io::Error {
    let mut streams = JoinSet::new();
    let mut served: BTreeMap<IpAddr, AbortHandle> = BTreeMap::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = streams.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return error,
        };
        let from = from.ip().to_canonical();
        if !nodes.contains(&from) {
            tracing::debug!(%from, "path states are for nodes of this cluster");
            continue;
        }
        let stream = streams.spawn(speak(stream, down.subscribe()));
        if let Some(before) = served.insert(from, stream) {
            before.abort();
        }
    }
}

/// Speaks to one worker until it is gone.
async fn speak(mut stream: TcpStream, mut down: watch::Receiver<BTreeSet<String>>) {
    // A word is one small segment that must not wait for the one before it.
    let _ = stream.set_nodelay(true);
    loop {
        let line = message::line(&down.borrow_and_update());
        if !matches!(timeout(PATIENCE, stream.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
        if let Ok(Err(_)) = timeout(PERIOD, down.changed()).await {
            return;
        }
    }
}

// === A worker's side ===

struct Worker<'a> {
    gateway: &'a str,
    at: SocketAddr,
    /// This node's own address: the gateway knows it.
    from: IpAddr,
    known: &'a BTreeSet<String>,
    told: &'a watch::Sender<Told>,
}

impl Worker<'_> {
    /// Listens to the gateway through every failure.
    async fn listen(&self) -> Infallible {
        let mut heard = None;
        loop {
            let Err(error) = self.hear(&mut heard).await;
            if heard.is_none_or(|at: Instant| at.elapsed() >= STALE) {
                self.note(Told::Nothing(format!("{} does not tell: {error:#}", self.gateway)));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Connects, and takes every word until there is none for too long.
    async fn hear(&self, heard: &mut Option<Instant>) -> anyhow::Result<Infallible> {
        let stream = timeout(PATIENCE, self.connect()).await.context("no connection in time")??;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut reader).take(message::LINE_MAX);
            let read = timeout(STALE, limited.read_until(b'\n', &mut line)).await;
            if read.context("no word for too long")?.context("the connection broke")? == 0 {
                anyhow::bail!("the connection was closed");
            }
            let clusters = message::read(&line, self.known).map_err(anyhow::Error::msg)?;
            *heard = Some(Instant::now());
            self.note(Told::Down { gateway: self.gateway.to_owned(), clusters });
        }
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let socket = if self.from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.context("no socket")?;
        let from = self.from;
        socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("this node has no address {from}"))?;
        socket.connect(self.at).await.with_context(|| format!("failed to connect to {}", self.at))
    }

    /// Notes what is known; nobody is woken by what is no news.
    fn note(&self, told: Told) {
        self.told.send_if_modified(|known| {
            let news = *known != told;
            if news {
                match &told {
                    Told::Nothing(why) => tracing::warn!(%why, "path states are unknown; every cluster is named"),
                    Told::Down { clusters, .. } => tracing::debug!(?clusters, "the gateway tells which paths are down"),
                }
                *known = told;
            }
            news
        });
    }
}

#[cfg(test)]
mod tests;
