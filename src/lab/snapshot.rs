//! The kernel's network state of one namespace as text, to compare before and after.

use std::fmt;

use anyhow::Result;

use super::command::Run;

/// Links, rules, routes, nft tables and sysctls. Equal snapshots mean that nothing was left behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    parts: Vec<(&'static str, String)>,
}

const PARTS: &[(&str, &str)] = &[
    ("links", "ip link"),
    ("addresses", "ip -o addr"),
    ("rules", "ip rule; ip -6 rule"),
    ("routes", "ip route show table all; ip -6 route show table all"),
    ("nft", "nft -s list ruleset"),
    (
        "sysctls",
        "grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward /proc/sys/net/netfilter | grep -v stable_secret | grep -v nf_conntrack_count | sort",
    ),
];

impl Snapshot {
    /// Takes one of a namespace.
    ///
    /// # Errors
    /// A program fails.
    pub fn take(netns: &str) -> Result<Self> {
        let parts = PARTS.iter().map(|(name, script)| {
            let text = Run::in_netns(netns, "sh", ["-c", script]).stdout()?;
            Ok((*name, text))
        });
        Ok(Self { parts: parts.collect::<Result<_>>()? })
    }

    /// One part: `links`, `addresses`, `rules`, `routes`, `nft` or `sysctls`; empty for any other name.
    pub fn part(&self, name: &str) -> &str {
        self.parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text)
    }

    /// The lines that differ, `-` for those only here and `+` for those only in `later`; empty when both are equal.
    pub fn diff(&self, later: &Self) -> String {
        let mut lines = String::new();
        for ((name, before), (_, after)) in self.parts.iter().zip(&later.parts) {
            if before == after {
                continue;
            }
            let only = |sign: char, one: &str, other: &str| -> String {
                let other: Vec<_> = other.lines().collect();
                let lines = one.lines().filter(|line| !other.contains(line));
                lines.map(|line| format!("{name}: {sign} {line}\n")).collect()
            };
            let found = only('-', before, after) + &only('+', after, before);
            lines += if found.is_empty() { "same lines in another order\n" } else { &found };
        }
        lines
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|(name, text)| writeln!(f, "## {name}\n{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_line_by_line() {
        let take = |text: &str| Snapshot { parts: vec![("links", text.to_owned())] };
        assert_eq!(take("a\nb\n").diff(&take("a\nb\n")), "");
        assert_eq!(take("a\nb\n").diff(&take("a\nc\n")), "links: - b\nlinks: + c\n");
        assert_eq!(take("a\nb\n").diff(&take("b\na\n")), "same lines in another order\n");
    }
}
