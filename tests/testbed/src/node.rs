//! A node: its own network, mount, PID and UTS namespaces, with containerd, kubelet, flanneld and kube-proxy.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::command::Run;
use crate::control_plane::ControlPlane;
use crate::network::{self, OUTSIDE};
use crate::processes::{Lifetime, Processes};
use crate::spec::Spec;
use crate::{programs, wait};

/// How long one step of a node's start may take.
const STEP: Duration = Duration::from_secs(300);

/// The name of the process that holds a node's namespaces.
const INIT: &str = "node";
const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";
const FLANNELD: &str = "flanneld";
const KUBE_PROXY: &str = "kube-proxy";

/// A node of a cluster.
pub struct Node {
    /// Its name, in Kubernetes too.
    pub name: String,
    /// Its address in the node network.
    pub address: Ipv4Addr,
    /// The name of its network namespace.
    pub netns: String,
    pub(crate) processes: Processes,
    prefix: String,
    index: usize,
    folder: PathBuf,
}

impl Node {
    /// The node at `index` of a cluster whose state is in `root`. Nothing is made yet.
    pub(crate) fn new(prefix: &str, spec: &Spec, index: usize, root: &Path, lifetime: Lifetime) -> Self {
        let name = spec.node_names().swap_remove(index);
        let folder = root.join(&name);
        Self {
            address: spec.node_address(index),
            netns: network::netns(prefix, &name),
            processes: Processes::new(&folder, lifetime),
            prefix: prefix.to_owned(),
            name,
            index,
            folder,
        }
    }

    /// Makes the namespaces, as a machine boots: of an earlier life only what is on its disk is left.
    pub(crate) fn boot(&mut self, spec: &Spec) -> Result<()> {
        network::make_node(&self.prefix, spec, self.index)?;
        for folder in ["run", "tmp"] {
            let _ = fs::remove_dir_all(self.folder.join(folder));
        }
        let disk = self.folder.join("var/lib/testbed");
        fs::create_dir_all(&disk).with_context(|| format!("failed to make {}", disk.display()))?;
        self.write("daemon.sh", include_str!("files/daemon.sh"))?;
        let script = self.folder.join("node.sh");
        write(&script, include_str!("files/node.sh"))?;
        let (script, folder) = (script.display().to_string(), self.folder.display().to_string());
        let mut args = vec![script, "groups".to_owned(), self.name.clone(), folder, self.netns.clone()];
        for program in [KUBELET, FLANNELD, KUBE_PROXY] {
            args.push(programs::built(program)?.display().to_string());
        }
        let run = Run::new("sh", args).in_netns(&self.netns);
        self.processes.start(INIT, &run)?;
        let ready = self.folder.join("run/testbed-node");
        self.wait(INIT, "make its namespaces", |_| ready.exists())
    }

    /// Starts containerd.
    pub(crate) fn start_containerd(&mut self) -> Result<()> {
        self.write("containerd.toml", include_str!("files/containerd.toml"))?;
        let net_d = self.folder.join("var/lib/rancher/k3s/agent/etc/cni/net.d");
        fs::create_dir_all(&net_d).with_context(|| format!("failed to make {}", net_d.display()))?;
        self.start(CONTAINERD, "containerd", &["--config=/var/lib/testbed/containerd.toml"])?;
        self.wait(CONTAINERD, "start containerd", |node| node.ctr(["version"]).is_ok_and(|run| run.done().is_ok()))
    }

    /// Starts kubelet, flanneld and kube-proxy, and waits until pods can run.
    pub(crate) fn join(&mut self, spec: &Spec, control_plane: &ControlPlane) -> Result<()> {
        self.write_configuration(spec, control_plane)?;
        let (name, address) =
            (format!("--hostname-override={}", self.name), format!("--node-ip={}", spec.node_addresses(self.index)));
        let labels = format!(
            "--node-labels=node.kubernetes.io/instance-type=k3s,topology.kubernetes.io/region={},topology.kubernetes.io/zone={}",
            spec.name, self.name
        );
        let (config, kubeconfig) = ("--config=/var/lib/testbed/kubelet.yaml", kubeconfig_arg("kubeconfig", KUBELET));
        self.start(KUBELET, &in_node(KUBELET), &[config, &kubeconfig, &name, &address, &labels])?;
        let pods = self.pod_cidrs(spec, control_plane)?;
        self.start_flanneld()?;
        self.write_cni(spec, &pods)?;
        let (cluster, mode) =
            (format!("--cluster-cidr={}", spec.pod_cidrs()), format!("--proxy-mode={}", spec.proxy.as_str()));
        let kubeconfig = kubeconfig_arg("kubeconfig", KUBE_PROXY);
        let fixed = ["--conntrack-max-per-core=0", "--oom-score-adj=0", "--healthz-bind-address=127.0.0.1"];
        let args = [&fixed[..], &[cluster.as_str(), &mode, &kubeconfig, &name]].concat();
        self.start(KUBE_PROXY, &in_node(KUBE_PROXY), &args)
    }

    /// Kills every process on the node and pulls its cable, as the end of its power does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        // Its end is the end of all others, and of pods; these are what waited for them.
        for name in [INIT, KUBELET, CONTAINERD, FLANNELD, KUBE_PROXY] {
            self.processes.kill(name)?;
        }
        network::unplug(&self.prefix, &self.name)
    }

    /// A program on the node: in its network, mount, PID and UTS namespaces.
    ///
    /// # Errors
    /// The node does not run.
    pub fn inside(&self, run: Run) -> Result<Run> {
        let Some(init) = Processes::new(&self.folder, Lifetime::Machine).running(INIT) else {
            bail!("node {} does not run; its files are in {}", self.name, self.folder.display());
        };
        let namespace = |kind: &str, file: &str| format!("--{kind}=/proc/{init}/ns/{file}");
        Ok(run.by(
            "nsenter",
            [
                format!("--net=/run/netns/{}", self.netns),
                namespace("mount", "mnt"),
                namespace("pid", "pid_for_children"),
                namespace("uts", "uts"),
                namespace("ipc", "ipc"),
                namespace("cgroup", "cgroup"),
                "--".to_owned(),
            ],
        ))
    }

    /// Imports a docker-archive into the node's containerd.
    ///
    /// # Errors
    /// The node does not run, or the file is no image.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.ctr(["images", "import", "-"])?.input_file(archive).done()
    }

    /// What the node's disk and memory folders hold under `path`, such as `/var/log/pods` or `/run/flannel`, seen from
    /// this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    fn ctr<const N: usize>(&self, args: [&str; N]) -> Result<Run> {
        let fixed = ["--address=/run/containerd/containerd.sock", "--namespace=k8s.io"];
        self.inside(Run::new("ctr", [&fixed[..], &args].concat()))
    }

    fn start(&mut self, name: &str, program: &str, args: &[&str]) -> Result<()> {
        let run = Run::new(program, args).by("sh", ["/var/lib/testbed/daemon.sh"]);
        self.processes.start(name, &self.inside(run)?).map(drop)
    }

    fn wait(&mut self, process: &str, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        wait::retry(STEP, || {
            if done(self) {
                return Ok(Ok(()));
            }
            // An ended process will not get better: this error is not tried again.
            if let Err(error) = self.processes.check(process) {
                return Ok(Err(error));
            }
            bail!("it still runs")
        })
        .and_then(|ended| ended)
        .with_context(|| {
            let words = self.processes.last_words(process, 15);
            format!("node {} does not {what}; the log of {process} ends:\n{words}", self.name)
        })
    }

    /// The prefixes, one of each family, that the controller manager gives the node once kubelet has registered it.
    fn pod_cidrs(&mut self, spec: &Spec, control_plane: &ControlPlane) -> Result<Vec<String>> {
        let asked = control_plane.kubectl(["get", "node", &self.name, "-o", "jsonpath={.spec.podCIDRs[*]}"])?;
        let families = if spec.ipv6.is_some() { 2 } else { 1 };
        let mut found = Vec::new();
        self.wait(KUBELET, "get pod CIDRs", |_| {
            found = asked.stdout().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            found.len() == families
        })?;
        Ok(found)
    }

    fn start_flanneld(&mut self) -> Result<()> {
        let kubeconfig = kubeconfig_arg("kubeconfig-file", FLANNELD);
        let (node_name, program) = (format!("NODE_NAME={}", self.name), in_node(FLANNELD));
        // Nobody touches its rules, and to ask for each of them anew every 5 s keeps a small machine busy.
        let fixed = [
            "--kube-subnet-mgr",
            "--ip-masq",
            "--iface=eth0",
            "--net-config-path=/var/lib/testbed/flannel.json",
            "--iptables-resync=60",
        ];
        let args = [&[node_name.as_str(), &program], &fixed[..], &[&kubeconfig]].concat();
        self.start(FLANNELD, "env", &args)?;
        let subnet = self.path("/run/flannel/subnet.env");
        self.wait(FLANNELD, "get a subnet of flannel", |_| subnet.exists())
    }

    /// The bridge as flannel's own CNI plugin has it made, which is not to be had.
    fn write_cni(&self, spec: &Spec, pods: &[String]) -> Result<()> {
        let file = self.path("/run/flannel/subnet.env");
        let env = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let value = |name: &str| env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let network = value("FLANNEL_NETWORK").context("flannel's subnet.env names no network")?;
        let mut routes = vec![json!({"dst": network})];
        routes.extend(spec.ipv6.map(|ipv6| json!({"dst": ipv6.pod_cidr})));
        let ranges: Vec<_> = pods.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        let mtu: u32 = value("FLANNEL_MTU").and_then(|mtu| mtu.parse().ok()).context("flannel names no MTU")?;
        let config = json!({"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "mtu": mtu, "isGateway": true, "isDefaultGateway": true,
                "hairpinMode": true, "forceAddress": true, "ipMasq": false,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        write(&self.path("/var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist"), &config.to_string())
    }

    fn write_configuration(&self, spec: &Spec, control_plane: &ControlPlane) -> Result<()> {
        self.write("ca.crt", control_plane.authority.certificate())?;
        self.write("resolv.conf", &format!("nameserver {OUTSIDE}\n"))?;
        let kubelet = include_str!("files/kubelet.yaml");
        let kubelet = kubelet.replace("{dns}", &spec.dns_service().to_string());
        self.write("kubelet.yaml", &kubelet)?;
        let mut flannel = json!({"Network": spec.pod_cidr, "EnableIPv4": true, "Backend": {"Type": "vxlan"}});
        flannel["EnableIPv6"] = spec.ipv6.is_some().into();
        if let Some(ipv6) = spec.ipv6 {
            flannel["IPv6Network"] = json!(ipv6.pod_cidr);
        }
        self.write("flannel.json", &flannel.to_string())?;
        let node_user = format!("system:node:{}", self.name);
        for (name, user, group) in [
            (KUBELET, node_user.as_str(), Some("system:nodes")),
            (FLANNELD, "system:kube-flannel", None),
            (KUBE_PROXY, "system:kube-proxy", None),
        ] {
            let kubeconfig = control_plane.kubeconfig(&control_plane.url(), user, group)?;
            self.write(&format!("{name}.kubeconfig"), &kubeconfig)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.path("/var/lib/testbed").join(name), text)
    }
}

fn kubeconfig_arg(flag: &str, name: &str) -> String {
    format!("--{flag}=/var/lib/testbed/{name}.kubeconfig")
}

/// Where `node.sh` binds a program.
fn in_node(program: &str) -> String {
    format!("/var/lib/testbed/bin/{program}")
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}
