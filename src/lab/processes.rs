//! Processes in the lab's namespaces: the real binary on every node, a server in every pod, and their end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::{pause, wait_until};
use super::command::Run;

/// How long a process may take to end after SIGTERM before it is killed, and to vanish after that.
const GRACE: Duration = Duration::from_secs(5);

/// Programs that run in the background, by name. Each has a file `NAME.pid` and a log `NAME.log` in one folder, so that
/// a later call of `linkspan lab` finds them.
#[derive(Debug)]
pub struct Processes {
    folder: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Processes {
    /// Manages the processes whose files are in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, children: BTreeMap::new() }
    }

    /// Starts `run` under `name`; its output is appended to its log. It outlives this process and does not get the
    /// terminal's signals.
    ///
    /// # Errors
    /// The program cannot be started, or its files cannot be written.
    pub fn start(&mut self, name: &str, run: &Run) -> Result<u32> {
        let log = self.log(name);
        let out = File::options().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("failed to open the log {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("failed to open the log {} twice", log.display()))?;
        let mut command = run.command();
        command.process_group(0).stdout(out).stderr(err).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("failed to start `{run}`"))?;
        let pid = child.id();
        self.children.insert(name.to_owned(), child);
        let file = self.folder.join(format!("{name}.pid"));
        fs::write(&file, pid.to_string()).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(pid)
    }

    /// The process's ID while it runs in `netns`; `None` when it ended or its ID is another process's by now.
    pub fn running(&mut self, name: &str, netns: &str) -> Option<u32> {
        if let Some(child) = self.children.get_mut(name) {
            return matches!(child.try_wait(), Ok(None)).then(|| child.id());
        }
        let pid = fs::read_to_string(self.folder.join(format!("{name}.pid"))).ok()?.trim().parse().ok()?;
        is_in(pid, netns).then_some(pid)
    }

    /// Ends a process by a signal and waits until it is gone. SIGTERM is followed by SIGKILL after 5 seconds.
    ///
    /// # Errors
    /// It does not run, or is still there 5 seconds after SIGKILL.
    pub fn stop(&mut self, name: &str, netns: &str, signal: Signal) -> Result<()> {
        let Some(pid) = self.running(name, netns) else {
            bail!("{name} does not run; its last words are in {}", self.log(name).display());
        };
        send(pid, signal);
        if !wait_until(GRACE, || self.running(name, netns).is_none()) {
            send(pid, Signal::KILL);
            if !wait_until(GRACE, || self.running(name, netns).is_none()) {
                bail!("process {pid} ({name}) is still there {} s after SIGKILL", GRACE.as_secs());
            }
            if signal == Signal::TERM {
                bail!("process {pid} ({name}) did not end within {} s of SIGTERM and was killed", GRACE.as_secs());
            }
        }
        self.children.remove(name);
        Ok(())
    }

    /// Where a process's output goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The last lines of a process's log.
    pub fn last_words(&self, name: &str, lines: usize) -> String {
        let text = fs::read(self.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Reaps children that ended, so that none stays as a zombie when the lab is dropped.
impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // A process that goes on (`lab up`) becomes init's child; one that ended is reaped here.
            let _ = child.try_wait();
        }
    }
}

/// Kills every process in these namespaces and waits until none is left.
///
/// # Errors
/// The namespaces cannot be asked, or a process survives SIGKILL for 5 seconds.
pub fn end(namespaces: &[String]) -> Result<()> {
    for name in namespaces {
        let mut left = pids(name)?;
        for _ in 0..500 {
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|pid| send(*pid, Signal::KILL));
            pause(Duration::from_millis(10));
            left = pids(name)?;
        }
        if !left.is_empty() {
            bail!("processes {left:?} in namespace {name} are still there 5 s after SIGKILL");
        }
    }
    Ok(())
}

fn pids(netns: &str) -> Result<Vec<u32>> {
    let listed = Run::new("ip", ["netns", "pids", netns]).stdout()?;
    Ok(listed.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Gone already is as good as ended; the callers look whether it is.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// Whether a process lives in a namespace: the kernel names a namespace by device and inode (`namespaces(7)`).
fn is_in(pid: u32, netns: &str) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let process = id(Path::new(&format!("/proc/{pid}/ns/net")));
    process.is_some() && process == id(Path::new(&format!("/run/netns/{netns}")))
}
