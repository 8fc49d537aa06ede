//! Starts the person's browser. The URL, and with it the token, must not stand on a command line, where all users of the
//! machine read it: the browser is given a file that its owner alone can read, and which leads to the URL.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

/// The file that was opened; it goes with this.
pub(super) struct Opened(PathBuf);

impl Drop for Opened {
    fn drop(&mut self) {
        // It is gone, or somebody else's by now: nothing is to be done about either.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Opens a URL, where there is a screen. That it cannot be opened is told, and no failure: the URL was printed.
pub(super) fn open(url: &str) -> Option<Opened> {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let program = match (cfg!(target_os = "macos"), has_screen) {
        (true, _) => "open",
        (false, true) => "xdg-open",
        (false, false) => return None,
    };
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let file = folder.join(format!("linkspan-ui-{}.html", std::process::id()));
    let opened = write(&file, url).and_then(|opened| {
        let mut started = start(program, &file)?;
        // A program that has ended stays in the table of processes until it is waited for.
        std::thread::spawn(move || started.wait());
        Ok(opened)
    });
    opened.inspect_err(|error| eprintln!("linkspan: no browser was opened: {error:#}")).ok()
}

/// Starts a program with a file, in a process group of its own: Ctrl-C here is not meant for a browser.
fn start(program: &str, file: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.arg(file).process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("failed to run {program}"))
}

fn write(file: &Path, url: &str) -> anyhow::Result<Opened> {
    let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut new = new.with_context(|| format!("failed to write {}", file.display()))?;
    let opened = Opened(file.to_owned());
    let page =
        format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={url}\"><a href=\"{url}\">Linkspan</a>\n");
    new.write_all(page.as_bytes()).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_url_is_in_a_file_for_its_owner_alone_which_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.html");
        let opened = write(&file, "http://127.0.0.1:1/abc/").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file).unwrap().contains("0;url=http://127.0.0.1:1/abc/"));
        assert!(write(&file, "http://127.0.0.1:1/other/").is_err(), "a file of others is not written");
        drop(opened);
        assert!(!file.exists());
    }

    #[test]
    fn a_browser_has_a_process_group_of_its_own() {
        let mut started = start("sleep", Path::new("60")).unwrap();
        let id = rustix::process::Pid::from_child(&started);
        assert_eq!(rustix::process::getpgid(Some(id)).unwrap(), id);
        started.kill().unwrap();
        started.wait().unwrap();
    }
}
