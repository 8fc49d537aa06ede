//! Domain names as the zone keeps them: lower case, wire format, never longer than the wire allows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Longest name in bytes, with all length bytes and the root (RFC 1035, section 2.3.4).
pub(crate) const MAX_NAME: usize = 255;
/// Longest label in bytes (RFC 1035, section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;

/// An absolute domain name. Upper case is folded, so that equal names are equal values. Clones share their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Wire format without compression: length byte and label, again and again, then the zero of the root.
    wire: Arc<[u8]>,
}

/// Why a text or a list of labels is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Two dots in a row, a leading dot, or an empty text.
    #[error("name `{0}` has an empty label: write labels with single dots between them")]
    EmptyLabel(String),
    /// A label does not fit its length byte.
    #[error("label `{0}` is longer than 63 bytes")]
    LongLabel(String),
    /// The name as a whole does not fit.
    #[error("name `{0}` is longer than 255 bytes on the wire")]
    LongName(String),
}

impl Name {
    /// A name from its labels, most specific first, without the root.
    ///
    /// # Errors
    /// When a label is empty or longer than 63 bytes, or the name longer than 255 bytes on the wire.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a str>) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(64);
        let mut text = String::new();
        for label in labels {
            text.push_str(label);
            text.push('.');
            match label.len() {
                0 => return Err(NameError::EmptyLabel(text)),
                1..=MAX_LABEL => push_label(&mut wire, label.as_bytes()),
                _ => return Err(NameError::LongLabel(label.to_owned())),
            }
        }
        wire.push(0);
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName(text));
        }
        Ok(Self { wire: wire.into() })
    }

    /// Takes over lower-case wire format that the builder made.
    pub(crate) fn from_wire(wire: Vec<u8>) -> Self {
        debug_assert!(wire.len() <= MAX_NAME && wire.last() == Some(&0));
        Self { wire: wire.into() }
    }

    /// The name in lower-case wire format, without compression.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels, most specific first, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.wire[..];
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at(usize::from(*len));
            rest = tail;
            (!label.is_empty()).then_some(label)
        })
    }
}

/// Appends one label, folded to lower case. The caller has checked its length.
pub(crate) fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    wire.push(label.len() as u8);
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
}

/// The part of `wire` below `origin`, without the origin's bytes; `None` when the name lies outside. Both in lower-case
/// wire format.
pub(crate) fn below<'a>(wire: &'a [u8], origin: &[u8]) -> Option<&'a [u8]> {
    let cut = wire.len().checked_sub(origin.len())?;
    if &wire[cut..] != origin {
        return None;
    }
    // The same bytes could also start in the middle of a label: walk from the front.
    let mut at = 0;
    while at < cut {
        at += 1 + usize::from(wire[at]);
    }
    (at == cut).then_some(&wire[..cut])
}

impl FromStr for Name {
    type Err = NameError;

    /// Parses dotted text, with or without the dot of the root. Escapes are not known: our names have none.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        if trimmed.is_empty() {
            return if text == "." { Self::from_labels([]) } else { Err(NameError::EmptyLabel(text.to_owned())) };
        }
        Self::from_labels(trimmed.split('.')).map_err(|error| match error {
            NameError::EmptyLabel(_) => NameError::EmptyLabel(text.to_owned()),
            other => other,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.len() == 1 {
            return f.write_str(".");
        }
        self.labels().try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_folded_and_printed_with_the_root() {
        let name: Name = "Web.Default.SVC.clusterset.local".parse().unwrap();
        assert_eq!(name.to_string(), "web.default.svc.clusterset.local.");
        assert_eq!(name, "web.default.svc.clusterset.local.".parse().unwrap());
        assert_eq!(&name.wire()[..5], b"\x03web\x07");
    }

    #[test]
    fn the_root_is_a_name() {
        assert_eq!(".".parse::<Name>().unwrap().to_string(), ".");
    }

    #[test]
    fn empty_labels_are_refused() {
        for text in ["", "..", "a..b", ".a", "a.."] {
            assert_eq!(text.parse::<Name>(), Err(NameError::EmptyLabel(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn the_limits_of_the_wire_hold() {
        let label = "a".repeat(63);
        assert!(label.parse::<Name>().is_ok());
        assert!(matches!(format!("{label}a").parse::<Name>(), Err(NameError::LongLabel(_))));
        // 3 * 64 + 1 + 61 + 1 = 255
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert!(longest.parse::<Name>().is_ok());
        assert!(matches!(format!("{longest}b").parse::<Name>(), Err(NameError::LongName(_))));
    }

    #[test]
    fn below_cuts_at_label_borders_only() {
        let origin: Name = "ab.c".parse().unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!(below(name("x.ab.c").wire(), origin.wire()), Some(&b"\x01x"[..]));
        assert_eq!(below(origin.wire(), origin.wire()), Some(&b""[..]));
        assert_eq!(below(name("xab.c").wire(), origin.wire()), None);
        assert_eq!(below(name("c").wire(), origin.wire()), None);
        // One label whose last bytes look like the origin's wire format.
        let trap = [b"\x05xx\x02ab".as_slice(), b"\x01c\x00"].concat();
        assert_eq!(below(&trap, origin.wire()), None);
    }
}
