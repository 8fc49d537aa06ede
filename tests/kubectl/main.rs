//! `kubectl linkspan` as people meet it: the built program against real API servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../documented/mod.rs"]
mod documentation;
mod documented;
mod gather;
mod install;
mod limits;
mod manifests;
mod plugin;
mod proxied;
mod rights;
mod show;
mod silent;
mod stage;
mod together;
mod ui;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use testbed::ApiServer;
use testbed::wait::PATIENCE;

/// What a command printed on both outputs, and its exit code.
struct Ended {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Ended {
    /// What was printed by a command that has to succeed.
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.error);
        self.out
    }

    /// What a command said that has to fail.
    fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.error);
        self.error
    }

    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).unwrap()
    }
}

/// Runs the program with these arguments and nothing of this machine's own kubeconfig.
fn linkspan<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    ended(Command::new(env!("CARGO_BIN_EXE_linkspan")).args(arguments))
}

fn ended(command: &mut Command) -> Ended {
    for variable in ["KUBECONFIG", "HOME", "LINKSPAN_LOG", "KUBERNETES_SERVICE_HOST"] {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), error: text(stderr) }
}

/// A kubeconfig with a context for each of these servers.
fn kubeconfig(servers: &[(&str, &str)]) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let merged = testbed::merge_kubeconfigs(servers).unwrap();
    let name = format!("kubeconfig-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, merged).unwrap();
    path
}

/// Applies objects of kinds that are so new that they may not be served yet.
fn apply_soon(server: &ApiServer, objects: &str) {
    server.apply_soon(objects).unwrap();
}

/// Waits until kinds are served, which is some time after they were made.
fn wait_served(server: &ApiServer, kinds: &str) {
    server.wait_served(kinds).unwrap();
}

/// What kubectl prints as administrator.
fn kubectl(server: &ApiServer, arguments: &[&str]) -> String {
    server.kubectl(arguments).unwrap().stdout().unwrap()
}
