//! What a lab needs of the machine, checked before anything is made.

use std::env;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Programs that a lab runs, with the Debian package of each.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("iptables-nft-restore", "iptables"),
    ("ip6tables-nft-restore", "iptables"),
    ("nsenter", "util-linux"),
    ("iperf3", "iperf3"),
    ("dig", "bind9-dnsutils"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
];

/// Checks for root, programs, TUN and bridge filtering.
///
/// # Errors
/// One message with everything that is missing and how to get it.
pub fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("`linkspan lab` makes network namespaces and so needs root: run it with sudo");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    if let Some(message) = missing(|tool| folders.iter().any(|folder| folder.join(tool).is_file())) {
        bail!(message);
    }
    File::options().read(true).write(true).open("/dev/net/tun").context(
        "failed to open /dev/net/tun: load the module with `modprobe tun`, or give the container this device",
    )?;
    let bridge = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !bridge.exists() {
        bail!("{} is missing: load the module with `modprobe br_netfilter`", bridge.display());
    }
    Ok(())
}

/// Names the missing programs and the one command that installs them.
fn missing(has: impl Fn(&str) -> bool) -> Option<String> {
    let absent: Vec<_> = TOOLS.iter().filter(|(tool, _)| !has(tool)).collect();
    let tools: Vec<_> = absent.iter().map(|(tool, _)| format!("`{tool}`")).collect();
    let mut packages: Vec<_> = absent.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    (!absent.is_empty()).then(|| {
        format!("the lab needs {}, not found in PATH: `apt-get install {}`", tools.join(", "), packages.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_with_their_packages() {
        assert_eq!(missing(|_| true), None);
        assert_eq!(
            missing(|tool| !["ip", "bridge", "dig"].contains(&tool)).expect("three are missing"),
            "the lab needs `ip`, `bridge`, `dig`, not found in PATH: `apt-get install iproute2 bind9-dnsutils`"
        );
    }
}
