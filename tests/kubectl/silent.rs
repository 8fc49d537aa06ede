//! A cluster whose API server takes connections and never answers, and a context that is of no use, beside one that is well.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::show::JOINED;
use crate::{Ended, kubeconfig, linkspan};

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

/// Runs a command, which has to end long before a cluster that is asked for each of its parts would let it.
fn soon(arguments: &[&str]) -> Ended {
    let before = Instant::now();
    let ended = linkspan(arguments);
    assert!(before.elapsed() < Duration::from_secs(45), "{arguments:?} took {:?}", before.elapsed());
    ended
}

#[test]
fn a_cluster_that_never_answers_is_told_once_and_the_others_are_shown() {
    let file = kubeconfig(&[("paris", JOINED.kubeconfig()), ("hung", &hung())]).display().to_string();
    let all = ["--all-contexts", "--request-timeout", "6s", "--kubeconfig", &file];
    let ended = soon(&[&["show"], &all[..]].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("berlin"), "{}", ended.out);
    let told = "the API server did not answer within 6s (--request-timeout)";
    assert_eq!(ended.error.matches(told).count(), 1, "{}", ended.error);

    let ended = soon(&[&["diagnose", "--no-nodes", "-o", "json"], &all[..]].concat());
    let findings: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
    let of_hung: Vec<&Value> = findings.iter().filter(|finding| finding["cluster"] == "hung").collect();
    assert_eq!(of_hung.len(), 13, "one for each check");
    assert!(of_hung.iter().all(|one| one["state"] == "unknown" && one["evidence"] == told), "{of_hung:#?}");
    assert!(findings.iter().any(|one| one["cluster"] == "paris" && one["state"] == "ok"), "{}", ended.out);

    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("gathered.tar.gz").display().to_string();
    let ended = soon(&[&["gather", "--file", &archive], &all[..]].concat());
    assert_eq!((ended.code, ended.error.matches(told).count()), (Some(3), 1), "{}", ended.error);
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
