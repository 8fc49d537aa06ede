//! The program as people and systemd meet it: its commands, exit codes, status, and what it does when its file changes.
//! The tests that run a node need root and a network namespace, and fail without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod commands;
mod dns;
#[path = "../documented/mod.rs"]
mod documentation;
mod documented;
mod node;
mod otlp;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::Port;
use testbed::wait::PATIENCE;

/// A private key and its public half, as `wg` printed them.
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";

/// A site with one peer; `peers` are further lines.
fn site(peers: &str) -> String {
    format!(
        "cluster: paris
privateKeyFile: private.key
network: {{ podCIDRs: [10.42.0.0/16], serviceCIDRs: [10.43.0.0/16] }}
nodes:
  - {{ name: gw, address: 192.0.2.1, gateway: true, podCIDRs: [10.42.0.0/24] }}
  - {{ name: w1, address: 192.0.2.2, podCIDRs: [10.42.1.0/24] }}
dns: {{ listen: [\"127.0.0.1:5353\"] }}
status: {{ socket: run/linkspan.sock, listen: 127.0.0.1:9808 }}
exports:
  - {{ name: web, namespace: default, type: ClusterSetIP, ips: [10.43.0.10], ports: [{{ port: 80 }}] }}
peers:
  - {{ cluster: berlin, publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=, allowedIPs: [10.52.0.0/16] }}
{peers}"
    )
}

/// A folder with a site file and its key.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.site(), text).unwrap();
        folder.key("private.key");
        folder
    }

    fn key(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join(name);
        std::fs::write(&path, format!("{PRIVATE}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn site(&self) -> PathBuf {
        self.path().join("site.yaml")
    }
}

/// The program with these arguments.
fn linkspan<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command.args(arguments).env_remove("NODE_NAME").env_remove("LINKSPAN_LOG").env_remove("LINKSPAN_SOCKET");
    command
}

/// What a command printed on both outputs, and its exit code.
fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Waits until something is so, or fails the test.
fn eventually(what: &str, mut so: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        match so() {
            Ok(()) => return,
            Err(error) if Instant::now() > end => panic!("{what}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A child that is killed when a test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
