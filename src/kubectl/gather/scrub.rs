//! Takes secrets out of what is gathered: those that are known exactly, and everything that looks like one. Pure.
//!
//! What is a secret is decided by its form as far as that is possible: a join token, a signed token (RFC 7519), a private
//! key in PEM, each also in base64. A WireGuard private key has the form of a public one (32 bytes in base64), so that of
//! these only those are left that are known to be public. What has no form is known by the name before it ([`values`]).

mod forms;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use serde_json::Value;

use self::forms::Form;
use self::values::{is_harmless, is_secret_name};

/// What stands where a secret was.
pub const REMOVED: &str = "(removed)";
/// Shortest text that is taken out wherever it occurs; a shorter one would be found in words that have nothing to do with
/// it.
const EXACT_MIN: usize = 8;

/// What is known to be secret, and what is known not to be.
#[derive(Debug, Clone, Default)]
pub struct Known {
    exact: BTreeSet<String>,
    public: BTreeSet<String>,
}

impl Known {
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

    /// What looks for all of it at once.
    ///
    /// # Errors
    /// There are more secrets than can be looked for, some gigabytes.
    pub fn scrubber(self) -> anyhow::Result<Scrubber> {
        let exact = AhoCorasick::new(&self.exact).context("there are too many secrets to look for all of them")?;
        Ok(Scrubber { exact, public: self.public })
    }
}

/// Takes secrets out of texts and objects.
#[derive(Clone)]
pub struct Scrubber {
    exact: AhoCorasick,
    public: BTreeSet<String>,
}

impl Scrubber {
    /// One that knows further keys that may stay, unless they are secrets.
    pub fn with_public(&self, keys: BTreeSet<String>) -> Self {
        Self { exact: self.exact.clone(), public: &self.public | &keys }
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let text = forms::without_pem_keys(text);
        let text = self.without_exact(&text);
        let text = forms::without_user_info(&text);
        let text = values::without_values(&text);
        self.without_words(&text)
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
        self.exact.is_match(text)
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => self.list(values),
            Value::Object(fields) => {
                // An environment variable says its name beside its value.
                let name = |key: &str| fields.get(key).and_then(Value::as_str).is_some_and(is_secret_name);
                let named = name("name") || name("key");
                for (key, value) in fields.iter_mut() {
                    if is_secret_name(key) || (named && key == "value") {
                        remove(value);
                    }
                    self.value(value);
                }
            }
            _ => {}
        }
    }

    fn list(&self, values: &mut [Value]) {
        let mut follows = false;
        for value in values {
            // Arguments of a command: `--password` and its value.
            let is_option = value.as_str().is_some_and(|text| text.starts_with('-') && is_secret_name(text));
            if follows && !is_option {
                remove(value);
            }
            follows = is_option;
            self.value(value);
        }
    }

    fn without_exact(&self, text: &str) -> String {
        // All that overlap are one: parts of a secret must not be left because another one begins in it.
        let mut clean = String::with_capacity(text.len());
        let (mut done, mut end) = (0, None);
        let mut found: Vec<(usize, usize)> =
            self.exact.find_overlapping_iter(text).map(|found| (found.start(), found.end())).collect();
        found.sort_unstable();
        for (from, to) in found {
            if end.is_some_and(|end| from < end) {
                end = end.max(Some(to));
                continue;
            }
            done = end.unwrap_or(done);
            clean.push_str(&text[done..from]);
            clean.push_str(REMOVED);
            end = Some(to);
        }
        clean + &text[end.unwrap_or(done)..]
    }

    /// Takes out words that have the form of a secret, and what follows `Bearer` and `--password`.
    fn without_words(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let (mut rest, mut secret_follows) = (text, false);
        while let Some(first) = rest.chars().next() {
            let length = rest.find(|c| !forms::is_of_word(c)).unwrap_or(rest.len());
            if secret_follows && !first.is_whitespace() {
                let length = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | ',')).unwrap_or(rest.len());
                let word = &rest[..length];
                clean.push_str(if is_harmless(word) { word } else { REMOVED });
                rest = &rest[length..];
                secret_follows = false;
            } else if length == 0 {
                secret_follows &= matches!(first, ' ' | '\t');
                clean.push(first);
                rest = &rest[first.len_utf8()..];
            } else {
                let word = &rest[..length];
                rest = &rest[length..];
                let is_secret = self.is_secret(word);
                clean.push_str(&if is_secret { REMOVED.to_owned() } else { self.assigned(word) });
                let is_option = word.starts_with('-') && is_secret_name(word);
                let announces = matches!(word, "Bearer" | "bearer" | "Basic") || is_option;
                secret_follows = announces && rest.starts_with([' ', '\t']);
            }
        }
        clean
    }

    /// A word such as `key=abc`, in which `=` may be base64's, too.
    fn assigned(&self, word: &str) -> String {
        match word.split_once('=') {
            Some((name, value)) if self.is_secret(value) => format!("{name}={REMOVED}"),
            _ => word.to_owned(),
        }
    }

    fn is_secret(&self, word: &str) -> bool {
        let word = word.trim_matches('.');
        match Form::of(word) {
            Form::Secret => true,
            Form::Key => !self.public.contains(word),
            Form::Plain => false,
        }
    }
}

/// Takes out the value of a telling name: a text, or all texts of a list.
fn remove(value: &mut Value) {
    match value {
        Value::String(text) if !is_harmless(text) => *text = REMOVED.to_owned(),
        Value::Array(values) => values.iter_mut().for_each(remove),
        _ => {}
    }
}
