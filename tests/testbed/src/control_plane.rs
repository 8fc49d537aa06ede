//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their keys, arguments, start and end.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::kubeconfig;
use crate::pki::{self, Authority};
use crate::processes::{Lifetime, Processes};
use crate::{programs, wait};

/// How long a program of the control plane may take to become ready; 3 seconds on an idle machine.
const READY: Duration = Duration::from_secs(300);

/// What etcd tells others of its addresses, which have to have a port: there are no others.
const NOBODY: &str = "http://127.0.0.1:1";
const ETCD_SOCKET: &str = "etcd.sock";

/// Names of the processes.
pub const ETCD: &str = "etcd";
pub const API_SERVER: &str = "kube-apiserver";
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub const SCHEDULER: &str = "kube-scheduler";

/// What differs between control planes.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The cluster's name, in kubeconfigs only.
    pub name: String,
    /// Where keys, data and logs are; made by [`ControlPlane::make`].
    pub folder: PathBuf,
    /// Network namespace of all four programs; the caller's if there is none.
    pub netns: Option<String>,
    /// Address on which the API server listens, and the one by which it is called in that namespace.
    pub bind: String,
    pub address: String,
    pub port: u16,
    /// More names and addresses by which it is called.
    pub names: Vec<String>,
    pub service_cidrs: String,
    /// More arguments of kube-apiserver and of kube-controller-manager.
    pub api_server: Vec<String>,
    pub controller_manager: Vec<String>,
}

/// A control plane whose files are written.
pub struct ControlPlane {
    pub shape: Shape,
    pub authority: Authority,
    pub processes: Processes,
}

impl ControlPlane {
    /// Makes keys, certificates and kubeconfigs. Nothing runs yet.
    ///
    /// # Errors
    /// A key cannot be made, or a file cannot be written.
    pub fn make(shape: Shape, lifetime: Lifetime) -> Result<Self> {
        let folder = &shape.folder;
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let authority = Authority::make(folder)?;
        pki::token_key(folder)?;
        let mut names = vec![shape.address.clone(), "127.0.0.1".to_owned(), "localhost".to_owned()];
        let domains = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
        names.extend(domains.iter().map(|domain| format!("kubernetes{domain}")));
        names.extend(shape.names.iter().cloned());
        authority.server(names)?.write(folder, API_SERVER)?;
        authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?.write(folder, "kubelet-client")?;
        authority.client("admin", Some("system:masters"))?.write(folder, "admin")?;
        let control_plane = Self { processes: Processes::new(folder, lifetime), authority, shape };
        for (name, user, group) in [
            ("admin", "admin", Some("system:masters")),
            (CONTROLLER_MANAGER, "system:kube-controller-manager", None),
            (SCHEDULER, "system:kube-scheduler", None),
        ] {
            control_plane.write_kubeconfig(name, user, group)?;
        }
        Ok(control_plane)
    }

    /// Takes up a control plane that [`ControlPlane::make`] wrote and another process started.
    ///
    /// # Errors
    /// Its keys cannot be read.
    pub fn open(shape: Shape, lifetime: Lifetime) -> Result<Self> {
        let authority = Authority::read(&shape.folder)?;
        Ok(Self { processes: Processes::new(&shape.folder, lifetime), authority, shape })
    }

    /// A kubeconfig for `user`, in `group` if one is given, with the API server at `server`.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn kubeconfig(&self, server: &str, user: &str, group: Option<&str>) -> Result<String> {
        let identity = self.authority.client(user, group)?;
        Ok(kubeconfig::render(&self.shape.name, server, &self.authority, &identity))
    }

    /// Writes such a kubeconfig as `NAME.kubeconfig`.
    ///
    /// # Errors
    /// The certificate cannot be made, or the file cannot be written.
    pub fn write_kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let file = self.kubeconfig_path(name);
        let text = self.kubeconfig(&self.url(), user, group)?;
        fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(file)
    }

    /// Where [`ControlPlane::write_kubeconfig`] writes.
    pub fn kubeconfig_path(&self, name: &str) -> PathBuf {
        self.shape.folder.join(format!("{name}.kubeconfig"))
    }

    /// The API server's URL.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.shape.address, self.shape.port)
    }

    /// Starts etcd and kube-apiserver, and waits until the latter is ready.
    ///
    /// # Errors
    /// A program is missing, ends, or does not become ready.
    pub fn start(&mut self) -> Result<()> {
        let run = self.program(ETCD, self.etcd_args())?;
        self.processes.start(ETCD, &run)?;
        // kube-apiserver ends when it does not reach etcd within 20 s.
        let socket = self.shape.folder.join(ETCD_SOCKET);
        self.wait_ready(ETCD, |_| UnixStream::connect(&socket).map(drop).context("it does not listen"))?;
        self.start_api_server()
    }

    /// Starts kube-apiserver alone.
    ///
    /// # Errors
    /// The program is missing, ends, or does not become ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        let run = self.program(API_SERVER, self.api_server_args())?;
        self.processes.start(API_SERVER, &run)?;
        let (folder, url) = (self.shape.folder.clone(), self.url());
        self.wait_ready(API_SERVER, |control_plane| {
            let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
            let (ca, cert, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
            let probe = format!("{url}/readyz");
            let args = ["-sS", "--fail-with-body", "-m", "5", "--cacert", &ca, "--cert", &cert, "--key", &key, &probe];
            control_plane.inside(Run::new("curl", args)).done()
        })
    }

    /// Starts kube-controller-manager, and waits until it has made the default service account.
    ///
    /// # Errors
    /// The program is missing, ends, or does not get to work.
    pub fn start_controller_manager(&mut self) -> Result<()> {
        let run = self.program(CONTROLLER_MANAGER, self.controller_manager_args())?;
        self.processes.start(CONTROLLER_MANAGER, &run)?;
        self.wait_ready(CONTROLLER_MANAGER, |control_plane| {
            control_plane.kubectl(["get", "serviceaccount", "default", "-n", "default"])?.done()
        })
    }

    /// Starts kube-scheduler.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start_scheduler(&mut self) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig_path(SCHEDULER).display());
        let run = self.program(SCHEDULER, vec![kubeconfig, "--leader-elect=false".to_owned()])?;
        self.processes.start(SCHEDULER, &run).map(drop)
    }

    /// kubectl as the cluster's administrator.
    ///
    /// # Errors
    /// kubectl is missing.
    pub fn kubectl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Run> {
        let mut all = vec![format!("--kubeconfig={}", self.kubeconfig_path("admin").display())];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Ok(self.inside(Run::new(programs::built("kubectl")?, all)))
    }

    /// A program in the control plane's network namespace.
    pub fn inside(&self, run: Run) -> Run {
        match &self.shape.netns {
            Some(netns) => run.in_netns(netns),
            None => run,
        }
    }

    fn program(&self, name: &str, args: Vec<String>) -> Result<Run> {
        Ok(self.inside(Run::new(programs::built(name)?, args)))
    }

    fn wait_ready(&mut self, name: &str, mut ready: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        let start = wait::now();
        while let Err(error) = ready(self) {
            self.processes.check(name)?;
            if start.elapsed() > READY {
                let words = self.processes.last_words(name, 15);
                return Err(error).context(format!("{name} is not ready after {READY:?}; its log ends:\n{words}"));
            }
            wait::pause(Duration::from_millis(200));
        }
        Ok(())
    }

    fn etcd_args(&self) -> Vec<String> {
        vec![
            "--name=testbed".to_owned(),
            format!("--data-dir={}", self.shape.folder.join("etcd").display()),
            format!("--listen-client-urls={}", self.etcd_url()),
            format!("--advertise-client-urls={NOBODY}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            format!("--initial-advertise-peer-urls={NOBODY}"),
            format!("--initial-cluster=testbed={NOBODY}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    /// etcd listens on a socket in the file system: nobody else finds it, and no port is taken.
    fn etcd_url(&self) -> String {
        format!("unix://{}", self.shape.folder.join(ETCD_SOCKET).display())
    }

    fn api_server_args(&self) -> Vec<String> {
        let shape = &self.shape;
        let file = |name: &str| shape.folder.join(name).display().to_string();
        let mut args = vec![
            format!("--etcd-servers={}", self.etcd_url()),
            format!("--bind-address={}", shape.bind),
            format!("--secure-port={}", shape.port),
            format!("--service-cluster-ip-range={}", shape.service_cidrs),
            format!("--tls-cert-file={}", file("kube-apiserver.crt")),
            format!("--tls-private-key-file={}", file("kube-apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("tokens.pub")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ];
        args.extend(shape.api_server.iter().cloned());
        args
    }

    fn controller_manager_args(&self) -> Vec<String> {
        let file = |name: &str| self.shape.folder.join(name).display().to_string();
        let mut args = vec![
            format!("--kubeconfig={}", self.kubeconfig_path(CONTROLLER_MANAGER).display()),
            format!("--service-cluster-ip-range={}", self.shape.service_cidrs),
            format!("--service-account-private-key-file={}", file("tokens.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        args.extend(self.shape.controller_manager.iter().cloned());
        args
    }
}
