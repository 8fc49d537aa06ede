//! The archive of `gather`, from pods that run.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testbed::Run;

use crate::commands::everywhere;
use crate::joined::{CLUSTERS, Joined, SYSTEM, eventually};

/// Shortest value of a Secret that is looked for; shorter ones are names.
const SECRET_MIN: usize = 32;

/// It has logs of each pod and the state of each node, and neither a value of a Secret nor a private key of a node.
///
/// # Errors
/// It lacks something, or has something too much.
pub fn has_no_secret(joined: &mut Joined) -> Result<()> {
    // On a busy machine what is gathered may be late.
    let files = eventually(|| gathered(joined))?;
    for name in CLUSTERS {
        let cluster = joined.cluster(name)?;
        for node in &cluster.nodes {
            let key = node.inside(Run::new("cat", ["/var/lib/linkspan/private.key"]))?.stdout();
            // Only nodes that may be gateways have one.
            if let Ok(key) = key {
                refuse(&files, key.trim())?;
            }
        }
        let template = "{{range .items}}{{range .data}}{{.}}{{\"\\n\"}}{{end}}{{end}}";
        let secrets =
            cluster.kubectl(["get", "secrets", "-n", SYSTEM, "-o", &format!("go-template={template}")])?.stdout()?;
        for secret in secrets.lines() {
            let decoded = Run::new("base64", ["-d"]).input(secret).stdout()?;
            if decoded.len() >= SECRET_MIN && !decoded.contains("CERTIFICATE") {
                refuse(&files, &decoded)?;
                refuse(&files, secret)?;
            }
        }
    }
    Ok(())
}

/// The files of an archive that lacks nothing.
fn gathered(joined: &Joined) -> Result<BTreeMap<String, String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gathered.tar.gz");
    everywhere(joined, &["gather", "--file", &file.display().to_string()]).done()?;
    let files = unpacked(&file)?;
    for name in CLUSTERS {
        for node in &joined.cluster(name)?.nodes {
            let path = format!("/nodes/{}/status.json", node.name);
            ensure!(files.keys().any(|file| file.ends_with(&path)), "{path} is not in {:?}", files.keys());
        }
    }
    for component in ["controller", "node", "dns"] {
        let has = |path: &String| path.contains(&format!("/logs/{SYSTEM}/linkspan-{component}-"));
        ensure!(files.keys().any(has), "there is no log of {component}");
    }
    Ok(files)
}

fn refuse(files: &BTreeMap<String, String>, secret: &str) -> Result<()> {
    let found = files.iter().find(|(_, text)| text.contains(secret)).map(|(path, _)| path);
    ensure!(found.is_none(), "{found:?} has a secret of {} characters", secret.len());
    Ok(())
}

fn unpacked(file: &Path) -> Result<BTreeMap<String, String>> {
    let file = std::fs::File::open(file).context("there is no archive")?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(entry.path()?.display().to_string(), text);
    }
    Ok(files)
}
