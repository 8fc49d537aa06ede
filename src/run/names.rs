//! DNS servers, one task for each address of this node. An address that is not there yet is waited for: a bridge of
//! pods comes up with the first pod.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::{Server, ServerConfig, Zone};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Listener};
use super::tasks::Tasks;
use super::{Context, current, plan_now};

/// The published zone.
pub(crate) type Zones = watch::Sender<Option<Arc<Zone>>>;

/// How long an address that cannot be bound is left alone.
const RETRY: Duration = Duration::from_secs(2);

pub(super) fn start(context: &Context, mut tasks: Tasks) -> Tasks {
    let context = context.clone();
    tasks.spawn("names", move || follow(context.clone()));
    tasks
}

/// Keeps one server for each address that the site names for this node.
async fn follow(context: Context) -> anyhow::Result<()> {
    let mut sites = context.sites.subscribe();
    let mut running: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    let mut servers = JoinSet::new();
    loop {
        let loaded = current(&mut sites).await?;
        let wanted = plan_now(&loaded)?.dns_listen;
        running.retain(|address, stop| {
            let keep = wanted.contains(address);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for address in wanted {
            running.entry(address).or_insert_with(|| {
                let stop = CancellationToken::new();
                servers.spawn(serve(Arc::clone(&context.board), context.zone.clone(), address, stop.clone()));
                stop
            });
        }
        tokio::select! {
            changed = sites.changed() => changed?,
            Some(ended) = servers.join_next() => ended?,
        }
    }
}

/// Serves one address until it is stopped, through every failure.
pub(crate) async fn serve(board: Arc<Board>, zone: Zones, address: SocketAddr, stop: CancellationToken) {
    let mut told = String::new();
    while !stop.is_cancelled() {
        let error = match Server::bind(ServerConfig::new(vec![address], seed()), zone.subscribe()) {
            Ok(server) => {
                let listener = Listener { waiting: None, stats: Some(server.stats()) };
                board.listener(address, Some(listener));
                told.clear();
                match server.run(stop.cancelled()).await {
                    Ok(()) => break,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if error != told {
            tracing::warn!(%address, %error, "names are not served on an address, which is tried again");
        }
        told.clone_from(&error);
        board.listener(address, Some(Listener { waiting: Some(error), stats: None }));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    board.listener(address, None);
}

/// Starts the random order of answers.
#[expect(clippy::disallowed_methods, reason = "the edge that seeds the server")]
fn seed() -> u64 {
    rand::random()
}
