//! What client and server say to each other.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest first line in bytes.
pub const LINE_MAX: usize = 64;
/// Length of a datagram that asks `who`, in bytes: longer than any answer.
pub const QUESTION: usize = 512;
/// Longest time for which a server sends, in seconds.
pub const GIVE_MAX: u64 = 3600;

/// What a client wants, as its first line says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A [`Greeting`].
    Who,
    /// That all bytes up to the end are taken and counted: a [`Taken`].
    Take,
    /// Bytes for so many seconds, at most [`GIVE_MAX`].
    Give(u64),
    /// That all that is sent comes back.
    Echo,
}

/// Who answers whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Name of the server: that of its host, which in a pod is the pod's.
    pub server: String,
    /// The client's address as the server sees it.
    pub seen: SocketAddr,
}

/// What a server has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Bytes.
    pub bytes: u64,
}

/// A first line that asks for nothing known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of who, take, echo and give SECONDS")]
pub struct RequestError(String);

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let wrong = || RequestError(line.chars().take(LINE_MAX).collect());
        match line.split_once(' ') {
            None if line == "who" => Ok(Self::Who),
            None if line == "take" => Ok(Self::Take),
            None if line == "echo" => Ok(Self::Echo),
            Some(("give", seconds)) => {
                let seconds = seconds.parse().ok().filter(|seconds| *seconds <= GIVE_MAX);
                seconds.map(Self::Give).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Who => f.write_str("who"),
            Self::Take => f.write_str("take"),
            Self::Give(seconds) => write!(f, "give {seconds}"),
            Self::Echo => f.write_str("echo"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [Request::Who, Request::Take, Request::Give(7), Request::Echo] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "WHO", "who ", "give", "give -1", "give 3601", "give 1 2", "GET / HTTP/1.1"] {
            assert!(line.parse::<Request>().is_err(), "{line}");
        }
    }
}
