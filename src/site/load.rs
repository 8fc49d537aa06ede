//! The site file and the key files beside it, read from disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tunnel::config::{PresharedKey, PrivateKey};
use zeroize::Zeroizing;

use super::check::{MAX_BYTES, Problem, parse, socket};
use super::types::Site;

/// Largest key file in bytes; a key is 44 characters and a line end.
const KEY_MAX_BYTES: usize = 4096;

/// Why a site cannot be read; one line for each mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read at all.
    #[error("cannot read {what} {}: {cause}", path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// Why, with the likely fix.
        cause: String,
    },
    /// The site file has mistakes.
    #[error("{}", Lines(path, problems))]
    Wrong {
        /// The site file's name.
        path: PathBuf,
        /// Its mistakes.
        problems: Vec<Problem>,
    },
    /// The file names no such node.
    #[error("{} has no node {node:?} (it has {known}); name this node with --node or NODE_NAME", path.display())]
    UnknownNode {
        /// The site file's name.
        path: PathBuf,
        /// The name that was looked for.
        node: String,
        /// The names that there are.
        known: String,
    },
}

struct Lines<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.1.iter().enumerate() {
            let end = if i + 1 < self.1.len() { "\n" } else { "" };
            let gap = if problem.position.line > 0 { "" } else { " " };
            write!(f, "{}:{gap}{problem}{end}", self.0.display())?;
        }
        Ok(())
    }
}

/// The keys that a node needs. They never print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The cluster's private key; on gateways only.
    pub private_key: Option<PrivateKey>,
    /// Preshared keys by cluster ID.
    pub preshared: BTreeMap<String, PresharedKey>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secrets)")
    }
}

/// A site as it stood on disk at one moment, for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The checked site.
    pub site: Site,
    /// The keys of the node.
    pub secrets: Secrets,
    /// The node's name.
    pub node: String,
}

impl Loaded {
    /// Reads the site file, and on a gateway the keys that it names.
    ///
    /// # Errors
    /// [`LoadError`], when a file is missing, wrong, or a key that others can read.
    pub fn read(path: &Path, node: &str) -> Result<Self, LoadError> {
        let site = read(path)?;
        let Some(found) = site.node(node) else {
            let names: Vec<&str> = site.nodes.iter().map(|node| node.name.as_str()).take(20).collect();
            let known = names.join(", ");
            return Err(LoadError::UnknownNode { path: path.to_owned(), node: node.to_owned(), known });
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let secrets = if found.gateway { Secrets::read(&site, folder)? } else { Secrets::default() };
        Ok(Self { site, secrets, node: node.to_owned() })
    }

    /// Every file that this site is made of, so that changes to any of them can be watched.
    pub fn files(&self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let gateway = self.site.node(&self.node).is_some_and(|node| node.gateway);
        let own = self.site.private_key_file.iter();
        let keys = own.chain(self.site.peers.iter().filter_map(|peer| peer.preshared_key_file.as_ref()));
        let keys = keys.filter(|_| gateway).map(|name| folder.join(name));
        std::iter::once(path.to_owned()).chain(keys).collect()
    }
}

/// Reads and checks the site file alone.
///
/// # Errors
/// [`LoadError`], when it is missing or wrong.
pub fn read(path: &Path) -> Result<Site, LoadError> {
    let bytes = read_limited("the site file", path, MAX_BYTES)?;
    parse(&bytes).map_err(|problems| LoadError::Wrong { path: path.to_owned(), problems })
}

/// The status socket that a site file names, even if the rest of the file is wrong: then above all people ask for the
/// status.
///
/// # Errors
/// [`LoadError`], when the file is missing or no YAML.
pub fn read_socket(path: &Path) -> Result<PathBuf, LoadError> {
    let bytes = read_limited("the site file", path, MAX_BYTES)?;
    let socket =
        socket(&bytes).map_err(|problem| LoadError::Wrong { path: path.to_owned(), problems: vec![problem] })?;
    Ok(super::beside(path, &socket))
}

impl Secrets {
    /// Reads the key files that a site names, relative to `folder`.
    ///
    /// # Errors
    /// [`LoadError::Unreadable`], when a key is missing, is no key, or can be read by everybody.
    pub fn read(site: &Site, folder: &Path) -> Result<Self, LoadError> {
        let mut secrets = Self::default();
        if let Some(name) = &site.private_key_file {
            secrets.private_key = Some(read_key("the private key", &folder.join(name))?);
        }
        for peer in &site.peers {
            if let Some(name) = &peer.preshared_key_file {
                let key = read_key("the preshared key", &folder.join(name))?;
                secrets.preshared.insert(peer.cluster.clone(), key);
            }
        }
        Ok(secrets)
    }
}

/// Reads one key from a file. The file's text is wiped after use and never appears in an error.
///
/// # Errors
/// [`LoadError::Unreadable`].
pub fn read_key<K: FromStr<Err = tunnel::config::KeyError>>(what: &'static str, path: &Path) -> Result<K, LoadError> {
    let failed = |cause: String| LoadError::Unreadable { what, path: path.to_owned(), cause };
    let bytes = Zeroizing::new(read_limited(what, path, KEY_MAX_BYTES)?);
    let mode = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.permissions().mode();
    if mode & 0o007 != 0 {
        let name = path.display();
        return Err(failed(format!(
            "everybody on this host may use it (mode {:04o}); run `chmod 600 {name}`",
            mode & 0o7777
        )));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(tunnel::config::KeyError.to_string()))?;
    text.parse().map_err(|error: tunnel::config::KeyError| failed(error.to_string()))
}

fn read_limited(what: &'static str, path: &Path, limit: usize) -> Result<Vec<u8>, LoadError> {
    let failed = |cause: String| LoadError::Unreadable { what, path: path.to_owned(), cause };
    let metadata = std::fs::metadata(path).map_err(|error| failed(explain(&error)))?;
    // Opening a FIFO would wait for a writer.
    if !metadata.is_file() {
        return Err(failed("it is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(|error| failed(explain(&error)))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() > limit {
        return Err(failed(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "permission denied; run as root, or as the owner of the file".to_owned()
        }
        _ => error.to_string(),
    }
}
