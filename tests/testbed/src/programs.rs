//! Where the programs of a cluster are: built by `tests/setup.sh`, which links them into `target/peers`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The top of the source tree.
pub fn tree() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate is two folders below the top of the tree")
}

/// A program that `tests/setup.sh` builds.
///
/// # Errors
/// It is not there.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = tree().join("target/peers").join(name);
    if !path.exists() {
        bail!("{} is missing: run `tests/setup.sh cluster-packages kubernetes flannel coredns`", path.display());
    }
    Ok(path)
}
