//! One question to a name server, and its answer (RFC 1035). Only addresses are asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::{NameQuestion, NameSeen};

/// How long a try waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// UDP may lose the first.
const TRIES: u16 = 2;
const A: u16 = 1;
const AAAA: u16 = 28;

/// Asks, and tells what came back.
pub(super) async fn resolve(question: &NameQuestion) -> NameSeen {
    let seen = |addresses, answer| NameSeen { of: question.clone(), addresses, answer };
    let kind = if question.v6 { AAAA } else { A };
    let Some(message) = encode(&question.name, kind) else {
        return seen(Vec::new(), "it is no name".to_owned());
    };
    match exchange(question.server, &message).await {
        Ok(bytes) => match decode(&bytes, kind) {
            Some((addresses, code)) => seen(addresses, code),
            None => seen(Vec::new(), "the answer is no DNS message".to_owned()),
        },
        Err(error) => seen(Vec::new(), error),
    }
}

async fn exchange(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, String> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let told = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(told)?;
    socket.connect(server).await.map_err(told)?;
    let mut buffer = vec![0; 4096];
    for _ in 0..TRIES {
        socket.send(message).await.map_err(told)?;
        if let Ok(received) = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await {
            let length = received.map_err(told)?;
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
    Err(format!("no answer within {} s", (PATIENCE * TRIES.into()).as_secs()))
}

/// A question with recursion desired, as resolvers ask. `None` for what is no name.
fn encode(name: &str, kind: u16) -> Option<Vec<u8>> {
    // The socket is connected and asks once: the identifier needs not be unguessable.
    let mut message = vec![0x6c, 0x73, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    (message.len() <= 12 + 255 + 4).then_some(message)
}

fn decode(bytes: &[u8], kind: u16) -> Option<(Vec<IpAddr>, String)> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if word(0)? != 0x6c73 || word(2)? & 0x8000 == 0 {
        return None;
    }
    let code = code(word(2)? & 0x0f);
    let mut at = skip_name(bytes, 12)? + 4;
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(bytes, at)?;
        let length = usize::from(word(at + 8)?);
        let data = bytes.get(at + 10..at + 10 + length)?;
        if word(at)? == kind {
            let v4 = <[u8; 4]>::try_from(data).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 = <[u8; 16]>::try_from(data).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            addresses.extend(v4.or(v6));
        }
        at += 10 + length;
    }
    addresses.sort();
    Some((addresses, code))
}

/// Offset behind a name: labels, until a pointer or the root.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(*length),
        }
    }
}

fn code(code: u16) -> String {
    match code {
        0 => "NOERROR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `a.b` with one address behind a pointer.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![0x6c, 0x73, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        bytes.extend([1, b'a', 1, b'b', 0, 0, 1, 0, 1]);
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 43, 0, 9]);
        bytes
    }

    #[test]
    fn a_question_is_made_and_an_answer_read() {
        let question = encode("a.b.", A).expect("a name");
        assert_eq!(question[12..], [1, b'a', 1, b'b', 0, 0, 1, 0, 1]);
        assert_eq!(decode(&answer(), A), Some((vec!["10.43.0.9".parse().expect("valid")], "NOERROR".to_owned())));
        let mut nothing = answer()[..21].to_vec();
        nothing[3] = 0x83;
        nothing[7] = 0;
        assert_eq!(decode(&nothing, A), Some((Vec::new(), "NXDOMAIN".to_owned())));
    }

    #[test]
    fn what_is_no_name_and_no_answer_is_no_panic() {
        assert_eq!(encode("a..b", A), None);
        assert_eq!(encode(&"x".repeat(64), A), None);
        for length in 0..answer().len() {
            assert_eq!(decode(&answer()[..length], A), None, "{length} bytes");
        }
    }
}
