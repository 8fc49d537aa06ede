//! Programs in the background: their start, their logs and their end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::Run;
use crate::wait;

/// How long a process may take to vanish after SIGKILL.
const GRACE: Duration = Duration::from_secs(60);

/// How long processes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the process that started them, however that ends.
    Caller,
    /// Until they are stopped, by this process or a later one.
    Machine,
}

/// Programs by name. Each has a file `NAME.pid` and a log `NAME.log` in one folder, so that a later process finds them.
#[derive(Debug)]
pub struct Processes {
    folder: PathBuf,
    lifetime: Lifetime,
    children: BTreeMap<String, Child>,
}

impl Processes {
    /// Manages the processes whose files are in `folder`.
    pub fn new(folder: &Path, lifetime: Lifetime) -> Self {
        Self { folder: folder.to_owned(), lifetime, children: BTreeMap::new() }
    }

    /// Starts `run` under `name`; its output is appended to its log.
    ///
    /// # Errors
    /// The program cannot be started, or its files cannot be written.
    pub fn start(&mut self, name: &str, run: &Run) -> Result<u32> {
        let log = self.log(name);
        let out = File::options().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("failed to open the log {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("failed to open the log {} twice", log.display()))?;
        // The signal comes when the parent ends, whatever the program is by then.
        let bound = || run.clone().by("setpriv", ["--pdeathsig", "KILL", "--"]);
        let run = if self.lifetime == Lifetime::Caller { bound() } else { run.clone() };
        let mut command = run.command();
        command.process_group(0).stdout(out).stderr(err);
        let child = spawn(command).with_context(|| format!("failed to start `{run}`"))?;
        let pid = child.id();
        self.children.insert(name.to_owned(), child);
        let started = Stat::read(pid).map_or(0, |stat| stat.started);
        let file = self.folder.join(format!("{name}.pid"));
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
        is_alive(pid, started).then_some(pid)
    }

    /// Kills a process and its children, and waits until they are gone. One that does not run is as good as killed.
    ///
    /// # Errors
    /// One of them is still there 60 seconds later.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        if let Some(pid) = self.running(name) {
            // The program itself may be the child of an `nsenter` that only waits for it. The first process of a node is
            // gone after all others there.
            let children = children(pid);
            children.iter().for_each(|(child, _)| send(*child, Signal::KILL));
            send(pid, Signal::KILL);
            let left = || children.iter().any(|(child, started)| is_alive(*child, *started));
            if !wait::until(GRACE, || self.running(name).is_none() && !left()) {
                bail!("process {pid} ({name}) is still there {} s after SIGKILL", GRACE.as_secs());
            }
        }
        self.children.remove(name);
        Ok(())
    }

    /// Fails when a process has ended: the error holds its last words.
    ///
    /// # Errors
    /// It does not run.
    pub fn check(&mut self, name: &str) -> Result<()> {
        match self.running(name) {
            Some(_) => Ok(()),
            None => {
                bail!("{name} has ended; its log {} ends:\n{}", self.log(name).display(), self.last_words(name, 15))
            }
        }
    }

    /// The names of all that was ever started with files in this folder.
    pub fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".pid")?.to_owned())).collect();
        names.sort();
        names
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

/// Spawns from a thread that lives as long as this process. The kernel sends the parent-death signal when the *thread*
/// that spawned ends, and the threads of a test harness end before what they share does.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Whoever asked waits for the reply.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let sent = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner).send((command, reply));
    let gone = || io::Error::other("the thread that starts programs has ended");
    sent.map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Kills every process in these network namespaces and waits until none is left.
///
/// # Errors
/// The namespaces cannot be asked, or a process survives SIGKILL.
pub fn end_in_netns(namespaces: &[String]) -> Result<()> {
    for name in namespaces {
        let mut left = in_netns(name)?;
        let gone = wait::until(GRACE, || {
            left.iter().for_each(|pid| send(*pid, Signal::KILL));
            left = in_netns(name).unwrap_or_default();
            left.is_empty()
        });
        if !gone {
            bail!("processes {left:?} in namespace {name} are still there {} s after SIGKILL", GRACE.as_secs());
        }
    }
    Ok(())
}

fn in_netns(name: &str) -> Result<Vec<u32>> {
    let listed = Run::new("ip", ["netns", "pids", name]).stdout()?;
    Ok(listed.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// IDs and start times.
fn children(of: u32) -> Vec<(u32, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid| Stat::read(pid).filter(|stat| stat.parent == of).map(|stat| (pid, stat.started));
    pids.filter_map(child).collect()
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Gone already is as good as ended; the callers look whether it is.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// When this process started, by which it is told from a later one with the same ID.
pub fn own_start() -> u64 {
    Stat::read(std::process::id()).map_or(0, |stat| stat.started)
}

/// Whether the process `pid` that started at `started` still runs.
pub fn is_alive(pid: u32, started: u64) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.started == started && !stat.ended)
}

/// What the kernel tells of a process (`proc_pid_stat(5)`).
struct Stat {
    parent: u32,
    /// Start time in clock ticks since boot, which with the ID names a process for ever.
    started: u64,
    /// Whether it is a zombie without threads: only then its files and sockets are closed.
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
        let (parent, started) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        Some(Self { parent, started, ended: fields.first() == Some(&"Z") && threads <= 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_start_and_ends_with_its_last_thread() {
        let stat = |state: &str, threads| {
            let line = format!("42 (k) t) {state} 7 42 42 0 -1 41 5 0 0 0 1 2 0 0 20 0 7 0 123456 10 20 30\n");
            Stat::parse(&line, threads).expect("a line of the kernel's")
        };
        assert_eq!((stat("S", 1).parent, stat("S", 1).started), (7, 123_456));
        assert!(!stat("S", 7).ended && !stat("Z", 3).ended && stat("Z", 1).ended);
        assert!(is_alive(std::process::id(), own_start()) && !is_alive(std::process::id(), 1));
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it_and_is_killed_by_name() {
        let folder = std::env::temp_dir().join(format!("testbed-processes-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut processes = std::thread::spawn({
            let mut processes = Processes::new(&folder, Lifetime::Caller);
            move || processes.start("sleeper", &Run::new("sleep", ["60"])).map(|_| processes)
        })
        .join()
        .unwrap()
        .unwrap();
        wait::pause(Duration::from_millis(50));
        processes.check("sleeper").unwrap();
        let pid = Processes::new(&folder, Lifetime::Caller).running("sleeper");
        assert_eq!(pid, processes.running("sleeper"), "another process finds it by its file");
        processes.kill("sleeper").unwrap();
        assert!(processes.check("sleeper").unwrap_err().to_string().starts_with("sleeper has ended"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
