//! Processes in the lab's namespaces: the real binary on every node, a server in every pod, and their end.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::{now, pause, wait_until};
use super::command::Run;

/// How long a process may take to end after SIGTERM before it is killed, and to vanish after that.
const GRACE: Duration = Duration::from_secs(30);

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
        let started = Stat::read(pid).map_or(0, |stat| stat.started);
        fs::write(&file, format!("{pid} {started}")).with_context(|| format!("failed to write {}", file.display()))?;
        Ok(pid)
    }

    /// The process's ID while it runs; `None` when it ended or its ID is another process's by now.
    pub fn running(&mut self, name: &str) -> Option<u32> {
        if let Some(child) = self.children.get_mut(name) {
            return matches!(child.try_wait(), Ok(None)).then(|| child.id());
        }
        let text = fs::read_to_string(self.folder.join(format!("{name}.pid"))).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let (pid, started): (u32, u64) = (pid.parse().ok()?, started.parse().ok()?);
        Stat::read(pid).filter(|stat| stat.started == started && !stat.ended).map(|_| pid)
    }

    /// Ends a process by a signal and waits until it is gone. SIGTERM is followed by SIGKILL after 30 seconds.
    ///
    /// # Errors
    /// It does not run, or is still there 30 seconds after SIGKILL.
    pub fn stop(&mut self, name: &str, signal: Signal) -> Result<()> {
        let Some(pid) = self.running(name) else {
            bail!("{name} does not run; its last words are in {}", self.log(name).display());
        };
        send(pid, signal);
        if !wait_until(GRACE, || self.running(name).is_none()) {
            send(pid, Signal::KILL);
            if !wait_until(GRACE, || self.running(name).is_none()) {
                bail!("process {pid} ({name}) is still there {} s after SIGKILL", GRACE.as_secs());
            }
            if signal == Signal::TERM {
                bail!("process {pid} ({name}) did not end within {} s of SIGTERM and was killed", GRACE.as_secs());
            }
        }
        self.children.remove(name);
        Ok(())
    }

    /// Kills and reaps every process that this value started, also those that had not entered their namespace yet.
    pub fn kill_children(&mut self) {
        for child in self.children.values_mut() {
            // A child that has ended already needs no killing, and is reaped all the same.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
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

/// Takes hold of namespaces, so that the processes in them are found when their names are gone. What has no name any
/// more is left out.
///
/// # Errors
/// A name cannot be opened.
pub fn hold(namespaces: &[String]) -> Result<Vec<File>> {
    let open = |name: &String| match File::open(Path::new("/run/netns").join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.with_context(|| format!("failed to open the namespace {name}"))),
    };
    namespaces.iter().filter_map(open).collect()
}

/// Kills every process in these namespaces and waits until none is left.
///
/// # Errors
/// The processes cannot be listed, or one survives SIGKILL for 30 seconds.
pub fn end(namespaces: &[File]) -> Result<()> {
    let held = namespaces.iter().map(|namespace| namespace.metadata().map(|found| identity(&found)));
    let held = held.collect::<io::Result<Vec<_>>>().context("failed to look at the lab's namespaces")?;
    let begin = now();
    loop {
        let left = inside(&held).context("failed to list the processes of this machine")?;
        if left.is_empty() {
            return Ok(());
        }
        if begin.elapsed() >= GRACE {
            bail!("processes {left:?} in the lab's namespaces are still there {} s after SIGKILL", GRACE.as_secs());
        }
        left.iter().for_each(|pid| send(*pid, Signal::KILL));
        pause(Duration::from_millis(10));
    }
}

fn inside(namespaces: &[(u64, u64)]) -> io::Result<Vec<u32>> {
    let listed = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // A process that has ended meanwhile is in none.
    let is_inside = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| namespaces.contains(&identity(&found)))
    };
    Ok(listed.filter(is_inside).collect())
}

/// What tells a namespace from every other one, as long as it is held.
fn identity(namespace: &Metadata) -> (u64, u64) {
    (namespace.dev(), namespace.ino())
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Gone already is as good as ended; the callers look whether it is.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// What the kernel tells of a process (`proc_pid_stat(5)`).
struct Stat {
    /// Start time in clock ticks since boot, which with the ID names a process for ever.
    started: u64,
    /// Whether it is a zombie without threads: only then its files, sockets and TUN queues are closed.
    ended: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        Self::parse(&text, threads)
    }

    fn parse(text: &str, threads: usize) -> Option<Self> {
        // The name in parentheses may hold spaces and parentheses; field 3, the state, follows its end.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let started = fields.get(19)?.parse().ok()?;
        Some(Self { started, ended: fields.first() == Some(&"Z") && threads <= 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let line = |state: &str| {
            format!("42 (link) span) {state} 1 42 42 0 -1 4194560 5 0 0 0 1 2 0 0 20 0 7 0 123456 10 20 30\n")
        };
        let ended = |state, threads| {
            let stat = Stat::parse(&line(state), threads).expect("a line of the kernel's");
            assert_eq!(stat.started, 123_456);
            stat.ended
        };
        assert!(!ended("S", 7));
        assert!(!ended("Z", 3), "the first thread is gone, others still hold the sockets");
        assert!(ended("Z", 1));
        assert!(Stat::parse("", 1).is_none());
    }
}
