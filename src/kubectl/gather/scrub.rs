//! Takes secrets out of what is gathered: those that are known exactly, and everything that looks like one. Pure.
//!
//! What is a secret is decided by its form as far as that is possible: a join token, a signed token (RFC 7519), a private
//! key in PEM, each also in base64. A WireGuard private key has the form of a public one (32 bytes in base64), so that of
//! these only those are left that are known to be public.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// What stands where a secret was.
pub const REMOVED: &str = "(removed)";
/// Shortest text that is taken out wherever it occurs; a shorter one would be found in words that have nothing to do with
/// it.
const EXACT_MIN: usize = 8;
/// Length of 32 bytes in base64, and of a base64 text below which no token or key is inside.
const KEY_LENGTH: usize = 44;
const BLOB_MIN: usize = 24;
/// Names whose values are secrets.
const NAMES: [&str; 8] =
    ["token", "password", "passwd", "secret", "privatekey", "presharedkey", "clientkeydata", "nonce"];
/// Values of such names that are none.
const HARMLESS: [&str; 8] = ["", "true", "false", "null", "none", "-", "{}", "[]"];

/// What is known to be secret, and what is known not to be.
#[derive(Default)]
pub struct Scrubber {
    exact: BTreeSet<String>,
    public: BTreeSet<String>,
}

impl Scrubber {
    /// A text that is a secret, in this form and in base64.
    pub fn add_secret(&mut self, secret: &[u8]) {
        let text = String::from_utf8_lossy(secret).trim().to_owned();
        for form in [text, BASE64.encode(secret), URL_SAFE_NO_PAD.encode(secret)] {
            if form.len() >= EXACT_MIN && !self.public.contains(&form) {
                self.exact.insert(form);
            }
        }
    }

    /// A public key, which may stay.
    pub fn add_public(&mut self, key: &str) {
        self.public.insert(key.to_owned());
        self.exact.remove(key);
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let text = without_pem_keys(text);
        let text = self.without_exact(text);
        let mut clean = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            self.line(line, &mut clean);
        }
        clean
    }

    /// The object without secrets: values of telling names, data of Secrets, and what kubectl noted of an earlier version.
    pub fn object(&self, object: &mut Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        }
        if object["kind"] == "Secret" {
            for field in ["data", "stringData"] {
                let values = object.get_mut(field).and_then(Value::as_object_mut);
                values.into_iter().flatten().for_each(|(_, value)| *value = REMOVED.into());
            }
        }
        self.value(object);
    }

    /// Whether a text still has a secret that is known exactly.
    pub fn finds(&self, text: &str) -> bool {
        self.exact.iter().any(|secret| text.contains(secret))
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => {
                // An environment variable says its name beside its value.
                let named = fields.get("name").and_then(Value::as_str).is_some_and(is_secret_name);
                for (key, value) in fields.iter_mut() {
                    match value {
                        Value::String(text) if is_secret_name(key) || (named && key == "value") => {
                            if !HARMLESS.contains(&text.as_str()) {
                                *text = REMOVED.to_owned();
                            }
                        }
                        _ => self.value(value),
                    }
                }
            }
            _ => {}
        }
    }

    fn without_exact(&self, mut text: String) -> String {
        // The longest first: a short one may be a part of it.
        let mut exact: Vec<&String> = self.exact.iter().collect();
        exact.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in exact {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REMOVED);
            }
        }
        text
    }

    fn line(&self, line: &str, clean: &mut String) {
        let mut rest = line;
        let mut secret_follows = false;
        while let Some(first) = rest.chars().next() {
            let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            if length == 0 {
                // Between a name and its value: `token=x`, `"token": "x"`, `token: x`, `Bearer x`.
                secret_follows &= matches!(first, '=' | ':' | '"' | '\'' | ' ' | '\\' | '\t');
                clean.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let word = &rest[..length];
            rest = &rest[length..];
            let separated = rest.trim_start_matches(['"', '\'', '\\']).starts_with([':', '=']);
            if self.is_secret(word) || (secret_follows && !HARMLESS.contains(&word)) {
                clean.push_str(REMOVED);
                secret_follows = false;
            } else {
                clean.push_str(&self.assigned(word));
                let names_it = is_secret_name(word) && separated;
                secret_follows = names_it || matches!(word, "Bearer" | "bearer" | "Basic");
            }
        }
    }

    /// A word such as `token=abc`, in which `=` may be base64's, too.
    fn assigned(&self, word: &str) -> String {
        match word.split_once('=') {
            Some((name, value)) if !value.trim_matches('=').is_empty() => {
                let is_secret = is_secret_name(name) && !HARMLESS.contains(&value);
                if is_secret || self.is_secret(value) { format!("{name}={REMOVED}") } else { word.to_owned() }
            }
            _ => word.to_owned(),
        }
    }

    fn is_secret(&self, word: &str) -> bool {
        let word = word.trim_matches('.');
        if word.contains("lsj1.") || is_signed_token(word) {
            return true;
        }
        let is_key =
            word.len() == KEY_LENGTH && word.ends_with('=') && BASE64.decode(word).is_ok_and(|key| key.len() == 32);
        if is_key {
            return !self.public.contains(word);
        }
        word.len() >= BLOB_MIN && decoded(word).is_some_and(|inside| holds_secret(&inside))
    }
}

/// Characters of tokens, of base64 in both alphabets, and of names.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.')
}

/// Whether a name says that its value is a secret: `token`, `BROKER_TOKEN`, `client-key-data`, `privateKey`. Names of files
/// and of objects with secrets are none.
fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    NAMES.iter().any(|known| plain.ends_with(known))
}

/// Three parts in base64url, the first of which is the head of a signed token (RFC 7519).
fn is_signed_token(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() >= 3 && parts.windows(2).any(|two| two[0].contains("eyJ") && two[1].starts_with("eyJ"))
}

fn decoded(word: &str) -> Option<String> {
    let plain = word.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(plain).or_else(|_| URL_SAFE_NO_PAD.decode(plain)).ok()?;
    String::from_utf8(bytes).ok()
}

fn holds_secret(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
        || text.contains("lsj1.")
        || text.split(|c| !is_of_word(c)).any(is_signed_token)
        || ["client-key-data", "\"token\"", "token:", "password"].iter().any(|name| text.contains(name))
}

/// Takes out private keys in PEM (RFC 7468), also where their line breaks are written as `\n`, and also one without an end.
fn without_pem_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(at);
        clean.push_str(before);
        let label = block[BEGIN.len()..].split("-----").next().unwrap_or_default();
        if !label.ends_with("PRIVATE KEY") {
            clean.push_str(BEGIN);
            rest = &block[BEGIN.len()..];
            continue;
        }
        clean.push_str(REMOVED);
        let end = format!("-----END {label}-----");
        rest = block.find(&end).map_or("", |at| &block[at + end.len()..]);
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

    fn scrubber() -> Scrubber {
        let mut scrubber = Scrubber::default();
        scrubber.add_public(PUBLIC);
        scrubber.add_secret(b"correct horse battery");
        scrubber
    }

    #[test]
    fn secrets_are_known_by_their_form() {
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----";
        let cases = [
            ("joins with lsj1.eyJzZXJ2ZXIi now", "joins with (removed) now"),
            (&format!("authorization: Bearer {JWT}\n"), "authorization: Bearer (removed)\n"),
            (&format!("got {JWT}."), "got (removed)"),
            (&format!("key {PRIVATE} peer {PUBLIC}"), &format!("key (removed) peer {PUBLIC}")),
            (&format!("a\n{pem}\nb"), "a\n(removed)\nb"),
            (&format!("{{\"pem\":\"{}\"}}", pem.replace('\n', "\\n")), "{\"pem\":\"(removed)\"}"),
            ("-----BEGIN PRIVATE KEY-----\nMHcC", "(removed)"),
            (&format!("data: {}", BASE64.encode(pem)), "data: (removed)"),
            (&format!("data: {}", BASE64.encode(JWT)), "data: (removed)"),
            (&format!("data: {}", BASE64.encode("lsj1.eyJzZXJ2ZXIi")), "data: (removed)"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic (removed)"),
        ];
        for (text, expected) in cases {
            assert_eq!(scrubber().text(text), expected, "{text}");
        }
    }

    #[test]
    fn values_of_telling_names_are_taken_out_of_text() {
        let cases = [
            ("token=abc level=info", "token=(removed) level=info"),
            ("{\"password\":\"abc\",\"user\":\"eve\"}", "{\"password\":\"(removed)\",\"user\":\"eve\"}"),
            ("client-key-data: QUJD\nname: x", "client-key-data: (removed)\nname: x"),
            ("privateKey: abc", "privateKey: (removed)"),
            ("automountServiceAccountToken: false", "automountServiceAccountToken: false"),
            ("the token of paris", "the token of paris"),
            ("secretName: linkspan-join", "secretName: linkspan-join"),
        ];
        for (text, expected) in cases {
            assert_eq!(scrubber().text(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_known_is_taken_out_in_each_of_its_forms() {
        let base64 = BASE64.encode("correct horse battery");
        let text = format!("<correct horse battery> {base64} x{}y", URL_SAFE_NO_PAD.encode("correct horse battery"));
        assert!(scrubber().finds(&text));
        let clean = scrubber().text(&text);
        assert!(!scrubber().finds(&clean) && clean.starts_with("<(removed)> "), "{clean}");
    }

    #[test]
    fn certificates_public_keys_names_and_addresses_stay() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let base64 = BASE64.encode(pem);
        let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for text in [pem, &base64, PUBLIC, digest, "10.42.0.0/16", "linkspan-controller-7d9c4b6f5-x2x4z", "ü → ∞"]
        {
            assert_eq!(scrubber().text(text), text);
        }
    }

    #[test]
    fn objects_lose_their_secrets_and_keep_their_shape() {
        let mut object = json!({
            "kind": "Secret",
            "metadata": { "name": "x", "managedFields": [1], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"a\":\"b\"}}", "other": JWT,
            } },
            "data": { "tls.crt": "QUJD" },
            "spec": { "env": [{ "name": "BROKER_TOKEN", "value": "abc" }, { "name": "PORT", "value": "1" }] },
        });
        scrubber().object(&mut object);
        assert_eq!(
            object,
            json!({
                "kind": "Secret",
                "metadata": { "name": "x", "annotations": { "other": "(removed)" } },
                "data": { "tls.crt": "(removed)" },
                "spec": { "env": [{ "name": "BROKER_TOKEN", "value": "(removed)" }, { "name": "PORT", "value": "1" }] },
            })
        );
    }
}
