//! Follows the site file and the key files: by inotify on their folders, so that edits, renames and the symlink swap
//! of a Kubernetes volume are all seen, and by the clock in case an event was lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};

use super::{Context, plan_now};
use crate::site::Loaded;

/// Editors and kubelet write several files: what is read at once may be half of a change, so it is read again.
const SETTLE: Duration = Duration::from_millis(50);
/// Longest time until a change is seen whose event was lost.
const PERIOD: Duration = Duration::from_secs(30);
/// Room for some dozens of events with file names.
const EVENTS: usize = 4096;

type Events = EventStream<[u8; EVENTS]>;

/// What is known of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A file has been written to its end, or put in its place.
    Whole,
    /// Nothing has happened for a while since, or nothing has happened at all for longer.
    Settled,
}

/// Puts each good new version of the site into use, and refuses each bad one.
///
/// # Errors
/// When inotify cannot be had.
pub(super) async fn follow(context: Context, file: PathBuf) -> anyhow::Result<()> {
    loop {
        let files = context.sites.borrow().as_ref().map_or_else(|| vec![file.clone()], |loaded| loaded.files(&file));
        // Watched first, read then: a change in between is seen twice rather than never.
        let mut events = watch(&files)?;
        read(&context, &file, Change::Settled).await?;
        if change(&mut events).await == Change::Whole {
            read(&context, &file, Change::Whole).await?;
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// Waits for a change: until a file is whole, or for a while after anything else.
async fn change(events: &mut Events) -> Change {
    let whole = EventMask::CLOSE_WRITE | EventMask::MOVED_TO;
    let mut end = Instant::now() + PERIOD;
    loop {
        match tokio::time::timeout_at(end.into(), events.next()).await {
            Err(_) => return Change::Settled,
            Ok(Some(Ok(event))) if event.mask.intersects(whole) => return Change::Whole,
            Ok(Some(_)) => end = end.min(Instant::now() + SETTLE),
            // No more will come; the clock goes on.
            Ok(None) => {
                tokio::time::sleep_until(end.into()).await;
                return Change::Settled;
            }
        }
    }
}

fn watch(files: &[PathBuf]) -> anyhow::Result<Events> {
    let inotify = Inotify::init().context("failed to make an inotify instance")?;
    let changes = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::ATTRIB
        | WatchMask::ONLYDIR;
    for folder in folders(files) {
        // A folder that is missing now is found again by the clock.
        if let Err(error) = inotify.watches().add(&folder, changes) {
            tracing::debug!(folder = %folder.display(), %error, "cannot watch a folder");
        }
    }
    inotify.into_event_stream([0; EVENTS]).context("failed to read inotify events")
}

/// The folders that names and their targets are in.
fn folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for file in files {
        let mut name = file.clone();
        // At most as many links as the kernel follows (`MAXSYMLINKS` of `linux/namei.h`).
        for _ in 0..40 {
            folders.insert(folder(&name));
            match std::fs::read_link(&name) {
                Ok(target) => name = folder(&name).join(target),
                Err(_) => break,
            }
        }
        folders.extend(std::fs::canonicalize(file).ok().map(|target| folder(&target)));
    }
    folders
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads the site. Before a change has settled, a version that is wrong may be half of a right one.
async fn read(context: &Context, file: &Path, change: Change) -> anyhow::Result<()> {
    let (path, node) = (file.to_owned(), context.options.node.clone());
    let read = move || -> anyhow::Result<Loaded> {
        let loaded = Loaded::read(&path, &node)?;
        plan_now(&loaded)?;
        Ok(loaded)
    };
    let before = context.sites.borrow().clone();
    match tokio::task::spawn_blocking(read).await.context("reading the site file panicked")? {
        Ok(loaded) if before.as_deref() == Some(&loaded) => {
            if context.board.site_refused(None) {
                tracing::info!("the site file is again the one in use");
            }
        }
        Ok(loaded) => {
            if let Some(before) = &before {
                restart_notes(before, &loaded);
            }
            tracing::info!(file = %file.display(), "the site file changed and is in use");
            context.accept(loaded, Instant::now());
        }
        Err(_) if change == Change::Whole => {}
        Err(error) => {
            let text = format!("{error:#}");
            if context.board.site_refused(Some(text.clone())) {
                tracing::error!("the changed site file is refused, the one before stays in use:\n{text}");
            }
        }
    }
    Ok(())
}

/// Tells what of a change waits for a restart.
fn restart_notes(old: &Loaded, new: &Loaded) {
    if old.site.status != new.site.status {
        tracing::warn!("changes of `status` in the site file take effect at the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_on_the_way_to_a_linked_file_is_watched() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("volume/..2026")).expect("made");
        std::fs::write(at("volume/..2026/site.yaml"), "").expect("written");
        std::os::unix::fs::symlink("..2026", at("volume/..data")).expect("linked");
        std::os::unix::fs::symlink("..data/site.yaml", at("volume/site.yaml")).expect("linked");
        let found = folders(&[at("volume/site.yaml")]);
        assert!(found.contains(&at("volume")), "{found:?}");
        assert!(found.contains(&at("volume/..data")), "{found:?}");
        let real = std::fs::canonicalize(at("volume/..2026")).expect("there");
        assert!(found.contains(&real), "{found:?}");
        assert_eq!(folder(Path::new("site.yaml")), Path::new("."));
    }

    #[tokio::test]
    async fn what_is_whole_is_told_at_once_and_anything_else_when_it_has_settled() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let mut events = watch(&[at("site.yaml")]).expect("inotify");
        std::fs::write(at("site.yaml"), "cluster: paris").expect("written");
        assert_eq!(change(&mut events).await, Change::Whole);
        std::fs::rename(at("site.yaml"), at("old.yaml")).expect("renamed");
        assert_eq!(change(&mut events).await, Change::Whole, "into its place, for all that is known");
        std::fs::remove_file(at("old.yaml")).expect("removed");
        let begin = Instant::now();
        assert_eq!(change(&mut events).await, Change::Settled);
        assert!((SETTLE..PERIOD).contains(&begin.elapsed()), "after {:?}", begin.elapsed());
    }
}
