//! Clients of the broker's API server.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use data_encoding::BASE64;
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::join_token::{BrokerAddress, JoinToken};
use super::secret::Secret;
use crate::cluster::client;

/// Why no client of the broker can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is no URL.
    #[error("the broker's address {0:?} is not a URL such as https://broker.example:6443")]
    Server(String),
    /// The certificates are malformed.
    #[error("the broker's certificates are not PEM")]
    Certificates,
    /// TLS cannot be set up.
    #[error("failed to set up a client of the broker: {0}")]
    Client(#[source] Box<kube::Error>),
}

impl JoinToken {
    /// A client of the broker that uses the token.
    ///
    /// # Errors
    /// The address or the certificates are malformed.
    pub fn client(&self) -> Result<Client, ConnectError> {
        connect(&self.broker, &self.token)
    }
}

pub(super) fn connect(broker: &BrokerAddress, token: &Secret) -> Result<Client, ConnectError> {
    let mut config = Config::new(broker.server.parse().map_err(|_| ConnectError::Server(broker.server.clone()))?);
    config.default_namespace = broker.namespace.clone();
    config.root_cert = broker.ca.as_deref().map(certificates).transpose()?;
    config.auth_info = AuthInfo { token: Some(token.dangerously_expose().to_owned().into()), ..AuthInfo::default() };
    client::connect(config).map_err(|error| ConnectError::Client(Box::new(error)))
}

/// Longest wait for the addresses of a name.
const LOOKUP: Duration = Duration::from_secs(2);

/// The address in the URL of an API server; none where it has a name.
pub(super) fn address(server: &str) -> Option<IpAddr> {
    host(server)?.parse().ok()
}

/// The addresses that the name in the URL of an API server has now. None where that cannot be told, or there is no name.
pub(super) async fn looked_up(server: &str) -> BTreeSet<IpAddr> {
    let Some(host) = host(server).filter(|_| address(server).is_none()) else { return BTreeSet::new() };
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host.as_str(), 0))).await {
        Ok(Ok(found)) => found.map(|at| at.ip()).collect(),
        _ => BTreeSet::new(),
    }
}

/// The name or address in the URL of an API server.
fn host(server: &str) -> Option<String> {
    let url = Config::new(server.parse().ok()?).cluster_url;
    Some(url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// The certificates in a PEM text, as DER (RFC 7468).
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, ConnectError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem.split(BEGIN).skip(1).map(|rest| {
        let body: String = rest.split(END).next().unwrap_or_default().split_whitespace().collect();
        BASE64.decode(body.as_bytes()).map_err(|_| ConnectError::Certificates)
    });
    let certificates: Vec<_> = blocks.collect::<Result<_, _>>()?;
    if certificates.is_empty() { Err(ConnectError::Certificates) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broker_has_the_address_in_its_url_or_those_of_its_name() {
        let known = |server| address(server).map(|address| address.to_string());
        assert_eq!(known("https://192.168.7.11:6443").as_deref(), Some("192.168.7.11"));
        assert_eq!(known("https://[2001:db8::7]:6443/k8s").as_deref(), Some("2001:db8::7"));
        for nameless in ["https://broker.example:6443", "", "::"] {
            assert_eq!(known(nameless), None, "{nameless}");
        }
        assert!(looked_up("https://localhost:6443").await.contains(&"127.0.0.1".parse().unwrap()));
        for nowhere in ["https://broker.invalid:6443", "https://192.168.7.11:6443", "", "::"] {
            assert_eq!(looked_up(nowhere).await, BTreeSet::new(), "{nowhere}");
        }
    }

    #[test]
    fn all_certificates_of_a_bundle_are_taken() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\nAw==\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(pem).unwrap(), [vec![0, 1, 2], vec![3]]);
        assert!(certificates("").is_err());
        assert!(certificates("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----").is_err());
    }
}
