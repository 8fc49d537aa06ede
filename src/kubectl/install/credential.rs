//! What a cluster has of a broker already: whether `join` has to make a token.

use controller::api::Member;
use controller::api::names::{ANNOTATION_LEAVE, SECRET_BROKER, SYSTEM_NAMESPACE};
use controller::broker::Credential;
use controller::members::ClusterId;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};

use crate::kubectl::errors::{Told as _, is_not_found};

/// Reasons of condition `Joined` that no waiting mends: the credential is not this cluster's, it is too old, it is broken, or
/// the broker does not know it any more.
pub const LOST_CREDENTIAL: [&str; 4] =
    ["CredentialRefused", "CredentialExpired", "ForeignCredential", "InvalidCredential"];
/// The same of a token that was to replace it. One that is only refused may be seen later; a new one is safe.
const LOST_TOKEN: [&str; 5] = ["InvalidToken", "TokenExpired", "TokenRefused", "TokenRevoked", "TokenUsed"];

/// What a cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// No credential, or one that it is giving up.
    Nothing,
    /// A credential for the broker at this URL.
    Good(String),
    /// A credential that is of no use, with the reason.
    Useless(String),
}

/// Looks at the credential of a cluster.
///
/// # Errors
/// The API server refuses.
pub async fn held(client: &Client, cluster: &ClusterId) -> anyhow::Result<Held> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let secret = secrets.get_opt(SECRET_BROKER).await.told("look at the credential")?;
    let members: Api<Member> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let own = match members.get_opt(cluster.as_str()).await {
        Err(error) if is_not_found(&error) => None,
        own => own.told(&format!("read Member {cluster}"))?,
    };
    Ok(judge(secret.as_ref(), own.as_ref(), Timestamp::now()))
}

/// What Secret and Member say. Pure.
fn judge(secret: Option<&Secret>, own: Option<&Member>, now: Timestamp) -> Held {
    let Some(secret) = secret.filter(|secret| !secret.annotations().contains_key(ANNOTATION_LEAVE)) else {
        return Held::Nothing;
    };
    let credential = match Credential::from_secret(secret) {
        Err(error) => return Held::Useless(error.to_string()),
        Ok(credential) if !credential.is_valid(now) => {
            return Held::Useless(format!("it expired at {}", credential.expires));
        }
        Ok(credential) => credential,
    };
    let conditions = own.iter().flat_map(|member| &member.status).flat_map(|status| &status.conditions);
    let mut joined = conditions.filter(|condition| condition.type_ == "Joined" && condition.status == "False");
    let is_lost = |reason: &str| LOST_CREDENTIAL.contains(&reason) || LOST_TOKEN.contains(&reason);
    match joined.find(|condition| is_lost(&condition.reason)) {
        Some(condition) => Held::Useless(format!("{}: {}", condition.reason, condition.message)),
        None => Held::Good(credential.broker.server.trim_end_matches('/').to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde_json::{Value, json};

    use super::*;

    fn secret(expires: &str, annotations: &Value) -> Secret {
        let data = [
            ("server", "https://broker.example:6443/"),
            ("namespace", "linkspan-broker"),
            ("clusterset", "default"),
            ("cluster", "rome"),
            ("issued", "2026-01-01T00:00:00Z"),
            ("expires", expires),
            ("joined-with", "00ff"),
            ("token", "x"),
        ];
        let data: serde_json::Map<_, _> =
            data.into_iter().map(|(key, value)| (key.to_owned(), BASE64.encode(value).into())).collect();
        serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "data": data })).unwrap()
    }

    fn joined(status: &str, reason: &str) -> Member {
        let condition = json!({
            "type": "Joined", "status": status, "reason": reason, "message": "why", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "metadata": { "name": "rome" },
            "spec": { "clusterID": "rome", "clusterUID": "x" },
            "status": { "conditions": [condition] },
        }))
        .unwrap()
    }

    #[test]
    fn a_credential_is_good_until_somebody_says_otherwise() {
        let now: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
        let (late, early) = ("2026-02-02T00:00:00Z", "2026-01-31T00:00:00Z");
        let good = Held::Good("https://broker.example:6443".to_owned());
        let whole = secret(late, &json!({}));
        assert_eq!(judge(None, None, now), Held::Nothing);
        assert_eq!(judge(Some(&secret(late, &json!({ "linkspan.dev/leave": "true" }))), None, now), Held::Nothing);
        assert_eq!(judge(Some(&whole), None, now), good);
        assert_eq!(judge(Some(&whole), Some(&joined("True", "Joined")), now), good);
        assert_eq!(judge(Some(&whole), Some(&joined("False", "BrokerUnreachable")), now), good);
        for reason in ["CredentialRefused", "CredentialExpired", "InvalidCredential"] {
            let told = Held::Useless(format!("{reason}: why"));
            assert_eq!(judge(Some(&whole), Some(&joined("False", reason)), now), told);
        }
        let expired = judge(Some(&secret(early, &json!({}))), None, now);
        assert_eq!(expired, Held::Useless("it expired at 2026-01-31T00:00:00Z".to_owned()));
        let broken = judge(Some(&secret("soon", &json!({}))), None, now);
        assert_eq!(broken, Held::Useless("Secret linkspan-broker has no usable expires".to_owned()));
    }
}
