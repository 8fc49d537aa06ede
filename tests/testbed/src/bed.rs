//! Clusters that share a world, and everything that has to be removed after them.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cluster::Cluster;
use crate::command::Run;
use crate::leftovers::{self, folder};
use crate::lock::Lock;
use crate::network::{self, OUTSIDE};
use crate::processes::{Lifetime, Processes};
use crate::spec::Spec;
use crate::{parallel, programs, stock, wait};

const SHAPE: &str = "testbed.json";
const RESOLVER: &str = "resolver";

/// Clusters and the world between them.
///
/// All its namespaces and control groups begin with its prefix, and all its files are in one folder; so whatever a crash
/// leaves is found and removed by name. Mounts are made in namespaces of the nodes alone and end with them.
pub struct Testbed {
    /// The clusters, in the order of their shapes.
    pub clusters: Vec<Cluster>,
    prefix: String,
    lifetime: Lifetime,
    resolver: Processes,
    lock: Option<Lock>,
}

impl Testbed {
    /// Removes what an earlier testbed of this prefix left, and starts a cluster of each shape. Waits for another
    /// process that works on the same prefix.
    ///
    /// # Errors
    /// The machine lacks something, a shape is out of range, or something does not come up. What was made until then is
    /// removed.
    pub fn start(prefix: &str, specs: &[Spec], lifetime: Lifetime) -> Result<Self> {
        check(specs)?;
        let lock = Lock::take(prefix)?;
        leftovers::remove(prefix).context("failed to remove what an earlier testbed left")?;
        let folder = folder(prefix);
        // Another testbed that goes may take the folder above along before this one is in it.
        let made = wait::retry(Duration::from_secs(30), || {
            Ok(DirBuilder::new().recursive(true).mode(0o700).create(&folder)?)
        });
        made.context("failed to make the state folder")?;
        let shape = serde_json::to_string_pretty(specs).context("failed to render the shape")?;
        fs::write(folder.join(SHAPE), shape).context("failed to write the shape")?;
        let resolver = Processes::new(&folder, lifetime);
        // Made before anything runs, so that a failed start is removed as well.
        let mut bed = Self { clusters: Vec::new(), prefix: prefix.to_owned(), lifetime, resolver, lock: Some(lock) };
        let started = bed.build(specs);
        if started.is_err() && lifetime == Lifetime::Machine {
            bed.tear_down()?;
        }
        started.map(|()| bed)
    }

    /// Takes up a testbed that [`Lifetime::Machine`] left behind; `None` when there is none.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn open(prefix: &str) -> Result<Option<Self>> {
        let folder = folder(prefix);
        let file = folder.join(SHAPE);
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("failed to read {}", file.display()))?,
        };
        let specs: Vec<Spec> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this version: run `make cluster-down`", file.display()))?;
        let clusters = specs.iter().map(|spec| Cluster::open(prefix, spec, &folder)).collect::<Result<_>>()?;
        let resolver = Processes::new(&folder, Lifetime::Machine);
        Ok(Some(Self { clusters, prefix: prefix.to_owned(), lifetime: Lifetime::Machine, resolver, lock: None }))
    }

    /// Removes the testbed of this prefix, or what is left of it. Tells whether there was anything.
    ///
    /// # Errors
    /// A process, namespace or file cannot be removed.
    pub fn remove(prefix: &str) -> Result<bool> {
        let lock = Lock::take(prefix)?;
        let found = leftovers::found(prefix)?;
        leftovers::remove(prefix)?;
        lock.remove();
        Ok(found)
    }

    /// Removes the testbed, and tells when that fails (which dropping it cannot).
    ///
    /// # Errors
    /// A process, namespace or file cannot be removed.
    pub fn down(mut self) -> Result<()> {
        self.lifetime = Lifetime::Machine;
        self.tear_down()
    }

    /// A cluster by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.spec.name == name).with_context(|| unknown(name))
    }

    /// As [`Testbed::cluster`], to be changed.
    ///
    /// # Errors
    /// There is none.
    pub fn cluster_mut(&mut self, name: &str) -> Result<&mut Cluster> {
        self.clusters.iter_mut().find(|cluster| cluster.spec.name == name).with_context(|| unknown(name))
    }

    /// The name of the network namespace between the sites.
    pub fn world(&self) -> String {
        network::netns(&self.prefix, "world")
    }

    /// Every question that reached the resolver of the outside world, one line each.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn outside_queries(&self) -> Result<Vec<String>> {
        let log = self.resolver.log(RESOLVER);
        let text = fs::read_to_string(&log).with_context(|| format!("failed to read {}", log.display()))?;
        Ok(text.lines().filter(|line| line.starts_with("[INFO] ")).map(str::to_owned).collect())
    }

    fn build(&mut self, specs: &[Spec]) -> Result<()> {
        let (prefix, folder, lifetime) = (self.prefix.clone(), folder(&self.prefix), self.lifetime);
        network::make_world(&prefix)?;
        self.start_resolver(&folder)?;
        let images = stock::make(&folder.join("images"))?;
        let start = |spec: &Spec| Cluster::start(&prefix, spec, &folder, lifetime, &images);
        self.clusters = parallel::map(specs, start)?;
        Ok(())
    }

    /// Knows `www.example.org` and denies every other name.
    fn start_resolver(&mut self, folder: &Path) -> Result<()> {
        let file = folder.join("Corefile");
        let zone = include_str!("files/outside.corefile").replace("{outside}", OUTSIDE);
        fs::write(&file, zone).with_context(|| format!("failed to write {}", file.display()))?;
        let run = Run::new(programs::built("coredns")?, ["-conf", &file.to_string_lossy()]).in_netns(&self.world());
        self.resolver.start(RESOLVER, &run).map(drop)
    }

    fn tear_down(&mut self) -> Result<()> {
        for cluster in &mut self.clusters {
            cluster.abandon();
        }
        let _ = self.resolver.kill(RESOLVER);
        leftovers::remove(&self.prefix)?;
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
        Ok(())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Caller
            && let Err(error) = self.tear_down()
        {
            eprintln!("failed to remove the testbed {}: {error:#}", self.prefix);
        }
    }
}

fn unknown(name: &str) -> String {
    format!("the testbed has no cluster {name}")
}

fn check(specs: &[Spec]) -> Result<()> {
    specs.iter().try_for_each(Spec::check)?;
    if !rustix::process::geteuid().is_root() {
        bail!("the testbed makes network namespaces and so needs root: run it with sudo");
    }
    for program in ["kube-apiserver", "flanneld", "coredns"] {
        programs::built(program)?;
    }
    // Programs of Docker are in other folders than those of Debian.
    let on_path = |program: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    for program in ["containerd", "runc", "/usr/lib/cni/bridge", "/bin/busybox"] {
        if !on_path(program) {
            bail!("{program} is missing: run `tests/setup.sh cluster-packages`");
        }
    }
    let bridge = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !Path::new(bridge).exists() {
        bail!("{bridge} is missing: load the module with `modprobe br_netfilter`");
    }
    Ok(())
}
