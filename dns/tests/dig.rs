//! What people and the conformance suite see: the real `dig` and `nslookup` of Debian's bind9-dnsutils.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use std::process::{Command, Output};

use support::{Running, crowd, hello};

/// Runs a program against the server; a missing program fails the test.
async fn run(server: &Running, program: &'static str, arguments: &str) -> Output {
    let port = server.address.port().to_string();
    let mut command = Command::new(program);
    match program {
        "dig" => command.args(["@127.0.0.1", "-p", &port, "+tries=1", "+timeout=60"]),
        _ => command.args([&format!("-port={port}"), "-timeout=60"]),
    };
    command.args(arguments.split_whitespace());
    if program == "nslookup" {
        command.arg("127.0.0.1");
    }
    let run = move || command.output().unwrap_or_else(|error| panic!("{program} of bind9-dnsutils must run: {error}"));
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn text(server: &Running, program: &'static str, arguments: &str) -> String {
    let output = run(server, program, arguments).await;
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn row_83_dig_short_prints_the_address() {
    let server = Running::serve(&[hello()]);
    assert_eq!(text(&server, "dig", "+short hello.demo.svc.clusterset.local").await, "10.43.0.42\n");
    assert_eq!(text(&server, "dig", "+short +tcp HELLO.demo.SVC.clusterset.local").await, "10.43.0.42\n");
    assert_eq!(text(&server, "dig", "+short hello.demo.svc.clusterset.local AAAA").await, "");
}

#[tokio::test]
async fn row_84_dig_prints_srv() {
    let server = Running::serve(&[hello()]);
    let srv = text(&server, "dig", "+short _tcp._tcp.hello.demo.svc.clusterset.local SRV").await;
    assert_eq!(srv, "0 100 42 hello.demo.svc.clusterset.local.\n");
}

#[tokio::test]
async fn row_85_nslookup_counts_one_location() {
    let server = Running::serve(&[hello()]);
    let output = text(&server, "nslookup", "-type=SRV hello.demo.svc.clusterset.local").await;
    let locations: Vec<_> = output.lines().filter(|line| line.contains("service = ")).collect();
    assert_eq!(locations.len(), 1, "{output}");
    assert!(locations[0].ends_with("service = 0 100 42 hello.demo.svc.clusterset.local."), "{output}");
}

#[tokio::test]
async fn row_93_dig_prints_the_version() {
    let server = Running::serve(&[]);
    assert_eq!(text(&server, "dig", "+short dns-version.clusterset.local TXT").await, "\"1.0.0\"\n");
}

#[tokio::test]
async fn row_95_nslookup_tells_nodata_from_nxdomain() {
    let server = Running::serve(&[hello()]);
    let nodata = run(&server, "nslookup", "-type=AAAA hello.demo.svc.clusterset.local").await;
    assert!(nodata.status.success(), "{nodata:?}");
    assert!(String::from_utf8(nodata.stdout).unwrap().contains("No answer"));
    let nxdomain = run(&server, "nslookup", "nope.demo.svc.clusterset.local").await;
    assert!(!nxdomain.status.success(), "{nxdomain:?}");
    assert!(String::from_utf8(nxdomain.stdout).unwrap().contains("NXDOMAIN"));
}

#[tokio::test]
async fn row_96_dig_sees_aa_and_no_warning() {
    let server = Running::serve(&[hello()]);
    for name in ["hello.demo.svc.clusterset.local", "nope.demo.svc.clusterset.local", "clusterset.local"] {
        let output = text(&server, "dig", &format!("+norecurse {name}")).await;
        assert!(output.contains(";; flags: qr aa;"), "{output}");
        let warnings: Vec<_> = output.lines().filter(|line| line.contains("WARNING")).collect();
        assert_eq!(warnings, [";; WARNING: .local is reserved for Multicast DNS"], "{output}");
    }
}

#[tokio::test]
async fn row_100_dig_retries_a_cut_answer_over_tcp() {
    let server = Running::serve(&[crowd(500)]);
    let cut = text(&server, "dig", "+ignore crowd.demo.svc.clusterset.local").await;
    assert!(cut.contains(";; flags: qr aa tc rd;") && cut.contains("EDNS: version: 0"), "{cut}");
    let whole = text(&server, "dig", "+short crowd.demo.svc.clusterset.local").await;
    assert_eq!(whole.lines().filter(|line| line.starts_with("10.42.")).count(), 500);
}

#[tokio::test]
async fn row_102_dig_x_is_refused() {
    let server = Running::serve(&[hello()]);
    let output = text(&server, "dig", "-x 10.43.0.42").await;
    assert!(output.contains("status: REFUSED"), "{output}");
}
