//! Where the collector is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// The URL of a collector, without the paths of the signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) security: Security,
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with a slash, or is empty.
    pub(super) prefix: String,
}

/// Whether it is spoken to in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    Clear,
    Tls,
}

/// Why a text is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Not a URL with a host.
    #[error("it is not a URL such as http://collector.monitoring:4318 or https://collector.example")]
    Url,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.trim().parse().map_err(|_| InvalidEndpoint::Url)?;
        let (security, port) = match uri.scheme_str() {
            // The port that OTLP over HTTP has with IANA.
            Some("http") => (Security::Clear, 4318),
            // A collector that is reached from outside has the port of all https, if none is told.
            Some("https") => (Security::Tls, 443),
            _ => return Err(InvalidEndpoint::Url),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidEndpoint::Url)?;
        Ok(Self {
            security,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(port),
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
        let scheme = match self.security {
            Security::Clear => "http",
            Security::Tls => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls() {
        let read =
            |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).map_err(|e| e.to_string());
        assert_eq!(read("http://collector:4318").as_deref(), Ok("http://collector:4318"));
        assert_eq!(read(" http://10.0.0.1/otlp/ ").as_deref(), Ok("http://10.0.0.1:4318/otlp"));
        assert_eq!(read("http://[2001:db8::1]:80").as_deref(), Ok("http://[2001:db8::1]:80"));
        assert_eq!(read("https://collector/v1").as_deref(), Ok("https://collector:443/v1"));
        assert_eq!(read("https://collector:4318").as_deref(), Ok("https://collector:4318"));
        for wrong in ["collector:4318", "", "http://", "ftp://x", "http:// x"] {
            assert!(read(wrong).unwrap_err().contains("is not a URL"), "{wrong}");
        }
    }
}
