//! The unit for hosts without Kubernetes: systemd understands it, and the program what it is called with.

use std::time::Duration;

use super::*;

const UNIT: &str = "deploy/systemd/linkspan.service";
/// Where the unit expects the program.
const PROGRAM: &str = "/usr/local/bin/linkspan";

/// A setting: section, name and value.
type Setting<'a> = (&'a str, &'a str, &'a str);

/// The settings of a unit, in their order (systemd.syntax(7)); none of ours is continued on a second line.
fn settings(text: &str) -> Vec<Setting<'_>> {
    let (mut section, mut found) = ("", Vec::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        assert!(!line.ends_with('\\'), "{line}");
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
            found.push((section, name, value));
        }
    }
    found
}

/// The value of a setting that is there once.
fn value<'a>(settings: &[Setting<'a>], section: &str, name: &str) -> &'a str {
    let found: Vec<&str> = settings.iter().filter(|one| (one.0, one.1) == (section, name)).map(|one| one.2).collect();
    let [value] = found[..] else { panic!("[{section}] has {} {name}", found.len()) };
    value
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn assert_taken(line: &str) {
    let call: Vec<&str> = words(line);
    linkspan::cli::parses(call.iter().map(Into::into)).unwrap_or_else(|error| panic!("{line}: {error}"));
}

#[test]
fn the_program_takes_what_the_unit_and_its_instructions_call_it_with() {
    let text = read(UNIT);
    let started: Vec<&str> = settings(&text).iter().filter(|one| one.1.starts_with("Exec")).map(|one| one.2).collect();
    let [check, run] = started[..] else { panic!("{started:?}") };
    for (line, command) in [(check, "check"), (run, "run")] {
        assert_eq!(words(line)[..2], [PROGRAM, command], "without a shell, prefixes or another program");
        assert_taken(line);
    }
    // Of the comment, as people type it.
    let typed = text.lines().filter_map(|line| line.strip_prefix("#   ")).flat_map(|line| line.split(" && "));
    let typed: Vec<&str> = typed.filter(|line| line.starts_with("linkspan ")).collect();
    assert_eq!(typed.len(), 3, "{typed:?}");
    typed.into_iter().for_each(assert_taken);
    // All calls are about one site file.
    let files = text.split_whitespace().filter(|word| word.ends_with(".yaml"));
    assert!(files.clone().count() > 4 && files.clone().all(|file| file == "/etc/linkspan/site.yaml"), "{text}");
}

#[test]
fn systemd_waits_for_readiness_watches_it_and_starts_it_again() {
    let text = read(UNIT);
    let settings = settings(&text);
    let service = |name| value(&settings, "Service", name);
    let seconds = |name| Duration::from_secs(service(name).parse().unwrap());
    // `src/run/systemd.rs` tells readiness and signs of life; the main process does it itself.
    assert_eq!((service("Type"), service("NotifyAccess"), service("Restart")), ("notify", "main", "always"));
    assert!(seconds("WatchdogSec") > Duration::from_secs(90), "a pass may be silent for so long");
    // A start that is given up as too often would stay given up.
    assert_eq!(value(&settings, "Unit", "StartLimitIntervalSec"), "0");
    for name in ["Wants", "After"] {
        assert_eq!(value(&settings, "Unit", name), "network-online.target");
    }
    assert_eq!(value(&settings, "Install", "WantedBy"), "multi-user.target");
}

#[test]
fn it_may_do_what_it_has_to_and_little_else() {
    let text = read(UNIT);
    let settings = settings(&text);
    let service = |name| value(&settings, "Service", name);
    // The same in both: what is not in the bounding set cannot be had, and what is not ambient is lost at the start.
    for name in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(words(service(name)), ["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"], "{name}");
    }
    assert_eq!((service("DevicePolicy"), service("DeviceAllow")), ("closed", "/dev/net/tun rw"));
    assert_eq!((service("ProtectSystem"), service("NoNewPrivileges")), ("strict", "yes"));
    // All that it writes is its socket.
    let folder = Path::new(linkspan::site::DEFAULT_SOCKET).parent().unwrap();
    assert_eq!(Path::new("/run").join(service("RuntimeDirectory")), folder);
    for family in ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"] {
        assert!(words(service("RestrictAddressFamilies")).contains(&family), "{family}");
    }
    // It sets reverse path filtering under /proc/sys/net.
    assert!(settings.iter().all(|one| one.1 != "ProtectKernelTunables"));
}

/// What systemd says against a unit that starts the program of this tree.
fn verified(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("linkspan.service");
    std::fs::write(&unit, text.replace(PROGRAM, env!("CARGO_BIN_EXE_linkspan"))).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).arg(&unit).output();
    let output = output.unwrap_or_else(|error| panic!("run `tests/setup.sh systemd-analyze`: {error}"));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn systemd_understands_every_setting() {
    let text = read(UNIT);
    assert_eq!(verified(&text), "");
    for (right, wrong) in [("WatchdogSec=", "WatchDogSec="), ("Type=notify", "Type=notified"), (PROGRAM, "linkspan-")] {
        assert!(text.contains(right), "{right}");
        assert_ne!(verified(&text.replace(right, wrong)), "", "{wrong} would be found");
    }
}
