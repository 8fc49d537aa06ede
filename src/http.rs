//! What the small HTTP/1.1 servers of the program have in common: few connections, short heads, answers from memory.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections from other machines that are served at a time.
const CONNECTIONS: usize = 64;
/// Connections from this machine: the kubelet's probes come from the address that they call, and must get through when
/// somebody else has taken all other ones.
const OWN_CONNECTIONS: usize = 16;
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
    let (own, others) = (Arc::new(Semaphore::new(OWN_CONNECTIONS)), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut connections = JoinSet::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            // A client that left, or no file descriptor free: neither is an end.
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let local = stream.local_addr().ok();
        let permits = if local.is_some_and(|local| is_own(local.ip(), client.ip())) { &own } else { &others };
        // One too many is closed at once: who waited for its turn here would hold up the others.
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            tracing::debug!(%client, "a connection was closed: there are too many");
            continue;
        };
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

/// Whether a client is on this machine: it calls from the address that it calls.
fn is_own(local: IpAddr, client: IpAddr) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || client == local.to_canonical()
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn probes_of_the_own_node_are_told_from_other_machines() {
        let is = |local: &str, client: &str| is_own(local.parse().expect("valid"), client.parse().expect("valid"));
        assert!(is("192.0.2.7", "192.0.2.7"));
        assert!(is("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(is("127.0.0.1", "127.0.0.1"));
        assert!(is("::1", "::1"));
        assert!(!is("192.0.2.7", "192.0.2.8"));
        assert!(!is("fd07::2", "fd07::3"));
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let server = tokio::spawn(serve(listener, None, |_| text(StatusCode::OK, "ready")));
        let mut idle = Vec::new();
        for _ in 0..16 {
            idle.push(TcpStream::connect(at).await.expect("a connection"));
        }
        let mut answer = String::new();
        let mut extra = TcpStream::connect(at).await.expect("a connection");
        let read = tokio::time::timeout(Duration::from_secs(3), extra.read_to_string(&mut answer)).await;
        assert!(matches!(read.expect("it is closed at once"), Ok(0) | Err(_)), "{answer}");
        // One that goes makes room for the next.
        drop(idle.pop());
        let request = b"GET / HTTP/1.1\r\nHost: linkspan\r\nConnection: close\r\n\r\n";
        loop {
            let mut next = TcpStream::connect(at).await.expect("a connection");
            answer.clear();
            if next.write_all(request).await.is_ok() && next.read_to_string(&mut answer).await.is_ok_and(|n| n > 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ready"), "{answer}");
        server.abort();
    }
}
