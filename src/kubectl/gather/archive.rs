//! One compressed archive.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path, with slashes between.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Writes an archive for its owner alone; `time` is that of its files, in seconds since 1970.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write(file: &Path, top: &str, items: &[Item], time: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let shown = file.display();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let opened = opened.with_context(|| format!("failed to make {shown}"))?;
    pack(opened, top, items, time)
        .and_then(|file| Ok(file.sync_all()?))
        .with_context(|| format!("failed to write {shown}"))
}

fn pack<W: Write>(to: W, top: &str, items: &[Item], time: u64) -> anyhow::Result<W> {
    let mut archive = Builder::new(GzEncoder::new(to, Compression::default()));
    for item in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(time);
        header.set_size(item.text.len() as u64);
        archive.append_data(&mut header, format!("{top}/{}", item.path), item.text.as_bytes())?;
    }
    Ok(archive.into_inner()?.finish()?)
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
        let items = [Item { path: "paris/events.yaml".to_owned(), text: "a: 1\n".to_owned() }];
        let packed = pack(Vec::new(), "top", &items, 7).expect("memory takes it");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut entries = archive.entries().expect("a tar file");
        let mut entry = entries.next().expect("one entry").expect("well formed");
        assert_eq!(entry.path().expect("a path").to_string_lossy(), "top/paris/events.yaml");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        assert_eq!((text.as_str(), entry.header().mtime().expect("a time")), ("a: 1\n", 7));
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_archive() {
        assert_eq!(part("paris/default"), "paris-default");
        assert_eq!(part("../../etc"), "..-..-etc");
        assert_eq!([part(".."), part("")], ["-..", "-"]);
        assert_eq!(part("linkspan-node-x2x4z"), "linkspan-node-x2x4z");
    }
}
