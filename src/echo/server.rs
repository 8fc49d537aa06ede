//! The server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::words::{Greeting, LINE_MAX, Request, Taken};

/// Connections at a time.
const CONNECTIONS: usize = 256;
/// How long a client may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes that are read or written at once.
const CHUNK: usize = 256 * 1024;
/// Largest datagram in bytes.
const DATAGRAM: usize = 65_536;

/// Serves on TCP and UDP until it is cancelled. `name` is what it calls itself.
///
/// # Errors
/// The port cannot be had.
pub async fn serve(listen: SocketAddr, name: String) -> anyhow::Result<()> {
    let tcp = TcpListener::bind(listen).await.with_context(|| format!("failed to listen on TCP {listen}"))?;
    let udp = UdpSocket::bind(listen).await.with_context(|| format!("failed to listen on UDP {listen}"))?;
    tracing::info!(%listen, %name, "serving");
    serve_on(tcp, udp, name).await
}

/// Serves on sockets that are there.
pub(super) async fn serve_on(tcp: TcpListener, udp: UdpSocket, name: String) -> anyhow::Result<()> {
    let name: Arc<str> = name.into();
    tokio::select! {
        served = streams(tcp, Arc::clone(&name)) => served,
        served = datagrams(udp, &name) => served,
    }
}

async fn streams(listener: TcpListener, name: Arc<str>) -> anyhow::Result<()> {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&free).acquire_owned().await.context("the server ends")?;
        // Out of files or a client that has gone: the next one may do better.
        let Ok((stream, from)) = listener.accept().await else { continue };
        let name = Arc::clone(&name);
        tokio::spawn(async move {
            if let Err(error) = answer(stream, from, &name).await {
                tracing::debug!(%from, "{error:#}");
            }
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, from: SocketAddr, name: &str) -> anyhow::Result<()> {
    // Round trips are measured.
    stream.set_nodelay(true).context("failed to set TCP_NODELAY")?;
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let mut line = String::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    let asked = tokio::time::timeout(SILENCE, (&mut stream).take(limit).read_line(&mut line)).await;
    asked.context("no request within 30 s")??;
    match line.trim_end().parse()? {
        Request::Who => say(&mut stream, &Greeting { server: name.to_owned(), seen: plain(from) }).await,
        Request::Take => {
            let bytes = take(&mut stream).await?;
            say(&mut stream, &Taken { bytes }).await
        }
        Request::Give(seconds) => give(&mut stream, Duration::from_secs(seconds)).await,
        Request::Echo => echo(&mut stream).await,
    }
}

/// The address as its owner has it: a socket for both families sees IPv4 as IPv4-mapped (RFC 4291, section 2.5.5.2).
fn plain(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

async fn say(stream: &mut BufReader<TcpStream>, word: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string(word)?);
    stream.write_all(text.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn take(stream: &mut BufReader<TcpStream>) -> anyhow::Result<u64> {
    let mut bytes = 0;
    loop {
        let read = tokio::time::timeout(SILENCE, stream.fill_buf()).await.context("no bytes within 30 s")??;
        let count = read.len();
        if count == 0 {
            return Ok(bytes);
        }
        stream.consume(count);
        bytes += u64::try_from(count).unwrap_or(u64::MAX);
    }
}

async fn give(stream: &mut BufReader<TcpStream>, time: Duration) -> anyhow::Result<()> {
    let zeros = vec![0; CHUNK];
    let begin = Instant::now();
    while begin.elapsed() < time {
        tokio::time::timeout(SILENCE, stream.write_all(&zeros)).await.context("nothing taken within 30 s")??;
    }
    Ok(stream.shutdown().await?)
}

async fn echo(stream: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = tokio::time::timeout(SILENCE, stream.read(&mut chunk)).await.context("no bytes within 30 s")??;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..count]).await?;
    }
}

async fn datagrams(socket: UdpSocket, name: &str) -> anyhow::Result<()> {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        // An ICMP error of an earlier answer.
        let Ok((count, from)) = socket.recv_from(&mut datagram).await else { continue };
        let question = &datagram[..count];
        let greeting = question.starts_with(b"who").then(|| Greeting { server: name.to_owned(), seen: plain(from) });
        let answer = match greeting {
            Some(greeting) => serde_json::to_vec(&greeting)?,
            None => question.to_vec(),
        };
        if answer.len() <= count {
            // A client that does not get it asks again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}
