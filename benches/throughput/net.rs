//! Two network namespaces joined by a veth pair, and programs inside them. All of it goes away on drop.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// All namespaces of this benchmark are named `lsbench-PID-SIDE`.
const PREFIX: &str = "lsbench-";

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Sends.
    A,
    /// Receives.
    B,
}

impl Side {
    /// Both, in the order in which they are set up.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// `a` or `b`.
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    /// The address on the veth link.
    pub fn outer(self) -> &'static str {
        match self {
            Self::A => "192.0.2.1",
            Self::B => "192.0.2.2",
        }
    }

    /// The address that is reached through the tunnel.
    pub fn inner(self) -> &'static str {
        match self {
            Self::A => "10.42.0.1",
            Self::B => "10.52.0.1",
        }
    }

    /// The inner prefix.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::A => "10.42.0.0/16",
            Self::B => "10.52.0.0/16",
        }
    }

    /// The prefix by which the other end knows this one, where addresses are translated.
    pub fn virtual_prefix(self) -> &'static str {
        match self {
            Self::A => "100.64.0.0/16",
            Self::B => "100.66.0.0/16",
        }
    }

    /// [`Side::inner`] there.
    pub fn virtual_inner(self) -> &'static str {
        match self {
            Self::A => "100.64.0.1",
            Self::B => "100.66.0.1",
        }
    }

    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The two namespaces.
#[derive(Debug)]
pub struct Net;

impl Net {
    /// Makes the namespaces, the veth pair between them, and the inner addresses on their loopback links.
    pub fn new() -> Result<Self> {
        let net = Self; // from here on, drop cleans up
        for side in Side::BOTH {
            run("ip", ["netns", "add", &name(side)])?;
        }
        let (a, b) = (name(Side::A), name(Side::B));
        run("ip", ["-n", &a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b])?;
        for side in Side::BOTH {
            net.ip(side, &format!("addr add {}/24 dev eth0", side.outer()))?;
            net.ip(side, &format!("addr add {}/32 dev lo", side.inner()))?;
            net.ip(side, "link set lo up")?;
            net.ip(side, "link set eth0 up mtu 1500")?;
        }
        Ok(net)
    }

    /// Runs `ip` with `arguments`, separated by spaces, in a namespace.
    pub fn ip(&self, side: Side, arguments: &str) -> Result<()> {
        let namespace = name(side);
        run("ip", ["-n", &namespace].into_iter().chain(arguments.split(' '))).map(drop)
    }

    /// A command that will run inside a namespace.
    pub fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", name(side))).arg(program);
        command
    }

    /// Starts a command that runs until it is dropped.
    pub fn spawn(&self, command: &mut Command) -> Result<Running> {
        command.stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Running(child))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for side in Side::BOTH {
            remove(&name(side));
        }
    }
}

/// A program that is killed and awaited on drop.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// The process ID; `nsenter` has become the program itself.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether the program still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the program is gone already, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end and returns what it printed.
pub fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
    finish(Command::new(program).args(arguments))
}

/// Runs a command to its end and returns what it printed; its error output is in the error when it fails.
pub fn finish(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(output)
}

/// Removes namespaces that a killed run of this benchmark has left behind.
pub fn remove_leftovers() -> Result<()> {
    let folder = Path::new("/run/netns");
    if !folder.exists() {
        return Ok(());
    }
    for entry in folder.read_dir().context("listing network namespaces")? {
        let namespace = entry?.file_name().to_string_lossy().into_owned();
        let Some(rest) = namespace.strip_prefix(PREFIX) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            println!("removing {namespace}, left behind by a run that is no more");
            remove(&namespace);
        }
    }
    Ok(())
}

fn name(side: Side) -> String {
    format!("{PREFIX}{}-{}", std::process::id(), side.letter())
}

fn remove(namespace: &str) {
    if let Err(error) = run("ip", ["netns", "del", namespace]) {
        eprintln!("namespace {namespace} stays: {error:#}");
    }
}
