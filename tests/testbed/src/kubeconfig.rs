//! Kubeconfigs with everything inside, so that one string gives access.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::pki::{Authority, Identity};

/// The kubeconfig of `identity` for the API server at `server`, such as `https://127.0.0.1:6443`. It is JSON, which is
/// YAML too.
pub fn render(cluster: &str, server: &str, authority: &Authority, identity: &Identity) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": server,
            "certificate-authority-data": encode(authority.certificate()),
        }}],
        "users": [{"name": cluster, "user": {
            "client-certificate-data": encode(&identity.certificate),
            "client-key-data": encode(&identity.key),
        }}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    });
    format!("{config:#}\n")
}
