//! Kubeconfigs with everything inside, so that one string gives access.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

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

/// One kubeconfig with a context for each of these, by these names; the first one is the current one.
///
/// # Errors
/// One is no kubeconfig as [`ApiServer::kubeconfig`](crate::ApiServer::kubeconfig) has it.
pub fn merge(all: &[(&str, &str)]) -> Result<String> {
    let current = all.first().context("no kubeconfig is given")?.0;
    let mut merged = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": [], "current-context": current,
    });
    for (name, text) in all {
        let mut one: Value =
            serde_json::from_str(text).with_context(|| format!("the kubeconfig of {name} is no JSON"))?;
        one["contexts"][0]["context"] = json!({ "cluster": name, "user": name });
        for list in ["clusters", "users", "contexts"] {
            one[list][0]["name"] = (*name).into();
            let list_of_all = merged[list].as_array_mut().context("it was made as a list")?;
            list_of_all.push(one[list][0].take());
        }
    }
    Ok(merged.to_string())
}
