//! What a node keeps on disk: its private key, and the facts of its last site for a start without the API server.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;

use super::facts::Facts;
use super::settings::Settings;

/// Largest file of facts that is read, in bytes: 500 Members with 32 gateways each take less.
const FACTS_MAX: u64 = 16 << 20;

/// Writes the facts. A process that is killed meanwhile leaves the ones before.
///
/// # Errors
/// When the folder cannot be written to.
pub(super) fn write(settings: &Settings, facts: &Facts) -> anyhow::Result<()> {
    let file = settings.facts_file();
    let failed = || format!("failed to keep {}", file.display());
    std::fs::create_dir_all(&settings.state).with_context(failed)?;
    let new = file.with_extension("new");
    let text = serde_json::to_vec(facts).with_context(failed)?;
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new).with_context(failed)?;
    opened.write_all(&text).and_then(|()| opened.sync_all()).with_context(failed)?;
    std::fs::rename(&new, &file).with_context(failed)
}

/// The facts that were kept; none when there are none, or none that this version understands.
pub(super) fn read(settings: &Settings) -> Option<Facts> {
    let file = settings.facts_file();
    let size = std::fs::metadata(&file).ok()?.len();
    let text = (size <= FACTS_MAX).then(|| std::fs::read(&file).ok())??;
    match serde_json::from_slice(&text) {
        Ok(facts) => Some(facts),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "what was kept on disk cannot be read");
            None
        }
    }
}

/// Removes everything that was kept, halves that a killed process has left too, and the folder when that leaves it empty.
/// In a pod the folder is a mount, which nobody in there can remove: the node keeps it, empty.
pub(super) fn remove(settings: &Settings) {
    let files = [settings.key_file(), settings.facts_file()];
    for file in files.iter().flat_map(|file| [file.clone(), file.with_extension("new")]) {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "a file stays behind");
            }
            _ => {}
        }
    }
    match std::fs::remove_dir(&settings.state) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            tracing::warn!(folder = %settings.state.display(), "files of others are in the folder, which stays behind");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_kept_for_the_owner_alone_until_they_are_removed() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { state: folder.path().join("state"), ..Settings::default() };
        assert_eq!(read(&settings), None);
        let facts = Facts { active: Some("a".to_owned()), ..Facts::default() };
        write(&settings, &facts).expect("written");
        write(&settings, &facts).expect("written again");
        assert_eq!(read(&settings), Some(facts));
        let mode = std::fs::metadata(settings.facts_file()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(settings.facts_file(), "{").expect("written");
        assert_eq!(read(&settings), None);
        remove(&settings);
        assert!(!settings.state.exists());
    }

    #[test]
    fn everything_that_was_kept_goes_and_nothing_of_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { state: folder.path().join("state"), ..Settings::default() };
        std::fs::create_dir(&settings.state).expect("made");
        for name in ["private.key", "private.new", "facts.json", "facts.new", "note"] {
            std::fs::write(settings.state.join(name), "").expect("written");
        }
        remove(&settings);
        let left: Vec<_> =
            std::fs::read_dir(&settings.state).expect("there").map(|file| file.expect("read").file_name()).collect();
        assert_eq!(left, ["note"]);
        std::fs::remove_file(settings.state.join("note")).expect("removed");
        remove(&settings);
        assert!(!settings.state.exists());
        remove(&settings);
    }
}
