//! Two hosts made of network namespaces: one runs Linkspan, the other another WireGuard.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// UDP port of Linkspan for peers that speak plain WireGuard.
pub const LINKSPAN_PORT: u16 = 51821;
/// UDP port of the other.
pub const OTHER_PORT: u16 = 51820;
/// Linkspan's address outside and inside the tunnel.
pub const LINKSPAN_OUTER: &str = "192.0.2.1";
pub const LINKSPAN_INNER: &str = "10.42.0.1";
/// The other's address outside and inside the tunnel.
pub const OTHER_OUTER: &str = "192.0.2.2";
pub const OTHER_INNER: &str = "10.52.0.1";
/// The same inside addresses of IPv6.
pub const LINKSPAN_INNER6: &str = "fd42::1";
pub const OTHER_INNER6: &str = "fd52::1";

/// Longest time for anything that shall happen at once, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which program is the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    WireguardGo,
    BoringtunCli,
}

/// Who knows where the other is, and so can start the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Linkspan,
    Other,
    Both,
}

/// What the two ends are told.
#[derive(Debug, Clone)]
pub struct Setup {
    pub program: Program,
    pub caller: Caller,
    /// Preshared keys of Linkspan and of the other.
    pub preshared: [Option<String>; 2],
    /// Seconds between keepalives of Linkspan and of the other.
    pub keepalive: [Option<u16>; 2],
    /// Whether the tunnel runs over IPv6.
    pub outer6: bool,
}

impl Setup {
    /// Both ends know each other's address; nothing more.
    pub fn new(program: Program) -> Self {
        Self { program, caller: Caller::Both, preshared: [None, None], keepalive: [None, None], outer6: false }
    }
}

/// One host: a network namespace, deleted on drop.
#[derive(Debug)]
pub struct Host {
    name: String,
}

impl Host {
    fn new(number: u32, letter: char) -> Self {
        let host = Self { name: format!("lsint-{}-{number}-{letter}", std::process::id()) };
        run(Command::new("ip").args(["netns", "add", &host.name]));
        host.ip("link set lo up");
        host
    }

    /// Runs `ip` with arguments separated by spaces.
    pub fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')));
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program).stdin(Stdio::null());
        command
    }

    /// The namespace's file.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Moves the calling thread, and no other, onto this host.
    pub fn enter(&self) {
        enter(&self.path());
    }

    /// Sends `count` pings, 100 ms apart, and returns how many were answered.
    pub fn ping(&self, from: &str, to: &str, count: u32) -> u32 {
        let mut command = self.command("ping");
        command.args(["-n", "-i", "0.1", "-W", "1", "-c", &count.to_string(), "-I", from, to]);
        let output = command.output().expect("ping runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let received = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_else(|| {
            panic!("ping {to} from {from}: {text}{}", String::from_utf8_lossy(&output.stderr));
        });
        // "5 packets transmitted, 5 received, 0% packet loss, time 404ms"
        received.split(", ").nth(1).and_then(|part| part.split(' ').next()).unwrap().parse().unwrap()
    }

    /// Waits until five pings in a row are answered. One time may not do: once any is answered, `ping` does not wait
    /// for the last ones.
    pub fn pings_all(&self, from: &str, to: &str) {
        eventually(&format!("{to} answers all pings from {from}"), || self.ping(from, to, 5) == 5);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It is gone already when making it has failed.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), log }
    }

    fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended with {status} and said:\n{}", self.said());
        }
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), self.said());
        }
    }
}

/// Both ends, running and set up.
#[derive(Debug)]
pub struct Pair {
    pub linkspan: Host,
    pub other: Host,
    /// Public keys, as `wg` prints them.
    pub linkspan_key: String,
    pub other_key: String,
    program: Program,
    other_link: String,
    // Programs end before their hosts go away, and their folder goes last.
    linkspan_process: Option<Running>,
    other_process: Option<Running>,
    folder: TempDir,
}

impl Pair {
    /// Makes both hosts, starts both programs, and waits until both have their links.
    pub fn start(setup: &Setup) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let (linkspan, other) = hosts(number);
        let keys = [Keys::new(folder.path(), "linkspan"), Keys::new(folder.path(), "other")];
        for (preshared, name) in setup.preshared.iter().zip(["linkspan.psk", "other.psk"]) {
            if let Some(key) = preshared {
                secret_file(&folder.path().join(name), key);
            }
        }
        let mut pair = Self {
            linkspan,
            other,
            linkspan_key: keys[0].public.clone(),
            other_key: keys[1].public.clone(),
            program: setup.program,
            // The control socket is a file, which namespaces do not separate: the name must be this test's alone.
            other_link: format!("li{}x{number}", std::process::id()),
            linkspan_process: None,
            other_process: None,
            folder,
        };
        pair.start_other(setup, &keys[0].public);
        std::fs::write(pair.folder.path().join("site.yaml"), site(setup, &keys[1].public)).unwrap();
        pair.start_linkspan();
        pair
    }

    fn start_linkspan(&mut self) {
        let mut command = self.linkspan.command(env!("CARGO_BIN_EXE_linkspan"));
        command.args(["run", "--node", "gw", "--config"]).arg(self.folder.path().join("site.yaml"));
        let mut running = Running::start(&mut command, self.folder.path().join("linkspan.log"));
        let linkspan = &self.linkspan;
        eventually("Linkspan brings its routes", || {
            running.assert_alive();
            let route = linkspan.command("ip").args(["route", "get", OTHER_INNER]).output().unwrap();
            String::from_utf8_lossy(&route.stdout).contains("dev linkspan0")
        });
        self.linkspan_process = Some(running);
    }

    fn start_other(&mut self, setup: &Setup, linkspan_key: &str) {
        let (program, options): (_, &[&str]) = match setup.program {
            Program::WireguardGo => ("wireguard-go", &["-f"]),
            Program::BoringtunCli => ("boringtun-cli", &["-f", "--disable-drop-privileges"]),
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(program);
        assert!(path.exists(), "{} is missing; `make setup` builds it", path.display());
        let mut command = self.other.command(path);
        command.args(options).arg(&self.other_link).env("LOG_LEVEL", "error");
        let mut running = Running::start(&mut command, self.folder.path().join("other.log"));
        let socket = self.control_socket();
        // `wg` takes away a socket that is there and refuses it.
        eventually("the other end listens on its control socket", || {
            running.assert_alive();
            UnixStream::connect(&socket).is_ok()
        });
        self.other_process = Some(running);
        self.configure_other(setup, linkspan_key);
    }

    fn configure_other(&self, setup: &Setup, linkspan_key: &str) {
        let mut wg = self.other.command("wg");
        wg.args(["set", &self.other_link, "listen-port", &OTHER_PORT.to_string()]);
        wg.arg("private-key").arg(self.folder.path().join("other.key")).args(["peer", linkspan_key]);
        wg.args(["allowed-ips", "10.42.0.0/16,fd42::/64"]);
        if setup.caller != Caller::Linkspan {
            let outer = if setup.outer6 { "[2001:db8::1]" } else { LINKSPAN_OUTER };
            wg.args(["endpoint", &format!("{outer}:{LINKSPAN_PORT}")]);
        }
        if setup.preshared[1].is_some() {
            wg.arg("preshared-key").arg(self.folder.path().join("other.psk"));
        }
        if let Some(seconds) = setup.keepalive[1] {
            wg.args(["persistent-keepalive", &seconds.to_string()]);
        }
        run(&mut wg);
        self.other.ip(&format!("link set {} up mtu 1420", self.other_link));
        self.other.ip(&format!("route add 10.42.0.0/16 dev {} src {OTHER_INNER}", self.other_link));
        self.other.ip(&format!("route add fd42::/64 dev {} src {OTHER_INNER6}", self.other_link));
    }

    /// Kills the process of Linkspan, as a crash would, and starts it again.
    pub fn crash_and_restart_linkspan(&mut self) {
        self.linkspan_process = None;
        self.start_linkspan();
    }

    /// A column that `wg show LINK WHAT` prints about Linkspan, as seen from the other end.
    pub fn wg(&self, what: &str) -> Vec<String> {
        let output = run(self.other.command("wg").args(["show", &self.other_link, what]));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&self.linkspan_key)).unwrap_or_default().to_owned();
        line.split('\t').skip(1).map(str::to_owned).collect()
    }

    /// Bytes that the other end has received and sent, encrypted.
    pub fn transfer(&self) -> [u64; 2] {
        let columns = self.wg("transfer");
        [columns[0].parse().unwrap(), columns[1].parse().unwrap()]
    }

    /// When the other end, which is wireguard-go, last finished a handshake, in seconds since 1970.
    pub fn handshake_at(&self) -> u64 {
        assert_eq!(self.program, Program::WireguardGo, "boringtun-cli tells something else");
        let told = self.latest_handshake();
        assert!(told > 0, "there was no handshake");
        told
    }

    /// Seconds since the other end last finished a handshake.
    pub fn handshake_age(&self) -> u64 {
        match self.program {
            // As the configuration protocol says: seconds since 1970.
            Program::WireguardGo => {
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - self.handshake_at()
            }
            Program::BoringtunCli => self.latest_handshake(),
        }
    }

    fn latest_handshake(&self) -> u64 {
        self.wg("latest-handshakes")[0].parse().unwrap()
    }

    /// Waits until a ping from Linkspan's host is answered.
    pub fn wait_from_linkspan(&self) {
        eventually("Linkspan's host reaches the other", || self.linkspan.ping(LINKSPAN_INNER, OTHER_INNER, 1) == 1);
    }

    /// Waits until a ping from the other host is answered.
    pub fn wait_from_other(&self) {
        eventually("the other host reaches Linkspan's", || self.other.ping(OTHER_INNER, LINKSPAN_INNER, 1) == 1);
    }

    fn control_socket(&self) -> PathBuf {
        PathBuf::from(format!("/var/run/wireguard/{}.sock", self.other_link))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.linkspan_process = None;
        self.other_process = None;
        // Killed, the programs leave it behind; there is none when they did not start.
        let _ = std::fs::remove_file(self.control_socket());
    }
}

/// Moves the calling thread into a network namespace.
pub fn enter(namespace: &Path) {
    let file = File::open(namespace).unwrap();
    // SAFETY: the descriptor is open, and the call changes only which network the calling thread sees.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "{}: {}", namespace.display(), std::io::Error::last_os_error());
}

/// Waits until `condition` holds, and returns how long it took.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) -> Duration {
    within(PATIENCE, what, condition)
}

/// Waits until `condition` holds, but no longer than `limit`, and returns how long it took.
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !condition() {
        assert!(from.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    from.elapsed()
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{} (these tests need root, and what `make setup` installs)",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A fresh preshared key.
pub fn preshared_key() -> String {
    text(run(Command::new("wg").arg("genpsk")))
}

struct Keys {
    public: String,
}

impl Keys {
    fn new(folder: &Path, name: &str) -> Self {
        let private = text(run(Command::new("wg").arg("genkey")));
        let public = private.parse::<tunnel::config::PrivateKey>().unwrap().public_key().to_string();
        secret_file(&folder.join(format!("{name}.key")), &private);
        Self { public }
    }
}

fn secret_file(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, format!("{content}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(output: Output) -> String {
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn hosts(number: u32) -> (Host, Host) {
    let (linkspan, other) = (Host::new(number, 'a'), Host::new(number, 'b'));
    linkspan.ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.name));
    let addresses = [
        (&linkspan, LINKSPAN_OUTER, "2001:db8::1", LINKSPAN_INNER, LINKSPAN_INNER6),
        (&other, OTHER_OUTER, "2001:db8::2", OTHER_INNER, OTHER_INNER6),
    ];
    for (host, outer, outer6, inner, inner6) in addresses {
        host.ip(&format!("addr add {outer}/24 dev eth0"));
        host.ip(&format!("addr add {outer6}/64 dev eth0 nodad"));
        host.ip(&format!("addr add {inner}/32 dev lo"));
        host.ip(&format!("addr add {inner6}/128 dev lo nodad"));
        host.ip("link set eth0 up");
    }
    (linkspan, other)
}

fn site(setup: &Setup, other_key: &str) -> String {
    let (own, endpoint) = if setup.outer6 { ("2001:db8::1", "[2001:db8::2]") } else { (LINKSPAN_OUTER, OTHER_OUTER) };
    let mut peer = format!("{{ cluster: berlin, publicKey: \"{other_key}\", vanilla: true");
    peer += ", allowedIPs: [10.52.0.0/16, \"fd52::/64\"]";
    if setup.caller != Caller::Other {
        peer += &format!(", endpoint: \"{endpoint}:{OTHER_PORT}\"");
    }
    if setup.preshared[0].is_some() {
        peer += ", presharedKeyFile: linkspan.psk";
    }
    if let Some(seconds) = setup.keepalive[0] {
        peer += &format!(", persistentKeepalive: {seconds}");
    }
    format!(
        "cluster: paris
privateKeyFile: linkspan.key
network: {{ podCIDRs: [10.42.0.0/16, \"fd42::/64\"] }}
nodes: [{{ name: gw, address: \"{own}\", gateway: true, podCIDRs: [10.42.0.0/16, \"fd42::/64\"] }}]
tunnel: {{ lanes: 2, mtu: 1420, vanillaPort: {LINKSPAN_PORT} }}
status: {{ socket: status.sock }}
peers: [{peer} }}]
"
    )
}
