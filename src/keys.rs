//! Private keys: made, written and read. Nothing else draws a key's randomness.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use rand::TryRngCore as _;
use tunnel::config::PrivateKey;
use zeroize::Zeroizing;

/// Makes a private key.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn generate() -> anyhow::Result<PrivateKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rngs::OsRng.try_fill_bytes(bytes.as_mut()).context("the kernel gave no random bytes")?;
    // Clamped as `wg genkey` does it, so that other tools show the same key (RFC 7748, section 5).
    bytes[0] &= 248;
    bytes[31] = bytes[31] & 127 | 64;
    Ok(PrivateKey::from_bytes(*bytes))
}

/// The key as a key file holds it.
pub fn text(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", key.dangerously_to_base64()))
}

/// Writes a key file that its owner alone can read. An existing file is never overwritten.
///
/// # Errors
/// When there is such a file, or none can be written there.
pub fn write_new(file: &Path, key: &PrivateKey) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        new.write_all(text(key).as_bytes())?;
        new.sync_all()
    };
    write().with_context(|| format!("failed to write the key file {}", file.display()))
}

/// The key in a file, which is made with a new key when there is none. So a node has one key for its whole life, and it
/// is never anywhere else.
///
/// # Errors
/// When the file holds no key, others can read it, or it cannot be made.
pub fn keep(file: &Path) -> anyhow::Result<PrivateKey> {
    if file.try_exists().with_context(|| format!("failed to look for the key file {}", file.display()))? {
        return Ok(crate::site::read_key("the private key", file)?);
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    // Under another name first: a process that is killed here leaves no half of a key behind.
    let new = file.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove {}", new.display()));
        }
        _ => {}
    }
    let key = generate()?;
    write_new(&new, &key)?;
    std::fs::rename(&new, file).with_context(|| format!("failed to make the key file {}", file.display()))?;
    tracing::info!(file = %file.display(), public_key = %key.public_key(), "made this node's private key");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_node_keeps_the_key_that_it_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state/private.key");
        let first = keep(&file).expect("made");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(keep(&file).expect("read").public_key(), first.public_key());
        assert_ne!(generate().expect("made").public_key(), first.public_key());
    }

    #[test]
    fn a_key_file_that_is_none_is_told_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("private.key");
        std::fs::write(&file, "something else").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
        let error = format!("{:#}", keep(&file).expect_err("no key"));
        assert!(error.contains("private.key"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "something else");
    }
}
