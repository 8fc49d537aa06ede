//! What versions of Kubernetes take, where that makes a difference.

use k8s_openapi::apimachinery::pkg::version::Info;

use super::value::Distribution;

/// The version of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    major: u32,
    minor: u32,
}

/// What one that does not tell is taken for: the oldest that Linkspan is for.
impl Default for ServerVersion {
    fn default() -> Self {
        Self::new(1, 31)
    }
}

impl ServerVersion {
    /// The version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// What an API server says of itself, or of the one that it behaves like. Vendors append to numbers: `34+`.
    pub fn of(info: &Info) -> Option<Self> {
        let number = |emulated: &Option<String>, own: &str| {
            let text = emulated.as_deref().filter(|text| !text.is_empty()).unwrap_or(own);
            text.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
        };
        Some(Self::new(number(&info.emulation_major, &info.major)?, number(&info.emulation_minor, &info.minor)?))
    }

    /// What serves for `wanted` in Services and EndpointSlices. A newer value is refused with the whole object, and hints
    /// for nodes are in no schema before 1.33.
    ///
    /// On by default: `PreferClose` from 1.31 (feature gate `ServiceTrafficDistribution`), the others from 1.34
    /// (`PreferSameTrafficDistribution`).
    pub fn serve(self, wanted: Option<Distribution>) -> Option<Distribution> {
        match wanted? {
            _ if self < Self::new(1, 31) => None,
            Distribution::PreferSameZone | Distribution::PreferSameNode if self < Self::new(1, 34) => {
                Some(Distribution::PreferClose)
            }
            served => Some(served),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_api_server_gets_the_nearest_distribution_that_it_takes() {
        use Distribution::{PreferClose, PreferSameNode, PreferSameZone};
        let served = |minor| {
            [PreferClose, PreferSameZone, PreferSameNode].map(|one| ServerVersion::new(1, minor).serve(Some(one)))
        };
        assert_eq!(served(34), [Some(PreferClose), Some(PreferSameZone), Some(PreferSameNode)]);
        assert_eq!(served(33), [Some(PreferClose); 3]);
        assert_eq!(served(31), [Some(PreferClose); 3]);
        assert_eq!(served(30), [None; 3]);
        assert_eq!(ServerVersion::new(2, 0).serve(Some(PreferSameNode)), Some(PreferSameNode));
        assert_eq!(ServerVersion::new(1, 34).serve(None), None);
    }

    #[test]
    fn versions_are_read_as_vendors_write_them() {
        let read = |minor: &str, emulated: Option<&str>| {
            let info = Info {
                major: "1".into(),
                minor: minor.into(),
                emulation_minor: emulated.map(Into::into),
                ..Info::default()
            };
            ServerVersion::of(&info)
        };
        assert_eq!(read("34", None), Some(ServerVersion::new(1, 34)));
        assert_eq!(read("30+", None), Some(ServerVersion::new(1, 30)));
        assert_eq!(read("34", Some("33")), Some(ServerVersion::new(1, 33)));
        assert_eq!(read("", None), None);
    }
}
