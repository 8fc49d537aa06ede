//! API servers behind a proxy, as kubectl reaches them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testbed::ApiServer;

use crate::{ended, kubeconfig, linkspan};

/// An HTTP proxy (RFC 9110, section 9.3.6) that counts whom it lets through.
struct Proxy {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(client, &count));
            }
        });
        Self { url, connections }
    }
}

fn serve(mut client: TcpStream, count: &AtomicUsize) {
    let mut request = BufReader::new(client.try_clone().unwrap());
    let mut line = String::new();
    request.read_line(&mut line).unwrap();
    let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    while line.trim() != "" {
        line.clear();
        request.read_line(&mut line).unwrap();
    }
    count.fetch_add(1, Ordering::Relaxed);
    let mut server = TcpStream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client);
    let back = std::thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
    // Either end may go first.
    let _ = std::io::copy(&mut request, &mut server);
    let _ = back.join();
}

#[test]
fn a_server_is_reached_by_the_proxy_of_its_kubeconfig_and_those_of_this_machine_without() {
    let server = ApiServer::start().unwrap();
    let plain = kubeconfig(&[("plain", server.kubeconfig())]);
    linkspan(["deploy-broker", "--kubeconfig", plain.to_str().unwrap()]).done();
    let proxy = Proxy::start();

    let mut content: Value = serde_json::from_str(server.kubeconfig()).unwrap();
    content["clusters"][0]["cluster"]["proxy-url"] = json!(proxy.url);
    let proxied = kubeconfig(&[("proxied", &content.to_string())]);
    linkspan(["token", "list", "--kubeconfig", proxied.to_str().unwrap()]).done();
    assert!(proxy.connections.load(Ordering::Relaxed) > 0, "it went there without the proxy");

    // Nobody listens at that port.
    let mut away = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    away.args(["token", "list", "--kubeconfig", plain.to_str().unwrap()]).env("HTTPS_PROXY", "http://127.0.0.1:9");
    ended(&mut away).done();
}
