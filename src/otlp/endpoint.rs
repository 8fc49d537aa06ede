//! Where the collector is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// The URL of a collector, without the paths of the signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with a slash, or is empty.
    pub(super) prefix: String,
}

/// Why a text is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Not a URL with a host.
    #[error("it is not a URL such as http://collector.monitoring:4318")]
    Url,
    /// TLS.
    #[error(
        "https is not supported: send to a collector in the cluster or on the node, by http, which passes it on by https"
    )]
    Https,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.trim().parse().map_err(|_| InvalidEndpoint::Url)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InvalidEndpoint::Https),
            _ => return Err(InvalidEndpoint::Url),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidEndpoint::Url)?;
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            // The port that OTLP over HTTP has with IANA.
            port: uri.port_u16().unwrap_or(4318),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Endpoint {
    /// Host and port, as a `Host` header has them.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_of_plain_http() {
        let read =
            |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).map_err(|e| e.to_string());
        assert_eq!(read("http://collector:4318").as_deref(), Ok("http://collector:4318"));
        assert_eq!(read(" http://10.0.0.1/otlp/ ").as_deref(), Ok("http://10.0.0.1:4318/otlp"));
        assert_eq!(read("http://[2001:db8::1]:80").as_deref(), Ok("http://[2001:db8::1]:80"));
        assert!(read("https://collector").unwrap_err().contains("https is not supported"));
        for wrong in ["collector:4318", "", "http://", "ftp://x", "http:// x"] {
            assert!(read(wrong).unwrap_err().contains("is not a URL"), "{wrong}");
        }
    }
}
