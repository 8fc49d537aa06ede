//! The join token as people copy it: one printable string.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::secret::Secret;
use crate::members::{ClusterId, InvalidClusterId};

/// What every join token begins with, with the version of its form.
pub const PREFIX: &str = "lsj1.";
/// Longest token that is looked at; a certificate and a signed token are a tenth of it.
const MAX: usize = 64 * 1024;

/// How a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAddress {
    /// URL of its API server.
    pub server: String,
    /// Certificates of its authority, PEM. None: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Namespace of the broker.
    pub namespace: String,
    /// Name of the clusterset.
    pub clusterset: String,
}

/// A right to join as one cluster, once, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The broker.
    pub broker: BrokerAddress,
    /// The cluster that may join.
    pub cluster: ClusterId,
    /// When it expires.
    pub expires: Timestamp,
    /// What the broker's API server takes as proof.
    pub(super) token: Secret,
}

/// Why a text is no join token. The text itself is a secret, and not in the message.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJoinToken {
    /// It does not begin as one.
    #[error("this is not a join token: one begins with {PREFIX}; make one with `linkspan token create`")]
    Form,
    /// It is damaged.
    #[error("the join token is damaged; copy it whole, without line breaks")]
    Damaged,
    /// It names no cluster.
    #[error("the join token has a wrong cluster ID: {0}")]
    Cluster(#[from] InvalidClusterId),
}

#[derive(Serialize, Deserialize)]
struct Packed {
    #[serde(flatten)]
    broker: BrokerAddress,
    cluster: String,
    expires: Timestamp,
    token: String,
}

impl JoinToken {
    /// The token as one printable string. It is a secret.
    pub fn dangerously_pack(&self) -> String {
        let packed = Packed {
            broker: self.broker.clone(),
            cluster: self.cluster.to_string(),
            expires: self.expires,
            token: self.token.dangerously_expose().to_owned(),
        };
        let json = serde_json::to_vec(&packed).expect("strings and a time are always JSON");
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&json))
    }

    /// By what the token is told from others without being told to others.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.token.dangerously_expose().as_bytes());
        data_encoding::HEXLOWER.encode(&digest[..16])
    }

    /// What this cluster claims the token with ([`exchange`](super::join::exchange)): the same at every try, also of a
    /// controller that was started anew, and of no other cluster. `secret_uid` is that of the Secret in which the token
    /// lies; nobody tells it outside of the cluster, so that who has a copy of the token cannot make the nonce.
    pub(super) fn nonce(&self, secret_uid: &str, cluster_uid: &str) -> String {
        let digest = Sha256::digest([secret_uid, cluster_uid, self.fingerprint().as_str()].join("\n"));
        data_encoding::HEXLOWER.encode(&digest)
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(InvalidJoinToken::Form)?;
        if body.len() > MAX {
            return Err(InvalidJoinToken::Damaged);
        }
        let json = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InvalidJoinToken::Damaged)?;
        let packed: Packed = serde_json::from_slice(&json).map_err(|_| InvalidJoinToken::Damaged)?;
        Ok(Self {
            broker: packed.broker,
            cluster: packed.cluster.parse()?,
            expires: packed.expires,
            token: Secret::new(packed.token),
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join token of cluster {} for {}", self.cluster, self.broker.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            broker: BrokerAddress {
                server: "https://broker.example:6443".into(),
                ca: Some("-----BEGIN CERTIFICATE-----\n".into()),
                namespace: "linkspan-broker".into(),
                clusterset: "fleet".into(),
            },
            cluster: "paris".parse().unwrap(),
            expires: Timestamp::from_second(1_800_000_000).unwrap(),
            token: Secret::new("very.secret.text".into()),
        }
    }

    #[test]
    fn a_token_survives_being_packed_into_one_printable_word() {
        let packed = token().dangerously_pack();
        assert!(packed.starts_with("lsj1."));
        assert!(packed.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')), "{packed}");
        assert_eq!(packed.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!(" {packed}\n").parse::<JoinToken>().unwrap(), token());
    }

    #[test]
    fn what_is_secret_is_printed_nowhere() {
        assert!(!format!("{:?} {}", token(), token()).contains("very"));
    }

    #[test]
    fn a_nonce_is_the_same_for_one_cluster_secret_and_token_alone() {
        let nonce = token().nonce("secret-1", "cluster-1");
        assert_eq!(nonce.len(), 64, "the broker's policy takes 32 to 128 characters");
        assert_eq!(nonce, token().nonce("secret-1", "cluster-1"));
        let mut other = token();
        other.token = Secret::new("another".into());
        let others = [token().nonce("secret-2", "cluster-1"), token().nonce("secret-1", "cluster-2")];
        assert!(!others.contains(&nonce) && other.nonce("secret-1", "cluster-1") != nonce);
    }

    #[test]
    fn a_damaged_token_is_refused_without_being_repeated() {
        let packed = token().dangerously_pack();
        for bad in ["", "lsj2.abc", "lsj1.", "lsj1.@@@", &packed[..packed.len() - 7]] {
            let error = bad.parse::<JoinToken>().unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }
}
