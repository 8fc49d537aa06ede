//! What the two Secrets say is to be done: the join token, and the credential that it becomes.

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::credential::Credential;
use super::join_token::JoinToken;
use crate::api::names::{ANNOTATION_LEAVE, LEAVE_WITHOUT_BROKER};
use crate::members::ClusterId;

/// Key of the join token in its Secret.
pub const TOKEN_KEY: &str = "token";
/// Annotation of the join Secret: fingerprint of the token in it that was used.
pub const ANNOTATION_USED: &str = "linkspan.dev/used";
/// Reason of condition `Joined`: the broker does not take the credential.
pub(super) const REFUSED: &str = "CredentialRefused";

/// Why a token is of no use: reason and sentence of condition `Joined`.
pub(super) type Useless = (&'static str, String);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Stay joined with this credential. Where the broker refuses it: why the token that lies there does not replace it.
    Stay { credential: Credential, useless: Option<Useless> },
    /// Leave with this credential; with none, without asking the broker.
    Leave(Option<Credential>),
    /// Exchange this token.
    Join(JoinToken),
    /// Wait for people: reason and sentence of condition `Joined`.
    Wait { reason: &'static str, message: String },
}

/// What is known besides the Secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub own: &'a ClusterId,
    /// Token of the credential that the broker refuses.
    pub refused: Option<&'a Credential>,
    /// Fingerprint of a token that cannot be used, and why.
    pub failed: Option<&'a (String, Useless)>,
    pub now: Timestamp,
}

/// Reads the wish from the Secrets. A good credential is kept, whatever token lies there.
pub(super) fn wish(broker: Option<&KubeSecret>, join: Option<&KubeSecret>, known: Known<'_>) -> Wish {
    let credential = broker.map(Credential::from_secret);
    let leaving = broker.and_then(|secret| secret.annotations().get(ANNOTATION_LEAVE));
    if let (Some(credential), Some(how)) = (&credential, leaving) {
        // With one that cannot be read there is nobody to ask.
        let asks = credential.as_ref().ok().filter(|_| how != LEAVE_WITHOUT_BROKER);
        return Wish::Leave(asks.cloned());
    }
    let (credential, problem) = match credential {
        Some(Ok(credential)) => {
            let problem = problem(&credential, known);
            (Some(credential), problem)
        }
        Some(Err(error)) => (None, Some(("InvalidCredential", error.to_string()))),
        None => (None, Some(("NotJoined", String::new()))),
    };
    let Some((reason, why)) = problem else {
        return credential.map_or_else(|| wait("NotJoined", ""), |credential| Wish::Stay { credential, useless: None });
    };
    let used = credential.as_ref().map(|credential| credential.joined_with.as_str());
    let useless = match token(join, used) {
        Token::Fresh(token) => match known.failed {
            Some((fingerprint, useless)) if *fingerprint == token.fingerprint() => Some(useless.clone()),
            _ => return Wish::Join(*token),
        },
        Token::Malformed(message) => Some(("InvalidToken", message)),
        Token::None => None,
    };
    match (credential, useless) {
        // The broker may take it again one day, whatever lies beside it: so it is asked on.
        (Some(credential), useless) if reason == REFUSED => {
            let useless = useless.map(|(reason, message)| (reason, format!("{why}, and {message}")));
            Wish::Stay { credential, useless }
        }
        (_, Some((reason, message))) => Wish::Wait { reason, message },
        (_, None) => wait(reason, &why),
    }
}

fn wait(reason: &'static str, why: &str) -> Wish {
    let fix = "make a token with `linkspan token create` and put it into Secret linkspan-join, key token";
    let message = if why.is_empty() { fix.to_owned() } else { format!("{why}; {fix}") };
    Wish::Wait { reason, message }
}

/// Why a credential is of no use, if it is not.
fn problem(credential: &Credential, known: Known<'_>) -> Option<(&'static str, String)> {
    if credential.cluster != *known.own {
        let message = format!("the credential is cluster {}'s, and this is {}", credential.cluster, known.own);
        return Some(("ForeignCredential", message));
    }
    if !credential.is_valid(known.now) {
        return Some(("CredentialExpired", format!("the credential expired at {}", credential.expires)));
    }
    if known.refused == Some(credential) {
        return Some((REFUSED, "the broker refuses the credential".to_owned()));
    }
    None
}

enum Token {
    None,
    Fresh(Box<JoinToken>),
    Malformed(String),
}

fn token(join: Option<&KubeSecret>, used: Option<&str>) -> Token {
    let Some(join) = join else { return Token::None };
    let Some(bytes) = join.data.as_ref().and_then(|data| data.get(TOKEN_KEY)) else { return Token::None };
    let token: JoinToken = match std::str::from_utf8(&bytes.0).unwrap_or_default().parse() {
        Ok(token) => token,
        Err(error) => return Token::Malformed(format!("Secret linkspan-join, key {TOKEN_KEY}, is of no use: {error}")),
    };
    let fingerprint = token.fingerprint();
    let marked = join.annotations().get(ANNOTATION_USED) == Some(&fingerprint);
    if marked || used == Some(fingerprint.as_str()) { Token::None } else { Token::Fresh(Box::new(token)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::super::join_token::BrokerAddress;
    use super::super::secret::Secret;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn credential() -> Credential {
        Credential {
            broker: BrokerAddress {
                server: "https://broker.example:6443".into(),
                ca: None,
                namespace: "linkspan-broker".into(),
                clusterset: "fleet".into(),
            },
            cluster: "paris".parse().unwrap(),
            issued: at(1000),
            expires: at(3000),
            joined_with: "00ff".into(),
            token: Secret::new("old".into()),
        }
    }

    fn another_token() -> JoinToken {
        let Credential { broker, cluster, expires, .. } = credential();
        JoinToken { broker, cluster, expires, token: Secret::new("new".into()) }
    }

    fn join_secret(text: &str) -> KubeSecret {
        let data = BTreeMap::from([(TOKEN_KEY.to_owned(), ByteString(text.as_bytes().to_vec()))]);
        KubeSecret { data: Some(data), ..KubeSecret::default() }
    }

    /// What is wished with that text in the join Secret, where the other token has failed already.
    fn wished(text: &str, refused: Option<&Credential>, now: Timestamp) -> Wish {
        let own = "paris".parse().unwrap();
        let failed = (another_token().fingerprint(), ("TokenExpired", "it expired".to_owned()));
        let known = Known { own: &own, refused, failed: Some(&failed), now };
        wish(Some(&credential().to_secret("linkspan-system")), Some(&join_secret(text)), known)
    }

    #[test]
    fn a_credential_that_is_refused_is_kept_beside_a_token_of_no_use() {
        let (packed, refused) = (another_token().dangerously_pack(), credential());
        let Wish::Stay { credential: kept, useless: Some((reason, message)) } =
            wished(&packed, Some(&refused), at(2000))
        else {
            panic!("not kept");
        };
        assert_eq!((kept, reason), (credential(), "TokenExpired"));
        assert_eq!(message, "the broker refuses the credential, and it expired");
        let Wish::Stay { useless: Some((reason, message)), .. } = wished("nonsense", Some(&refused), at(2000)) else {
            panic!("not kept");
        };
        assert_eq!(reason, "InvalidToken");
        assert!(message.contains("Secret linkspan-join, key token, is of no use"), "{message}");
    }

    #[test]
    fn a_credential_that_has_expired_is_not_kept() {
        for (text, expected) in [(&*another_token().dangerously_pack(), "TokenExpired"), ("nonsense", "InvalidToken")] {
            match wished(text, None, at(3000)) {
                Wish::Wait { reason, .. } => assert_eq!(reason, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_good_credential_is_kept_whatever_token_lies_there() {
        let stay = Wish::Stay { credential: credential(), useless: None };
        for text in [&*another_token().dangerously_pack(), "nonsense", ""] {
            assert_eq!(wished(text, None, at(2000)), stay);
        }
    }
}
