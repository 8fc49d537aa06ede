//! References of container images: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]` (github.com/distribution/reference).

/// The parts of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// Where it is from, without tag and digest.
    pub repository: &'a str,
    /// Its name there.
    pub tag: Option<&'a str>,
    /// What it is, with the algorithm: `sha256:…`.
    pub digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Takes a reference apart.
    pub fn of(reference: &'a str) -> Self {
        let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash belongs to the port of the registry.
        let (repository, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        Self { repository, tag, digest }
    }
}
