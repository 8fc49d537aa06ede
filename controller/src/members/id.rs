//! The cluster ID, checked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest cluster ID: one DNS label.
const MAX: usize = 63;

/// A cluster ID: one RFC 1123 label of at most 63 characters (KEP-2149).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Arc<str>);

/// A text that is no cluster ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a cluster ID: use 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends"
)]
pub struct InvalidClusterId(pub String);

impl ClusterId {
    /// Checks `text`.
    ///
    /// # Errors
    /// It is no RFC 1123 label.
    pub fn new(text: &str) -> Result<Self, InvalidClusterId> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=MAX).contains(&text.len()) && text.chars().all(inner);
        if fits && !text.starts_with('-') && !text.ends_with('-') {
            return Ok(Self(text.into()));
        }
        Err(InvalidClusterId(text.chars().take(MAX + 1).collect()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, InvalidClusterId> {
        Self::new(text)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_106_a_cluster_id_is_one_dns_label() {
        for good in ["a", "7", "paris-1", &"x".repeat(63)] {
            assert_eq!(good.parse::<ClusterId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
    }
}
