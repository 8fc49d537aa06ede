//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::metrics;
use super::socket::Source;

/// Connections that are served at a time.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// Serves until it is cancelled.
///
/// # Errors
/// When the address cannot be bound, or accepting fails for good.
pub async fn serve(address: SocketAddr, source: Source) -> anyhow::Result<()> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.with_context(|| format!("failed to listen on status.listen {address}"))?;
    tracing::debug!(%address, "serving metrics and probes");
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.context("the semaphore is never closed")?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A client that left, or no file descriptor free: neither is an end.
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let source = Arc::clone(&source);
        connections.spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(CONNECTION_MAX, connection(stream, source)).await;
        });
    }
}

async fn connection(stream: TcpStream, source: Source) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &source);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an HTTP client went away");
    }
}

fn respond(method: &Method, path: &str, source: &Source) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match metrics::encode(Arc::clone(source)) {
            Ok(body) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be encoded: {error}\n")),
        },
        // Answering at all is health: the loop that passes run in is watched by systemd's watchdog.
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match source() {
            report if report.ready => text(StatusCode::OK, "ready\n".to_owned()),
            report => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", report.not_ready_because.join("\n"))),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::super::report::Report;
    use super::*;

    fn source(ready: bool) -> Source {
        let because = if ready { Vec::new() } else { vec!["the first pass has not run".to_owned()] };
        Arc::new(move || Report { ready, not_ready_because: because.clone(), ..Default::default() })
    }

    #[test]
    fn probes_tell_health_and_readiness_apart() {
        let status = |path, ready| respond(&Method::GET, path, &source(ready)).status().as_u16();
        assert_eq!([status("/healthz", false), status("/readyz", false), status("/readyz", true)], [200, 503, 200]);
        assert_eq!([status("/metrics", false), status("/", true)], [200, 404]);
        assert_eq!(respond(&Method::POST, "/readyz", &source(true)).status().as_u16(), 405);
    }
}
