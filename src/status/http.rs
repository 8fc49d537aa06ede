//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::net::TcpListener;

use super::metrics;
use super::socket::Reporter;
use crate::http::{text, with_type};

/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// Serves until it is cancelled.
///
/// # Errors
/// When the address cannot be bound, or accepting fails for good.
pub async fn serve(address: SocketAddr, source: Reporter) -> anyhow::Result<()> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.with_context(|| format!("failed to listen on status.listen {address}"))?;
    tracing::debug!(%address, "serving metrics and probes");
    crate::http::serve(listener, Some(CONNECTION_MAX), move |request| {
        respond(request.method(), request.uri().path(), &source)
    })
    .await
}

fn respond(method: &Method, path: &str, source: &Reporter) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match metrics::encode(&source()) {
            Ok(body) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be encoded: {error}\n")),
        },
        // Answering at all is health: the loop that passes run in is watched by systemd's watchdog.
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match source() {
            report if report.ready && report.rollout_waits_for.is_none() => text(StatusCode::OK, "ready\n"),
            report => {
                let because: Vec<_> = report.not_ready_because.into_iter().chain(report.rollout_waits_for).collect();
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", because.join("\n")))
            }
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::report::Report;
    use super::*;

    fn source(ready: bool) -> Reporter {
        let because = if ready { Vec::new() } else { vec!["the first pass has not run".to_owned()] };
        Arc::new(move || Report { ready, not_ready_because: because.clone(), ..Default::default() })
    }

    #[test]
    fn probes_tell_health_and_readiness_apart() {
        let status = |path, ready| respond(&Method::GET, path, &source(ready)).status().as_u16();
        assert_eq!([status("/healthz", false), status("/readyz", false), status("/readyz", true)], [200, 503, 200]);
        let waits: Reporter = Arc::new(|| Report {
            ready: true,
            rollout_waits_for: Some("no tunnel has come up".to_owned()),
            ..Report::default()
        });
        assert_eq!(respond(&Method::GET, "/readyz", &waits).status().as_u16(), 503);
        assert_eq!([status("/metrics", false), status("/", true)], [200, 404]);
        assert_eq!(respond(&Method::POST, "/readyz", &source(true)).status().as_u16(), 405);
    }
}
