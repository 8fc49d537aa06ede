//! What one call of `linkspan lab` leaves for the next one: the shape of the lab, and a lock against each other.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::spec::{Prefix, Spec};

const FILE: &str = "lab.json";

/// Writes the shape into the state folder, which is made with mode 0700: keys live below it.
///
/// # Errors
/// The folder or file cannot be written.
pub fn write(spec: &Spec, root: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(spec).context("failed to render the lab's shape")?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(root)
        .and_then(|()| fs::write(root.join(FILE), text))
        .with_context(|| format!("failed to write {}", root.join(FILE).display()))
}

/// Reads the shape; `None` when there is no lab.
///
/// # Errors
/// The file cannot be read, or is not what [`write()`] writes.
pub fn read(root: &Path) -> Result<Option<Spec>> {
    let file = root.join(FILE);
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("failed to read {}", file.display()))?,
    };
    let spec = serde_json::from_str(&text)
        .with_context(|| format!("{} is not of this version: run `linkspan lab down`", file.display()))?;
    Ok(Some(spec))
}

/// What a process means to do with a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Look at it and run commands in it; others may do so at the same time.
    Shared,
    /// Build, change or remove it.
    Exclusive,
}

/// Takes the lab's lock; the kernel gives it back when the process ends, however it ends.
///
/// # Errors
/// Another process holds it in a way that excludes this one.
pub fn lock(prefix: &Prefix, access: Access) -> Result<File> {
    let path = path(prefix);
    loop {
        let file = File::create(&path).with_context(|| format!("failed to create the lock {}", path.display()))?;
        let locked = match access {
            Access::Exclusive => file.try_lock(),
            Access::Shared => file.try_lock_shared(),
        };
        match locked {
            // The holder before us may have removed the file after we opened it: then this lock is on no name.
            Ok(()) if same(&file, &path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another `linkspan lab` works on the lab `{prefix}` (lock {}): wait for it", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("failed to lock {}", path.display()));
            }
        }
    }
}

fn same(file: &File, path: &Path) -> bool {
    let id = |meta: io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
    id(file.metadata()) == id(fs::metadata(path))
}

/// Removes the lock's file while the lock is held.
pub fn unlock(prefix: &Prefix, lock: File) {
    // Without its name the lock only costs an empty file.
    let _ = fs::remove_file(path(prefix));
    drop(lock);
}

fn path(prefix: &Prefix) -> PathBuf {
    prefix.state_dir().with_extension("lock")
}
