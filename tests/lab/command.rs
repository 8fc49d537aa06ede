//! The `linkspan lab` command, from outside.

use std::path::Path;
use std::process::{Command, Stdio};

use linkspan::lab::{Prefix, Signal, wait_until};

use crate::documentation::Shell;
use crate::documentation::list::{self, Test};
use crate::promise::PATIENCE;
use crate::support::binary;

/// Everything on this machine that bears the lab's prefix: namespaces, files, and processes by their command line.
fn traces(prefix: &str) -> Vec<String> {
    let prefix: Prefix = prefix.parse().unwrap();
    let mut found = Vec::new();
    for folder in ["/run/netns", "/etc/netns"] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        found.extend(names.filter(|name| name.starts_with(prefix.as_str())).map(|name| format!("{folder}/{name}")));
    }
    let state = prefix.state_dir();
    found.extend(
        [state.clone(), state.with_extension("lock")]
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    for entry in std::fs::read_dir("/proc").unwrap() {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&state.display().to_string())
            || line.contains(&format!("/run/netns/{prefix}"))
            || line.contains(&format!("--lab {prefix} "))
        {
            found.push(line);
        }
    }
    found
}

fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("lab").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a whole lab and waits until it has made its namespaces.
fn begun(prefix: &str) -> std::process::Child {
    let child = lab(&["--prefix", prefix]).spawn().unwrap();
    let pod = format!("/etc/netns/{prefix}berlin-pod-4/resolv.conf");
    assert!(wait_until(PATIENCE, || Path::new(&pod).exists()), "the lab does not begin");
    child
}

#[test]
fn a_killed_lab_is_cleared_away_by_the_next_command() {
    let mut child = begun("lstk-");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!traces("lstk-").is_empty(), "nothing was left, so this proves nothing");
    let down = lab(&["down", "--prefix", "lstk-"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&down.stdout), "The lab is removed.\n");
    // What the killed process was starting may not have entered its namespace yet: it does not find it, and ends.
    wait_until(PATIENCE, || traces("lstk-").is_empty());
    assert_eq!(traces("lstk-"), [""; 0]);
    let again = lab(&["down", "--prefix", "lstk-"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&again.stdout), "There was no lab.\n");
}

#[test]
fn an_interrupted_lab_removes_itself() {
    for signal in [Signal::INT, Signal::TERM] {
        let child = begun("lsti-");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(traces("lsti-"), [""; 0]);
    }
}

#[test]
fn a_command_without_a_lab_says_how_to_get_one() {
    let output = lab(&["exec", "--prefix", "lstn-", "paris/pod-1", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no lab `lstn-`: run `linkspan lab up`"), "{said}");
}

/// A copy of the program that every user may run.
fn shared_binary(folder: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let copy = folder.join("linkspan");
    std::fs::copy(binary(), &copy).unwrap();
    for path in [folder, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// What a lab that must not begin says.
fn refusal(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    use std::os::unix::process::CommandExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = shared_binary(folder.path());
    let begin = ["lab", "--prefix", "lstm-"];

    let said = refusal(Command::new(&program).args(begin).uid(65534).gid(65534));
    assert!(said.contains("needs root: run it with sudo"), "{said}");

    let said = refusal(Command::new(&program).args(begin).env("PATH", folder.path()));
    assert!(said.contains("`iperf3`, `dig`, `curl`, `ping`, not found in PATH: `apt-get install iproute2"), "{said}");

    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let said = refusal(Command::new("unshare").args(["-m", "sh", "-c", hide, "sh"]).arg(&program).args(begin));
    assert!(said.contains("failed to open /dev/net/tun: load the module with `modprobe tun`"), "{said}");

    assert_eq!(traces("lstm-"), [""; 0]);
}

/// By the commands of the README.
#[test]
fn a_lab_that_stays_up_is_shown_used_proven_and_removed() {
    let shell = Shell::new();
    for command in list::of(Test::LabUp) {
        let said = shell.run(command).unwrap_or_else(|error| panic!("{error}"));
        match command.text {
            "linkspan lab status" => all_are_ready(),
            "linkspan lab prove" => {
                let report: serde_json::Value = serde_json::from_str(&said).unwrap();
                let rows = report["rows"].as_array().unwrap();
                let killed: Vec<_> = rows.iter().filter_map(|row| row["check"].as_str()).collect();
                assert!(killed.contains(&"kill -9 paris-gw") && killed.contains(&"kill -9 berlin-gw"), "{killed:?}");
            }
            _ => {}
        }
    }
    assert_eq!(traces("lstu-"), [""; 0]);
}

fn all_are_ready() {
    let output = lab(&["status", "--prefix", "lstu-", "-o", "json"]).output().unwrap();
    let members: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let members = members.as_array().unwrap();
    assert_eq!(members.len(), 12, "four nodes with two pods each");
    let nodes = members.iter().filter(|member| member["kind"] != "pod");
    let states: Vec<_> = nodes.map(|node| node["state"].as_str().unwrap()).collect();
    assert!(states.len() == 4 && states.iter().all(|state| state.starts_with("ready (process ")), "{states:?}");
}
