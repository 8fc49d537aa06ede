//! A Kubernetes API without nodes: etcd and kube-apiserver on this machine's loopback, for tests of controllers.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::control_plane::{API_SERVER, CONTROLLER_MANAGER, ControlPlane, ETCD, Shape};
use crate::pki;
use crate::port::Port;
use crate::processes::{self, Lifetime};
use crate::programs;
use crate::wait::{self, PATIENCE};

/// Folders of API servers begin so, below the machine's folder for temporary files.
const FOLDER: &str = "linkspan-testbed-api";

/// How an [`ApiServer`] is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    controllers: bool,
    service_cidrs: Option<String>,
    args: Vec<String>,
}

impl Options {
    /// With kube-controller-manager too: EndpointSlices of selectors, garbage collection, the end of namespaces, and
    /// service accounts.
    #[must_use]
    pub fn controllers(mut self) -> Self {
        self.controllers = true;
        self
    }

    /// Service CIDRs, one per family, separated by a comma; at first `10.43.0.0/16,fd43::/112`.
    #[must_use]
    pub fn service_cidrs(mut self, cidrs: &str) -> Self {
        self.service_cidrs = Some(cidrs.to_owned());
        self
    }

    /// One more argument of kube-apiserver, such as `--audit-log-path=...`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start(self) -> Result<ApiServer> {
        ApiServer::launch(self)
    }
}

/// A running etcd and kube-apiserver, with RBAC. Both end with this value, or with this process however that ends.
///
/// One server is meant for a whole test binary: keep it in a `static LazyLock`, and give each test a namespace.
pub struct ApiServer {
    control_plane: ControlPlane,
    kubeconfig: String,
    /// It stays ours while the API server is stopped.
    _port: Port,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver on a free port of 127.0.0.1, and waits until the API is ready (3 s).
    ///
    /// # Errors
    /// A program is missing, or does not come up: the error holds its last words.
    pub fn start() -> Result<Self> {
        Self::options().start()
    }

    /// As [`ApiServer::start`], with kube-controller-manager.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_with_controllers() -> Result<Self> {
        Self::options().controllers().start()
    }

    /// What may differ between API servers.
    pub fn options() -> Options {
        Options::default()
    }

    fn launch(options: Options) -> Result<Self> {
        let port = Port::reserve().context("failed to reserve a port on 127.0.0.1")?;
        let mut api_server = vec![
            // The API is not to be found at a service address; it only wants one that is not loopback.
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        api_server.extend(options.args);
        let shape = Shape {
            name: "testbed".to_owned(),
            folder: make_folder()?,
            netns: None,
            bind: "127.0.0.1".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: port.number,
            names: Vec::new(),
            service_cidrs: options.service_cidrs.unwrap_or_else(|| "10.43.0.0/16,fd43::/112".to_owned()),
            api_server,
            controller_manager: Vec::new(),
        };
        let control_plane = ControlPlane::make(shape, Lifetime::Caller)?;
        let path = control_plane.kubeconfig_path("admin");
        let kubeconfig = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        // Made before anything runs, so that a failed start is cleaned up as well.
        let mut server = Self { control_plane, kubeconfig, _port: port };
        server.control_plane.start()?;
        if options.controllers {
            server.control_plane.start_controller_manager()?;
        }
        Ok(server)
    }

    /// The administrator's kubeconfig as YAML, certificates included.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The file with [`ApiServer::kubeconfig`].
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.control_plane.kubeconfig_path("admin")
    }

    /// A kubeconfig for any user, in `group` if one is given, by a client certificate. RBAC decides what it may do.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> Result<String> {
        self.control_plane.kubeconfig(&self.url(), user, group)
    }

    /// The API's URL, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.control_plane.url()
    }

    /// The PEM certificate of the authority that signed the API server's.
    pub fn ca_certificate(&self) -> &str {
        self.control_plane.authority.certificate()
    }

    /// A service account's token as if it had been made `seconds` earlier. The API server gives out none that lives for
    /// less than ten minutes: this one need not be waited for until it has expired.
    ///
    /// # Errors
    /// It is no token of this API server.
    pub fn aged_token(&self, token: &str, seconds: i64) -> Result<String> {
        pki::aged_token(self.folder(), token, seconds)
    }

    /// Folder with keys, data and logs; it is removed with this value.
    pub fn folder(&self) -> &Path {
        &self.control_plane.shape.folder
    }

    /// kubectl as administrator, to be run.
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

    /// As [`ApiServer::apply`], of kinds that are so new that they may not be served yet: tried again for [`PATIENCE`].
    ///
    /// # Errors
    /// The API server still refuses one.
    pub fn apply_soon(&self, yaml: &str) -> Result<()> {
        wait::retry(PATIENCE, || self.apply(yaml))
    }

    /// The same of a kustomize base of this tree: `crds`, `member`, `broker`. An API server that has just started has no
    /// addresses for its Services yet.
    ///
    /// # Errors
    /// The API server still refuses one.
    pub fn apply_base(&self, base: &str) -> Result<()> {
        let folder = programs::tree().join("deploy").join(base).display().to_string();
        wait::retry(PATIENCE, || self.kubectl(["apply", "--server-side", "-k", &folder])?.done())
    }

    /// Waits until kinds (as `members.linkspan.dev,services`) are served, which is some time after they were made.
    ///
    /// # Errors
    /// They still are not after [`PATIENCE`].
    pub fn wait_served(&self, kinds: &str) -> Result<()> {
        wait::retry(PATIENCE, || self.kubectl(["get", kinds, "--all-namespaces"])?.done())
    }

    /// Kills kube-apiserver: connections break, new ones are refused. etcd keeps the data.
    ///
    /// # Errors
    /// The process does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.control_plane.processes.kill(API_SERVER)
    }

    /// Starts kube-apiserver again, at the same address and with the same data, and waits until it is ready. One that
    /// still runs is killed first.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.control_plane.start_api_server()
    }

    /// Other Service CIDRs, from the next start on: a cluster with one family may get a second one.
    pub fn set_service_cidrs(&mut self, cidrs: &str) {
        self.control_plane.shape.service_cidrs = cidrs.to_owned();
    }

    /// The last lines of each program's log, to be printed when a test fails.
    pub fn last_words(&self, lines: usize) -> String {
        let processes = &self.control_plane.processes;
        let words = |name: &String| format!("== {name}\n{}\n", processes.last_words(name, lines));
        processes.names().iter().map(words).collect()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for name in [CONTROLLER_MANAGER, API_SERVER, ETCD] {
            if let Err(error) = self.control_plane.processes.kill(name) {
                eprintln!("failed to stop the API server: {error:#}");
            }
        }
        // The next start removes what is left.
        let _ = fs::remove_dir_all(self.folder());
    }
}

/// Makes a folder of our own, named after this process, and removes those of processes that have ended: a static value
/// is never dropped.
fn make_folder() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(owner).is_some_and(|(pid, started)| !processes::is_alive(pid, started)) {
            // Another process may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let (pid, started) = (std::process::id(), processes::own_start());
    let folder = parent.join(format!("{FOLDER}-{pid}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    // Keys live in it.
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// The process ID and start time in a folder's name.
fn owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(FOLDER)?.strip_prefix('-')?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_owner() {
        assert_eq!(owner("linkspan-testbed-api-12-345-0"), Some((12, 345)));
        assert_eq!(owner("linkspan-testbed-api"), None);
        assert_eq!(owner("linkspan-testbed-apiary-12-345-0"), None);
    }
}
