//! What is known to be a secret by its form alone. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::REMOVED;

/// Length of 32 bytes in base64, and of a base64 text below which no token or key is inside.
const KEY_LENGTH: usize = 44;
const BLOB_MIN: usize = 24;

/// What a word is by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A token, or something with one inside.
    Secret,
    /// 32 bytes in base64: a WireGuard key, private or public.
    Key,
    /// Anything else.
    Plain,
}

impl Form {
    /// That of a word of [`is_of_word`].
    pub(super) fn of(word: &str) -> Self {
        if word.contains("lsj1.") || is_signed_token(word) {
            return Self::Secret;
        }
        if word.len() == KEY_LENGTH && word.ends_with('=') && BASE64.decode(word).is_ok_and(|key| key.len() == 32) {
            return Self::Key;
        }
        let blob = word.len() >= BLOB_MIN && decoded(word).is_some_and(|inside| holds_secret(&inside));
        if blob { Self::Secret } else { Self::Plain }
    }
}

/// Characters of tokens, of base64 in both alphabets, and of names.
pub(super) fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.')
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
pub(super) fn without_pem_keys(text: &str) -> String {
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

/// Takes user and password out of URLs (RFC 3986, section 3.2.1), also where characters in them are not escaped.
pub(super) fn without_user_info(text: &str) -> String {
    const BEGIN: &str = "://";
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, after) = rest.split_at(at + BEGIN.len());
        clean.push_str(before);
        rest = after;
        if let Some(at) = user_info_end(rest) {
            clean.push_str(REMOVED);
            rest = &rest[at..];
        }
    }
    clean + rest
}

/// Where the `@` is that ends user and password, in what follows `://`.
fn user_info_end(rest: &str) -> Option<usize> {
    let url = &rest[..rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>')).unwrap_or(rest.len())];
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    // Not escaped, a password may have slashes and further `@`: more is taken out rather than less.
    let has_password = match authority.split_once(':') {
        Some(_) if authority.starts_with('[') => false,
        Some((user, rest)) => !user.contains('@') && !rest.bytes().all(|byte| byte.is_ascii_digit()),
        None => false,
    };
    let end = if has_password { url.rfind('@') } else { None };
    end.or_else(|| authority.rfind('@'))
}
