//! A hundred clusters where the shell allows few open files.

use std::process::Command;

use serde_json::{Value, json};

use crate::ended;
use crate::silent::silent_server;

/// Soft limit of the shell; each context is a connection at least.
const FEW: usize = 64;
const CONTEXTS: usize = 100;

/// Contexts of a server that takes connections and never answers; the first one's credential comes from a program, which notes
/// its limit and the hard one in these files.
fn many(soft: &str, hard: &str) -> String {
    let token = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}"#;
    let script = format!("ulimit -Sn >'{soft}'; ulimit -Hn >'{hard}'; echo '{token}'");
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "sh", "args": ["-c", script],
    });
    let user = |at: usize| if at == 0 { "asks" } else { "nobody" };
    let contexts: Vec<Value> = (0..CONTEXTS)
        .map(|at| json!({ "name": format!("c{at}"), "context": { "cluster": "x", "user": user(at) } }))
        .collect();
    json!({
        "clusters": [{ "name": "x", "cluster": { "server": silent_server() } }],
        "users": [{ "name": "asks", "user": { "exec": exec } }, { "name": "nobody", "user": {} }],
        "contexts": contexts,
    })
    .to_string()
}

#[test]
fn more_clusters_are_asked_at_once_than_the_shell_lets_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let [soft, hard, config] = ["soft", "hard", "config"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&config, many(&soft, &hard)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -Sn {FEW} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_linkspan")]);
    command.args(["show", "members", "--all-contexts", "--request-timeout", "20s", "--kubeconfig", &config]);
    let ended = ended(&mut command);
    let read = |file: &str| std::fs::read_to_string(file).unwrap().trim().to_owned();
    // `unlimited` is no number.
    let hard = read(&hard).parse::<u64>().unwrap_or(u64::MAX);
    assert_eq!(read(&soft).parse(), Ok(hard.min(65_536)), "{}", ended.error);
    assert!(!ended.error.contains("Too many open files"), "{}", ended.error);
    assert_eq!(ended.error.matches("did not answer within 20s").count(), CONTEXTS, "{}", ended.error);
}
