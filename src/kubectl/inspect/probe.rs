//! Active probes: what answers from here. Small, few, and closed at once.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::{Outcome, Probe, ProbeSeen};

/// How long a connection may take to be answered.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Echo requests before somebody counts as silent: the first may wait for a handshake.
const TRIES: u16 = 3;
/// How long one echo request waits for its answer.
const EACH: Duration = Duration::from_millis(800);
/// Packets of others that a raw socket may bring meanwhile.
const STRANGERS: usize = 64;
/// Payload of a small echo request in bytes, as ping(8) has it.
const SMALL: usize = 56;
/// Length of an ICMP echo header in bytes (RFC 792, RFC 4443).
const HEADER: usize = 8;

/// Probes once.
pub async fn probe(probe: Probe, identifier: u16) -> ProbeSeen {
    let (outcome, detail) = match probe {
        Probe::Tcp { to } => connect(to).await,
        Probe::Ping { to, size } => {
            let asked = tokio::task::spawn_blocking(move || ping(to, size, identifier)).await;
            asked.unwrap_or_else(|_| (Outcome::Unable, "the probe was interrupted".to_owned()))
        }
    };
    ProbeSeen { of: probe, outcome, detail }
}

async fn connect(to: SocketAddr) -> (Outcome, String) {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(to)).await {
        Ok(Ok(_)) => (Outcome::Answered, "connected".to_owned()),
        Ok(Err(error)) => (outcome(&error), error.to_string()),
        Err(_) => (Outcome::Silent, format!("no answer within {} ms", PATIENCE.as_millis())),
    }
}

fn outcome(error: &std::io::Error) -> Outcome {
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::ConnectionRefused, _) => Outcome::Refused,
        (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable, _) => Outcome::Unreachable,
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Outcome::Silent,
        (_, Some(libc::EMSGSIZE)) => Outcome::TooBig,
        _ => Outcome::Unable,
    }
}

fn ping(to: IpAddr, size: u16, identifier: u16) -> (Outcome, String) {
    match echo(to, size, identifier) {
        Ok(true) => (Outcome::Answered, "answered".to_owned()),
        Ok(false) => (Outcome::Silent, format!("{TRIES} echo requests, no answer")),
        Err(error) => (outcome(&error), error.to_string()),
    }
}

/// Sends echo requests until one is answered. The kernel forbids routers to fragment what fits the route's MTU.
fn echo(to: IpAddr, size: u16, identifier: u16) -> std::io::Result<bool> {
    let header = if to.is_ipv4() { 20 } else { 40 };
    let payload = usize::from(size).checked_sub(header + HEADER).unwrap_or(SMALL);
    let mut echo = Echo::open(None, to, identifier, EACH)?;
    for sequence in 1..=TRIES {
        if echo.ask(sequence, payload)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends so many small echo requests from an address of this host, one after the other, and tells how many were answered.
/// It waits for each answer, and not longer than `each`.
///
/// # Errors
/// A raw socket cannot be had (`CAP_NET_RAW`), or a request cannot be sent.
pub fn echoes(from: IpAddr, to: IpAddr, identifier: u16, count: u16, each: Duration) -> std::io::Result<u16> {
    let mut echo = Echo::open(Some(from), to, identifier, each)?;
    let mut answered = 0;
    for sequence in 1..=count {
        answered += u16::from(echo.ask(sequence, SMALL)?);
    }
    Ok(answered)
}

/// Echo requests to one host.
struct Echo {
    socket: Socket,
    to: IpAddr,
    identifier: u16,
    buffer: Vec<u8>,
}

impl Echo {
    fn open(from: Option<IpAddr>, to: IpAddr, identifier: u16, each: Duration) -> std::io::Result<Self> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(each))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&SocketAddr::new(to, 0).into())?;
        Ok(Self { socket, to, identifier, buffer: vec![0; 65_536] })
    }

    /// Asks once. Whether there was an answer, be it to an earlier request.
    fn ask(&mut self, sequence: u16, payload: usize) -> std::io::Result<bool> {
        self.socket.send(&request(self.to, self.identifier, sequence, payload))?;
        for _ in 0..STRANGERS {
            match self.socket.read(&mut self.buffer) {
                Ok(length) if is_answer(&self.buffer[..length], self.to, self.identifier) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// An echo request; over IPv6 the kernel writes the checksum.
fn request(to: IpAddr, identifier: u16, sequence: u16, payload: usize) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(HEADER + payload, 0x6c);
    if to.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

fn is_answer(packet: &[u8], from: IpAddr, identifier: u16) -> bool {
    // Over IPv4 a raw socket hands over the IP header, too.
    let (skip, kind) = match from {
        IpAddr::V4(_) => (packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4), 0),
        IpAddr::V6(_) => (0, 129),
    };
    let Some(message) = packet.get(skip..).filter(|message| message.len() >= HEADER) else { return false };
    message[0] == kind && message[4..6] == identifier.to_be_bytes()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_has_the_checksum_of_its_bytes_and_only_its_answer_counts() {
        let to: IpAddr = "10.52.0.1".parse().expect("valid");
        let message = request(to, 0x1234, 1, 2);
        // 0x0800 + 0x1234 + 0x0001 + 0x6c6c = 0x86a1, and its complement.
        assert_eq!(message, [8, 0, 0x79, 0x5e, 0x12, 0x34, 0, 1, 0x6c, 0x6c]);
        let mut answer = vec![0x45; 20];
        answer.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert!(is_answer(&answer, to, 0x1234));
        assert!(!is_answer(&answer, to, 0x1235), "of another probe");
        assert!(!is_answer(&answer[..24], to, 0x1234), "cut off");
        assert!(!is_answer(&[], to, 0x1234));
        answer[20] = 8;
        assert!(!is_answer(&answer, to, 0x1234), "a request");
    }

    #[tokio::test]
    async fn a_port_answers_refuses_or_is_told_to_be_nowhere() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let to = listener.local_addr().expect("bound");
        assert_eq!(probe(Probe::Tcp { to }, 1).await.outcome, Outcome::Answered);
        drop(listener);
        assert_eq!(probe(Probe::Tcp { to }, 1).await.outcome, Outcome::Refused);
    }
}
