//! The export over OTLP: to a collector that is away at first, to one behind https, and what passes tell it.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

use super::node::{Netns, Node};
use super::*;

/// An API server that nobody has: what is told of it is what is exported.
pub const NOWHERE: &str = "
apiVersion: v1
kind: Config
clusters: [{ name: nowhere, cluster: { server: 'https://127.0.0.1:1' } }]
contexts: [{ name: nowhere, context: { cluster: nowhere, user: nobody } }]
users: [{ name: nobody, user: { token: none } }]
current-context: nowhere
";

/// What a collector got: path and body.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Listens on a port of the loopback; is busy at the first request, and takes every further one. It closes after each answer.
fn collector(port: u16) -> Got {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let got = Got::default();
    let told = Arc::clone(&got);
    std::thread::spawn(move || {
        let mut busy = true;
        for stream in listener.incoming() {
            serve(stream.unwrap(), &told, &mut busy, After::Close);
        }
    });
    got
}

/// What a collector does after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It waits for the next request.
    GoOn,
    /// It closes the connection, as some proxies do.
    Close,
}

/// HTTP/1.1 as far as it is needed here: any number of requests with a length.
fn serve(stream: impl Read + Write, got: &Got, busy: &mut bool, after: After) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        assert!(head.iter().any(|line| line == "content-type: application/x-protobuf"), "{head:?}");
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        // Who has not waited for this one comes again.
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let answer = if std::mem::take(busy) { "503 Service Unavailable" } else { "200 OK" };
        if answer.starts_with("200") {
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            got.lock().unwrap().push((path, body));
        }
        let writer = stream.get_mut();
        let close = if after == After::Close { "connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 {answer}\r\n{close}content-length: 0\r\n\r\n");
        if writer.write_all(head.as_bytes()).and_then(|()| writer.flush()).is_err() || after == After::Close {
            return;
        }
    }
}

fn metrics(port: &Port) -> Result<String, String> {
    let url = format!("http://127.0.0.1:{}/metrics", port.number);
    let (_, text, error) = ended(Command::new("curl").args(["-s", "-S", &url]));
    if text.is_empty() { Err(error) } else { Ok(text) }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[test]
fn what_happened_while_the_collector_was_away_arrives_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let (_child, http) = named(folder.path(), &format!("http://127.0.0.1:{}/otlp", port.number), |_| {});
    let told = |sign: &str| {
        let text = metrics(&http)?;
        if text.contains(sign) { Ok(()) } else { Err(text) }
    };
    eventually("it notices that the API server is away", || told("linkspan_api_server_answers{cluster=\"paris\"} 0.0"));
    eventually("it notices that the collector is away", || told("linkspan_otlp_reachable{cluster=\"paris\"} 0.0"));

    let opened = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let got = collector(port.number);
    eventually("everything is sent", || {
        told("linkspan_otlp_buffered_bytes{cluster=\"paris\"} 0.0")?;
        told("linkspan_otlp_reachable{cluster=\"paris\"} 1.0")
    });
    told("linkspan_otlp_dropped_batches_total{cluster=\"paris\"} 0").unwrap();

    let got = got.lock().unwrap();
    let of = |path: &str| got.iter().filter(|(to, _)| to == path).map(|(_, body)| body.as_slice()).collect::<Vec<_>>();
    let logs =
        of("/otlp/v1/logs").into_iter().flat_map(|body| ExportLogsServiceRequest::decode(body).unwrap().resource_logs);
    let lost = logs.flat_map(|told| {
        let attributes = told.resource.unwrap().attributes;
        assert!(attributes.contains(&text("service.name", "linkspan")), "{attributes:?}");
        assert!(attributes.contains(&text("k8s.cluster.name", "paris")), "{attributes:?}");
        told.scope_logs.into_iter().flat_map(|scope| scope.log_records)
    });
    let is_lost = |record: &opentelemetry_proto::tonic::logs::v1::LogRecord| match &record.body {
        Some(AnyValue { value: Some(Value::StringValue(body)) }) => body.starts_with("the API server does not answer"),
        _ => false,
    };
    let lost: Vec<_> = lost.filter(is_lost).collect();
    assert_eq!(lost.len(), 1, "it is told once");
    assert!(u128::from(lost[0].time_unix_nano) < opened && lost[0].severity_text == "WARN");

    let first = ExportMetricsServiceRequest::decode(of("/otlp/v1/metrics")[0]).unwrap().resource_metrics.remove(0);
    let metric =
        |name: &str| first.scope_metrics[0].metrics.iter().find(|metric| metric.name == name).expect("a metric");
    let Some(Data::Gauge(ready)) = &metric("linkspan_ready").data else { panic!("no gauge") };
    assert!(u128::from(ready.data_points[0].time_unix_nano) < opened);
}

/// A name server that nobody asks anything, with an endpoint for what it tells.
fn named(folder: &Path, endpoint: &str, more: impl FnOnce(&mut Command)) -> (Killed, Port) {
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, NOWHERE).unwrap();
    let http = Port::reserve().unwrap();
    let mut command = linkspan(["dns", "--listen-port", "0", "--http-port", &http.number.to_string()]);
    command.env("KUBECONFIG", &kubeconfig).env("POD_IP", "127.0.0.1").env("LINKSPAN_CLUSTER_ID", "paris");
    command.env("LINKSPAN_OTLP_ENDPOINT", endpoint).stderr(Stdio::null());
    more(&mut command);
    (Killed(command.spawn().unwrap()), http)
}

/// A collector behind https on the loopback, and the certificate, in PEM, of the authority that it is known by.
fn collector_behind_https() -> (Got, u16, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &rcgen::Issuer::new(authority, authority_key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = builder.with_no_client_auth().with_single_cert(vec![server.der().clone()], key.into()).unwrap();
    let config = Arc::new(config);

    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Got::default();
    let told = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(rustls::StreamOwned::new(session, stream.unwrap()), &told, &mut false, After::GoOn);
        }
    });
    (got, port, certificate)
}

#[test]
fn a_collector_behind_https_is_told_when_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let (got, port, certificate) = collector_behind_https();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, &certificate).unwrap();
    let path = file.display().to_string();
    // As a file, as text, and as one of those that the system trusts.
    let ways =
        [("LINKSPAN_OTLP_CERTIFICATE", &path), ("LINKSPAN_OTLP_CERTIFICATE", &certificate), ("SSL_CERT_FILE", &path)];
    for (variable, value) in ways {
        got.lock().unwrap().clear();
        let known = |command: &mut Command| _ = command.env(variable, value);
        let (_child, _http) = named(folder.path(), &format!("https://localhost:{port}"), known);
        eventually("metrics arrive", || {
            let got = got.lock().unwrap();
            let (_, body) = got.iter().find(|(path, _)| path == "/v1/metrics").ok_or("none yet")?;
            let told = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
            let resource = told.resource_metrics[0].resource.as_ref().unwrap();
            assert!(resource.attributes.contains(&text("k8s.cluster.name", "paris")), "{resource:?}");
            Ok(())
        });
    }
}

#[test]
fn a_collector_that_is_somebody_else_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (got, port, certificate) = collector_behind_https();
    let (_, _, foreign) = collector_behind_https();
    // An authority that has not signed it, and a name that it does not have.
    for (host, certificate) in [("localhost", foreign), ("127.0.0.1", certificate)] {
        let known = |command: &mut Command| _ = command.env("LINKSPAN_OTLP_CERTIFICATE", certificate);
        let (_child, http) = named(folder.path(), &format!("https://{host}:{port}"), known);
        eventually("it notices", || {
            let told = metrics(&http)?;
            if told.contains("linkspan_otlp_reachable{cluster=\"paris\"} 0.0") { Ok(()) } else { Err(told) }
        });
    }
    assert!(got.lock().unwrap().is_empty());
}

/// The collector of a namespace, at `127.0.0.1:4318` there.
fn collector_in(netns: &str) -> Got {
    let namespace = std::fs::File::open(format!("/run/netns/{netns}")).unwrap();
    let got = Got::default();
    let told = Arc::clone(&got);
    std::thread::spawn(move || {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        for stream in TcpListener::bind("127.0.0.1:4318").unwrap().incoming() {
            serve(stream.unwrap(), &told, &mut false, After::GoOn);
        }
    });
    got
}

#[test]
fn a_pass_of_a_node_arrives_as_a_trace() {
    let netns = Netns::new("otlp");
    let got = collector_in(&netns.0);
    let endpoint = |command: &mut Command| _ = command.env("LINKSPAN_OTLP_ENDPOINT", "http://127.0.0.1");
    let _node = Node::start_in(netns, "gw", Folder::new(&site("")), endpoint);
    eventually("a trace arrives", || {
        let got = got.lock().unwrap();
        let traces = got.iter().filter(|(path, _)| path == "/v1/traces");
        let told =
            traces.flat_map(|(_, body)| ExportTraceServiceRequest::decode(body.as_slice()).unwrap().resource_spans);
        for told in told {
            let attributes = &told.resource.as_ref().unwrap().attributes;
            assert!(attributes.contains(&text("linkspan.role", "node")), "{attributes:?}");
            let span = told.scope_spans.iter().flat_map(|scope| &scope.spans).find(|span| span.name == "node pass");
            if let Some(span) = span {
                assert_eq!(
                    (span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()),
                    (16, 8, 0),
                    "{span:?}"
                );
                assert!(span.attributes.iter().any(|attribute| attribute.key == "trigger"), "{span:?}");
                assert!(
                    0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano,
                    "{span:?}"
                );
                return Ok(());
            }
        }
        Err("none yet".to_owned())
    });
}

#[test]
fn an_endpoint_that_cannot_be_used_is_told_at_the_start() {
    let start = |endpoint: &str, certificate: &str| {
        let mut command = linkspan(["version"]);
        command.env("LINKSPAN_OTLP_ENDPOINT", endpoint).env("LINKSPAN_OTLP_CERTIFICATE", certificate);
        // Neither here nor in the image.
        ended(command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent"))
    };
    for (endpoint, certificate, told) in [
        ("grpc://collector", "", "it is not a URL such as http://collector.monitoring:4318"),
        ("https://collector", "", "this system has no certificates of authorities: set LINKSPAN_OTLP_CERTIFICATE"),
        ("https://collector", "/nonexistent/ca.crt", "failed to read the certificates /nonexistent/ca.crt"),
    ] {
        let (code, _, error) = start(endpoint, certificate);
        assert_eq!(code, Some(64), "{endpoint}: {error}");
        assert!(error.contains(told), "{endpoint}: {error}");
    }
    assert_eq!(start("", "").0, Some(0));
    assert_eq!(start("http://collector", "/nonexistent").0, Some(0), "nobody asks for it");
}
