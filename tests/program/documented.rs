//! Commands of README and docs for hosts without Kubernetes, as they are written there.

use std::io::{BufRead as _, BufReader};

use super::*;
use crate::documentation::Shell;
use crate::documentation::list::{self, Test};

/// A host of its own: with the gateway's address of the README's site file, and nothing in `/run` and `/var/lib`.
const HOST: &str =
    "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && ip link set lo up && ip link add uplink type bridge &&
ip address add 192.168.7.2/24 dev uplink && ip link set uplink up && echo up && exec sleep 3600";

/// The site file of the README, with virtual addresses.
fn readme_site() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let file = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let network = "serviceCIDRs: [10.43.0.0/16] }";
    assert_eq!(file.matches(network).count(), 1, "{file}");
    let pair = "virtual: [{ native: 10.42.0.0/16, virtual: 100.64.0.0/16 }]";
    file.replace(network, &format!("serviceCIDRs: [10.43.0.0/16], {pair} }}"))
}

/// A shell and all that it has started, which end with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` makes a group of processes.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn documented_commands_run_on_a_host_without_kubernetes() {
    let mut host = Command::new("unshare");
    let host = host.args(["--net", "--mount", "sh", "-c", HOST]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut host = Killed(host.spawn().unwrap());
    let mut told = String::new();
    BufReader::new(host.0.stdout.take().unwrap()).read_line(&mut told).unwrap();
    assert_eq!(told, "up\n", "these tests need root");

    let shell = Shell::new();
    let (target, folder) = (host.0.id().to_string(), format!("--wd={}", shell.folder().display()));
    let shell = shell.within(&["nsenter", "--target", &target, "--net", "--mount", &folder, "--"]);
    std::fs::write(shell.folder().join("site.yaml"), readme_site()).unwrap();
    let kubeconfig = shell.folder().join("kubeconfig");
    std::fs::write(&kubeconfig, otlp::NOWHERE).unwrap();
    let shell = shell.with("KUBECONFIG", kubeconfig.display().to_string());

    let mut running: Option<Running> = None;
    for command in list::of(Test::Site) {
        match command.text {
            "linkspan run --config site.yaml" => {
                let (line, _) = command.run().unwrap();
                running = Some(Running(shell.command(line).stderr(Stdio::null()).spawn().unwrap()));
                eventually("it gets ready", || {
                    let (_, out, error) = ended(&mut shell.command("linkspan status -o json"));
                    if out.contains("\"ready\": true") { Ok(()) } else { Err(out + &error) }
                });
                continue;
            }
            "linkspan uninstall" => {
                let mut run = running.take().expect("it runs");
                assert!(shell.command("kill $(cat pid)").status().unwrap().success());
                assert!(run.0.wait().unwrap().success());
            }
            _ => {}
        }
        shell.run(command).unwrap_or_else(|error| panic!("{error}"));
    }
}
