//! A Member's own credential for the broker, and how it is kept in a Secret.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::connect::{ConnectError, connect};
use super::join_token::BrokerAddress;
use super::secret::Secret;
use crate::api::names::{LABEL_MANAGED_BY, MANAGED_BY, SECRET_BROKER};
use crate::members::ClusterId;

/// How long a credential lives unless told otherwise: a cluster may lose its uplink for half as long. It is the longest life
/// that the broker allows (`deploy/broker/policy-tokens.yaml`).
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// A Member's own credential for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The broker.
    pub broker: BrokerAddress,
    /// The cluster that it is for.
    pub cluster: ClusterId,
    /// When it was made.
    pub issued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// Fingerprint of the join token that it comes from.
    pub joined_with: String,
    /// What the broker's API server takes as proof.
    pub(super) token: Secret,
}

/// Why a Secret holds no credential. Nothing of it is in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Secret {SECRET_BROKER} has no usable {0}")]
pub struct InvalidCredential(&'static str);

impl Credential {
    /// Whether it can be used at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// When it is renewed: at half of its life.
    pub fn renewal(&self) -> Timestamp {
        let half = self.expires.duration_since(self.issued) / 2;
        self.issued.checked_add(half).unwrap_or(self.expires)
    }

    /// A client of the broker that uses it.
    ///
    /// # Errors
    /// The address or the certificates are malformed.
    pub fn client(&self) -> Result<kube::Client, ConnectError> {
        connect(&self.broker, &self.token)
    }

    /// The Secret that keeps it.
    pub fn to_secret(&self, namespace: &str) -> KubeSecret {
        let mut data = BTreeMap::from([
            ("server", self.broker.server.clone()),
            ("namespace", self.broker.namespace.clone()),
            ("clusterset", self.broker.clusterset.clone()),
            ("cluster", self.cluster.to_string()),
            ("issued", self.issued.to_string()),
            ("expires", self.expires.to_string()),
            ("joined-with", self.joined_with.clone()),
            ("token", self.token.dangerously_expose().to_owned()),
        ]);
        data.extend(self.broker.ca.clone().map(|ca| ("ca.crt", ca)));
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect();
        KubeSecret {
            metadata: ObjectMeta {
                name: Some(SECRET_BROKER.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some([(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            type_: Some("linkspan.dev/credential".to_owned()),
            ..KubeSecret::default()
        }
    }

    /// The credential that a Secret keeps.
    ///
    /// # Errors
    /// A part is missing or malformed.
    pub fn from_secret(secret: &KubeSecret) -> Result<Self, InvalidCredential> {
        let text = |key: &'static str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).ok_or(InvalidCredential(key))
        };
        let time = |key: &'static str| text(key)?.parse().map_err(|_| InvalidCredential(key));
        Ok(Self {
            broker: BrokerAddress {
                server: text("server")?,
                ca: text("ca.crt").ok(),
                namespace: text("namespace")?,
                clusterset: text("clusterset")?,
            },
            cluster: text("cluster")?.parse().map_err(|_| InvalidCredential("cluster"))?,
            issued: time("issued")?,
            expires: time("expires")?,
            joined_with: text("joined-with")?,
            token: Secret::new(text("token")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            broker: BrokerAddress {
                server: "https://broker.example:6443".into(),
                ca: None,
                namespace: "linkspan-broker".into(),
                clusterset: "fleet".into(),
            },
            cluster: "paris".parse().unwrap(),
            issued: Timestamp::from_second(1000).unwrap(),
            expires: Timestamp::from_second(3000).unwrap(),
            joined_with: "00ff".into(),
            token: Secret::new("very.secret.text".into()),
        }
    }

    #[test]
    fn a_credential_survives_its_secret() {
        let secret = credential().to_secret("linkspan-system");
        assert_eq!(secret.metadata.name.as_deref(), Some("linkspan-broker"));
        assert_eq!(Credential::from_secret(&secret).unwrap(), credential());
    }

    #[test]
    fn a_secret_with_a_part_missing_is_no_credential() {
        for key in ["server", "cluster", "token", "expires"] {
            let mut secret = credential().to_secret("linkspan-system");
            secret.data.as_mut().unwrap().remove(key);
            assert_eq!(Credential::from_secret(&secret), Err(InvalidCredential(key)));
        }
    }

    #[test]
    fn it_is_renewed_at_half_life_and_invalid_at_its_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(credential().renewal(), at(2000));
        assert!(credential().is_valid(at(2999)));
        assert!(!credential().is_valid(at(3000)));
    }

    #[test]
    fn a_credential_lives_as_long_as_the_broker_allows() {
        let policy = include_str!("../../../deploy/broker/policy-tokens.yaml");
        assert!(policy.contains(&format!("object.spec.expirationSeconds <= {}", LIFETIME.as_secs())));
    }

    #[test]
    fn what_is_secret_is_printed_nowhere() {
        assert!(!format!("{:?}", credential()).contains("very"));
    }
}
