//! A lock per testbed, so that no process takes another's for the leftovers of a crash.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A lock that is held. The kernel gives it back when this process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the testbed `prefix`, and waits for another process that has it.
    ///
    /// # Errors
    /// The lock's file cannot be made or locked.
    pub fn take(prefix: &str) -> Result<Self> {
        let path = Path::new("/run").join(format!("linkspan-testbed-{prefix}.lock"));
        loop {
            let describe = || format!("failed to take the lock {}", path.display());
            let file = File::create(&path).with_context(describe)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    eprintln!("testbed: waiting for another process that works on {prefix} ({})", path.display());
                    file.lock().with_context(describe)?;
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(describe),
            }
            // The holder before us may have removed the file after we opened it: then this lock is on no name.
            if same(&file, &path) {
                return Ok(Self { file, path });
            }
        }
    }

    /// Gives the lock back and removes its file.
    pub fn remove(self) {
        // Without its name the lock only costs an empty file.
        let _ = fs::remove_file(&self.path);
        drop(self.file);
    }
}

fn same(file: &File, path: &Path) -> bool {
    let id = |meta: io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
    id(file.metadata()) == id(fs::metadata(path))
}
