//! The programs inside pods: a server that tells each client which address it sees, and clients that ask it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::clock::{now, pause, unix};
use super::plan::{HTTP_PORT, WHOAMI_PORT};

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves for ever: TCP and UDP on [`WHOAMI_PORT`], HTTP on [`HTTP_PORT`]. `label` is what HTTP answers call the pod.
///
/// # Errors
/// A port cannot be bound.
pub fn serve(label: &str) -> Result<()> {
    let tcp = bind(WHOAMI_PORT, TcpListener::bind)?;
    let udp = bind(WHOAMI_PORT, UdpSocket::bind)?;
    let http = bind(HTTP_PORT, TcpListener::bind)?;
    thread::scope(|scope| {
        scope.spawn(|| serve_udp(&udp));
        scope.spawn(|| serve_tcp(&tcp, &whoami));
        serve_tcp(&http, &|stream, peer| answer_http(stream, peer, label));
    });
    Ok(())
}

/// Both families on one socket, or IPv4 alone on a kernel without IPv6.
fn bind<T>(port: u16, open: impl Fn(SocketAddr) -> std::io::Result<T>) -> Result<T> {
    open((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| open((Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("failed to bind port {port}"))
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // Errors are those of earlier answers (a client that went away): the socket goes on.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut answer = format!("{} ", from.ip().to_canonical()).into_bytes();
        answer.extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&answer, from);
    }
}

fn serve_tcp(listener: &TcpListener, answer: &(impl Fn(TcpStream, IpAddr) -> std::io::Result<()> + Sync)) {
    thread::scope(|scope| {
        loop {
            let Ok((stream, from)) = listener.accept() else { continue };
            scope.spawn(move || answer(stream, from.ip().to_canonical()));
        }
    });
}

/// The client's address on the first line, then an echo of everything.
fn whoami(mut stream: TcpStream, peer: IpAddr) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    writeln!(stream, "{peer}")?;
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn answer_http(mut stream: TcpStream, peer: IpAddr, label: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = BufReader::new(stream.try_clone()?.take(16 * 1024)).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!("{label} saw {peer}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// One question to a server: over what, and to where. Written as `tcp/10.42.0.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Over which protocol.
    pub over: Transport,
    /// Address of the server.
    pub to: IpAddr,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::str::FromStr for Question {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (over, to) = text.split_once('/').unwrap_or_default();
        let over = match over {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => bail!("`{text}` is no question: write tcp/ADDRESS or udp/ADDRESS"),
        };
        Ok(Self { over, to: to.parse().with_context(|| format!("`{to}` is no IP address"))? })
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let over = if self.over == Transport::Tcp { "tcp" } else { "udp" };
        write!(f, "{over}/{}", self.to)
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// The address that the server saw, or why there was none.
    pub seen: Result<IpAddr, String>,
    /// Milliseconds from the first packet to the answer.
    pub millis: f64,
}

/// How many questions are under way at the same time.
const AT_ONCE: usize = 128;

/// Asks all questions, many at the same time, and gives back the answers in the same order.
pub fn ask(questions: &[Question]) -> Vec<Answer> {
    let ask_one = |question: Question| {
        let start = now();
        let seen = match question.over {
            Transport::Tcp => ask_tcp(question.to),
            Transport::Udp => ask_udp(question.to),
        };
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        Answer { question, seen: seen.map_err(|error| format!("{error:#}")), millis }
    };
    let together = |questions: &[Question]| {
        thread::scope(|scope| {
            let threads: Vec<_> = questions.iter().map(|question| scope.spawn(|| ask_one(*question))).collect();
            let answers = threads.into_iter().map(|thread| thread.join().expect("asking does not panic"));
            answers.collect::<Vec<_>>()
        })
    };
    questions.chunks(AT_ONCE).flat_map(together).collect()
}

fn ask_tcp(to: IpAddr) -> Result<IpAddr> {
    let stream = TcpStream::connect_timeout(&(to, WHOAMI_PORT).into(), PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("no answer")?;
    line.trim().parse().context("a strange answer")
}

fn ask_udp(to: IpAddr) -> Result<IpAddr> {
    let socket = udp_to(to)?;
    socket.set_read_timeout(Some(PATIENCE / 3))?;
    let mut buffer = [0; 2048];
    // Datagrams may be lost; three in a row are not.
    for _ in 0..3 {
        socket.send(b"?").context("cannot send")?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                return text.split(' ').next().unwrap_or_default().parse().context("a strange answer");
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("no answer"),
        }
    }
    bail!("no answer")
}

fn udp_to(to: IpAddr) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).context("cannot bind")?;
    socket.connect((to, WHOAMI_PORT)).context("cannot connect")?;
    Ok(socket)
}

/// An answer so long before the end still counts as one at the end: a busy machine may be late.
const AT_THE_END: Duration = Duration::from_secs(1);

/// How a steady exchange of small messages fared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beats {
    /// Longest time without an answer, in milliseconds.
    pub longest_gap: f64,
    /// When that gap ended, in milliseconds since 1970.
    pub gap_end: f64,
    /// Answers that came.
    pub answers: u64,
    /// Whether answers still came in the last second.
    pub alive: bool,
}

/// The same over UDP and over one TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Datagrams.
    pub udp: Beats,
    /// One connection.
    pub tcp: Beats,
}

/// Sends a message every `interval` for `time` over UDP and over one TCP connection, and watches the answers.
/// Prints `beating` when both run.
///
/// # Errors
/// The server cannot be reached at the beginning.
pub fn beat(to: IpAddr, interval: Duration, time: Duration) -> Result<Heartbeat> {
    let udp = udp_to(to)?;
    let mut tcp = TcpStream::connect_timeout(&(to, WHOAMI_PORT).into(), PATIENCE).context("no TCP connection")?;
    tcp.set_nodelay(true)?;
    tcp.set_write_timeout(Some(interval * 4))?;
    let reader = tcp.try_clone()?;
    let over = AtomicBool::new(false);
    println!("beating");
    thread::scope(|scope| {
        let udp_watch =
            scope.spawn(|| watch(time, interval, |buffer| udp.recv(buffer), |wait| udp.set_read_timeout(wait)));
        let tcp_watch = scope
            .spawn(|| watch(time, interval, |buffer| (&reader).read(buffer), |wait| reader.set_read_timeout(wait)));
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // While the path is down the kernel may refuse; that shows as a gap.
                let _ = udp.send(b"beat");
                pause(interval);
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // A full send buffer is a gap too; writing must not hold up the end.
                let _ = tcp.write(b"beat");
                pause(interval);
            }
        });
        let udp = udp_watch.join().expect("watching does not panic");
        let tcp = tcp_watch.join().expect("watching does not panic");
        over.store(true, Ordering::Relaxed);
        Ok(Heartbeat { udp, tcp })
    })
}

fn watch(
    time: Duration,
    interval: Duration,
    mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    set_wait: impl Fn(Option<Duration>) -> std::io::Result<()>,
) -> Beats {
    let _ = set_wait(Some(interval * 4));
    let mut beats = Beats { longest_gap: 0.0, gap_end: 0.0, answers: 0, alive: false };
    let mut buffer = [0; 65536];
    let start = now();
    let mut last = start;
    while start.elapsed() < time {
        match receive(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {
                let gap = last.elapsed().as_secs_f64() * 1000.0;
                if gap > beats.longest_gap {
                    beats.longest_gap = gap;
                    beats.gap_end = unix().as_secs_f64() * 1000.0;
                }
                beats.answers += 1;
                last = now();
            }
            // Nothing for a while, or an ICMP error on the way: the gap grows.
            Err(_) => pause(Duration::from_millis(1)),
        }
    }
    beats.alive = beats.answers > 0 && last.elapsed() < AT_THE_END;
    beats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_written_as_they_are_read() {
        for text in ["tcp/10.42.0.2", "udp/fd42::2"] {
            assert_eq!(text.parse::<Question>().expect("valid").to_string(), text);
        }
        assert!("10.42.0.2".parse::<Question>().is_err());
        assert!("tcp/here".parse::<Question>().is_err());
    }

    #[test]
    fn gaps_are_measured_between_answers() {
        // The long one first: two others may take all the time on a busy machine.
        let mut times = [80_u64].into_iter();
        let beats = watch(
            Duration::from_millis(95),
            Duration::from_millis(5),
            |_| {
                let wait = times.next().unwrap_or(5);
                std::thread::sleep(Duration::from_millis(wait));
                Ok(1)
            },
            |_| Ok(()),
        );
        assert!(beats.longest_gap >= 80.0 && beats.alive, "{beats:?}");
    }
}
