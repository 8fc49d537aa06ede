//! `linkspan controller`: everything that a cluster does once, in the one of two processes that holds the Lease.
//!
//! | part | does |
//! |---|---|
//! | services | ServiceExports to ServiceRecords, ServiceRecords to ServiceImports |
//! | broker | joins the clusterset, keeps credentials, mirrors Members and ServiceRecords |
//! | coredns | keeps cluster DNS forwarding `clusterset.local` |

mod coredns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use controller::api::names::{LEASE_CONTROLLER, SYSTEM_NAMESPACE};
use controller::broker::{self, BrokerConfig};
use controller::cluster::client::connect_to_own;
use controller::cluster::lease::{Elector, Holding, LeaseConfig, Standing};
use controller::cluster::owner;
use controller::cluster::services::{ServicesConfig, run as run_services};
use controller::members::{ClusterId, Overrides, Selector};
use controller::services::validate::Policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::process::Process;
use crate::run::{Board, Leading, Role};

/// How long a silent holder keeps the Lease.
const DURATION: Duration = Duration::from_secs(5);
/// Between renewals.
const RENEW: Duration = Duration::from_secs(1);
/// How long giving the Lease back may take at the end.
const LINGER: Duration = Duration::from_secs(1);

/// After what time it is tried again to give objects their owners.
const ADOPT_AGAIN: Duration = Duration::from_secs(60);

/// What the command line and the ConfigMap tell.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this process: the pod's.
    pub name: String,
    /// The cluster's ID.
    pub cluster: ClusterId,
    /// Prefixes that are set by hand.
    pub overrides: Overrides,
    /// Which nodes people have made gateways.
    pub gateways: Selector,
    /// Which namespaces the clusterset is kept out of.
    pub policy: Policy,
    /// Address of metrics and probes.
    pub listen: Option<SocketAddr>,
}

/// Works until a signal comes.
///
/// # Errors
/// When there is no way to an API server.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let client = connect_to_own().await;
    let client =
        client.context("failed to find the API server: it is told by the pod's environment, or by KUBECONFIG")?;
    let mut process =
        Process::start(Role::Controller, settings.cluster.to_string(), settings.name.clone(), settings.listen)?;
    let Overrides { pod_cidrs, service_cidrs, .. } = &settings.overrides;
    for (variable, set) in [("LINKSPAN_POD_CIDRS", pod_cidrs), ("LINKSPAN_SERVICE_CIDRS", service_cidrs)] {
        if let Err(error) = set {
            tracing::error!("{variable} cannot be used: {error}");
        }
    }
    let (board, settings, stop) = (Arc::clone(&process.board), Arc::new(settings), process.stop.clone());
    board.waiting(Some("the Lease linkspan-controller has not been read yet".to_owned()));
    process.tasks.spawn("lead", move || lead(client.clone(), Arc::clone(&settings), Arc::clone(&board), stop.clone()));
    process.run(LINGER).await;
    Ok(())
}

/// Works whenever this process holds the Lease.
async fn lead(
    client: Client,
    settings: Arc<Settings>,
    board: Arc<Board>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Whoever was started anew does not lead yet.
    board.leading(None);
    let config = LeaseConfig {
        namespace: SYSTEM_NAMESPACE.to_owned(),
        name: LEASE_CONTROLLER.to_owned(),
        holder: settings.name.clone(),
        duration: DURATION,
        renew_period: RENEW,
    };
    let (elector, mut holding) = Elector::new(client.clone(), config)?;
    let standing = watch::Sender::new(Standing::Candidate);
    let election = elector.run(standing.subscribe(), stop.cancelled());
    tokio::pin!(election);
    loop {
        let known = await_turn(&mut holding, &board);
        tokio::select! {
            () = &mut election => return ended(&stop).await,
            ours = known => ours.context("the election tells as long as it runs")?,
        }
        tracing::info!("this process leads");
        tokio::select! {
            () = &mut election => return ended(&stop).await,
            lost = async { holding.wait_for(|holding| *holding != Holding::Ours).await.map(drop) } => {
                lost.context("the election tells as long as it runs")?;
                tracing::warn!("this process leads no more");
                board.leading(None);
            }
            end = work(&client, &settings, &board) => return end,
        }
    }
}

/// Waits until this process leads. It is ready when somebody does: a Lease that stays without a holder means that none of
/// the controllers can write it.
async fn await_turn(holding: &mut watch::Receiver<Holding>, board: &Board) -> Result<(), watch::error::RecvError> {
    loop {
        match &*holding.borrow_and_update() {
            Holding::Unknown => {}
            Holding::Nobody => board.waiting(Some(format!(
                "nobody holds the Lease {LEASE_CONTROLLER}: if that stays so, this process cannot write it, and its log \
                 says why"
            ))),
            Holding::Lost | Holding::Other(_) => board.waiting(None),
            Holding::Ours => {
                board.waiting(None);
                return Ok(());
            }
        }
        holding.changed().await?;
    }
}

/// The Lease is given back; what is left is the end of the process.
async fn ended(stop: &CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(stop.is_cancelled(), "the election ended");
    std::future::pending().await
}

/// Does the work of the one process that leads. It is cancelled when that is no longer this one, which each part can
/// take between any two writes.
async fn work(client: &Client, settings: &Settings, board: &Board) -> anyhow::Result<()> {
    let uid = broker::cluster_uid(client).await.context("failed to read the namespace kube-system")?;
    loop {
        let owners = owner::find(client).await.context("failed to read the ClusterRole linkspan-controller")?;
        tokio::select! {
            end = work_for(client, settings, board, &uid, &owners) => return end,
            () = belong(client, &owners) => {
                tracing::info!("what is made of imports belongs to other objects from now on: beginning anew");
            }
        }
    }
}

async fn work_for(
    client: &Client,
    settings: &Settings,
    board: &Board,
    uid: &str,
    owners: &[OwnerReference],
) -> anyhow::Result<()> {
    let config = BrokerConfig {
        owners: owners.to_vec(),
        version: crate::status::VERSION.to_owned(),
        overrides: settings.overrides.clone(),
        gateways: settings.gateways.clone(),
        policy: settings.policy.clone(),
        ..BrokerConfig::new(settings.cluster.clone(), uid.to_owned())
    };
    let exports = ServicesConfig {
        policy: settings.policy.clone(),
        owners: owners.to_vec(),
        ..ServicesConfig::new(settings.cluster.clone())
    };
    board.leading(Some(Leading { broker: config.status.subscribe(), services: exports.status.subscribe() }));
    tokio::select! {
        () = run_services(client.clone(), exports, std::future::pending()) => anyhow::bail!("the services part ended"),
        () = broker::run(client.clone(), config, std::future::pending()) => anyhow::bail!("the broker part ended"),
        never = coredns::follow(client.clone()) => match never {},
    }
}

/// Sees to it that what is made of imports goes with Linkspan; ends when it has to belong to something else.
async fn belong(client: &Client, owners: &[OwnerReference]) {
    let adopt = async {
        while !owners.is_empty()
            && let Err(error) = owner::adopt(client, owners).await
        {
            tracing::warn!(%error, "some of what is made of imports would not go with Linkspan yet");
            tokio::time::sleep(ADOPT_AGAIN).await;
        }
    };
    tokio::select! {
        () = owner::replaced(client, owners) => {}
        () = async { adopt.await; std::future::pending().await } => {}
    }
}
