//! A cluster: a control plane and nodes, as K3s shapes them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::Run;
use crate::control_plane::{API_SERVER, CONTROLLER_MANAGER, ControlPlane, ETCD, SCHEDULER, Shape};
use crate::network;
use crate::node::Node;
use crate::processes::Lifetime;
use crate::relay::{self, Relay};
use crate::spec::{Corefile, Spec};
use crate::{parallel, wait};

const PORT: u16 = 6443;
/// The kubeconfig for programs on this machine, outside of all namespaces.
const HOST: &str = "host";
/// How long a cluster may take from its last process to its last ready pod.
const READY: Duration = Duration::from_secs(300);

/// A running cluster.
pub struct Cluster {
    /// Its shape.
    pub spec: Spec,
    /// Its nodes; the control plane runs on the first.
    pub nodes: Vec<Node>,
    control_plane: ControlPlane,
    relay: Option<Relay>,
}

impl Cluster {
    /// Starts it in a testbed whose world is there, and waits until CoreDNS serves.
    pub(crate) fn start(
        prefix: &str,
        spec: &Spec,
        folder: &Path,
        lifetime: Lifetime,
        images: &[PathBuf],
    ) -> Result<Self> {
        let folder = folder.join(&spec.name);
        network::make_site(prefix, spec)?;
        let control_plane = ControlPlane::make(shape(prefix, spec, &folder), lifetime)?;
        let nodes = (0..spec.nodes).map(|index| Node::new(prefix, spec, index, &folder, lifetime)).collect();
        let mut cluster = Self { spec: spec.clone(), nodes, control_plane, relay: None };
        cluster.boot(images)?;
        cluster.open_relay(lifetime)?;
        cluster.install()?;
        cluster.wait_ready(READY)?;
        Ok(cluster)
    }

    /// Takes up a cluster that an earlier process started.
    pub(crate) fn open(prefix: &str, spec: &Spec, folder: &Path) -> Result<Self> {
        let folder = folder.join(&spec.name);
        let control_plane = ControlPlane::open(shape(prefix, spec, &folder), Lifetime::Machine)?;
        let nodes = (0..spec.nodes).map(|index| Node::new(prefix, spec, index, &folder, Lifetime::Machine)).collect();
        Ok(Self { spec: spec.clone(), nodes, control_plane, relay: None })
    }

    /// Starts every process: the control plane, and meanwhile the nodes up to containerd with its images.
    fn boot(&mut self, images: &[PathBuf]) -> Result<()> {
        let Self { spec, nodes, control_plane, .. } = self;
        let spec = &*spec;
        // The control plane runs in the first node's network.
        nodes.iter_mut().try_for_each(|node| node.boot(spec))?;
        std::thread::scope(|scope| {
            let machines = scope.spawn(|| {
                parallel::map(&mut *nodes, |node| {
                    node.start_containerd()?;
                    images.iter().try_for_each(|image| node.import_image(image))
                })
            });
            let control_plane = start_control_plane(control_plane);
            machines.join().expect("starting nodes does not panic").map(drop).and(control_plane)
        })?;
        say(spec, "the API server is ready");
        let control_plane = &*control_plane;
        parallel::map(nodes, |node| node.join(spec, control_plane)).map(drop)
    }

    fn open_relay(&mut self, lifetime: Lifetime) -> Result<()> {
        let netns = self.nodes[0].netns.clone();
        let target = SocketAddr::from((self.nodes[0].address, PORT));
        let port = if lifetime == Lifetime::Caller {
            let relay = Relay::start(&netns, target)?;
            self.relay.insert(relay).port()
        } else {
            let port = relay::listen(0)?.local_addr().context("a listening socket has an address")?.port();
            let program = std::env::current_exe().context("failed to find the testbed's own program")?;
            let run = Run::new(program, ["relay", &port.to_string(), &netns, &target.to_string()]);
            self.control_plane.processes.start("relay", &run)?;
            port
        };
        let kubeconfig =
            self.control_plane.kubeconfig(&format!("https://127.0.0.1:{port}"), "admin", Some("system:masters"))?;
        let file = self.control_plane.kubeconfig_path(HOST);
        fs::write(&file, kubeconfig).with_context(|| format!("failed to write {}", file.display()))
    }

    /// What K3s brings along: the first node's role, and CoreDNS.
    fn install(&self) -> Result<()> {
        let label = "node-role.kubernetes.io/control-plane=true";
        self.kubectl(["label", "node", &self.nodes[0].name, label])?.done()?;
        let hosts: String = self.nodes.iter().map(|node| format!("    {} {}\n", node.address, node.name)).collect();
        let coredns = include_str!("files/coredns.yaml").replace("{dns}", &self.spec.dns_service().to_string());
        let imports = |line: &&str| self.spec.corefile == Corefile::Whole && line.trim_start().starts_with("import ");
        let coredns: Vec<&str> = coredns.lines().filter(|line| !imports(line)).collect();
        self.apply(&coredns.join("\n").replace("{node_hosts}", hosts.trim_end()))
    }

    /// Waits until every node is ready and CoreDNS serves.
    ///
    /// # Errors
    /// It takes longer than `limit`: the error says what is the matter.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        let start = wait::now();
        let left = || format!("--timeout={}s", limit.saturating_sub(start.elapsed()).as_secs().max(1));
        let waits: [&[&str]; 2] = [
            &["wait", "node", "--all", "--for=condition=Ready"],
            &["rollout", "status", "deployment/coredns", "--namespace=kube-system"],
        ];
        for args in waits {
            let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).chain([left()]).collect();
            self.kubectl(args)?.done().with_context(|| self.describe())?;
        }
        say(&self.spec, "nodes and CoreDNS are ready");
        Ok(())
    }

    /// kubectl as administrator, in the first node's network namespace, to be run.
    ///
    /// # Errors
    /// kubectl is missing.
    pub fn kubectl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Run> {
        self.control_plane.kubectl(args)
    }

    /// Applies manifests on the server's side.
    ///
    /// # Errors
    /// The API server refuses one, or is not there.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.kubectl(["apply", "--server-side", "-f", "-"])?.input(yaml).done()
    }

    /// Runs a command in a pod and gives back what it printed. `pod` is as kubectl takes it: a name or `deployment/web`.
    ///
    /// # Errors
    /// The command fails, or there is no such pod.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let args = [&["exec", "--namespace", namespace, pod, "--"], command].concat();
        self.kubectl(args)?.stdout()
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// It is not within `limit`: the error says what the pod's state is.
    pub fn wait_pod(&self, namespace: &str, pod: &str, limit: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs().max(1));
        let object = format!("pod/{pod}");
        let args = ["wait", &object, "--for=condition=Ready", "--namespace", namespace, &timeout];
        self.kubectl(args)?.done().with_context(|| self.describe())
    }

    /// Imports a docker-archive, such as Linkspan's own image, into every node.
    ///
    /// # Errors
    /// A node does not run, or the file is no image.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.import_image(archive))
    }

    /// The API server's URL for nodes and pods of every cluster.
    pub fn url(&self) -> String {
        self.control_plane.url()
    }

    /// The administrator's kubeconfig for programs on this machine, outside of all namespaces.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.control_plane.kubeconfig_path(HOST)
    }

    /// A kubeconfig for any user, in `group` if one is given, that works on nodes and in pods of every cluster.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> Result<String> {
        self.control_plane.kubeconfig(&self.url(), user, group)
    }

    /// The PEM certificate of the authority that signed the API server's.
    pub fn ca_certificate(&self) -> &str {
        self.control_plane.authority.certificate()
    }

    /// A node by its name, such as `paris-1`.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.with_context(|| format!("cluster {} has no node {name}", self.spec.name))
    }

    /// Kills everything on a node and pulls its cable. On the first node the control plane goes with it.
    ///
    /// # Errors
    /// There is no such node, or a process does not end.
    pub fn kill_node(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        if index == 0 {
            [API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD]
                .iter()
                .try_for_each(|process| self.control_plane.processes.kill(process))?;
        }
        self.nodes[index].kill()
    }

    /// Starts a killed node again, with what was on its disk.
    ///
    /// # Errors
    /// There is no such node, or it does not come up.
    pub fn start_node(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        if index == 0 && self.control_plane.processes.running(ETCD).is_none() {
            bail!("node {name} carries the control plane, which does not start again: start the cluster anew");
        }
        let node = &mut self.nodes[index];
        node.boot(&self.spec)?;
        node.start_containerd()?;
        node.join(&self.spec, &self.control_plane)
    }

    /// Kills kube-apiserver: connections break, new ones are refused. etcd keeps the data.
    ///
    /// # Errors
    /// The process does not end.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.control_plane.processes.kill(API_SERVER)
    }

    /// Starts kube-apiserver again and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.stop_api_server()?;
        self.control_plane.start_api_server()
    }

    /// What to read when a test fails: nodes, pods, events, and the end of each process's log.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let asked: [&[&str]; 3] = [
            &["get", "nodes", "-o", "wide"],
            &["get", "pods,services", "-A", "-o", "wide"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ];
        for args in asked {
            let said = self.kubectl(args).and_then(|run| run.stdout()).unwrap_or_else(|error| format!("{error:#}"));
            text += &format!("== {}: kubectl {}\n{said}\n", self.spec.name, args.join(" "));
        }
        let processes = self.nodes.iter().map(|node| (node.name.as_str(), &node.processes));
        for (whose, processes) in processes.chain([("control plane", &self.control_plane.processes)]) {
            for name in processes.names() {
                text += &format!("== {whose}: {name}\n{}\n", processes.last_words(&name, 12));
            }
        }
        text
    }

    /// Kills and reaps what this process started; the rest is removed with the testbed.
    pub(crate) fn abandon(&mut self) {
        self.relay = None;
        let nodes = self.nodes.iter_mut().map(|node| &mut node.processes);
        for processes in nodes.chain([&mut self.control_plane.processes]) {
            for name in processes.names() {
                // Whatever survives is found by its namespace, and the failure told there.
                let _ = processes.kill(&name);
            }
        }
    }

    fn index(&self, name: &str) -> Result<usize> {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.with_context(|| format!("cluster {} has no node {name}", self.spec.name))
    }
}

fn start_control_plane(control_plane: &mut ControlPlane) -> Result<()> {
    control_plane.start()?;
    control_plane.start_controller_manager()?;
    control_plane.start_scheduler()?;
    control_plane.kubectl(["apply", "--server-side", "-f", "-"])?.input(include_str!("files/flannel.yaml")).done()
}

fn shape(prefix: &str, spec: &Spec, folder: &Path) -> Shape {
    Shape {
        name: spec.name.clone(),
        folder: folder.join("control-plane"),
        netns: Some(network::netns(prefix, &spec.node_names()[0])),
        bind: "0.0.0.0".to_owned(),
        address: spec.node_address(0).to_string(),
        port: PORT,
        names: vec![spec.api_service().to_string()],
        service_cidrs: spec.service_cidrs(),
        api_server: vec![
            format!("--advertise-address={}", spec.node_address(0)),
            // As K3s: nothing resolves the names of nodes.
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".to_owned(),
        ],
        controller_manager: vec![
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", spec.pod_cidrs()),
        ],
    }
}

/// Tells how far a cluster has come.
pub(crate) fn say(spec: &Spec, what: &str) {
    eprintln!("testbed: {}: {what}", spec.name);
}
