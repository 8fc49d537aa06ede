//! The export over OTLP, to a collector that is away at first.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

use super::*;

/// An API server that nobody has: what is told of it is what is exported.
const NOWHERE: &str = "
apiVersion: v1
kind: Config
clusters: [{ name: nowhere, cluster: { server: 'https://127.0.0.1:1' } }]
contexts: [{ name: nowhere, context: { cluster: nowhere, user: nobody } }]
users: [{ name: nobody, user: { token: none } }]
current-context: nowhere
";

/// What a collector got: path and body.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Listens on a port; is busy at the first request, and takes every further one.
fn collector(port: u16) -> Got {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let got = Got::default();
    let told = Arc::clone(&got);
    std::thread::spawn(move || {
        let mut busy = true;
        for stream in listener.incoming() {
            serve(stream.unwrap(), &told, &mut busy);
        }
    });
    got
}

/// HTTP/1.1 as far as it is needed here: any number of requests with a length.
fn serve(stream: TcpStream, got: &Got, busy: &mut bool) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
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
        reader.read_exact(&mut body).unwrap();
        let answer = if std::mem::take(busy) { "503 Service Unavailable" } else { "200 OK" };
        if answer.starts_with("200") {
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            got.lock().unwrap().push((path, body));
        }
        if write!(writer, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn metrics(port: u16) -> Result<String, String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
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
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, NOWHERE).unwrap();
    let (port, http, dns) = (free_port(), free_port(), free_port());
    let mut command = linkspan(["dns", "--listen-port", &dns.to_string(), "--http-port", &http.to_string()]);
    command.env("KUBECONFIG", &kubeconfig).env("POD_IP", "127.0.0.1").env("LINKSPAN_CLUSTER_ID", "paris");
    command.env("LINKSPAN_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}/otlp"));
    let _child = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    let told = |sign: &str| {
        let text = metrics(http)?;
        if text.contains(sign) { Ok(()) } else { Err(text) }
    };
    eventually("it notices that the API server is away", || told("linkspan_api_server_answers{cluster=\"paris\"} 0.0"));
    eventually("it notices that the collector is away", || told("linkspan_otlp_reachable{cluster=\"paris\"} 0.0"));

    let opened = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let got = collector(port);
    eventually("everything is sent", || told("linkspan_otlp_buffered_bytes{cluster=\"paris\"} 0.0"));
    told("linkspan_otlp_reachable{cluster=\"paris\"} 1.0").unwrap();
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

#[test]
fn an_endpoint_that_cannot_be_used_is_told_at_the_start() {
    let (code, _, error) = ended(linkspan(["version"]).env("LINKSPAN_OTLP_ENDPOINT", "https://collector"));
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("https is not supported: send to a collector in the cluster"), "{error}");
    assert_eq!(ended(linkspan(["version"]).env("LINKSPAN_OTLP_ENDPOINT", "")).0, Some(0));
}
