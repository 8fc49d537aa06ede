//! `gather`: everything that somebody needs who is asked for help, in one archive without secrets.

mod archive;
mod collect;
mod diagnosis;
mod kinds;
mod scrub;
mod shared;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use anyhow::bail;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub use self::archive::part;
use self::archive::{Archive, Partial};
use self::collect::{Content, Foreknown, Piece, Room};
use self::diagnosis::Diagnosis;
use self::scrub::{Known, Scrubber};
use crate::kubectl::contexts::Target;
use crate::kubectl::output::{self, Format, Progress, Screen};
use crate::kubectl::picture::Answers;
use crate::kubectl::show::{self, Topic};
use crate::kubectl::stage::Shortfall;
use crate::status::VERSION;

/// Folder at the top of the archive.
const TOP: &str = "linkspan-gather";
/// Clusters that are asked at a time: what a few of them say at once fits into memory.
const AT_ONCE: usize = 4;
/// Bytes of one cluster; what it would say beyond that is left out, and told.
const CLUSTER_MAX: usize = 512 << 20;

/// Gathers from many clusters into `file`.
///
/// # Errors
/// No cluster gives anything, or the archive cannot be written. With a [`Shortfall`], it is written, and lacks a whole cluster.
pub async fn gather(targets: &[Target], file: &Path, now: Timestamp) -> anyhow::Result<()> {
    let (partial, archive) = Partial::create(file, TOP, now.as_second().unsigned_abs())?;
    let progress = Progress::start(format!("asking {} clusters what is secret", targets.len()));
    let known = stream::iter(targets).map(|target| collect::foreknow(&target.client)).buffered(AT_ONCE);
    let known: Vec<Result<Foreknown, String>> = known.collect().await;
    let reached: Vec<&Target> =
        targets.iter().zip(&known).filter(|(_, known)| known.is_ok()).map(|(target, _)| target).collect();
    let refused: Vec<Option<String>> = known.iter().map(|known| known.as_ref().err().cloned()).collect();
    let scrubber = known_of(targets, known.iter().flatten()).scrubber()?;
    let diagnosis = Diagnosis::of(targets, &refused, &progress).await;
    let scrubber = scrubber.with_public(diagnosis.public_keys());
    progress.now(format!("gathering from {} clusters", targets.len()));
    let archive = RefCell::new(archive);
    let each = targets.iter().zip(known).zip(&diagnosis.answers);
    let from = each.map(|((target, known), answers)| one(target, known, answers, &scrubber, &archive));
    let missing: Vec<Vec<String>> = stream::iter(from).buffered(AT_ONCE).try_collect().await?;
    let missing = missing.concat();
    let mut archive = archive.into_inner();
    if archive.files() == 0 {
        bail!("no cluster gives anything: {}", missing.first().map_or("there is none", String::as_str));
    }
    progress.now("summing up");
    let found = Content::Answer(serde_json::to_value(&diagnosis.findings)?);
    let (path, text) = clean(&mut scrubber.clone(), Piece { path: "diagnose.json".to_owned(), content: found })?;
    archive.add(&path, &checked(&path, text, &scrubber)?)?;
    let clean = |text: String| checked("a summary", scrubber.text(&text), &scrubber);
    archive.add("summary.txt", &clean(summary(&reached).await?)?)?;
    archive.add("gathered.txt", &format!("by linkspan {VERSION} at {now}\n"))?;
    archive.add("missing.txt", &clean(missing.join("\n") + "\n")?)?;
    let files = archive.files();
    partial.keep(archive)?;
    drop(progress);
    for line in &missing {
        eprintln!("not gathered: {line}");
    }
    output::print(&format!(
        "{} has {files} files; secrets are removed, addresses and names are not: look at it before you give it away\n",
        file.display(),
    ))?;
    let lost = targets.iter().zip(&refused).filter(|(_, refused)| refused.is_some());
    let lost: Vec<&str> = lost.map(|(target, _)| target.name.as_str()).collect();
    match lost.is_empty() {
        true => Ok(()),
        false => Err(Shortfall::left_out(format!("nothing is in it of {}", lost.join(", "))).into()),
    }
}

/// Gathers from one cluster, piece by piece, and tells what is missing.
async fn one(
    target: &Target,
    known: Result<Foreknown, String>,
    answers: &Answers,
    scrubber: &Scrubber,
    archive: &RefCell<Archive<File>>,
) -> anyhow::Result<Vec<String>> {
    let known = match known {
        Ok(known) => known,
        Err(why) => return Ok(vec![format!("{}: everything: {why}", target.name)]),
    };
    let folder = part(&target.name);
    let mut scrubber = scrubber.clone();
    let mut taken = 0;
    let mut take = |piece| {
        let (path, text) = clean(&mut scrubber, piece)?;
        let text = checked(&path, text, &scrubber)?;
        taken += text.len();
        archive.borrow_mut().add(&format!("{folder}/{path}"), &text)?;
        Ok(if taken < CLUSTER_MAX { Room::Left } else { Room::Full(taken) })
    };
    let mut missing = known.missing;
    if let Some(version) = known.version {
        take(Piece { path: "version.txt".to_owned(), content: Content::Text(format!("{version}\n")) })?;
    }
    for (path, names) in known.names {
        take(Piece { path, content: Content::Objects(names) })?;
    }
    for (path, answer) in diagnosis::files(answers) {
        match answer {
            Ok(answer) => drop(take(Piece { path, content: Content::Answer(answer) })?),
            Err(why) => missing.push(format!("{path}: {why}")),
        }
    }
    missing.extend(collect::collect(&target.client, &mut take).await?);
    Ok(missing.into_iter().map(|why| format!("{}: {why}", target.name)).collect())
}

/// Path and text of a piece without its secrets. What it calls a public key stays from then on.
fn clean(scrubber: &mut Scrubber, Piece { path, content }: Piece) -> anyhow::Result<(String, String)> {
    let text = match content {
        Content::Objects(mut objects) => {
            objects.iter_mut().for_each(|object| scrubber.object(object));
            output::yaml(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?
        }
        Content::Answer(mut answer) => {
            scrubber.object(&mut answer);
            output::json(&answer)?
        }
        Content::Text(text) => {
            // Logs are not JSON as a whole; nodes answer in it.
            if let Some(value) = path.ends_with(".json").then(|| serde_json::from_str(&text).ok()).flatten() {
                let mut keys = BTreeSet::new();
                public_keys(&value, &mut |key| {
                    keys.insert(key.to_owned());
                });
                *scrubber = scrubber.with_public(keys);
            }
            scrubber.text(&text)
        }
    };
    Ok((path, text))
}

/// The text, if no secret is left in it.
fn checked(what: &str, text: String, scrubber: &Scrubber) -> anyhow::Result<String> {
    if scrubber.finds(&text) {
        bail!("{what} still has a secret, so that nothing is written; this is a fault of this program");
    }
    Ok(text)
}

async fn summary(targets: &[&Target]) -> anyhow::Result<String> {
    let topics = Topic::All.each();
    let seen = stream::iter(targets).map(|target| show::see(target, &topics, None)).buffered(AT_ONCE);
    show::draw(&seen.collect::<Vec<_>>().await, &topics, Format::Wide, Screen::default())
}

/// What is secret in these clusters and in the person's own kubeconfig, and which keys are public.
fn known_of<'a>(targets: &[Target], clusters: impl Iterator<Item = &'a Foreknown> + Clone) -> Known {
    let mut known = Known::default();
    for object in clusters.clone().flat_map(|cluster| &cluster.keys) {
        public_keys(object, &mut |key| known.add_public(key));
    }
    clusters.flat_map(|cluster| &cluster.secrets).for_each(|secret| add_secret(&mut known, secret));
    for target in targets {
        // As a kubeconfig has it: there, secrets are written out.
        let credential = serde_json::to_value(&target.config.auth_info).unwrap_or_default();
        for field in ["token", "password", "client-key-data"] {
            credential[field].as_str().into_iter().for_each(|secret| known.add_secret(secret.as_bytes()));
        }
    }
    known
}

/// A value of a Secret; certificates, names and addresses that stand there beside tokens are no secrets.
fn add_secret(known: &mut Known, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let is_certificate = text.contains("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY");
    let is_plain = text.len() < 128 && (text.starts_with("https://") || text.chars().all(is_of_name));
    if !is_certificate && (!is_plain || text.len() >= 32) {
        known.add_secret(value);
    }
}

/// Lower case names, such as those of clusters and namespaces, and times.
fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':' | 'T' | 'Z')
}

/// Keys that objects and nodes themselves call public.
fn public_keys(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| public_keys(value, take)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value {
            Value::String(text) if key == "publicKey" => take(text),
            value => public_keys(value, take),
        }),
        _ => {}
    }
}
