//! `gather`: everything that somebody needs who is asked for help, in one archive without secrets.

mod archive;
mod collect;
mod scrub;

use std::path::Path;

use anyhow::bail;
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use self::archive::{Item, part};
use self::collect::Collected;
use self::scrub::Scrubber;
use crate::kubectl::contexts::Target;
use crate::kubectl::output::{self, Format, Progress, Screen};
use crate::kubectl::show::{self, Topic};
use crate::status::VERSION;

/// Folder at the top of the archive.
const TOP: &str = "linkspan-gather";

/// Gathers from all clusters at once into `file`.
///
/// # Errors
/// No cluster gives anything, or the archive cannot be written.
pub async fn gather(targets: &[Target], file: &Path, now: Timestamp) -> anyhow::Result<()> {
    let progress = Progress::start(format!("gathering from {} clusters", targets.len()));
    let collected = join_all(targets.iter().map(|target| collect::collect(&target.client))).await;
    if collected.iter().all(|collected| collected.objects.is_empty() && collected.texts.is_empty()) {
        let why: Vec<&String> = collected.iter().filter_map(|collected| collected.missing.first()).collect();
        bail!("no cluster gives anything: {why:?}");
    }
    let topics = Topic::All.each();
    let see = async |(target, collected): (&Target, &Collected)| match collected.is_cut_off {
        true => show::Seen::cut_off(&target.name),
        false => show::see(target, &topics, None).await,
    };
    let seen = join_all(targets.iter().zip(&collected).map(see)).await;
    let summary = show::draw(&seen, &topics, Format::Wide, Screen::default())?;
    progress.now("taking out secrets");
    let missing: Vec<String> = targets
        .iter()
        .zip(&collected)
        .flat_map(|(target, collected)| collected.missing.iter().map(|why| format!("{}: {why}", target.name)))
        .collect();
    let scrubber = scrubber(targets, &collected);
    let mut items = vec![
        Item { path: "summary.txt".to_owned(), text: scrubber.text(&summary) },
        Item { path: "gathered.txt".to_owned(), text: format!("by linkspan {VERSION} at {now}\n") },
        Item { path: "missing.txt".to_owned(), text: scrubber.text(&(missing.join("\n") + "\n")) },
    ];
    for (target, collected) in targets.iter().zip(collected) {
        items.extend(clean(&scrubber, &part(&target.name), collected)?);
    }
    if let Some(item) = items.iter().find(|item| scrubber.finds(&item.text)) {
        bail!("{} still has a secret, so that nothing is written; this is a fault of this program", item.path);
    }
    archive::write(file, TOP, &items, now.as_second().unsigned_abs())?;
    drop(progress);
    for line in &missing {
        eprintln!("not gathered: {line}");
    }
    output::print(&format!(
        "{} has {} files; secrets are removed, addresses and names are not: look at it before you give it away\n",
        file.display(),
        items.len()
    ))
}

/// Knows what is secret in these clusters and in the person's own kubeconfig, and which keys are public.
fn scrubber(targets: &[Target], collected: &[Collected]) -> Scrubber {
    let mut scrubber = Scrubber::default();
    for (_, object) in collected.iter().flat_map(|collected| &collected.objects) {
        public_keys(object, &mut scrubber);
    }
    for (_, text) in collected.iter().flat_map(|collected| &collected.texts) {
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            public_keys(&value, &mut scrubber);
        }
    }
    collected.iter().flat_map(|collected| &collected.secrets).for_each(|secret| add_secret(&mut scrubber, secret));
    for target in targets {
        // As a kubeconfig has it: there, secrets are written out.
        let credential = serde_json::to_value(&target.config.auth_info).unwrap_or_default();
        for field in ["token", "password", "client-key-data"] {
            credential[field].as_str().into_iter().for_each(|secret| scrubber.add_secret(secret.as_bytes()));
        }
    }
    scrubber
}

/// A value of a Secret; certificates, names and addresses that stand there beside tokens are no secrets.
fn add_secret(scrubber: &mut Scrubber, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let is_certificate = text.contains("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY");
    let is_plain = text.len() < 128 && (text.starts_with("https://") || text.chars().all(is_of_name));
    if !is_certificate && (!is_plain || text.len() >= 32) {
        scrubber.add_secret(value);
    }
}

/// Lower case names, such as those of clusters and namespaces, and times.
fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':' | 'T' | 'Z')
}

/// Keys that objects and nodes themselves call public.
fn public_keys(value: &Value, scrubber: &mut Scrubber) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| public_keys(value, scrubber)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value {
            Value::String(text) if key == "publicKey" => scrubber.add_public(text),
            value => public_keys(value, scrubber),
        }),
        _ => {}
    }
}

fn clean(scrubber: &Scrubber, folder: &str, collected: Collected) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for (path, mut list) in collected.objects {
        let objects = list.get_mut("items").and_then(Value::as_array_mut);
        objects.into_iter().flatten().for_each(|object| scrubber.object(object));
        items.push(Item { path: format!("{folder}/{path}"), text: output::yaml(&list)? });
    }
    for (path, text) in collected.texts {
        items.push(Item { path: format!("{folder}/{path}"), text: scrubber.text(&text) });
    }
    Ok(items)
}
