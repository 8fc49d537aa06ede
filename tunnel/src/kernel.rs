//! Which Linux this is.

/// A release: version, patch level and sublevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release([u32; 3]);

/// The first that carries merged UDP through a VXLAN link. Those before lose it without a word when it came from a TUN
/// link (tailscale/tailscale issue 11026).
const MERGED_UDP_SURVIVES_VXLAN: Release = Release([6, 8, 5]);

impl Release {
    /// The running kernel's, where it tells.
    pub(crate) fn running() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
    }

    /// Reads what `uname -r` prints: `6.8.0-49-generic`, `6.18.44`, `5.15-rc3`.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|part| part.parse().ok());
        Some(Self([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)]))
    }
}

/// Whether UDP may be merged inward: a gateway may hand it on to other nodes through a VXLAN link.
///
/// # Errors
/// Why not, for people.
pub(crate) fn merged_udp_survives(release: Option<Release>) -> Result<(), String> {
    match release {
        Some(release) if release >= MERGED_UDP_SURVIVES_VXLAN => Ok(()),
        Some(Release([version, patch, sub])) => Err(format!(
            "inward not merged: kernels before 6.8.5 lose merged UDP on its way into VXLAN links, and this is {version}.{patch}.{sub}"
        )),
        None => Err(
            "inward not merged: kernels before 6.8.5 lose merged UDP on its way into VXLAN links, and this one does \
                     not tell its release"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_distributions_write_them_and_compared_as_numbers() {
        for (text, release) in [
            ("6.8.5\n", Some([6, 8, 5])),
            ("6.8.0-49-generic", Some([6, 8, 0])),
            ("5.15.0-1051.aws", Some([5, 15, 0])),
            ("5.14.0-427.13.1.el9_4.x86_64", Some([5, 14, 0])),
            ("6.18-rc3", Some([6, 18, 0])),
            ("6.10.11-linuxkit", Some([6, 10, 11])),
            ("7.0+", Some([7, 0, 0])),
            ("6", None),
            ("", None),
            ("unknown", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(Release::parse(text), release.map(Release), "{text}");
        }
        assert!(Release::running().is_some());
    }

    #[test]
    fn udp_is_merged_inward_from_6_8_5_on() {
        for (release, survives) in
            [([6, 8, 5], true), ([6, 10, 0], true), ([7, 0, 0], true), ([6, 8, 4], false), ([5, 15, 180], false)]
        {
            assert_eq!(merged_udp_survives(Some(Release(release))).is_ok(), survives, "{release:?}");
        }
        let told = merged_udp_survives(Some(Release([6, 1, 0]))).expect_err("too old");
        assert!(told.ends_with("and this is 6.1.0"), "{told}");
        assert!(merged_udp_survives(None).is_err());
    }
}
