//! Two clusters, joined as people join them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, ensure};
use testbed::{Cluster, Lifetime, Run, Spec, Testbed};

use crate::documentation::Shell;
use crate::documentation::list::{self, Test};
use crate::names;
use crate::traces::Traces;

/// What the names of the two clusters' namespaces begin with.
pub const TWO: &str = "lct";
/// The same of the clusters with equal addresses, which run beside those two. `make cluster` has other names.
pub const SAME: &str = "lcs";
/// The cluster whose API server is the broker, too.
pub const BROKER: &str = "paris";
/// Both clusters.
pub const CLUSTERS: [&str; 2] = ["paris", "berlin"];
/// Linkspan's namespace.
pub const SYSTEM: &str = "linkspan-system";
/// The variable that names another program for pods.
const PROGRAM: &str = "LINKSPAN_PROGRAM";

/// The clusters and what was on their nodes before Linkspan came.
pub struct Joined {
    /// What the names of their namespaces begin with.
    pub prefix: &'static str,
    /// The clusters.
    pub bed: Testbed,
    /// Links, routes, rules and packet filter of every node before.
    pub before: Traces,
    /// What cluster DNS of each called an address of its own before.
    pub pointers: Vec<String>,
}

impl Joined {
    /// Starts clusters, the broker among them, in namespaces whose names begin with `prefix`.
    ///
    /// # Errors
    /// A command fails.
    pub fn start(prefix: &'static str, clusters: &[Spec]) -> Result<Self> {
        let bed = Testbed::start(prefix, clusters, Lifetime::Caller)?;
        let archive = pack(prefix)?;
        for cluster in &bed.clusters {
            cluster.import_image(&archive)?;
        }
        let before = Traces::of(&bed)?;
        let pointers = names::pointers(&bed)?;
        let joined = Self { prefix, bed, before, pointers };
        joined.linkspan(BROKER, &["deploy-broker"])?.done()?;
        Ok(joined)
    }

    /// Joins a cluster by the commands of the README: that of the broker by one, the others as those do who have no rights
    /// on the broker, with a token and kubectl.
    ///
    /// # Errors
    /// A command fails.
    pub fn join(&self, name: &str) -> Result<()> {
        if name == BROKER {
            let broker = self.cluster(BROKER)?.kubeconfig_path().display().to_string();
            let join = self.linkspan(name, &["join", name, "--broker-kubeconfig", &broker, "--wait=300"])?;
            return join.done().with_context(|| self.describe());
        }
        self.cluster(name)?.kubectl(["apply", "-k", &deploy("crds")])?.done()?;
        let token = self.token(name)?;
        self.cluster(name)?.kubectl(["apply", "-k", &deploy("member")])?.done()?;
        self.linkspan(name, &["join", "--wait=300"])?.input(&token).done().with_context(|| self.describe())
    }

    /// The node of a cluster that carries its traffic.
    ///
    /// # Errors
    /// There is no such cluster, or it has no gateway yet.
    pub fn gateway(&self, name: &str) -> Result<String> {
        let holder = ["get", "lease", "linkspan-gateway", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"];
        self.cluster(name)?.kubectl(holder)?.stdout()
    }

    /// A cluster by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.bed.cluster(name)
    }

    /// The other cluster.
    pub fn other(name: &str) -> &'static str {
        if name == CLUSTERS[0] { CLUSTERS[1] } else { CLUSTERS[0] }
    }

    /// `linkspan ARGS` with the administrator's rights in a cluster.
    ///
    /// # Errors
    /// There is no such cluster.
    pub fn linkspan(&self, cluster: &str, args: &[&str]) -> Result<Run> {
        let kubeconfig = self.cluster(cluster)?.kubeconfig_path();
        let fixed = ["--kubeconfig".to_owned(), kubeconfig.display().to_string()];
        Ok(Run::new(env!("CARGO_BIN_EXE_linkspan"), args.iter().map(|&arg| arg.to_owned()).chain(fixed)))
    }

    /// A join token for a cluster.
    ///
    /// # Errors
    /// The broker refuses to make one.
    pub fn token(&self, cluster: &str) -> Result<String> {
        let server = self.cluster(BROKER)?.url();
        self.linkspan(BROKER, &["token", "create", cluster, "--server", &server])?.stdout()
    }

    /// Waits until `viewer` says of `member` that it is ready.
    ///
    /// # Errors
    /// It never does.
    pub fn wait_ready(&self, viewer: &str, member: &str) -> Result<()> {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        eventually(|| {
            let ready = self.cluster(viewer)?.kubectl(["get", "member", member, "-n", SYSTEM, "-o", path])?.stdout()?;
            ensure!(ready == "True", "member {member} is {ready:?} in {viewer}");
            Ok(())
        })
    }

    /// What the clusters and Linkspan in them say of themselves.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for cluster in &self.bed.clusters {
            text += &cluster.describe();
            let asked: [&[&str]; 5] = [
                &["get", "members,servicerecords,gatewaynodes", "-A", "-o", "yaml"],
                &["get", "serviceexports,serviceimports", "-A", "-o", "yaml"],
                &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller", "--tail=60", "--prefix"],
                &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=node", "--tail=60", "--prefix"],
                &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=dns", "--tail=20", "--prefix"],
            ];
            for args in asked {
                let said = cluster.kubectl(args).and_then(|run| run.stdout());
                let said = said.unwrap_or_else(|error| format!("{error:#}"));
                text += &format!("== {}: kubectl {}\n{said}\n", cluster.spec.name, args.join(" "));
            }
        }
        text
    }

    /// Removes the clusters.
    ///
    /// # Errors
    /// Something stays.
    pub fn down(self) -> Result<()> {
        self.bed.down()
    }
}

/// The folder of a kustomize base.
pub fn deploy(base: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(base).display().to_string()
}

/// Linkspan's image with the binary under test, in a file of the testbed's own. The environment may name another binary for
/// pods: `make released` does so, with the static one of releases.
///
/// # Errors
/// It cannot be packed.
pub fn pack(prefix: &str) -> Result<PathBuf> {
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{prefix}-linkspan.tar"));
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_linkspan").to_owned());
    let shell = Shell::new()
        .with("TREE", env!("CARGO_MANIFEST_DIR"))
        .with("IMAGE_FILE", archive.display().to_string())
        .with("PROGRAM", program);
    shell.run(list::only(Test::Pack)).map_err(Error::msg)?;
    Ok(archive)
}

/// Asks again until the answer is right, for at most five minutes; the last answer is in the error.
///
/// # Errors
/// It never is.
pub fn eventually<T>(attempt: impl FnMut() -> Result<T>) -> Result<T> {
    testbed::wait::retry(Duration::from_secs(300), attempt)
}

/// As [`eventually`], for what waits until kubelet has brought a ConfigMap to CoreDNS and CoreDNS has noticed (up to 45 s).
///
/// # Errors
/// It never is.
pub fn once_coredns_knows<T>(attempt: impl FnMut() -> Result<T>) -> Result<T> {
    testbed::wait::retry(Duration::from_secs(400), attempt)
}
