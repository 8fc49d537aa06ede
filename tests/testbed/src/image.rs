//! Container images made without a container engine: docker-archives of one layer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::command::Run;

/// An image that is being put together.
pub struct Image {
    reference: String,
    layer: Builder<Vec<u8>>,
    entrypoint: Vec<String>,
    placed: BTreeSet<String>,
}

impl Image {
    /// An empty image under a name such as `testbed.local/tools:1`.
    pub fn new(reference: &str) -> Self {
        let layer = Builder::new(Vec::new());
        Self { reference: reference.to_owned(), layer, entrypoint: Vec::new(), placed: BTreeSet::new() }
    }

    /// What a container of it runs.
    #[must_use]
    pub fn entrypoint(mut self, command: &[&str]) -> Self {
        self.entrypoint = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Adds a program or another executable file of this machine.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("failed to read {} for an image", file.display()))?;
        self.add(path, EntryType::Regular, 0o755, &content, None)
    }

    /// Adds a dynamically linked program of this machine under its own path, with its libraries.
    ///
    /// # Errors
    /// The program or a library cannot be read.
    pub fn program_with_libraries(&mut self, path: &str) -> Result<()> {
        self.program(path, Path::new(path))?;
        for library in libraries(&Run::new("ldd", [path]).stdout()?) {
            self.program(library, Path::new(library))?;
        }
        Ok(())
    }

    /// Adds a text file.
    ///
    /// # Errors
    /// The path does not fit into an archive.
    pub fn text(&mut self, path: &str, text: &str) -> Result<()> {
        self.add(path, EntryType::Regular, 0o644, text.as_bytes(), None)
    }

    /// Adds a folder that everybody may write to.
    ///
    /// # Errors
    /// The path does not fit into an archive.
    pub fn open_folder(&mut self, path: &str) -> Result<()> {
        self.add(path, EntryType::Directory, 0o1777, &[], None)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The path does not fit into an archive.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, EntryType::Symlink, 0o777, &[], Some(target))
    }

    /// Writes the image as a docker-archive: `docker load` and `ctr images import` take it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(self, file: &Path) -> Result<()> {
        let describe = || format!("failed to write the image {}", file.display());
        let layer = self.layer.into_inner().with_context(describe)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &layer);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [self.reference], "Layers": ["layer.tar"]}]);
        let mut archive = Builder::new(File::create(file).with_context(describe)?);
        for (name, content) in [
            ("config.json", config.to_string().as_bytes()),
            ("layer.tar", layer.as_slice()),
            ("manifest.json", manifest.to_string().as_bytes()),
        ] {
            let mut header = header(EntryType::Regular, 0o644, content.len());
            archive.append_data(&mut header, name, content).with_context(describe)?;
        }
        archive.finish().with_context(describe)
    }

    fn add(&mut self, path: &str, kind: EntryType, mode: u32, content: &[u8], target: Option<&str>) -> Result<()> {
        let path = path.trim_start_matches('/');
        if !self.placed.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(kind, mode, content.len());
        match target {
            Some(target) => self.layer.append_link(&mut header, path, target),
            None => self.layer.append_data(&mut header, path, content),
        }
        .with_context(|| format!("failed to add /{path} to the image {}", self.reference))
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

/// As Go, and with it every container runtime, calls this machine's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The paths in what `ldd` prints: `libc.so.6 => /lib/libc.so.6 (0x1)` and, of the loader, `/lib64/ld.so (0x2)`.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x7ffc)\n\tlibc.so.6 => /lib/x86/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7e)\n";
        assert_eq!(libraries(listed).collect::<Vec<_>>(), ["/lib/x86/libc.so.6", "/lib64/ld.so"]);
    }

    #[test]
    fn an_image_names_its_layer_by_the_digest_of_its_content() {
        let file = std::env::temp_dir().join(format!("testbed-image-{}.tar", std::process::id()));
        let mut image = Image::new("testbed.local/x:1").entrypoint(&["/x"]);
        image.text("/x", "x").unwrap();
        image.link("/y", "x").unwrap();
        image.text("/x", "added twice, kept once").unwrap();
        image.write(&file).unwrap();
        let sum = Run::new("sh", ["-c", &format!("tar -xOf {} layer.tar | sha256sum", file.display())]).stdout();
        let config = Run::new("tar", ["-xOf", &file.to_string_lossy(), "config.json"]).stdout().unwrap();
        let list = format!("tar -xOf {} layer.tar | tar -t", file.display());
        assert!(config.contains(&format!("sha256:{}", &sum.unwrap()[..64])), "{config}");
        assert_eq!(Run::new("sh", ["-c", &list]).stdout().unwrap(), "x\ny\n");
        fs::remove_file(&file).unwrap();
    }
}
