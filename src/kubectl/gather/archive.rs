//! One compressed archive.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use tempfile::TempPath;

/// An archive that is being written.
pub struct Archive<W: Write> {
    builder: Builder<GzEncoder<W>>,
    top: &'static str,
    time: u64,
    files: usize,
}

impl<W: Write> Archive<W> {
    fn new(to: W, top: &'static str, time: u64) -> Self {
        Self { builder: Builder::new(GzEncoder::new(to, Compression::default())), top, time, files: 0 }
    }

    /// Writes a file; in its path there are slashes between names.
    ///
    /// # Errors
    /// The disk is full, or breaks.
    pub fn add(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(self.time);
        header.set_size(text.len() as u64);
        self.builder.append_data(&mut header, format!("{}/{path}", self.top), text.as_bytes())?;
        self.files += 1;
        Ok(())
    }

    /// Files that were written.
    pub fn files(&self) -> usize {
        self.files
    }

    fn end(self) -> anyhow::Result<W> {
        Ok(self.builder.into_inner()?.finish()?)
    }
}

/// The file of an archive, for its owner alone. It has its name when it is whole; until then, it is a hidden one beside it,
/// which goes with this, and which only a command that is killed leaves.
pub struct Partial {
    path: PathBuf,
    hidden: TempPath,
}

impl Partial {
    /// Makes the file; `time` is that of what is in it, in seconds since 1970.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn create(path: &Path, top: &'static str, time: u64) -> anyhow::Result<(Self, Archive<File>)> {
        // Looked for now, and not only when all has been gathered; links count, wherever they lead.
        if path.symlink_metadata().is_ok() {
            bail!("failed to make {}: it is there already", path.display());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".partial").tempfile_in(folder);
        let (file, hidden) = hidden.with_context(|| format!("failed to make {}", path.display()))?.into_parts();
        Ok((Self { path: path.to_owned(), hidden }, Archive::new(file, top, time)))
    }

    /// Writes the end of the archive, and gives the file its name.
    ///
    /// # Errors
    /// The disk is full, or breaks, or there is a file of that name meanwhile.
    pub fn keep(self, archive: Archive<File>) -> anyhow::Result<()> {
        let Self { path, hidden } = self;
        let written = archive.end().and_then(|file| Ok(file.sync_all()?));
        written.with_context(|| format!("failed to write {}", path.display()))?;
        hidden.persist_noclobber(&path).with_context(|| format!("failed to make {}", path.display()))
    }
}

/// A name that can be a part of a path: what is no letter, digit, dot, dash or underscore becomes a dash.
pub fn part(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    // Neither `..` nor nothing.
    if name.trim_matches('.').is_empty() { format!("-{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_gives_back_what_was_put_in() {
        let mut archive = Archive::new(Vec::new(), "top", 7);
        archive.add("paris/events.yaml", "a: 1\n").unwrap();
        let packed = archive.end().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut entries = archive.entries().expect("a tar file");
        let mut entry = entries.next().expect("one entry").expect("well formed");
        assert_eq!(entry.path().expect("a path").to_string_lossy(), "top/paris/events.yaml");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        assert_eq!((text.as_str(), entry.header().mtime().expect("a time")), ("a: 1\n", 7));
    }

    #[test]
    fn what_is_not_whole_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.gz");
        let (partial, mut archive) = Partial::create(&path, "top", 7).unwrap();
        archive.add("a", "b").unwrap();
        let names = || -> Vec<_> {
            let entries = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            entries.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        let hidden = names();
        assert!(
            hidden.len() == 1 && hidden[0].starts_with(".x.tar.gz.") && hidden[0].ends_with(".partial"),
            "{hidden:?}"
        );
        drop(partial);
        assert_eq!(names(), [""; 0]);
        let (late, whole) = Partial::create(&path, "top", 7).unwrap();
        let (partial, archive) = Partial::create(&path, "top", 7).unwrap();
        partial.keep(archive).unwrap();
        assert!(path.exists());
        let refused = Partial::create(&path, "top", 7).map(drop).unwrap_err().to_string();
        assert!(refused.ends_with("x.tar.gz: it is there already"), "{refused}");
        assert!(late.keep(whole).is_err(), "another one was faster");
        assert_eq!(names(), ["x.tar.gz"]);
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_archive() {
        assert_eq!(part("paris/default"), "paris-default");
        assert_eq!(part("../../etc"), "..-..-etc");
        assert_eq!([part(".."), part("")], ["-..", "-"]);
        assert_eq!(part("linkspan-node-x2x4z"), "linkspan-node-x2x4z");
    }
}
