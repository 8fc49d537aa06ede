//! How long API servers may take to answer. kubectl's `--request-timeout`, which is about requests that end by themselves:
//! commands in pods, logs and watches go on for as long as they like, once the API server has been reached.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::{Request, Response, Uri};
use kube::client::Body;
use tokio::time::Sleep;
use tower::{BoxError, Layer, Service};

/// Unless something else is asked for. `kubectl` waits for ever, which is of no use with many clusters.
const USUAL: Duration = Duration::from_secs(15);
/// Units of time as `kubectl` has them (Go's `time.ParseDuration`), in milliseconds.
const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0)];

/// How long a request may take until all of its answer is there; none for as long as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimeout(Option<Duration>);

impl Default for RequestTimeout {
    fn default() -> Self {
        Self(Some(USUAL))
    }
}

impl RequestTimeout {
    /// The time, if there is any.
    pub fn limit(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for RequestTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let milliseconds = match text.parse::<u32>() {
            Ok(seconds) => Some(f64::from(seconds) * 1000.0),
            Err(_) if text.is_empty() => None,
            Err(_) => parts(text),
        };
        let milliseconds = milliseconds.ok_or_else(|| format!("{text:?} is no time such as 10s, 1m or 90"))?;
        Ok(Self((milliseconds >= 1.0).then(|| Duration::from_millis(milliseconds as u64))))
    }
}

/// Milliseconds of `1m30s`.
fn parts(mut text: &str) -> Option<f64> {
    let mut sum = 0.0;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..digits].parse().ok()?;
        let rest = &text[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..length])?;
        sum += number * unit;
        text = &rest[length..];
    }
    // A century is long enough for everybody.
    (sum < 4e12).then_some(sum)
}

impl fmt::Display for RequestTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) if limit.subsec_millis() == 0 => write!(f, "{}s", limit.as_secs()),
            Some(limit) => write!(f, "{}ms", limit.as_millis()),
            None => f.write_str("0"),
        }
    }
}

/// The API server took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoAnswer(RequestTimeout);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the API server did not answer within {} (--request-timeout)", self.0)
    }
}

impl Error for NoAnswer {}

impl<S> Layer<S> for RequestTimeout {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited { inner, timeout: *self }
    }
}

/// A client whose ordinary requests end in time.
#[derive(Debug)]
pub struct Limited<S> {
    inner: S,
    timeout: RequestTimeout,
}

impl<S, B> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.timeout.0.filter(|_| !is_stream(request.uri()));
        let error = NoAnswer(self.timeout);
        let answer = self.inner.call(request);
        Box::pin(async move {
            // One time for both the beginning of the answer and its end.
            let mut end = limit.map(|limit| Box::pin(tokio::time::sleep(limit)));
            let answer = match &mut end {
                None => answer.await,
                Some(end) => tokio::select! {
                    answer = answer => answer,
                    () = end => return Err(error.into()),
                },
            };
            Ok(answer.map_err(Into::into)?.map(|body| LimitedBody { body, end: end.map(|end| (end, error)) }))
        })
    }
}

/// Whether a request goes on until somebody ends it: `pods/exec` and the like, logs, and watches.
fn is_stream(uri: &Uri) -> bool {
    let words: Vec<&str> = uri.path().split('/').collect();
    let of_pod = matches!(words.as_slice(), [.., "pods", _, "exec" | "attach" | "portforward" | "log"]);
    let asks = |wanted: &str| uri.query().is_some_and(|query| query.split('&').any(|asked| asked == wanted));
    of_pod || asks("watch=true") || asks("watch=1")
}

/// An answer that has to be complete in time.
#[derive(Debug)]
pub struct LimitedBody<B> {
    body: B,
    end: Option<(Pin<Box<Sleep>>, NoAnswer)>,
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((end, error)) = &mut self.end else { return Poll::Pending };
        ready!(end.as_mut().poll(context));
        Poll::Ready(Some(Err(Box::new(*error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tower::service_fn;

    use super::*;

    #[test]
    fn times_are_written_as_kubectl_has_them() {
        let read = |text: &str| text.parse::<RequestTimeout>().map(|read| read.limit());
        let ms = |milliseconds| Ok(Some(Duration::from_millis(milliseconds)));
        assert_eq!(read("10s"), ms(10_000));
        assert_eq!(read("1m"), ms(60_000));
        assert_eq!(read("90"), ms(90_000));
        assert_eq!(read("1m30s"), ms(90_000));
        assert_eq!(read("1.5s"), ms(1_500));
        assert_eq!(read("250ms"), ms(250));
        assert_eq!([read("0"), read("0s")], [Ok(None), Ok(None)]);
        for wrong in ["", "s", "10x", "-1", "10 s", "1e9h", "m1"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(RequestTimeout::default().to_string(), "15s");
    }

    #[test]
    fn what_goes_on_is_told_from_what_ends() {
        let is = |text: &str| is_stream(&text.parse().expect("a URI"));
        assert!(is("/api/v1/namespaces/a/pods/b/exec?command=x"));
        assert!(is("https://h/api/v1/namespaces/a/pods/b/log?follow=true"));
        assert!(is("/api/v1/pods?limit=5&watch=true"));
        assert!(!is("/api/v1/namespaces/a/services/log"));
        assert!(!is("/api/v1/namespaces/a/pods/log"));
        assert!(!is("/version"));
    }

    fn request(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).expect("a request")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_ends_the_request_and_not_a_stream() {
        let never = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>());
        let timeout: RequestTimeout = "10s".parse().expect("a time");
        let mut limited = timeout.layer(never);
        let before = tokio::time::Instant::now();
        let error = limited.call(request("/version")).await.expect_err("there is no answer");
        assert_eq!(error.to_string(), "the API server did not answer within 10s (--request-timeout)");
        assert_eq!(before.elapsed(), Duration::from_secs(10));
        let stream = limited.call(request("/api/v1/namespaces/a/pods/b/exec"));
        tokio::time::timeout(Duration::from_secs(3600), stream).await.expect_err("it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_half_way_ends_the_request() {
        let half = service_fn(|_: Request<Body>| async {
            let frames = futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"{")))]);
            let body = StreamBody::new(futures::StreamExt::chain(frames, futures::stream::pending()));
            Ok::<_, BoxError>(Response::new(body))
        });
        let mut limited = RequestTimeout::default().layer(half);
        let answer = limited.call(request("/version")).await.expect("it begins");
        let error = answer.into_body().collect().await.expect_err("it does not end");
        assert_eq!(error.to_string(), "the API server did not answer within 15s (--request-timeout)");
    }
}
