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

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Stay joined with this credential.
    Stay(Credential),
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
    /// Fingerprint of a token that cannot be used, with reason and sentence.
    pub failed: Option<&'a (String, &'static str, String)>,
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
        return credential.map_or_else(|| wait("NotJoined", ""), Wish::Stay);
    };
    let used = credential.as_ref().map(|credential| credential.joined_with.as_str());
    match token(join, used) {
        Token::Fresh(token) => match known.failed {
            Some((fingerprint, reason, message)) if *fingerprint == token.fingerprint() => {
                Wish::Wait { reason, message: message.clone() }
            }
            _ => Wish::Join(*token),
        },
        Token::Malformed(message) => Wish::Wait { reason: "InvalidToken", message },
        // The broker may take it again one day.
        Token::None if reason == "CredentialRefused" => credential.map_or_else(|| wait(reason, &why), Wish::Stay),
        Token::None => wait(reason, &why),
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
        return Some(("CredentialRefused", "the broker refuses the credential".to_owned()));
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
