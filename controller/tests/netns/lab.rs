//! Network namespaces for a test, and programs in them.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use controller::node::Desired;

/// Longest wait for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The namespaces of one test; they and the programs in them go when it is dropped.
pub struct Lab {
    prefix: String,
    namespaces: Vec<Namespace>,
    programs: Vec<Child>,
}

/// A network namespace.
#[derive(Clone)]
pub struct Namespace {
    pub name: String,
}

impl Lab {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("lsctl-{}-{number}", std::process::id());
        Self { prefix, namespaces: Vec::new(), programs: Vec::new() }
    }

    /// A new namespace with loopback up.
    ///
    /// # Panics
    /// When it cannot be made: the test needs root and cannot be skipped.
    pub fn namespace(&mut self, name: &str) -> Namespace {
        let name = format!("{}-{name}", self.prefix);
        let output = Command::new("ip").args(["netns", "add", &name]).output().expect("iproute2 is installed");
        assert!(output.status.success(), "network namespaces need root: {}", text(&output.stderr));
        let namespace = Namespace { name };
        self.namespaces.push(namespace.clone());
        namespace.run("ip link set lo up");
        namespace
    }

    /// Starts a program that runs until the end of the test.
    pub fn start(&mut self, namespace: &Namespace, command: &str) {
        self.programs.push(namespace.spawn(&format!("exec {command}")));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for program in &mut self.programs {
            drop(program.kill());
            drop(program.wait());
        }
        for namespace in &self.namespaces {
            drop(Command::new("ip").args(["netns", "del", &namespace.name]).output());
        }
    }
}

impl Namespace {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs shell commands; any that fails ends the test.
    pub fn run(&self, commands: &str) -> String {
        let output = self.attempt(commands);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "in {}: {commands}\n{stdout}{stderr}", self.name);
        stdout
    }

    /// Runs shell commands, which may fail.
    pub fn attempt(&self, commands: &str) -> Output {
        self.command("sh").args(["-ec", commands]).stdin(Stdio::null()).output().unwrap()
    }

    pub fn spawn(&self, command: &str) -> Child {
        self.command("sh").args(["-c", command]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts the agent of `agent.rs` with what it is to do.
    pub fn agent(&self, mode: &str, desired: &Desired) -> Child {
        let mut command = self.command(env!("CARGO_BIN_EXE_node-pass"));
        command.arg(mode).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", serde_json::to_string(desired).unwrap()).unwrap();
        child
    }

    /// One pass that must not fail. Its actions, one a line; obstacles follow as comments.
    pub fn pass(&self, desired: &Desired) -> String {
        let output = self.agent("pass", desired).wait_with_output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "pass in {} failed:\n{stderr}", self.name);
        stdout
    }

    /// What a pass would do.
    pub fn plan(&self, desired: &Desired) -> String {
        text(&self.agent("plan", desired).wait_with_output().unwrap().stdout)
    }

    /// The MTU in bytes towards an address; none without a way.
    pub fn mtu(&self, to: &str) -> Option<u32> {
        let output = self.command(env!("CARGO_BIN_EXE_node-pass")).args(["mtu", to]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().strip_prefix(to).map(|mtu| mtu.trim().parse().unwrap())
    }

    /// Everything that an uninstall must leave as it was. Without packet counters and the count of connections.
    pub fn snapshot(&self) -> String {
        self.run(
            "ip link; ip address; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; \
             nft -s list ruleset; sysctl -a 2>/dev/null | grep '^net\\.' | grep -v nf_conntrack_count",
        )
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something holds, and says how long it took.
///
/// # Panics
/// When it does not hold in time.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}
