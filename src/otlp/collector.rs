//! The collector: where it is, and who it has to be.

use std::fmt;

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Security};
use super::tls::{self, NoTrust};

/// Bytes to the collector and back, in clear or not.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A collector that can be called.
pub struct Collector {
    pub(super) endpoint: Endpoint,
    /// How it is called by https, and by which name its certificate has to know it.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.endpoint)
    }
}

impl Collector {
    /// One behind https has to have a certificate of an authority in `certificates`, a path or PEM text, or without it of one
    /// that the system trusts.
    ///
    /// # Errors
    /// There is nobody to trust.
    pub fn new(endpoint: Endpoint, certificates: Option<&str>) -> Result<Self, NoTrust> {
        let tls = match endpoint.security {
            Security::Clear => None,
            Security::Tls => {
                let name = ServerName::try_from(endpoint.host.clone());
                let name = name.map_err(|_| NoTrust::Name(endpoint.host.clone()))?;
                Some((TlsConnector::from(tls::client(certificates)?), name))
            }
        };
        Ok(Self { endpoint, tls })
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Box<dyn Connection>> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let stream = TcpStream::connect((host.as_str(), *port)).await.context("failed to connect")?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => {
                let connected = connector.connect(name.clone(), stream).await;
                Box::new(connected.context("failed to begin TLS")?)
            }
        })
    }
}
