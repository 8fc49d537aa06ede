//! `linkspan run` on a node that is a network namespace.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use super::*;

/// A network namespace with a loopback and one link; gone when the test ends.
pub struct Netns(pub String);

impl Netns {
    pub fn new(name: &str) -> Self {
        let netns = Self(format!("lsp-{name}-{}", std::process::id()));
        run("ip", &["netns", "add", &netns.0]);
        run("ip", &["-n", &netns.0, "link", "set", "lo", "up"]);
        run("ip", &["-n", &netns.0, "link", "add", "uplink", "type", "bridge"]);
        run("ip", &["-n", &netns.0, "address", "add", "192.0.2.1/24", "dev", "uplink"]);
        run("ip", &["-n", &netns.0, "link", "set", "uplink", "up"]);
        netns
    }

    /// A command inside.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// Runs shell commands inside, none of which may fail, and returns what they print.
    fn shell(&self, commands: &str) -> String {
        let (code, out, error) = ended(self.inside("sh").args(["-ec", commands]));
        assert_eq!(code, Some(0), "{commands}: {out}{error}");
        out
    }

    /// Does something in a thread inside.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            there.join().unwrap()
        })
    }

    fn has_link(&self, link: &str) -> bool {
        Command::new("ip").args(["-n", &self.0, "link", "show", link]).output().unwrap().status.success()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}; these tests need root");
}

/// A running node.
pub struct Node {
    child: Killed,
    netns: Netns,
    folder: Folder,
}

impl Node {
    fn start(name: &str, node: &str, text: &str) -> Self {
        Self::start_with(name, node, Folder::new(text), |_| {})
    }

    fn start_with(name: &str, node: &str, folder: Folder, more: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(Netns::new(name), node, folder, more)
    }

    pub fn start_in(netns: Netns, node: &str, folder: Folder, more: impl FnOnce(&mut Command)) -> Self {
        let child = Killed(Self::command(&netns, &folder, node, more).spawn().unwrap());
        Self { child, netns, folder }
    }

    fn command(netns: &Netns, folder: &Folder, node: &str, more: impl FnOnce(&mut Command)) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut command = netns.inside(env!("CARGO_BIN_EXE_linkspan"));
        command.args(["run", "--node", node, "--config"]).arg(folder.site()).stderr(log);
        more(&mut command);
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn status(&self) -> Result<Value, String> {
        let (code, out, error) = ended(linkspan(["status", "-o", "json", "--config"]).arg(self.folder.site()));
        if code == Some(0) { serde_json::from_str(&out).map_err(|error| error.to_string()) } else { Err(error) }
    }

    /// Waits for a status of which something is true.
    fn until(&self, what: &str, so: impl Fn(&Value) -> bool) {
        eventually(what, || match self.status() {
            Ok(status) if so(&status) => Ok(()),
            Ok(status) => Err(format!("{status:#}\n{}", self.log())),
            Err(error) => Err(format!("{error}\n{}", self.log())),
        });
    }

    /// Replaces the site file by renaming, as editors do.
    fn replace(&self, text: &str) {
        let new = self.folder.path().join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.site()).unwrap();
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        run("kill", &["-s", signal, &self.child.0.id().to_string()]);
        let mut code = None;
        eventually("the process ends", || {
            code = self.child.0.try_wait().unwrap().map(|status| status.code());
            code.map(|_| ()).ok_or_else(|| self.log())
        });
        code.flatten()
    }
}

fn peers(status: &Value) -> Vec<&str> {
    status["tunnel"]["peers"]
        .as_array()
        .map_or_else(Vec::new, |peers| peers.iter().filter_map(|peer| peer["name"].as_str()).collect())
}

const ROME: &str =
    "  - { cluster: rome, publicKey: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=, allowedIPs: [10.62.0.0/16] }\n";

#[test]
fn a_gateway_gets_ready_follows_its_file_and_drains() {
    let mut node = Node::start("life", "gw", &site(""));
    node.until("it gets ready", |status| status["ready"] == true && peers(status) == ["berlin"]);
    let socket = node.folder.path().join("run/linkspan.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    node.replace(&site(ROME));
    node.until("a new peer is taken over", |status| peers(status) == ["berlin", "rome"]);
    eventually("its route follows", || {
        let routes = ended(Command::new("ip").args(["-n", &node.netns.0, "route", "show", "table", "all"])).1;
        if routes.contains("10.62.0.0/16 dev linkspan0") { Ok(()) } else { Err(routes) }
    });

    node.replace(&site(ROME).replace("10.62.0.0/16", "10.42.7.0/24"));
    node.until("a wrong file is refused", |status| {
        let refused = status["site"]["refused"].as_str().unwrap_or_default();
        let is_told = refused.contains("overlaps 10.42.0.0/16 of network.podCIDRs[0]");
        is_told && status["ready"] == true && peers(status) == ["berlin", "rome"]
    });
    eventually("it is logged", || match node.log() {
        log if log.contains("the changed site file is refused, the one before stays in use") => Ok(()),
        log => Err(log),
    });

    node.replace(&site(""));
    node.until("a right one is taken again", |status| {
        peers(status) == ["berlin"] && status["site"]["refused"].is_null()
    });

    assert_eq!(node.signal("TERM"), Some(0), "{}", node.log());
    assert!(!socket.exists());
    assert!(node.netns.has_link("linkspan0"), "a restart shall find the link");
    assert!(!node.log().contains(PRIVATE));
}

#[test]
fn changes_by_others_are_undone_within_a_second_or_two_although_something_else_fails_all_the_time() {
    let node = Node::start("fails", "gw", &site(""));
    node.until("it gets ready", |status| status["ready"] == true);
    // Somebody has the port for plain WireGuard peers.
    let taken = node.netns.enter(|| std::net::UdpSocket::bind("0.0.0.0:51821").unwrap());
    let vanilla = ROME.replace(" }", ", vanilla: true }");
    node.replace(&site(&vanilla).replace("peers:", "tunnel: { vanillaPort: 51821 }\npeers:"));
    let failures = |status: &Value| status["pass"]["failuresInRow"].as_u64();
    node.until("passes fail", |status| failures(status) >= Some(5));
    let route = ["10.52.0.0/16", "dev", "linkspan0"];
    let routes = || ended(Command::new("ip").args(["-n", &node.netns.0, "route", "show", "table", "all"])).1;
    let before = routes();
    let line = before.lines().find(|line| line.starts_with(&route.join(" "))).unwrap_or_else(|| panic!("{before}"));
    let words: Vec<_> = ["-n", &node.netns.0, "route", "delete"].into_iter().chain(line.split_whitespace()).collect();
    // The next pass would come eight seconds after the fifth failure, and later after a later one. A busy machine takes
    // longer: then it is tried again, after one more failure.
    let mut times = Vec::<Duration>::new();
    while times.last().is_none_or(|time| *time >= Duration::from_secs(7)) {
        assert!(times.len() < 3, "after {times:?}: {}", node.log());
        if !times.is_empty() {
            let so_far = failures(&node.status().unwrap());
            node.until("one more pass fails", |status| failures(status) > so_far);
        }
        run("ip", &words);
        let begin = Instant::now();
        eventually("the route is back", || if routes().contains(line) { Ok(()) } else { Err(routes()) });
        times.push(begin.elapsed());
    }
    assert!(failures(&node.status().unwrap()) >= Some(5), "it still fails");
    drop(taken);
    node.until("it works again", |status| status["pass"]["failuresInRow"] == 0 && peers(status) == ["berlin", "rome"]);
}

#[test]
fn a_volume_whose_links_are_swapped_is_followed() {
    let folder = Folder::new("");
    std::fs::remove_file(folder.site()).unwrap();
    let at = |name: &str| folder.path().join(name);
    let version = |name: &str, text: &str| {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("site.yaml"), text).unwrap();
    };
    version("..1", &site(""));
    version("..2", &site(ROME));
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/site.yaml", folder.site()).unwrap();
    let node = Node::start_with("swap", "gw", folder, |_| {});
    node.until("it gets ready", |status| peers(status) == ["berlin"]);
    let at = |name: &str| node.folder.path().join(name);
    std::os::unix::fs::symlink("..2", at("..new")).unwrap();
    std::fs::rename(at("..new"), at("..data")).unwrap();
    node.until("the swap is seen", |status| peers(status) == ["berlin", "rome"]);
}

#[test]
fn a_worker_runs_without_a_key_and_uninstall_leaves_nothing() {
    let folder = Folder::new(&site(""));
    std::fs::remove_file(folder.path().join("private.key")).unwrap();
    let mut node = Node::start_with("work", "w1", folder, |_| {});
    // The worker's address is that of nobody here, so its pass may have something to say; names are served anyway.
    node.until("names are served", |status| status["names"]["synced"] == true && status["tunnel"].is_null());
    let refused = ended(
        node.netns.inside(env!("CARGO_BIN_EXE_linkspan")).args(["uninstall", "--config"]).arg(node.folder.site()),
    );
    assert_eq!(refused.0, Some(1), "{refused:?}");
    assert!(refused.2.contains("still runs here"), "{refused:?}");
    let tables = |node: &Node| ended(node.netns.inside("nft").args(["list", "tables"])).1;
    let has_table = |node: &Node| match tables(node) {
        tables if tables.contains("table inet linkspan") => Ok(()),
        tables => Err(tables),
    };
    eventually("it has its table", || has_table(&node));
    node.signal("INT");
    has_table(&node).unwrap();
    let trial = ended(
        node.netns
            .inside(env!("CARGO_BIN_EXE_linkspan"))
            .args(["uninstall", "--dry-run", "--config"])
            .arg(node.folder.site()),
    );
    assert_eq!(trial.0, Some(0), "{trial:?}");
    assert!(trial.1.contains("inet linkspan") && trial.1.ends_with("objects (dry run)\n"), "{trial:?}");
    has_table(&node).expect("a dry run removes nothing");
    let done = ended(
        node.netns.inside(env!("CARGO_BIN_EXE_linkspan")).args(["uninstall", "--config"]).arg(node.folder.site()),
    );
    assert_eq!(done.0, Some(0), "{done:?}");
    let rules = ended(Command::new("ip").args(["-n", &node.netns.0, "rule"])).1;
    assert_eq!(rules.lines().count(), 3, "{rules}");
    assert_eq!(tables(&node), "");
}

#[test]
fn remove_on_exit_takes_the_link_away() {
    let mut node = Node::start_with("gone", "gw", Folder::new(&site("")), |command| {
        command.arg("--remove-on-exit");
    });
    node.until("it gets ready", |status| status["ready"] == true);
    assert!(node.netns.has_link("linkspan0"));
    assert_eq!(node.signal("TERM"), Some(0), "{}", node.log());
    assert!(!node.netns.has_link("linkspan0"));
}

#[test]
fn a_signal_that_comes_while_the_node_starts_ends_it_as_any_other() {
    // From before there is a handler to after the node is ready; the last one as soon as there is a link.
    for (round, wait) in [Some(0), Some(10), Some(20), Some(40), Some(80), None].into_iter().enumerate() {
        let mut node = Node::start_with(&format!("soon{round}"), "gw", Folder::new(&site("")), |command| {
            command.arg("--remove-on-exit");
        });
        match wait {
            Some(wait) => std::thread::sleep(Duration::from_millis(wait)),
            None => eventually("its link", || node.netns.has_link("linkspan0").then_some(()).ok_or_else(|| node.log())),
        }
        let code = node.signal("TERM");
        assert!(!node.netns.has_link("linkspan0"), "after {wait:?} ms, with {code:?}: {}", node.log());
        assert!(wait.is_some() || code == Some(0), "{code:?}: {}", node.log());
    }
}

#[test]
fn the_tunnel_has_the_mtu_of_the_link_to_its_peers_whatever_their_paths_tell() {
    let (netns, router) = (Netns::new("mtu"), Netns::new("narrow"));
    netns.shell(&format!(
        "ip link add port mtu 1700 master uplink type veth peer name lan mtu 1700 netns {}
         ip link set port up; ip link set uplink mtu 1700",
        router.0
    ));
    router.shell(
        "sysctl -qw net.ipv4.ip_forward=1
         ip address flush dev uplink; ip link set uplink mtu 1300; ip address add 198.51.100.1/24 dev uplink
         ip link set lan up; ip address add 192.0.2.7/24 dev lan",
    );
    netns.shell("ip route add 198.51.100.0/24 via 192.0.2.7");
    let rome = ROME.replace(" }", ", endpoint: \"198.51.100.7:51820\" }");
    let node = Node::start_in(netns, "gw", Folder::new(&site(&rome)), |_| {});
    node.until("it gets ready", |status| status["ready"] == true);
    let mtu_after_a_pass = || {
        let rule = || ended(Command::new("ip").args(["-n", &node.netns.0, "rule"])).1;
        // The first may be the work of a pass that had begun before; the second is not.
        for _ in 0..2 {
            node.netns.shell("ip rule del priority 450");
            eventually("the rule is back", || if rule().contains("450:") { Ok(()) } else { Err(node.log()) });
        }
        let link = node.netns.shell("ip link show linkspan0");
        link.split("mtu ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
    };
    // Less the 80 bytes of WireGuard.
    assert_eq!(mtu_after_a_pass(), "1620");
    eventually("the router tells", || {
        let told = node.netns.shell("ping -M do -c 1 -W 1 -s 1500 198.51.100.7 || ip route get 198.51.100.7");
        if told.contains("mtu 1300") { Ok(()) } else { Err(told) }
    });
    assert_eq!(mtu_after_a_pass(), "1620", "{}", node.log());
    node.netns.shell("ip route del 198.51.100.0/24");
    assert_eq!(mtu_after_a_pass(), "1620", "{}", node.log());
    node.netns.shell("ip route add 198.51.100.0/24 via 192.0.2.7; ip link set uplink mtu 1600");
    assert_eq!(mtu_after_a_pass(), "1520", "{}", node.log());
}

#[test]
fn a_killed_node_is_followed_at_once_by_the_next_process() {
    let mut node = Node::start("kill", "gw", &site(""));
    for round in 1..=5 {
        node.until("it gets ready", |status| status["ready"] == true);
        let before = node.child.0.id();
        // Not waited for: its threads, sockets and queues are still there when the next one begins.
        node.child.0.kill().unwrap();
        let next = Node::command(&node.netns, &node.folder, "gw", |_| {}).spawn().unwrap();
        drop(std::mem::replace(&mut node.child, Killed(next)));
        assert_ne!(node.child.0.id(), before);
        node.until("the next one gets ready", |status| status["ready"] == true);
        let ended = node.child.0.try_wait().unwrap();
        assert!(ended.is_none(), "round {round}: {}", node.log());
    }
    node.until("lanes run", |status| status["tunnel"]["lanes"].as_u64() > Some(0));
}

#[test]
fn a_gateway_that_may_not_make_links_says_what_it_needs() {
    let netns = Netns::new("caps");
    let folder = Folder::new(&site(""));
    let without = ["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", env!("CARGO_BIN_EXE_linkspan")];
    let mut command = netns.inside("setpriv");
    let (code, _, error) = ended(command.args(without).args(["run", "--node", "gw", "--config"]).arg(folder.site()));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("linkspan0") && error.contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_second_process_on_the_node_is_refused() {
    let node = Node::start("twice", "gw", &site(""));
    node.until("it gets ready", |status| status["ready"] == true);
    let mut second = node.netns.inside(env!("CARGO_BIN_EXE_linkspan"));
    let (code, _, error) = ended(second.args(["run", "--node", "gw", "--config"]).arg(node.folder.site()));
    assert_eq!(code, Some(1));
    assert!(error.contains("another process serves the status socket"), "{error}");
}

#[test]
fn systemd_is_told_of_readiness_state_and_end() {
    let folder = Folder::new(&site(""));
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut node = Node::start_with("unit", "gw", folder, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let mut told = String::new();
    let mut receive = |until: &str| {
        while !told.contains(until) {
            let mut buffer = [0; 4096];
            let count = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("no {until}: {error}: {told}"));
            told.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    receive("READY=1");
    receive("STATUS=ready, 0 of 1 peers up");
    receive("WATCHDOG=1");
    assert_eq!(node.signal("TERM"), Some(0));
    receive("STOPPING=1");
}

#[test]
fn metrics_and_probes_answer_over_http() {
    let node = Node::start("http", "gw", &site(""));
    node.until("it gets ready", |status| status["ready"] == true);
    let get = |path: &str| {
        let url = format!("http://127.0.0.1:9808{path}");
        let (_, out, error) = ended(node.netns.inside("curl").args(["-s", "-w", "%{http_code}", &url]));
        assert_eq!(error, "");
        out
    };
    assert_eq!(get("/healthz"), "ok\n200");
    assert_eq!(get("/readyz"), "ready\n200");
    for line in [
        "linkspan_ready{cluster=\"paris\"} 1.0",
        "linkspan_peer_up{cluster=\"paris\",peer=\"berlin\"} 0.0",
        "linkspan_dns_synced{cluster=\"paris\"} 1.0",
        "# TYPE linkspan_dropped_packets counter",
        "# EOF",
    ] {
        eventually(line, || match get("/metrics") {
            metrics if metrics.lines().any(|other| other.starts_with(line)) => Ok(()),
            metrics => Err(metrics),
        });
    }
}
