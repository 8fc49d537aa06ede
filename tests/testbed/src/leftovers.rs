//! What a testbed leaves on the machine, found by its prefix and removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::{network, processes, wait};

/// Below it each testbed has a folder.
const STATE: &str = "/var/lib/linkspan-testbed";
/// The machine's control groups: one hierarchy, or a folder of hierarchies.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// How long the kernel may take to see that a control group is empty.
const EMPTY: Duration = Duration::from_secs(60);

/// The folder of a testbed.
pub fn folder(prefix: &str) -> PathBuf {
    Path::new(STATE).join(prefix)
}

/// Whether there is anything of a testbed.
///
/// # Errors
/// The machine cannot be asked.
pub fn found(prefix: &str) -> Result<bool> {
    Ok(folder(prefix).exists() || !network::namespaces(prefix)?.is_empty() || !control_groups(prefix).is_empty())
}

/// Removes every process, namespace, control group and file of a testbed, in whatever state a crash left it.
///
/// # Errors
/// One of them cannot be removed.
pub fn remove(prefix: &str) -> Result<()> {
    let namespaces = network::namespaces(prefix)?;
    // The first process of each node is among them, and with it end the node's pods.
    processes::end_in_netns(&namespaces)?;
    for name in namespaces {
        Run::new("ip", ["netns", "del", &name]).done()?;
    }
    control_groups(prefix).iter().try_for_each(|group| remove_control_group(group))?;
    let folder = folder(prefix);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove {}", folder.display()));
        }
        _ => {}
    }
    // Ours when no other testbed is in it.
    let _ = fs::remove_dir(STATE);
    Ok(())
}

fn control_groups(prefix: &str) -> Vec<PathBuf> {
    let top = Path::new(CONTROL_GROUPS);
    let hierarchies = [top.to_owned()].into_iter().chain(folders(top));
    let groups = hierarchies.flat_map(|hierarchy| folders(&hierarchy));
    let ours = |group: &PathBuf| {
        group.file_name().and_then(|name| name.to_str()).is_some_and(|name| network::belongs(prefix, name))
    };
    groups.filter(ours).collect()
}

/// A control group is removed as a folder without its files, after those in it.
fn remove_control_group(group: &Path) -> Result<()> {
    folders(group).iter().try_for_each(|inner| remove_control_group(inner))?;
    let mut removed = Ok(());
    wait::until(EMPTY, || {
        removed = fs::remove_dir(group);
        !removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove the control group {}", group.display()))
        }
        _ => Ok(()),
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
