//! `ui` as people start it, on a cluster that is well and one that is away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use testbed::ApiServer;

use crate::show::JOINED;
use crate::{PATIENCE, kubeconfig};

/// What is told of an API server of which nothing is known.
const NOT_YET: &str = "the API server has not answered yet";

/// The program; it ends with this.
struct Started {
    process: Child,
    port: u16,
    path: String,
}

impl Started {
    fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
        command.args(["ui", "--no-open", "--every", "1"]).args(arguments).env_remove("KUBECONFIG").env_remove("HOME");
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let rest = url.trim_end().strip_prefix("http://127.0.0.1:").unwrap();
        let (port, path) = rest.split_once('/').unwrap();
        Self { process, port: port.parse().unwrap(), path: format!("/{path}") }
    }

    fn data(&self) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let (path, port) = (&self.path, self.port);
        write!(stream, "GET {path}data.json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        anyhow::ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        Ok(serde_json::from_str(body)?)
    }

    /// What is shown once this many rounds are over and clusters are seen, paris among them: pages wait for nobody.
    fn after(&self, rounds: u64, are_seen: impl Fn(&Value) -> bool) -> Value {
        let data = testbed::wait::retry(PATIENCE, || {
            let data = self.data()?;
            anyhow::ensure!(data["round"].as_u64() >= Some(rounds), "round {}", data["round"]);
            let paris = data["clusters"].as_array().into_iter().flatten().find(|one| one["name"] == "paris");
            anyhow::ensure!(paris.is_some_and(|paris| paris["sight"] == "asked") && are_seen(&data), "{data:#}");
            Ok(data)
        });
        data.unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn clusters_are_shown_round_after_round_although_one_is_away() {
    let mut away = ApiServer::start().unwrap();
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("away", away.kubeconfig())]);
    away.stop().unwrap();
    let mut started = Started::new(&["--all-contexts", "--kubeconfig", file.to_str().unwrap()]);
    let data = started.after(2, |data| !data.to_string().contains(NOT_YET));
    let clusters = data["clusters"].as_array().unwrap();
    let told: Vec<_> =
        clusters.iter().map(|one| (one["name"].as_str().unwrap(), one["sight"].as_str().unwrap())).collect();
    assert_eq!(told, [("away", "unreachable"), ("berlin", "heardOf"), ("paris", "asked")]);
    let found = &data["findings"][clusters[0]["findings"][0].as_u64().unwrap() as usize];
    assert_eq!(found["reason"], "Unreachable");
    assert!(found["evidence"].as_str().unwrap().contains("refused"), "{found}");
    let exports = data["exports"].as_array().unwrap();
    assert_eq!((exports.len(), &exports[0]["cluster"], &exports[0]["name"]), (1, &"paris".into(), &"web".into()));
    // Other addresses of this machine, by which others reach it, are not listened on.
    TcpStream::connect(("127.0.0.2", started.port)).expect_err("only 127.0.0.1 is");
    Command::new("kill").arg(started.process.id().to_string()).status().unwrap();
    assert!(started.process.wait().unwrap().success(), "it ends when it is told to");
}

#[test]
fn a_cluster_that_never_answers_keeps_no_other_waiting() {
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("hung", &crate::silent::hung())]);
    let patient = ["--request-timeout", "300s"];
    let started = Started::new(&[&["--all-contexts", "--kubeconfig", file.to_str().unwrap()], &patient[..]].concat());
    // Within PATIENCE: that an API server says nothing is told after 300 s, and until then that it has not answered yet.
    let data = started.after(3, |_| true);
    let clusters = data["clusters"].as_array().unwrap();
    let told = |name: &str| clusters.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!((&told("paris")["sight"], &told("hung")["sight"]), (&"asked".into(), &"unreachable".into()));
    let found = &data["findings"][told("hung")["findings"][0].as_u64().unwrap() as usize];
    assert_eq!(found["evidence"], NOT_YET);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let file = kubeconfig(&[("paris", JOINED.kubeconfig())]);
    let arguments = ["ui", "--no-open", "--port", &port, "--kubeconfig", file.to_str().unwrap()];
    let said = crate::linkspan(arguments).failed();
    assert!(said.contains(&format!("failed to listen on 127.0.0.1:{port}")) && said.contains("in use"), "{said}");
}
