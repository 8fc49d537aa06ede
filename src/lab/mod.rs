//! A lab: several sites on one machine, made of network namespaces, joined by the real binary and proven by real
//! programs.
//!
//! ```text
//!   pod  pod        pod  pod                                       every box a network namespace
//!    └─cni0─┘        └─cni0─┘
//!   PARIS-GW ═flannel═ PARIS-W1         BERLIN-GW ═flannel═ BERLIN-W1
//!      └──── br0 of PARIS-LAN ─── WORLD ─── br0 of BERLIN-LAN ──┘
//! ```
//!
//! [`Plan`] computes every name and address, [`Lab`] makes and removes them and runs the processes, [`proof`] checks
//! what users were promised. Nothing is made outside namespaces that bear the lab's prefix, its state folder under
//! `/run`, and `/etc/netns/PREFIX*`; so whatever a crash leaves is found and removed by name.

mod build;
mod clock;
mod command;
mod flannel;
mod kube_proxy;
mod overview;
mod plan;
pub mod pod;
mod processes;
pub mod proof;
mod ready;
mod report;
mod site_file;
mod snapshot;
mod spec;
mod state;
mod tools;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
pub use rustix::process::Signal;

pub use clock::{now, pause, wait_until};
pub use command::{Run, each};
pub use overview::{Member, overview_table};
pub use plan::{HTTP_PORT, LISTEN_PORT, Node, Place, Plan, Pod, SERVICE_PORT, Site, Target, WHOAMI_PORT};
pub use report::{Report, Row};
pub use site_file::{SITE_FILE, SOCKET, STATUS_LISTEN};
pub use snapshot::Snapshot;
pub use spec::{Family, MAX_NODES, MAX_PODS, MAX_SITES, Prefix, Proxy, Spec};
pub use state::Access;
pub use tools::check as check_machine;

use processes::Processes;

/// How long a server in a pod may take to listen.
const SERVES_WITHIN: Duration = Duration::from_secs(60);

/// What happens to the lab when its value is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrop {
    /// Everything is removed.
    Remove,
    /// It stays up, for a later [`Lab::open`].
    Keep,
}

/// A lab that exists on this machine.
#[derive(Debug)]
pub struct Lab {
    /// Its shape.
    pub spec: Spec,
    /// Its names and addresses.
    pub plan: Plan,
    /// What happens on drop; [`OnDrop::Remove`] at first.
    pub on_drop: OnDrop,
    /// The `linkspan` program that runs on the nodes; at first the one that serves in the pods too.
    pub node_binary: PathBuf,
    /// More arguments of `linkspan run` on the nodes; none at first.
    pub node_args: Vec<String>,
    binary: PathBuf,
    root: PathBuf,
    processes: Processes,
    /// Held while a process works on the lab, so that no second one takes it for the leftovers of a crash.
    lock: Option<File>,
}

impl Lab {
    /// Removes what an earlier lab of this prefix left, builds the namespaces, writes keys and site files, and starts
    /// the servers in the pods. `binary` is the absolute path of the `linkspan` program; it does not run on the nodes yet.
    ///
    /// # Errors
    /// The machine lacks something, the sizes are out of range, another process works on this lab, or a command fails.
    /// What was made until then is removed.
    pub fn build(spec: Spec, binary: &Path) -> Result<Self> {
        spec.check()?;
        tools::check()?;
        let lock = state::lock(&spec.prefix, Access::Exclusive)?;
        build::remove(&spec.prefix).context("failed to remove what an earlier lab left")?;
        let mut lab = Self::new(spec, binary, lock, OnDrop::Remove);
        state::write(&lab.spec, &lab.root)?;
        build::build(&lab.plan)?;
        let lanes = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        #[expect(clippy::disallowed_methods, reason = "the edge that makes the lab's keys")]
        let mut random = rand::rng();
        site_file::write_all(&lab.plan, &lab.root, lanes, &mut random)?;
        lab.serve()?;
        Ok(lab)
    }

    /// Takes up a lab that [`OnDrop::Keep`] left behind; `None` when there is none.
    ///
    /// # Errors
    /// Its state cannot be read, or another process works on it.
    pub fn open(prefix: &Prefix, binary: &Path, access: Access) -> Result<Option<Self>> {
        let Some(spec) = state::read(&prefix.state_dir())? else { return Ok(None) };
        let lock = state::lock(prefix, access)?;
        Ok(Some(Self::new(spec, binary, lock, OnDrop::Keep)))
    }

    fn new(spec: Spec, binary: &Path, lock: File, on_drop: OnDrop) -> Self {
        let plan = Plan::new(&spec);
        let root = spec.prefix.state_dir();
        let processes = Processes::new(root.clone());
        let binary = binary.to_owned();
        let (node_binary, node_args, lock) = (binary.clone(), Vec::new(), Some(lock));
        Self { spec, plan, on_drop, node_binary, node_args, binary, root, processes, lock }
    }

    /// Removes the lab of this prefix, or what is left of it. Tells whether there was anything.
    ///
    /// # Errors
    /// A process, namespace or file cannot be removed, or another process works on the lab.
    pub fn remove(prefix: &Prefix) -> Result<bool> {
        let lock = state::lock(prefix, Access::Exclusive)?;
        let found = prefix.state_dir().exists() || !build::namespaces(prefix)?.is_empty();
        build::remove(prefix)?;
        state::unlock(prefix, lock);
        Ok(found)
    }

    /// Ends every process and removes every namespace of a lab that another thread of this process works on; what that
    /// thread does next fails. For a signal: [`Lab::remove`] follows once the thread has ended.
    ///
    /// # Errors
    /// A process, namespace or file cannot be removed.
    pub fn interrupt(prefix: &Prefix) -> Result<()> {
        build::remove(prefix)
    }

    /// Removes the lab, and tells when that fails (which dropping it cannot).
    ///
    /// # Errors
    /// A process, namespace or file cannot be removed.
    pub fn down(mut self) -> Result<()> {
        self.on_drop = OnDrop::Keep;
        self.tear_down()
    }

    fn tear_down(&mut self) -> Result<()> {
        self.processes.kill_children();
        build::remove(&self.spec.prefix)?;
        if let Some(lock) = self.lock.take() {
            state::unlock(&self.spec.prefix, lock);
        }
        Ok(())
    }

    /// Starts `linkspan run` on every node.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let names: Vec<_> = self.plan.nodes().map(|(_, node)| node.name.clone()).collect();
        names.iter().try_for_each(|name| self.start_node(name).map(drop))
    }

    /// Starts `linkspan run` on one node and gives back its process ID.
    ///
    /// # Errors
    /// There is no such node, or the process cannot be started.
    pub fn start_node(&mut self, name: &str) -> Result<u32> {
        let file = self.node_dir(name).join(SITE_FILE);
        let node = self.node(name)?;
        let args = ["run", "--config", &file.to_string_lossy(), "--node", name].map(str::to_owned);
        let run = Run::in_netns(&node.netns, &self.node_binary, args.iter().chain(&self.node_args));
        self.processes.start(name, &run)
    }

    /// Ends `linkspan run` on one node by a signal and waits until it is gone.
    ///
    /// # Errors
    /// There is no such node, it does not run, or it does not end.
    pub fn stop_node(&mut self, name: &str, signal: Signal) -> Result<()> {
        self.node(name)?;
        self.processes.stop(name, signal)
    }

    /// The process ID of `linkspan run` on a node while it runs.
    pub fn node_pid(&mut self, name: &str) -> Option<u32> {
        self.processes.running(name)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.plan.nodes().find(|(_, node)| node.name == name);
        found.map(|(_, node)| node).with_context(|| format!("the lab has no node {name}"))
    }

    /// The `linkspan` program that serves and asks in the pods.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Folder with a node's site file, key and status socket.
    pub fn node_dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The last lines that a node's process wrote.
    pub fn last_words(&self, name: &str, lines: usize) -> String {
        self.processes.last_words(name, lines)
    }

    /// A command in a pod or on a node.
    pub fn run_in(&self, target: Target<'_>, command: &[String]) -> Run {
        let (program, args) = command.split_first().map_or(("sh", &[][..]), |(first, rest)| (first.as_str(), rest));
        match target {
            Target::Pod(place) => Run::in_pod(&place.pod.netns, program, args),
            Target::Node(_, node) => Run::in_netns(&node.netns, program, args),
        }
    }

    /// The links, routes, rules, nft tables and settings of a node's namespace.
    ///
    /// # Errors
    /// There is no such node, or it cannot be asked.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        Snapshot::take(&self.node(name)?.netns)
    }

    fn serve(&mut self) -> Result<()> {
        let mut servers: Vec<_> = self.plan.pods().map(|place| (place.label(), place.pod.netns.clone())).collect();
        servers.push(("world".to_owned(), self.plan.world.clone()));
        for (label, netns) in &servers {
            let run =
                Run::in_netns(netns, &self.binary, ["lab", "pod-serve", "--lab", self.spec.prefix.as_str(), label]);
            self.processes.start(&format!("serve-{}", label.replace('/', "-")), &run)?;
        }
        for (label, netns) in &servers {
            let name = format!("serve-{}", label.replace('/', "-"));
            let mut listens = false;
            // One that has ended, as when the lab is interrupted, is not waited for.
            wait_until(SERVES_WITHIN, || {
                listens = serves(netns);
                listens || self.processes.running(&name).is_none()
            });
            if !listens {
                bail!("the server of {label} does not come up: {}", self.processes.last_words(&name, 5));
            }
        }
        Ok(())
    }
}

/// Whether anything listens on the HTTP port in a namespace; that port is bound last.
fn serves(netns: &str) -> bool {
    let filter = format!("sport = :{HTTP_PORT}");
    let listed = Run::in_netns(netns, "ss", ["-Hltn", &filter]).stdout();
    listed.is_ok_and(|text| !text.trim().is_empty())
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove
            && let Err(error) = self.tear_down()
        {
            eprintln!("failed to remove the lab {}: {error:#}", self.spec.prefix);
        }
    }
}
