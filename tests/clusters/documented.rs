//! Commands of README and docs, as they are written there, on whole clusters.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use testbed::{Image, stock};

use crate::documentation::list::{self, Test};
use crate::documentation::{self, Shell};
use crate::joined::{BROKER, Joined, SYSTEM, eventually};
use crate::{overlap, pods};

/// In place of traefik/whoami, which is in a registry: answers with its pod's name.
const WHOAMI: &str = "testbed.local/whoami:1";
const SERVE: &str = "busybox mkdir -p /tmp/www && echo \"I am $(busybox hostname)\" > /tmp/www/index.html &&
exec busybox httpd -f -p [::]:80 -h /tmp/www";

/// With one kubeconfig that has a context for each cluster, and one for each cluster alone.
///
/// # Errors
/// A kubeconfig cannot be read.
pub fn shell(joined: &Joined) -> Result<Shell> {
    let clusters = &joined.bed.clusters;
    let mut texts = Vec::new();
    for cluster in clusters {
        let file = cluster.kubeconfig_path();
        texts.push(std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    let named: Vec<(&str, &str)> =
        clusters.iter().map(|cluster| cluster.spec.name.as_str()).zip(texts.iter().map(String::as_str)).collect();
    let mut shell = Shell::new();
    let file = shell.folder().join("kubeconfig");
    std::fs::write(&file, testbed::merge_kubeconfigs(&named)?)?;
    for cluster in clusters {
        let name = cluster.spec.name.to_uppercase();
        shell = shell.with(&name, cluster.kubeconfig_path().display().to_string());
    }
    let shell = shell.with("KUBECONFIG", file.display().to_string()).with("PARIS_URL", joined.cluster(BROKER)?.url());
    Ok(shell.with("TREE", env!("CARGO_MANIFEST_DIR")))
}

/// Runs the one command of a test, and gives back what it prints.
///
/// # Errors
/// It fails.
pub fn run(joined: &Joined, test: Test) -> Result<String> {
    shell(joined)?.run(list::only(test)).map_err(Error::msg)
}

/// Joins both as a person does who has rights on the broker, and one who has not.
///
/// # Errors
/// A command fails.
pub fn two_join(joined: &Joined) -> Result<()> {
    shell(joined)?.run_all(Test::TwoJoin).map_err(Error::msg).with_context(|| joined.describe())
}

/// All that looks at joined clusters, or helps to.
pub fn two_are_used(joined: &mut Joined) -> Result<()> {
    // The other one has no peers to tell of.
    let on_gateway = format!("spec.nodeName={}", joined.gateway("paris")?);
    let pods = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=node", "--field-selector", &on_gateway];
    let only = [&pods[..], &["-o", "jsonpath={.items[0].metadata.name}"]].concat();
    let pod = joined.cluster("paris")?.kubectl(only)?.stdout()?;
    let address = pods::address(joined.cluster("berlin")?, "berlin-2")?;
    let shell = shell(joined)?.with("POD", pod).with("BERLIN_POD", address);
    // On a busy machine what is looked at may be late, and what is asked.
    let patiently = |command| eventually(|| shell.run(command).map_err(Error::msg)).map(drop);
    documentation::commands(Test::TwoUse).into_iter().try_for_each(patiently)
}

/// Joins paris and berlin by the commands of the quickstart.
///
/// # Errors
/// A command fails.
pub fn three_join(joined: &Joined) -> Result<()> {
    shell(joined)?.run_all(Test::ThreeJoin).map_err(Error::msg).with_context(|| joined.describe())
}

/// A service of berlin is used in paris, and an address is told by its names.
pub fn three_are_used(joined: &mut Joined) -> Result<()> {
    joined.cluster("berlin")?.import_image(&whoami()?)?;
    let known = overlap::known_as(joined, "paris", "berlin")?;
    let address = known.values().flatten().next().context("no pod of berlin is known")?;
    let shell = shell(joined)?.with("WHOAMI", WHOAMI).with("TOOLS", stock::TOOLS).with("VIRTUAL", address.to_string());
    shell.run_all(Test::ThreeUse).map_err(Error::msg)
}

/// `then` is told each command that has been run.
///
/// # Errors
/// A command fails.
pub fn three_leave(joined: &Joined, mut then: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let shell = shell(joined)?;
    for command in list::of(Test::ThreeLeave) {
        shell.run(command).map_err(Error::msg)?;
        then(command.text)?;
    }
    Ok(())
}

fn whoami() -> Result<PathBuf> {
    let mut image = Image::new(WHOAMI).entrypoint(&["/bin/busybox", "sh", "-c", SERVE]);
    image.program("/bin/busybox", Path::new("/bin/busybox"))?;
    image.open_folder("/tmp")?;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("whoami.tar");
    image.write(&file)?;
    Ok(file)
}
