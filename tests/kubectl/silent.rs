//! A cluster whose API server takes connections and never answers, and a context that is of no use, beside one that is well.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::wait;

use crate::show::JOINED;
use crate::{Ended, PATIENCE, kubeconfig, linkspan};

/// A kubeconfig of somebody whose API server is reached, and says nothing for as long as this program runs.
pub fn hung() -> String {
    config(&json!({ "server": silent_server() }))
}

/// The URL of that API server.
pub fn silent_server() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut taken = [0; 1024];
                while stream.read(&mut taken).is_ok_and(|length| length > 0) {}
            });
        }
    });
    format!("http://127.0.0.1:{port}")
}

/// A kubeconfig of somebody who needs no credential.
pub fn config(cluster: &Value) -> String {
    json!({
        "clusters": [{ "name": "x", "cluster": cluster }],
        "users": [{ "name": "x", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    })
    .to_string()
}

/// Runs a command, which has to end long before a cluster that is asked for each of its parts would let it, and as it
/// shall. On a busy machine the cluster that is well may be late, too: then it is run again.
fn soon(arguments: &[&str], as_it_shall: impl Fn(&Ended) -> bool) {
    let ended = wait::retry(PATIENCE, || {
        let before = Instant::now();
        let ended = linkspan(arguments);
        let took = before.elapsed();
        let is_soon = took < Duration::from_secs(45);
        anyhow::ensure!(is_soon && as_it_shall(&ended), "{arguments:?}, {took:?}: {}{}", ended.out, ended.error);
        Ok(())
    });
    ended.unwrap();
}

#[test]
fn a_cluster_that_never_answers_is_told_once_and_the_others_are_shown() {
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("hung", &hung())]).display().to_string();
    let all = ["--all-contexts", "--request-timeout", "6s", "--kubeconfig", &file];
    let told = "the API server did not answer within 6s (--request-timeout)";
    let once = |ended: &Ended| ended.error.matches(told).count() == 1;
    soon(&[&["show"], &all[..]].concat(), |ended| ended.code == Some(1) && ended.out.contains("berlin") && once(ended));

    soon(&[&["diagnose", "--no-nodes", "-o", "json"], &all[..]].concat(), |ended| {
        let findings: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
        let of_hung: Vec<&Value> = findings.iter().filter(|finding| finding["cluster"] == "hung").collect();
        // One for each check.
        let are_told = of_hung.len() == 13 && of_hung.iter().all(|one| one["evidence"] == told);
        let others = findings.iter().any(|one| one["cluster"] == "paris" && one["state"] == "ok");
        are_told && of_hung.iter().all(|one| one["state"] == "unknown") && others
    });

    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("gathered.tar.gz").display().to_string();
    soon(&[&["gather", "--file", &archive], &all[..]].concat(), |ended| {
        // Another one would not be written over it.
        let _ = std::fs::remove_file(&archive);
        ended.code == Some(3) && once(ended)
    });
}

#[test]
fn a_context_that_is_of_no_use_stops_nobody_else() {
    let lost = config(&json!({ "server": "https://127.0.0.1:1", "certificate-authority": "/nonexistent/ca.crt" }));
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("lost", &lost)]).display().to_string();
    let shown = linkspan(["show", "members", "--all-contexts", "--kubeconfig", &file]);
    assert!(shown.out.contains("berlin"), "{}", shown.out);
    let why = "is of no use: failed to load certificate authority: failed to read file";
    assert_eq!(shown.error.matches(why).count(), 1, "{}", shown.error);
    let alone = linkspan(["show", "members", "--context", "lost", "--kubeconfig", &file]).failed();
    assert!(alone.starts_with("linkspan: context lost of ") && alone.contains(why), "{alone}");
}

#[test]
fn exit_codes_tell_what_is_broken_from_what_could_not_run() {
    let file = kubeconfig(&[("paris", JOINED.kubeconfig())]).display().to_string();
    let code = |arguments: &[&str]| linkspan(arguments).code;
    for wrong in [&["why", "client"][..], &["why", "a", "b:http"], &["why", "a//b", "c", "--kubeconfig", &file]] {
        assert_eq!(code(wrong), Some(64), "{wrong:?}");
    }
    for wrong in [&["join", "ghent"][..], &["uninstall", "--context", "paris"], &["leave", "-o", "json"]] {
        assert_eq!(code(&[wrong, &["--kubeconfig", &file]].concat()), Some(64), "{wrong:?}");
    }
    let two = kubeconfig(&[("paris", JOINED.kubeconfig()), ("other", JOINED.kubeconfig())]).display().to_string();
    let ended = linkspan(["leave", "--all-contexts", "--kubeconfig", &two]);
    assert_eq!(ended.code, Some(64), "{}", ended.error);
    assert!(ended.error.contains("one cluster at a time, and these were named: paris, other"), "{}", ended.error);
    assert_eq!(code(&["why", "a", "b", "--kubeconfig", "/nonexistent"]), Some(2));
    assert_eq!(code(&["diagnose", "--kubeconfig", "/nonexistent"]), Some(2));
    assert_eq!(code(&["why", "pod/nobody", "pod/none", "--kubeconfig", &file]), Some(1), "there is no such pod");
}
