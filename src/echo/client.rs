//! The client: single calls, and measurements.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::words::{Greeting, QUESTION, Request, Taken};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest wait for one of many calls.
const TRY: Duration = Duration::from_secs(1);
/// Between datagrams that ask the same.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;
/// Bytes of a message whose round trip is measured.
const MESSAGE: usize = 64;

/// How a server is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A UDP datagram.
    Udp,
}

/// What a call found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Addresses that the name has, in the order of the answer.
    pub resolved: Vec<IpAddr>,
    /// The caller's own address.
    pub from: SocketAddr,
    /// Who answered, and whom it saw.
    #[serde(flatten)]
    pub greeting: Greeting,
    /// From the first packet to the answer, in microseconds; without the time for the name.
    pub microseconds: u64,
}

/// How much was carried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Bytes of payload.
    pub bytes: u64,
    /// Seconds.
    pub seconds: f64,
}

/// How long something took, over many times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// The shortest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// Of 100, the second longest.
    pub p99: u64,
}

/// The longest time without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// In milliseconds, from the last answer before it to the first one after it.
    pub milliseconds: u64,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that were not.
    pub failed: usize,
}

/// Calls once.
///
/// # Errors
/// The name has no address, or nobody answers there.
pub async fn call(target: &str, transport: Transport) -> anyhow::Result<Answer> {
    let at = resolve(target).await?;
    let resolved = at.iter().map(SocketAddr::ip).collect();
    let to = *at.first().with_context(|| format!("{target} has no address"))?;
    let begin = Instant::now();
    let (from, greeting) = match transport {
        Transport::Tcp => greet(to).await?,
        Transport::Udp => greet_by_datagram(to).await?,
    };
    Ok(Answer { resolved, from, greeting, microseconds: micros(begin.elapsed()) })
}

/// Sends for a while over one connection, and has the server count. It ends when that time is over, also where the other
/// end takes nothing any more, and 12 s later at the latest.
///
/// # Errors
/// The connection cannot be made, or breaks, or the server does not say what it took.
pub async fn send(target: &str, time: Duration) -> anyhow::Result<Carried> {
    let mut stream = open(first(target).await?, Request::Take).await?;
    let begin = Instant::now();
    let zeros = vec![0; CHUNK];
    let breaks = async {
        loop {
            if let Err(error) = stream.write_all(&zeros).await {
                break error;
            }
        }
    };
    if let Ok(error) = tokio::time::timeout(time, breaks).await {
        return Err(error).context("the connection broke");
    }
    stream.shutdown().await.context("the connection broke")?;
    let Taken { bytes } = read_word(&mut stream).await?;
    Ok(Carried { bytes, seconds: begin.elapsed().as_secs_f64() })
}

/// Sends so many bytes and has them back: large packets in both directions.
///
/// # Errors
/// They do not come back whole.
pub async fn carry(target: &str, bytes: usize) -> anyhow::Result<Carried> {
    let stream = open(first(target).await?, Request::Echo).await?;
    let begin = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
    let mut back = vec![0; bytes];
    let both = async { tokio::try_join!(writer.write_all(&sent), reader.read_exact(&mut back)) };
    let both = tokio::time::timeout(PATIENCE * 4, both).await;
    both.with_context(|| format!("{bytes} bytes did not come back"))?.context("the connection broke")?;
    if sent != back {
        bail!("other bytes came back than were sent");
    }
    Ok(Carried { bytes: u64::try_from(bytes)? * 2, seconds: begin.elapsed().as_secs_f64() })
}

/// Measures round trips of small messages over one connection.
///
/// # Errors
/// The connection cannot be made, or breaks.
pub async fn round_trips(target: &str, count: usize) -> anyhow::Result<Times> {
    let mut stream = open(first(target).await?, Request::Echo).await?;
    let mut message = [0; MESSAGE];
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let trip = async {
            stream.write_all(&message).await?;
            stream.read_exact(&mut message).await
        };
        tokio::time::timeout(PATIENCE, trip).await.context("no answer within 3 s")?.context("the connection broke")?;
        took.push(micros(begin.elapsed()));
    }
    times(took)
}

/// Measures how long the name takes to resolve, as every program in the pod resolves it.
///
/// # Errors
/// It does not resolve.
pub async fn names(target: &str, count: usize) -> anyhow::Result<Times> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        resolve(target).await?;
        took.push(micros(begin.elapsed()));
    }
    times(took)
}

/// Calls again and again, at least for `time` and then until a call is answered, for `time` more at most. Tells the longest
/// time without an answer.
///
/// # Errors
/// None of the calls is answered.
pub async fn watch(target: &str, time: Duration, every: Duration) -> anyhow::Result<Gap> {
    let to = first(target).await?;
    let begin = Instant::now();
    let (end, limit) = (begin + time, begin + time * 2);
    let (mut last, mut longest, mut answered, mut failed) = (begin, Duration::ZERO, 0, 0);
    loop {
        let called = tokio::time::timeout(TRY, greet(to)).await;
        let now = Instant::now();
        longest = longest.max(now - last);
        if matches!(called, Ok(Ok(_))) {
            (last, answered) = (now, answered + 1);
        } else {
            failed += 1;
        }
        if now >= limit || (now >= end && last == now) {
            break;
        }
        tokio::time::sleep(every).await;
    }
    if answered == 0 {
        bail!("{target} never answered");
    }
    Ok(Gap { milliseconds: u64::try_from(longest.as_millis())?, answered, failed })
}

async fn resolve(target: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host(target).await;
    Ok(found.with_context(|| format!("the name in {target} does not resolve"))?.collect())
}

async fn first(target: &str) -> anyhow::Result<SocketAddr> {
    resolve(target).await?.first().copied().with_context(|| format!("{target} has no address"))
}

async fn open(to: SocketAddr, request: Request) -> anyhow::Result<TcpStream> {
    let opened = tokio::time::timeout(PATIENCE, TcpStream::connect(to)).await;
    let opened = opened.with_context(|| format!("no connection to {to} within 3 s"))?;
    let mut stream = opened.with_context(|| format!("no connection to {to}"))?;
    stream.set_nodelay(true).context("failed to set TCP_NODELAY")?;
    stream.write_all(format!("{request}\n").as_bytes()).await.context("the connection broke")?;
    Ok(stream)
}

async fn greet(to: SocketAddr) -> anyhow::Result<(SocketAddr, Greeting)> {
    let mut stream = open(to, Request::Who).await?;
    let from = stream.local_addr().context("the connection has no address")?;
    Ok((from, read_word(&mut stream).await?))
}

async fn greet_by_datagram(to: SocketAddr) -> anyhow::Result<(SocketAddr, Greeting)> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await.context("failed to open a UDP socket")?;
    socket.connect(to).await.with_context(|| format!("no way to {to}"))?;
    let from = socket.local_addr().context("the socket has no address")?;
    let mut question = vec![b' '; QUESTION];
    question[..3].copy_from_slice(b"who");
    let mut answer = vec![0; QUESTION];
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        socket.send(&question).await.with_context(|| format!("nothing can be sent to {to}"))?;
        if let Ok(received) = tokio::time::timeout(AGAIN, socket.recv(&mut answer)).await {
            let count = received.with_context(|| format!("{to} does not take datagrams"))?;
            let greeting = serde_json::from_slice(&answer[..count]).context("the answer is of another program")?;
            return Ok((from, greeting));
        }
    }
    bail!("no datagram from {to} within 3 s")
}

async fn read_word<T: serde::de::DeserializeOwned>(stream: &mut TcpStream) -> anyhow::Result<T> {
    let mut text = Vec::new();
    let limit = u64::try_from(QUESTION)?;
    let read = tokio::time::timeout(PATIENCE * 4, stream.take(limit).read_to_end(&mut text)).await;
    read.context("no answer within 12 s")?.context("the connection broke")?;
    serde_json::from_slice(&text).context("the answer is of another program")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn times(mut took: Vec<u64>) -> anyhow::Result<Times> {
    took.sort_unstable();
    let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied();
    let measured = at(0).zip(at(50)).zip(at(99));
    let ((min, p50), p99) = measured.context("nothing was measured: ask for one at least")?;
    Ok(Times { count: took.len(), min, p50, p99 })
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::super::server::serve_on;
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_times() {
        let found = times((1..=100).rev().collect()).expect("a hundred");
        assert_eq!(found, Times { count: 100, min: 1, p50: 51, p99: 100 });
        assert_eq!(times(vec![7]).expect("one"), Times { count: 1, min: 7, p50: 7, p99: 7 });
        assert!(times(Vec::new()).is_err());
    }

    /// A server on a free port of the loopback interface.
    async fn server() -> String {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let at = tcp.local_addr().expect("an address");
            // For UDP it may be another's.
            let Ok(udp) = UdpSocket::bind(at).await else { continue };
            tokio::spawn(serve_on(tcp, udp, "probe-0".to_owned()));
            return at.to_string();
        }
    }

    #[tokio::test]
    async fn a_server_tells_whom_it_sees_over_tcp_and_udp() {
        let at = server().await;
        for transport in [Transport::Tcp, Transport::Udp] {
            let answer = call(&at, transport).await.expect("an answer");
            assert_eq!(answer.greeting.server, "probe-0");
            assert_eq!(answer.greeting.seen.ip(), answer.from.ip().to_canonical(), "{transport:?}");
            assert_eq!(answer.greeting.seen.port(), answer.from.port());
            assert_eq!(answer.resolved, [IpAddr::from([127, 0, 0, 1])]);
        }
    }

    #[tokio::test]
    async fn bytes_are_counted_and_come_back() {
        let at = server().await;
        let sent = send(&at, Duration::from_millis(50)).await.expect("sent");
        assert!(sent.bytes > 0, "{sent:?}");
        assert_eq!(carry(&at, 1_000_000).await.expect("back").bytes, 2_000_000);
        assert_eq!(round_trips(&at, 10).await.expect("trips").count, 10);
        let gap = watch(&at, Duration::from_millis(100), Duration::from_millis(10)).await.expect("answers");
        assert!(gap.answered > 0 && gap.failed == 0, "{gap:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sending_ends_although_nothing_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address").to_string();
        let taken = tokio::spawn(async move { listener.accept().await });
        let sent = tokio::time::timeout(Duration::from_secs(60), send(&at, Duration::from_secs(2))).await;
        let error = sent.expect("it ends").expect_err("nothing is counted");
        assert_eq!(error.to_string(), "no answer within 12 s");
        drop(taken.await);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_target() {
        // Nobody else is given a port that is bound, although nobody listens there.
        let held = TcpSocket::new_v4().expect("a socket");
        held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let at = held.local_addr().expect("an address").to_string();
        let error = call(&at, Transport::Tcp).await.expect_err("nobody listens");
        assert_eq!(error.to_string(), format!("no connection to {at}"));
        let error = call("no-such-name.invalid:80", Transport::Tcp).await.expect_err("no such name");
        assert_eq!(error.to_string(), "the name in no-such-name.invalid:80 does not resolve");
    }
}
