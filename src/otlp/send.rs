//! One connection to the collector, over which everything that waits is sent.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::buffer::{Buffer, Signal};
use super::collector::Collector;
use super::endpoint::Endpoint;

/// How long a connection, and each request, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Batches that the collector will not take, ever.
    pub(super) refused: u64,
    /// Why not everything was taken.
    pub(super) error: Option<String>,
}

/// Sends all batches, the oldest first; those that were taken, or refused for good, are gone from the buffer.
pub(super) async fn all(collector: &Collector, buffer: &mut Buffer) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let mut taken = 0;
        match over_one_connection(collector, buffer, &mut taken, &mut outcome.refused).await {
            Ok(()) => return outcome,
            // A collector, or a proxy before it, may close after each answer.
            Err(error) if taken > 0 && error.is::<hyper::Error>() => {}
            Err(error) => return Outcome { error: Some(format!("{error:#}")), ..outcome },
        }
    }
}

/// `taken` counts the batches that are gone from the buffer, `refused` those of them that the collector will not take.
async fn over_one_connection(
    collector: &Collector,
    buffer: &mut Buffer,
    taken: &mut u64,
    refused: &mut u64,
) -> anyhow::Result<()> {
    let endpoint = &collector.endpoint;
    let stream = timeout(PATIENCE, collector.connect()).await.context("no answer")??;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("failed to begin HTTP")?;
    let mut requests = pin!(async {
        while let Some((signal, batch)) = buffer.first() {
            let status = timeout(PATIENCE, post(&mut sender, endpoint, signal, batch)).await.context("no answer")??;
            match status {
                status if status.is_success() => {}
                // OTLP 1.x, "Failures": these are tried again, no other ones.
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => anyhow::bail!("{} answered {status}", signal.path()),
                status => {
                    *refused += 1;
                    tracing::debug!(%status, path = signal.path(), "the OTLP collector refused a batch");
                }
            }
            buffer.pop();
            *taken += 1;
        }
        anyhow::Ok(())
    });
    let ended = tokio::select! {
        biased;
        sent = &mut requests => return sent,
        ended = connection => ended,
    };
    // What was answered before the connection ended counts; what comes after has nothing to go over.
    requests.await.map_err(|error| match ended {
        Err(why) => anyhow::Error::new(why).context("the connection broke"),
        Ok(()) => error,
    })
}

async fn post(
    sender: &mut SendRequest<Full<Bytes>>,
    endpoint: &Endpoint,
    signal: Signal,
    batch: Bytes,
) -> anyhow::Result<StatusCode> {
    sender.ready().await.context("the connection broke")?;
    let request = Request::post(format!("{}{}", endpoint.prefix, signal.path()))
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(batch))?;
    let response = sender.send_request(request).await.context("the request failed")?;
    let status = response.status();
    // Read to its end, so that the next request can follow.
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    Ok(status)
}
