//! The running process: tasks that are wired together here, watched, and ended in order.
//!
//! | task | does |
//! |---|---|
//! | `files` | reads the site file again when it changes; only where the site comes from a file |
//! | `cluster`, `lease`, `gateway` | do the same from the Kubernetes API: see [`crate::roles::node`] |
//! | `node` | passes: device, kernel, zone |
//! | `names ADDRESS` | answers DNS on one address |
//! | `paths` | shares path states between the gateway and the other nodes |
//! | `status` | answers `linkspan status` |
//! | `http` | metrics and probes |
//! | `memory` | lets go of what only the start needed |
//! | `otlp` | sends metrics, logs and traces to a collector; see [`crate::otlp`] |
//! | `systemd` | readiness, status line and watchdog |
//!
//! A task that fails is started anew after a while; nothing but the first pass can end the process.

mod board;
mod files;
pub(crate) mod memory;
pub(crate) mod names;
mod node;
mod paths;
mod publish;
mod systemd;
mod tasks;
mod underlay;
mod uninstall;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::roles;
use crate::site::{Loaded, NodePlan, plan};
use crate::status::socket::{Reporter, Socket};

pub(crate) use board::{Board, Leading, Listener, Role};
pub use paths::fuzz_path_states;
pub(crate) use tasks::Tasks;
use underlay::Underlay;
pub use uninstall::{plan_uninstall, uninstall};

/// What the command line asks of `linkspan run` and `linkspan node`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the site comes from.
    pub source: Source,
    /// This node's name in it.
    pub node: String,
    /// Whether links, routes and rules go when the process ends.
    pub at_exit: AtExit,
}

/// Where a node's site comes from. Everything behind it is the same.
#[derive(Debug, Clone)]
pub enum Source {
    /// A site file, read again when it changes.
    File(PathBuf),
    /// The API server of the node's own cluster.
    Cluster(Arc<roles::node::Settings>),
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
    pub(crate) options: Arc<Options>,
    pub(crate) board: Arc<Board>,
    /// The site in use, replaced whole; none until the first one is known.
    pub(crate) sites: watch::Sender<Option<Arc<Loaded>>>,
    /// Told whenever the state of a path or the outcome of a pass may have changed.
    pub(crate) paths: watch::Sender<()>,
    /// The published zone.
    zone: watch::Sender<Option<Arc<dns::Zone>>>,
    underlay: Arc<Underlay>,
    /// Whose turn it is to change the device.
    work: node::DeviceWork,
}

impl Context {
    /// Puts a site into use.
    pub(crate) fn accept(&self, loaded: Loaded, now: Instant) {
        self.board.site_accepted(&loaded, now);
        self.sites.send_replace(Some(Arc::new(loaded)));
    }

    /// As [`plan_now`], with what this process has seen of the links under the tunnel.
    fn plan(&self, loaded: &Loaded) -> anyhow::Result<NodePlan> {
        plan_on(&self.underlay, loaded)
    }
}

/// The site in use, as soon as there is one. The next change after it is news.
async fn current(sites: &mut watch::Receiver<Option<Arc<Loaded>>>) -> anyhow::Result<Arc<Loaded>> {
    loop {
        if let Some(loaded) = &*sites.borrow_and_update() {
            return Ok(Arc::clone(loaded));
        }
        sites.changed().await.context("the site is held as long as the process runs")?;
    }
}

/// What is known when the process starts.
struct Opening {
    cluster: String,
    socket: PathBuf,
    listen: Option<SocketAddr>,
    loaded: Option<Loaded>,
}

impl Opening {
    fn of(options: &Options) -> anyhow::Result<Self> {
        match &options.source {
            Source::File(file) => {
                let loaded = Loaded::read(file, &options.node)?;
                let socket = crate::site::beside(file, &loaded.site.status.socket);
                let (cluster, listen) = (loaded.site.cluster.clone(), loaded.site.status.listen);
                Ok(Self { cluster, socket, listen, loaded: Some(loaded) })
            }
            Source::Cluster(settings) => Ok(Self {
                cluster: settings.cluster.clone(),
                socket: settings.socket.clone(),
                listen: settings.listen,
                loaded: None,
            }),
        }
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start: the site file is wrong, the node is unknown, the device cannot be opened, or another process
/// runs with the same status socket.
pub async fn run(options: Options) -> anyhow::Result<()> {
    // First of all: a signal that comes while the device is being opened ends the process as any other does.
    let signals = Signals::listen()?;
    let mut opening = Opening::of(&options)?;
    let underlay = Underlay::default();
    let plan = opening.loaded.as_ref().map(|loaded| plan_on(&underlay, loaded)).transpose()?;
    let socket = Socket::bind(&opening.socket).await?;
    let (role, source) = match &options.source {
        Source::File(file) => (Role::Node, file.display().to_string()),
        Source::Cluster(_) => (Role::ClusterNode, "the Kubernetes API".to_owned()),
    };
    let board = Board::new(role, source, opening.cluster.clone(), options.node.clone(), Instant::now());
    let context = Context {
        options: Arc::new(options),
        board: Arc::new(board),
        sites: watch::Sender::new(None),
        paths: watch::Sender::new(()),
        zone: watch::Sender::new(None),
        underlay: Arc::new(underlay),
        work: node::DeviceWork::default(),
    };
    if let (Some(loaded), Some(plan)) = (opening.loaded.take(), plan) {
        node::open_first_device(&context, plan.tunnel.clone()).await.context("the tunnel device cannot be opened")?;
        context.accept(loaded, Instant::now());
    }
    tracing::info!(cluster = %opening.cluster, node = %context.options.node, "linkspan runs");
    let working = start(&context, opening, socket, Tasks::new(&context.board));
    let serving = names::start(&context, Tasks::new(&context.board));
    let outcome = supervise(&context, signals, serving, working).await;
    systemd::stopped();
    outcome
}

/// The site's plan for its node on this machine.
///
/// # Errors
/// [`crate::site::PlanError`].
pub fn plan_now(loaded: &Loaded) -> anyhow::Result<NodePlan> {
    plan_on(&Underlay::default(), loaded)
}

fn plan_on(underlay: &Underlay, loaded: &Loaded) -> anyhow::Result<NodePlan> {
    Ok(plan(&loaded.site, &loaded.secrets, &loaded.node, underlay.machine(&loaded.site))?)
}

fn start(context: &Context, opening: Opening, socket: Socket, mut tasks: Tasks) -> Tasks {
    tell(&context.board, &opening.socket, opening.listen, socket, &mut tasks);
    memory::release(&mut tasks);
    match &context.options.source {
        Source::File(file) => {
            let (each, file) = (context.clone(), file.clone());
            tasks.spawn("files", move || files::follow(each.clone(), file.clone()));
            // In a cluster, other processes answer for names, and hear of paths from the API server.
            let each = context.clone();
            tasks.spawn("paths", move || paths::follow(each.clone()));
        }
        Source::Cluster(settings) => roles::node::start(context, settings, &mut tasks),
    }
    let each = context.clone();
    tasks.spawn("node", move || node::follow(each.clone()));
    tasks
}

/// Starts what tells about the process: the status socket, HTTP where there is an address, systemd.
pub(crate) fn tell(
    board: &Arc<Board>,
    path: &std::path::Path,
    listen: Option<SocketAddr>,
    socket: Socket,
    tasks: &mut Tasks,
) {
    let reports = Arc::clone(board);
    let reporter: Reporter = Arc::new(move || reports.report(Instant::now()));
    let status = std::sync::Mutex::new(Some(socket));
    let path = path.to_owned();
    tasks.spawn("status", move || {
        let (first, path, reporter) =
            (status.lock().ok().and_then(|mut first| first.take()), path.clone(), Arc::clone(&reporter));
        async move {
            let socket = match first {
                Some(socket) => socket,
                None => Socket::bind(&path).await?,
            };
            socket.serve(reporter).await
        }
    });
    tell_http(board, listen, tasks);
    tell_otlp(board, tasks);
    let board = Arc::clone(board);
    tasks.spawn("systemd", move || systemd::follow(Arc::clone(&board)));
}

/// Starts metrics and probes, where there is an address for them.
pub(crate) fn tell_http(board: &Arc<Board>, listen: Option<SocketAddr>, tasks: &mut Tasks) {
    if let Some(address) = listen {
        let board = Arc::clone(board);
        let reporter: Reporter = Arc::new(move || board.report(Instant::now()));
        tasks.spawn("http", move || crate::status::http::serve(address, Arc::clone(&reporter)));
    }
}

/// Starts the export of metrics, logs and traces, where there is an endpoint for it.
pub(crate) fn tell_otlp(board: &Arc<Board>, tasks: &mut Tasks) {
    if crate::otlp::is_on() {
        let board = Arc::clone(board);
        tasks.spawn("otlp", move || crate::otlp::follow(Arc::clone(&board)));
    }
}

/// The signals that end a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// When the kernel takes no handler.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?,
        })
    }

    /// Waits for the next one since [`Self::listen`], and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Restarts what ends, until a signal comes; then ends everything in order.
async fn supervise(
    context: &Context,
    mut signals: Signals,
    mut serving: Tasks,
    mut working: Tasks,
) -> anyhow::Result<()> {
    tokio::select! {
        name = signals.next() => tracing::info!("{name}: draining"),
        never = working.restart() => match never {},
        never = serving.restart() => match never {},
    }
    tokio::select! {
        outcome = drain(context, serving, working) => outcome,
        name = signals.next() => anyhow::bail!("a second {name} ended the drain"),
    }
}

/// Not ready, then names, then lanes: nobody is told of what no longer works.
async fn drain(context: &Context, serving: Tasks, working: Tasks) -> anyhow::Result<()> {
    context.board.draining();
    systemd::stopping();
    serving.stop().await;
    working.stop().await;
    let at_exit = match &context.options.source {
        Source::File(_) => context.options.at_exit,
        Source::Cluster(settings) => roles::node::leave(context, settings).await,
    };
    node::open_device(context, None).await?;
    if at_exit == AtExit::Remove {
        let links = context.sites.borrow().iter().map(|loaded| loaded.site.tunnel.link.clone()).collect();
        uninstall(links).await?;
    }
    tracing::info!("stopped");
    Ok(())
}
