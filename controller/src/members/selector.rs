//! Which nodes people have made gateways.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::api::names::LABEL_GATEWAY;

/// Longest part of a wrong text that a message repeats.
const QUOTED: usize = 80;

/// Which nodes people have made gateways: labels that all have to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<(String, Option<String>)>);

impl Default for Selector {
    fn default() -> Self {
        Self(vec![(LABEL_GATEWAY.to_owned(), Some("true".to_owned()))])
    }
}

impl Selector {
    /// Whether a node with these labels is one.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| match (labels.get(key), value) {
            (Some(found), Some(value)) => found == value,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    /// `key=value` or `key`, several with commas between; empty is the default.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let part = |part: &str| {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim().trim_start_matches('=').to_owned())),
                None => (part.trim(), None),
            };
            let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
            if fits {
                return Ok((key.to_owned(), value));
            }
            let form = "write KEY=VALUE or KEY, several with commas between, such as linkspan.dev/gateway=true";
            let short: String = part.chars().take(QUOTED).collect();
            Err(format!("{short:?} is not a label to look for; {form}"))
        };
        text.split(',').map(part).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_asks_for_all_of_its_labels() {
        let labels: BTreeMap<String, String> =
            [("a", "1"), ("b", "")].iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let matches = |text: &str| text.parse::<Selector>().expect("valid").matches(&labels);
        assert!(matches("a=1") && matches("a") && matches("a=1,b") && matches("b=") && matches("a==1"));
        assert!(!matches("a=2") && !matches("c") && !matches("a=1,c") && !matches(""));
        assert!("a b".parse::<Selector>().is_err());
        assert!("=x".parse::<Selector>().is_err());
    }
}
