//! What the small HTTP/1.1 servers of the program have in common: few connections, short heads, answers from memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that are served at a time.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// Answers requests until it is cancelled. A connection lasts for `connection_max` at most, where one is given.
///
/// # Errors
/// Never in practice: a connection that cannot be accepted is no end.
pub async fn serve<R>(listener: TcpListener, connection_max: Option<Duration>, respond: R) -> anyhow::Result<()>
where
    R: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let respond = Arc::new(respond);
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
        let served = connection(stream, Arc::clone(&respond));
        connections.spawn(async move {
            let _permit = permit;
            match connection_max {
                Some(limit) => drop(tokio::time::timeout(limit, served).await),
                None => served.await,
            }
        });
    }
}

async fn connection<R>(stream: TcpStream, respond: Arc<R>)
where
    R: Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an HTTP client went away");
    }
}

/// Text for people.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// A whole answer.
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
