//! What the server answers to a client that knows nothing of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::{Served, three};

/// Status line with headers, and body.
fn get(served: &Served, host: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(served.address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Host and path of the page.
fn parts(served: &Served) -> (String, String) {
    let rest = served.url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    (host.to_owned(), format!("/{path}"))
}

#[test]
fn the_page_and_its_data_are_served_under_the_token() {
    let served = Served::new(&three());
    let (host, path) = parts(&served);
    let (head, body) = get(&served, &host, &path);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.contains("<title>Linkspan</title>"), "{head}");
    for header in
        ["cache-control: no-store", "referrer-policy: no-referrer", "content-security-policy: default-src 'none'"]
    {
        assert!(head.contains(header), "{header} is missing: {head}");
    }
    for outside in ["http://", "https://", "//cdn", "@import"] {
        let own = body.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "the page names {outside}");
    }
    let (head, body) = get(&served, &host, &format!("{path}data.json"));
    assert!(head.contains("content-type: application/json") && head.contains("etag: \"3\""), "{head}");
    let data: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(data["round"], 3);
    assert_eq!(data["clusters"][0]["name"], "berlin");
    assert_eq!(data["links"][1]["ends"][0]["rttMilliseconds"], 21.4);
}

#[test]
fn a_wrong_token_or_host_is_answered_with_403() {
    let served = Served::new(&three());
    let (host, path) = parts(&served);
    let port = served.address.port();
    // No hexadecimal digit.
    let wrong = format!("{}x/", &path[..path.len() - 2]);
    let refused = [
        (host.clone(), "/".to_owned()),
        (host.clone(), "/data.json".to_owned()),
        (host, wrong),
        (format!("rebound.example:{port}"), path.clone()),
        ("127.0.0.1".to_owned(), path.clone()),
    ];
    for (host, path) in refused {
        let (head, body) = get(&served, &host, &path);
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{host} {path}: {head}");
        assert!(!body.contains("berlin"), "{body}");
    }
    assert!(get(&served, &format!("localhost:{port}"), &path).0.starts_with("HTTP/1.1 200 OK\r\n"));
}
