//! `linkspan dns`: answers for `clusterset.local`, from the ServiceImports and EndpointSlices of its own cluster.
//!
//! | task | does |
//! |---|---|
//! | `zone` | watches, and publishes a zone whenever it differs from the one before |
//! | `names ADDRESS` | answers DNS on one address |
//! | `http` | metrics and probes |
//!
//! Until everything has been listed once, answers are SERVFAIL. While the API server is away, the last zone is served.

mod observe;
mod zone;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use controller::cluster::client::connect_to_own;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::process::Process;
use crate::run::Role;
use crate::run::names::serve;

/// How long names are served after the signal to end: kube-proxies and CoreDNS need a moment to notice.
const LINGER: Duration = Duration::from_secs(3);

/// What the command line tells.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this process, for metrics.
    pub name: String,
    /// The cluster's ID, for metrics; empty when it is not told.
    pub cluster: String,
    /// Addresses to answer on.
    pub serve_on: Vec<SocketAddr>,
    /// Address of metrics and probes.
    pub listen: Option<SocketAddr>,
    /// The zone.
    pub origin: dns::Name,
    /// Time to live of answers in seconds.
    pub ttl: u32,
}

/// Serves until a signal comes.
///
/// # Errors
/// When there is no way to an API server.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let client = connect_to_own().await;
    let client =
        client.context("failed to find the API server: it is told by the pod's environment, or by KUBECONFIG")?;
    let mut process = Process::start(Role::Other, settings.cluster.clone(), settings.name.clone(), settings.listen)?;
    let zones = watch::Sender::new(None);
    for address in settings.serve_on.clone() {
        let (board, zones) = (Arc::clone(&process.board), zones.clone());
        // The listener is known from the start, so that the process is not ready before it has a zone.
        board.listener(address, Some(crate::run::Listener::default()));
        process.tasks.spawn(format!("names {address}"), move || {
            let (board, zones) = (Arc::clone(&board), zones.clone());
            async move {
                serve(board, zones, address, CancellationToken::new()).await;
                Ok(())
            }
        });
    }
    let (board, settings) = (Arc::clone(&process.board), Arc::new(settings));
    process
        .tasks
        .spawn("zone", move || zone::follow(client.clone(), Arc::clone(&settings), Arc::clone(&board), zones.clone()));
    process.run(LINGER).await;
    Ok(())
}
