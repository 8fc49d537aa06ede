//! The running process: tasks that are wired together here, watched, and ended in order.
//!
//! | task | does |
//! |---|---|
//! | `files` | reads the site file again when it changes |
//! | `node` | passes: device, kernel, zone |
//! | `names ADDRESS` | answers DNS on one address |
//! | `status` | answers `linkspan status` |
//! | `http` | metrics and probes |
//! | `systemd` | readiness, status line and watchdog |
//!
//! A task that fails is started anew after a while; nothing but the first pass can end the process.

mod board;
mod files;
mod names;
mod node;
mod publish;
mod systemd;
mod tasks;
mod underlay;
mod uninstall;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::site::{Loaded, NodePlan, plan};
use crate::status::socket::{Socket, Source};

use board::Board;
use tasks::Tasks;
pub use uninstall::uninstall;

/// What the command line asks of `linkspan run`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The site file.
    pub config: PathBuf,
    /// This node's name in it.
    pub node: String,
    /// Whether links, routes and rules go when the process ends.
    pub at_exit: AtExit,
}

/// What becomes of the node's links, routes and rules when the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtExit {
    /// They stay, so that a restart adopts them and connections survive.
    Keep,
    /// They are removed.
    Remove,
}

/// What all tasks share.
#[derive(Clone)]
pub(crate) struct Context {
    options: Arc<Options>,
    board: Arc<Board>,
    /// The site in use; replaced whole.
    sites: watch::Sender<Arc<Loaded>>,
    /// The published zone.
    zone: watch::Sender<Option<Arc<dns::Zone>>>,
}

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start: the site file is wrong, the node is unknown, the device cannot be opened, or another process
/// runs with the same status socket.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let loaded = Arc::new(Loaded::read(&options.config, &options.node)?);
    let plan = plan_now(&loaded)?;
    let socket = Socket::bind(&status_socket(&options, &loaded)).await?;
    let board = Arc::new(Board::new(&options, &loaded, Instant::now()));
    let context = Context {
        options: Arc::new(options),
        board,
        sites: watch::Sender::new(Arc::clone(&loaded)),
        zone: watch::Sender::new(None),
    };
    node::open_device(&context, plan.tunnel.clone()).await.context("the tunnel device cannot be opened")?;
    tracing::info!(cluster = %loaded.site.cluster, node = %loaded.node, gateway = plan.node.gateway, "linkspan runs");
    let serving = Tasks::new(&context.board);
    let working = Tasks::new(&context.board);
    let working = start(&context, &loaded, socket, working);
    let serving = names::start(&context, serving);
    let outcome = supervise(&context, serving, working).await;
    systemd::stopped();
    outcome
}

/// The site's plan for its node on this machine.
///
/// # Errors
/// [`crate::site::PlanError`].
pub fn plan_now(loaded: &Loaded) -> anyhow::Result<NodePlan> {
    let machine = underlay::machine(&loaded.site);
    Ok(plan(&loaded.site, &loaded.secrets, &loaded.node, machine)?)
}

/// The status socket's path; relative ones start at the site file's folder.
pub(crate) fn status_socket(options: &Options, loaded: &Loaded) -> PathBuf {
    crate::site::beside(&options.config, &loaded.site.status.socket)
}

fn start(context: &Context, loaded: &Loaded, socket: Socket, mut tasks: Tasks) -> Tasks {
    let board = Arc::clone(&context.board);
    let source: Source = Arc::new(move || board.report(Instant::now()));
    let status = std::sync::Mutex::new(Some(socket));
    let path = status_socket(&context.options, loaded);
    let reports = Arc::clone(&source);
    tasks.spawn("status", move || {
        let (first, path, source) =
            (status.lock().ok().and_then(|mut first| first.take()), path.clone(), reports.clone());
        async move {
            let socket = match first {
                Some(socket) => socket,
                None => Socket::bind(&path).await?,
            };
            socket.serve(source).await
        }
    });
    if let Some(address) = loaded.site.status.listen {
        tasks.spawn("http", move || crate::status::http::serve(address, Arc::clone(&source)));
    }
    let each = context.clone();
    tasks.spawn("files", move || files::follow(each.clone()));
    let each = context.clone();
    tasks.spawn("node", move || node::follow(each.clone()));
    let board = Arc::clone(&context.board);
    tasks.spawn("systemd", move || systemd::follow(Arc::clone(&board)));
    tasks
}

/// Restarts what ends, until a signal comes; then ends everything in order.
async fn supervise(context: &Context, mut serving: Tasks, mut working: Tasks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        never = working.restart() => match never {},
        never = serving.restart() => match never {},
    }
    tokio::select! {
        outcome = drain(context, serving, working) => outcome,
        _ = terminate.recv() => anyhow::bail!("a second SIGTERM ended the drain"),
        _ = interrupt.recv() => anyhow::bail!("a second SIGINT ended the drain"),
    }
}

/// Not ready, then names, then lanes: nobody is told of what no longer works.
async fn drain(context: &Context, serving: Tasks, working: Tasks) -> anyhow::Result<()> {
    context.board.draining();
    systemd::stopping();
    serving.stop().await;
    working.stop().await;
    node::open_device(context, None).await?;
    if context.options.at_exit == AtExit::Remove {
        let links = vec![context.sites.borrow().site.tunnel.link.clone()];
        uninstall(links).await?;
    }
    tracing::info!("stopped");
    Ok(())
}
