//! A clock that is off: that of berlin's API server, for all who ask through a proxy that changes the hours of its answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::Run;
use testbed::relay::{self, Relay};

use super::ask::{is_noted, says};
use super::make::node;
use super::{CLIENT, WEB};
use crate::joined::{Joined, eventually};

pub(super) fn clock_off(joined: &Joined) -> Result<()> {
    let node = node(joined, "berlin-1")?;
    let at = SocketAddr::from((node.address, 8001));
    let args = ["proxy", "--address=0.0.0.0", "--port=8001", "--accept-hosts=.*", "--reject-paths=^$"];
    let proxy = joined.cluster("berlin")?.kubectl(args)?.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _proxy = Killed(proxy.context("failed to start kubectl proxy")?);
    let relay = Relay::start(&node.netns, at)?;
    let listener = relay::listen(0)?;
    let server = format!("http://{}", listener.local_addr()?);
    let through = SocketAddr::from(([127, 0, 0, 1], relay.port()));
    std::thread::spawn(move || serve_wrong_hours(&listener, through));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("late.kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "late", "users": [{ "name": "u", "user": {} }],
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "contexts": [{ "name": "late", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&file, config.to_string())?;
    let paris = joined.cluster("paris")?.kubeconfig_path();
    let asked = |words: &[&str]| {
        let files = [&paris, &file].map(|file| ["--kubeconfig".to_owned(), file.display().to_string()]);
        let run = words.iter().map(|&word| word.to_owned()).chain(files.into_iter().flatten());
        Run::new(env!("CARGO_BIN_EXE_linkspan"), run.chain(["-o".to_owned(), "json".to_owned()])).output()
    };
    eventually(|| {
        let output = asked(&["diagnose", "clock"])?;
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let off: Vec<_> = findings.iter().filter(|finding| finding["reason"] == "ClockOff").collect();
        ensure!(off.len() == 1 && off[0]["object"] == "api-server" && off[0]["cluster"] == "berlin", "{findings:?}");
        ensure!(output.status.code() == Some(1), "{}", output.status);
        says(off[0], "evidence", " s ")?;
        let story = asked(&["why", CLIENT, "->", WEB])?;
        is_noted(&String::from_utf8_lossy(&story.stdout), "berlin", "ClockOff")
    })
}

/// A process that ends with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hands connections on, and changes the hours in what comes back.
fn serve_wrong_hours(listener: &TcpListener, to: SocketAddr) {
    for near in listener.incoming().map_while(Result::ok) {
        let Ok(far) = TcpStream::connect(to) else { continue };
        let (Ok(mut near_in), Ok(mut far_out)) = (near.try_clone(), far.try_clone()) else { continue };
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut near_in, &mut far_out);
            let _ = far_out.shutdown(Shutdown::Write);
        });
        std::thread::spawn(move || wrong_hours(far, near));
    }
}

/// `Date: Wed, 25 Nov 2026 00:56:54 GMT` with another hour of the same day. Heads of answers come in one piece.
fn wrong_hours(mut from: TcpStream, mut to: TcpStream) {
    const HEADER: &[u8] = b"\r\nDate: ";
    /// Where the hour is, behind the name of the header: `Wed, 25 Nov 2026 `.
    const HOUR: usize = 17;
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let bytes = &mut buffer[..length];
        if let Some(at) = bytes.windows(HEADER.len()).position(|window| window == HEADER) {
            let hour = at + HEADER.len() + HOUR;
            if let Some(digits) = bytes.get_mut(hour..hour + 2) {
                let number =
                    std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u8>().ok()).unwrap_or_default();
                digits.copy_from_slice(format!("{:02}", (number + 5) % 24).as_bytes());
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
