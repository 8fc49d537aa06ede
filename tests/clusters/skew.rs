//! A cluster of an earlier build and one of this build: joined, upgraded, and rolled back.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::Run;

use crate::Step;
use crate::joined::{BROKER, CLUSTERS, Joined, SYSTEM, TWO, deploy, pack};
use crate::restarts::{STEADY, under_load};
use crate::steps::{
    exports_are_imported, headless_services_answer, members_are_ready, pods_reach_pods, row_65_services_are_reached,
};

/// Where the tree of the earlier build is, with its program under `target/debug`.
const PREVIOUS: &str = "LINKSPAN_PREVIOUS";

/// In order. `berlin` begins with the earlier build, `paris` with this one.
pub const ALL: [Step; 9] = [
    ("an earlier build joins the broker of this one", members_are_ready),
    ("pods reach each other", pods_reach_pods),
    ("what the earlier build exports this one imports", exports_are_imported),
    ("it is reached by name and by clusterset IP", row_65_services_are_reached),
    ("headless services answer", headless_services_answer),
    ("the earlier build is upgraded, and all goes on", upgraded),
    ("the other cluster is rolled back, and all goes on", rolled_back),
    ("both are of this build again", restored),
    ("headless services still answer", headless_services_answer),
];

/// Both clusters, `berlin` by the program and the manifests of the earlier build.
///
/// # Errors
/// There is no earlier build, or a command fails.
pub fn join(joined: &Joined) -> Result<()> {
    joined.join(BROKER)?;
    let berlin = joined.cluster("berlin")?;
    let tree = previous()?;
    berlin.import_image(&packed(&tree)?)?;
    for base in ["crds", "member"] {
        berlin.kubectl(["apply", "-k", &base_of(&tree, base)])?.done()?;
    }
    let token = joined.token("berlin")?;
    let kubeconfig = berlin.kubeconfig_path().display().to_string();
    let program = tree.join("target/debug/linkspan");
    Run::new(program, ["join", "--kubeconfig", &kubeconfig]).input(&token).done().with_context(|| joined.describe())
}

fn previous() -> Result<PathBuf> {
    let tree = std::env::var_os(PREVIOUS).map(PathBuf::from);
    let tree = tree.with_context(|| format!("{PREVIOUS} does not say where an earlier build is: run `make skew`"))?;
    ensure!(tree.join("target/debug/linkspan").is_file(), "there is no target/debug/linkspan in {}", tree.display());
    Ok(tree)
}

fn base_of(tree: &Path, base: &str) -> String {
    tree.join("deploy").join(base).display().to_string()
}

fn packed(tree: &Path) -> Result<PathBuf> {
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linkspan-previous.tar");
    let args = [archive.clone(), tree.join("target/debug/linkspan")].map(|path| path.display().to_string());
    Run::new(tree.join("deploy/image/pack.sh"), args).done()?;
    Ok(archive)
}

/// As docs/upgrades.md says: kinds first, then the rest. Going back leaves the kinds as they are. Both builds may bear one
/// version, so the pods are told to start anew.
fn change(joined: &Joined, cluster: &str, archive: &Path, bases: &[String]) -> Result<()> {
    let cluster = joined.cluster(cluster)?;
    cluster.import_image(archive)?;
    for base in bases {
        cluster.kubectl(["apply", "-k", base])?.done()?;
    }
    for what in ["daemonset/linkspan-node", "deployment/linkspan-controller", "deployment/linkspan-dns"] {
        cluster.kubectl(["rollout", "restart", what, "-n", SYSTEM])?.done()?;
        cluster.kubectl(["rollout", "status", what, "-n", SYSTEM, "--timeout=300s"])?.done()?;
    }
    Ok(())
}

fn all_goes_on(joined: &mut Joined) -> Result<()> {
    for viewer in CLUSTERS {
        CLUSTERS.iter().try_for_each(|member| joined.wait_ready(viewer, member))?;
    }
    pods_reach_pods(joined)?;
    row_65_services_are_reached(joined)
}

/// A connection that was there before is there afterwards, and no call meanwhile fails.
fn upgraded(joined: &mut Joined) -> Result<()> {
    let archive = pack(TWO)?;
    under_load(joined, STEADY, || change(joined, "berlin", &archive, &["crds", "member"].map(deploy)))?;
    all_goes_on(joined)
}

fn rolled_back(joined: &mut Joined) -> Result<()> {
    let tree = previous()?;
    let archive = packed(&tree)?;
    under_load(joined, STEADY, || change(joined, "paris", &archive, &[base_of(&tree, "member")]))?;
    all_goes_on(joined)
}

fn restored(joined: &mut Joined) -> Result<()> {
    change(joined, "paris", &pack(TWO)?, &["crds", "member"].map(deploy))?;
    all_goes_on(joined)
}
