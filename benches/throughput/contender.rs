//! What is measured, and how each is started.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::net::{Net, Running, Side, finish, run};

/// UDP port of every contender.
const PORT: u16 = 51820;
/// Longest time from start to the first answered ping.
const START: Duration = Duration::from_secs(20);

/// One way to get a packet from one namespace to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contender {
    /// The veth pair alone.
    Bare,
    /// wireguard-go.
    WireguardGo,
    /// Tailscale's fork of wireguard-go.
    Tailscale,
    /// boringtun-cli.
    Boringtun,
    /// Linkspan with one lane.
    Linkspan1,
    /// Linkspan with two lanes.
    Linkspan2,
    /// The same, with ends that know each other by virtual addresses: each packet is translated at both.
    LinkspanTranslated,
    /// Linkspan with two lanes in a fleet of 500 peers with ten prefixes each, of which one talks.
    LinkspanFleet,
}

impl Contender {
    /// All, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::Bare,
        Self::WireguardGo,
        Self::Tailscale,
        Self::Boringtun,
        Self::Linkspan1,
        Self::Linkspan2,
        Self::LinkspanTranslated,
        Self::LinkspanFleet,
    ];

    /// As it is called in reports and in `--only`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare-veth",
            Self::WireguardGo => "wireguard-go",
            Self::Tailscale => "tailscale-wireguard-go",
            Self::Boringtun => "boringtun-cli",
            Self::Linkspan1 => "linkspan-1-lane",
            Self::Linkspan2 => "linkspan-2-lanes",
            Self::LinkspanTranslated => "linkspan-translated",
            Self::LinkspanFleet => "linkspan-500-peers",
        }
    }

    /// The address by which the other end calls `side` through this contender.
    pub fn called(self, side: Side) -> &'static str {
        if self == Self::LinkspanTranslated { side.virtual_inner() } else { self.address(side) }
    }

    /// The address of `side` that goes through this contender.
    pub fn address(self, side: Side) -> &'static str {
        if self == Self::Bare { side.outer() } else { side.inner() }
    }

    /// Starts it at both ends and waits until a ping is answered.
    pub fn start(self, net: &Net) -> Result<Tunnel> {
        let folder = tempfile::tempdir().context("making a folder for keys")?;
        let keys = [Keys::new()?, Keys::new()?];
        // What Linkspan is judged by is its memory with two peers.
        let second = if self == Self::LinkspanFleet { absent(499, 10)? } else { absent(1, 1)? };
        let mut processes = Vec::new();
        for (side, [own, other]) in [(Side::A, [&keys[0], &keys[1]]), (Side::B, [&keys[1], &keys[0]])] {
            match self {
                Self::Bare => (),
                Self::WireguardGo => processes.push(vanilla(net, side, "wireguard-go", &["-f"], own, other, &folder)?),
                Self::Tailscale => {
                    processes.push(vanilla(net, side, "tailscale-wireguard-go", &["-f"], own, other, &folder)?);
                }
                Self::Boringtun => {
                    let options = ["-f", "--disable-drop-privileges"];
                    processes.push(vanilla(net, side, "boringtun-cli", &options, own, other, &folder)?);
                }
                Self::Linkspan1 => processes.push(linkspan(net, side, 1, [own, other], &second, &folder)?),
                Self::Linkspan2 | Self::LinkspanFleet => {
                    processes.push(linkspan(net, side, 2, [own, other], &second, &folder)?);
                }
                Self::LinkspanTranslated => processes.push(translated(net, side, [own, other], &second, &folder)?),
            }
        }
        let mut tunnel = Tunnel { processes, folder };
        tunnel.wait(net, self)?;
        self.use_cubic(net)?;
        Ok(tunnel)
    }

    /// The link by which `side` reaches the other end.
    fn link(self, side: Side) -> String {
        match self {
            Self::Bare => "eth0".to_owned(),
            Self::WireguardGo | Self::Tailscale | Self::Boringtun => link(side),
            Self::Linkspan1 | Self::Linkspan2 | Self::LinkspanTranslated | Self::LinkspanFleet => linkspan_link(side),
        }
    }

    /// Gives TCP between the two ends CUBIC, Linux's default, by a route. A host may have BBR instead, whose pace settles on
    /// another value in every run; and iperf3 chooses after it has connected, when BBR has switched on pacing for good.
    fn use_cubic(self, net: &Net) -> Result<()> {
        for side in Side::BOTH {
            let (to, from, link) = (self.called(side.other()), self.address(side), self.link(side));
            net.ip(side, "rule add pref 1 lookup 77")?;
            net.ip(side, &format!("route add {to}/32 dev {link} table 77 src {from} congctl cubic"))?;
        }
        Ok(())
    }
}

/// Starts Linkspan at one end with `peers` peers, of which one could answer.
pub fn linkspan_with_peers(net: &Net, peers: usize) -> Result<Tunnel> {
    let folder = tempfile::tempdir().context("making a folder for keys")?;
    let process = linkspan(net, Side::A, 2, [&Keys::new()?, &Keys::new()?], &absent(peers - 1, 1)?, &folder)?;
    wait_for(|| net.ip(Side::A, &format!("link show dev {} up", linkspan_link(Side::A))).is_ok())
        .context("the link does not come up")?;
    Ok(Tunnel { processes: vec![process], folder })
}

/// So many peers that never call, with so many prefixes each, as lines of a site file.
fn absent(peers: usize, prefixes: usize) -> Result<String> {
    let mut lines = String::new();
    for number in 0..peers {
        let key = Keys::new()?.public;
        let prefix = |number: usize| format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
        let prefixes = (number * prefixes..(number + 1) * prefixes).map(prefix).collect::<Vec<_>>().join(", ");
        writeln!(
            lines,
            "  - {{ cluster: absent-{number}, publicKey: \"{key}\", allowedIPs: [{prefixes}], lanes: 2 }}"
        )?;
    }
    Ok(lines)
}

/// A running contender: both its ends, gone on drop.
#[derive(Debug)]
pub struct Tunnel {
    processes: Vec<Running>,
    folder: TempDir,
}

impl Tunnel {
    /// Process IDs of both ends; none for the bare link.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Running::pid).collect()
    }

    /// Where a Linkspan at `side` tells its status.
    pub fn status_socket(&self, side: Side) -> PathBuf {
        status_socket(&self.folder, side)
    }

    /// What the programs wrote to their error output.
    fn said(&self) -> String {
        let read = |side: Side| std::fs::read_to_string(log_path(&self.folder, side)).unwrap_or_default();
        Side::BOTH.map(read).concat()
    }

    fn wait(&mut self, net: &Net, contender: Contender) -> Result<()> {
        let from = Instant::now();
        loop {
            let mut ping = net.command(Side::A, "ping");
            ping.args(["-c1", "-W1", "-I", contender.address(Side::A), contender.called(Side::B)]);
            let Err(error) = finish(&mut ping) else { return Ok(()) };
            if self.processes.iter_mut().any(|process| !process.is_alive()) {
                bail!("it ended before a ping was answered, and said: {}", self.said());
            }
            if from.elapsed() > START {
                return Err(error.context(format!("no ping was answered within {START:?}; it said: {}", self.said())));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.processes.clear();
        for side in Side::BOTH {
            // Killed, the programs leave it behind; Linkspan has none.
            let _ = std::fs::remove_file(control_socket(side));
        }
    }
}

fn status_socket(folder: &TempDir, side: Side) -> PathBuf {
    folder.path().join(format!("{}.sock", side.letter()))
}

fn log_path(folder: &TempDir, side: Side) -> PathBuf {
    folder.path().join(format!("{}.log", side.letter()))
}

fn log(folder: &TempDir, side: Side) -> Result<File> {
    File::create(log_path(folder, side)).context("making a log file")
}

/// The link of a program that `wg` configures.
fn link(side: Side) -> String {
    format!("lsb{}{}", std::process::id() % 1_000_000, side.letter())
}

/// The link of Linkspan.
fn linkspan_link(side: Side) -> String {
    format!("lsb{}", side.letter())
}

fn control_socket(side: Side) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{}.sock", link(side)))
}

struct Keys {
    private: String,
    public: String,
}

impl Keys {
    fn new() -> Result<Self> {
        let private = String::from_utf8(run("wg", ["genkey"])?.stdout)?.trim().to_owned();
        let key: tunnel::config::PrivateKey = private.parse().context("reading what `wg genkey` printed")?;
        Ok(Self { public: key.public_key().to_string(), private })
    }

    fn file(&self, folder: &TempDir, side: Side) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(format!("{}.key", side.letter()));
        std::fs::write(&path, format!("{}\n", self.private))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

/// Starts one end of a program that takes its configuration from `wg`.
fn vanilla(
    net: &Net,
    side: Side,
    program: &str,
    options: &[&str],
    own: &Keys,
    other: &Keys,
    folder: &TempDir,
) -> Result<Running> {
    // The control socket is a file, which namespaces do not separate: the name of the link must be ours alone.
    let link = link(side);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(program);
    if !path.exists() {
        bail!("{} is missing; `make setup` builds it", path.display());
    }
    let mut command = net.command(side, path);
    command.args(options).arg(&link).env("LOG_LEVEL", "error").stdout(Stdio::null());
    command.stderr(log(folder, side)?);
    let running = net.spawn(&mut command)?;
    let socket = control_socket(side);
    wait_for(|| socket.exists()).with_context(|| format!("{} does not appear", socket.display()))?;
    let mut wg = net.command(side, "wg");
    wg.args(["set", &link, "listen-port", &PORT.to_string(), "private-key"]).arg(own.file(folder, side)?);
    wg.args(["peer", &other.public, "allowed-ips", side.other().prefix()]);
    wg.args(["endpoint", &format!("{}:{PORT}", side.other().outer())]);
    finish(&mut wg)?;
    net.ip(side, &format!("link set {link} up mtu 1420"))?;
    net.ip(side, &format!("route add {} dev {link} src {}", side.other().prefix(), side.inner()))?;
    Ok(running)
}

/// Starts one end of Linkspan with two lanes that knows the other, and is known to it, by virtual addresses.
fn translated(net: &Net, side: Side, keys: [&Keys; 2], more: &str, folder: &TempDir) -> Result<Running> {
    let pair = format!("[{{ native: {}, virtual: {} }}]", side.prefix(), side.virtual_prefix());
    start_linkspan(net, side, 2, keys, &pair, side.other().virtual_prefix(), more, folder)
}

/// Starts one end of Linkspan, with `more` peers, as lines of its site file, which never call.
fn linkspan(net: &Net, side: Side, lanes: u8, keys: [&Keys; 2], more: &str, folder: &TempDir) -> Result<Running> {
    start_linkspan(net, side, lanes, keys, "[]", side.other().prefix(), more, folder)
}

#[expect(clippy::too_many_arguments, reason = "all that a site file of this benchmark differs by")]
fn start_linkspan(
    net: &Net,
    side: Side,
    lanes: u8,
    [own, other]: [&Keys; 2],
    pairs: &str,
    allowed: &str,
    more: &str,
    folder: &TempDir,
) -> Result<Running> {
    own.file(folder, side)?;
    let site = format!(
        "cluster: {letter}
privateKeyFile: {letter}.key
network: {{ podCIDRs: [{prefix}], serviceCIDRs: [], virtual: {pairs} }}
nodes: [{{ name: {letter}-gw, address: {outer}, gateway: true, podCIDRs: [{prefix}] }}]
tunnel: {{ link: {link}, listenPort: {PORT}, lanes: {lanes}, mtu: 1420 }}
status: {{ socket: {socket} }}
peers:
  - {{ cluster: {other_letter}, publicKey: \"{public}\", endpoint: \"{other_outer}:{PORT}\", allowedIPs: [{allowed}], lanes: {lanes} }}
{more}",
        letter = side.letter(),
        link = linkspan_link(side),
        prefix = side.prefix(),
        outer = side.outer(),
        socket = status_socket(folder, side).display(),
        other_letter = side.other().letter(),
        public = other.public,
        other_outer = side.other().outer(),
    );
    let path = folder.path().join(format!("{}.yaml", side.letter()));
    std::fs::write(&path, site)?;
    let mut command = net.command(side, env!("CARGO_BIN_EXE_linkspan"));
    command.arg("run").arg("--config").arg(&path).args(["--node", &format!("{}-gw", side.letter())]);
    command.env("RUST_LOG", "warn").stdout(Stdio::null()).stderr(log(folder, side)?);
    net.spawn(&mut command)
}

fn wait_for(condition: impl Fn() -> bool) -> Result<()> {
    let from = Instant::now();
    while !condition() {
        if from.elapsed() > START {
            bail!("waited {START:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
