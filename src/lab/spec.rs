//! What a lab is asked to be: sizes, family and the prefix of its names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Most sites: one /28 each out of 198.51.100.0/24 (TEST-NET-2, RFC 5737).
pub const MAX_SITES: u8 = 16;
/// Most nodes of a site: what a /28 holds beside network, broadcast and router.
pub const MAX_NODES: u8 = 13;
/// Most pods of a node; more would only make the proof of every pair slow.
pub const MAX_PODS: u8 = 50;

/// The shape of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Marks everything that the lab makes.
    pub prefix: Prefix,
    /// Sites, 2 to [`MAX_SITES`].
    pub sites: u8,
    /// Nodes of each site, the gateway node included, 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// Pods of each node, 1 to [`MAX_PODS`].
    pub pods: u8,
    /// Address families inside and outside the tunnels.
    pub family: Family,
    /// Whose service rules the nodes carry.
    pub proxy: Proxy,
    /// How many sites, from the first on, have the very same CIDRs: none, or at least two.
    #[serde(default)]
    pub overlapping: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            prefix: Prefix::default(),
            sites: 2,
            nodes: 2,
            pods: 2,
            family: Family::V4,
            proxy: Proxy::Mixed,
            overlapping: 0,
        }
    }
}

impl Spec {
    /// Checks the sizes.
    ///
    /// # Errors
    /// Names the size that is out of range, and the range.
    pub fn check(&self) -> Result<()> {
        for (what, value, least, most) in
            [("sites", self.sites, 2, MAX_SITES), ("nodes", self.nodes, 1, MAX_NODES), ("pods", self.pods, 1, MAX_PODS)]
        {
            ensure!((least..=most).contains(&value), "a lab has {least} to {most} {what}, not {value}");
        }
        ensure!(
            self.overlapping == 0 || (2..=self.sites).contains(&self.overlapping),
            "of {} sites, 2 to {} can have the same CIDRs, not {}",
            self.sites,
            self.sites,
            self.overlapping
        );
        Ok(())
    }
}

/// Starts the name of every namespace of one lab: a lower-case letter, then letters or digits, then one `-`.
///
/// The single dash at the end is what keeps labs apart: no valid prefix starts another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl Prefix {
    /// The prefix as it stands in names, with its dash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the lab of this prefix keeps its files: `/run/linkspan-lab` for the default one.
    pub fn state_dir(&self) -> PathBuf {
        if *self == Self::default() {
            PathBuf::from("/run/linkspan-lab")
        } else {
            PathBuf::from(format!("/run/linkspan-lab-{}", self.0.trim_end_matches('-')))
        }
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("ls-".to_owned())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = text.strip_suffix('-').unwrap_or_default();
        let good = word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.len() <= 16
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !good {
            bail!(
                "`{text}` is no prefix for a lab: use 1 to 16 lower-case letters or digits and one dash, such as `ls-`"
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = anyhow::Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

/// Address families of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only, outside the tunnels too.
    V6,
    /// Both inside; the gateways call each other over IPv4.
    Dual,
}

impl Family {
    /// Whether pods have IPv4 addresses.
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    /// Whether pods have IPv6 addresses.
    pub fn has_v6(self) -> bool {
        self != Self::V4
    }
}

/// Which kube-proxy mode the service rules of a node imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// `--proxy-mode=iptables` (over iptables-nft).
    Iptables,
    /// `--proxy-mode=nftables`.
    Nftables,
    /// The first site iptables, the next nftables, and so on in turn.
    Mixed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_word_and_one_dash() {
        for good in ["ls-", "lst1-", "a-"] {
            assert_eq!(good.parse::<Prefix>().expect("valid").as_str(), good);
        }
        for bad in ["", "-", "ls", "ls--", "ls-a-", "1s-", "LS-", "l s-", "../-", "abcdefghijklmnopq-"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_lab_lives_in_run_linkspan_lab_and_others_beside_it() {
        assert_eq!(Prefix::default().state_dir(), PathBuf::from("/run/linkspan-lab"));
        let other: Prefix = "lst1-".parse().expect("valid");
        assert_eq!(other.state_dir(), PathBuf::from("/run/linkspan-lab-lst1"));
    }

    #[test]
    fn sizes_out_of_range_are_named() {
        let error = Spec { nodes: 14, ..Spec::default() }.check().expect_err("too many nodes");
        assert_eq!(error.to_string(), "a lab has 1 to 13 nodes, not 14");
        assert!(Spec { sites: 1, ..Spec::default() }.check().is_err());
        let error = Spec { overlapping: 3, ..Spec::default() }.check().expect_err("more than there are");
        assert_eq!(error.to_string(), "of 2 sites, 2 to 2 can have the same CIDRs, not 3");
        assert!(Spec { overlapping: 1, ..Spec::default() }.check().is_err());
        assert!(Spec::default().check().is_ok());
    }
}
