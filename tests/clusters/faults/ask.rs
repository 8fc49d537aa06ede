//! What is asked about a fault, and what has to be told of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{CLIENT, WEB};
use crate::commands::{everywhere, everywhere_with};
use crate::joined::{Joined, eventually};
use crate::pods;

/// What `linkspan diagnose` prints of both clusters.
pub(super) fn diagnose(joined: &Joined) -> Result<Vec<Value>> {
    let said = ask(joined, &["diagnose", "all", "-o", "json"])?;
    serde_json::from_str(&said).with_context(|| format!("no findings: {said}"))
}

/// What a command prints about both clusters, whatever its exit code.
pub(super) fn ask(joined: &Joined, args: &[&str]) -> Result<String> {
    let run = everywhere(joined, args);
    let output = run.output()?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!said.trim().is_empty(), "`{run}` said nothing ({}): {told}", output.status);
    Ok(said.into_owned())
}

/// Waits until `diagnose` finds this, and gives the finding back.
pub(super) fn found(joined: &Joined, cluster: &str, object: &str, reason: &str) -> Result<Value> {
    eventually(|| {
        let findings = diagnose(joined)?;
        let is = |finding: &&Value| {
            finding["cluster"] == cluster && finding["object"] == object && finding["reason"] == reason
        };
        let found = findings.iter().find(is).cloned();
        found.with_context(|| format!("no {reason} of {object} in {cluster}, but {}", bad(&findings)))
    })
}

/// Waits until `diagnose` calls nothing failed but for these reasons.
pub(super) fn nothing_else(joined: &Joined, reasons: &[&str]) -> Result<()> {
    let is_of = |finding: &Value| finding["reason"].as_str().is_some_and(|reason| reasons.contains(&reason));
    eventually(|| {
        let findings = diagnose(joined)?;
        let other = findings.iter().find(|finding| finding["state"] == "failed" && !is_of(finding));
        ensure!(other.is_none(), "this has nothing to do with it: {other:?}");
        Ok(())
    })
}

/// What is not good, for people.
pub(super) fn bad(findings: &[Value]) -> String {
    let bad = findings.iter().filter(|finding| finding["state"] != "ok");
    bad.map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Waits until `why` says that the way from the client to `to` is broken at this.
pub(super) fn broken(joined: &Joined, to: &str, cluster: &str, reason: &str) -> Result<()> {
    eventually(|| {
        let said = ask(joined, &["why", CLIENT, "->", to, "-o", "json"])?;
        let story: Value = serde_json::from_str(&said).with_context(|| format!("no story: {said}"))?;
        let mut hops = story["hops"].as_array().context("no hops")?.iter();
        let first = hops.find(|hop| hop["state"] == "failed").with_context(|| format!("nothing is broken: {said}"))?;
        ensure!(first["cluster"] == cluster && first["reason"] == reason, "the first broken hop is {first}");
        ensure!(first["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "it has no fix: {first}");
        Ok(())
    })
}

/// Waits until `why` tells this beside the way from the client to [`WEB`], which is not broken by it.
pub(super) fn noted(joined: &Joined, cluster: &str, reason: &str) -> Result<()> {
    eventually(|| is_noted(&ask(joined, &["why", CLIENT, "->", WEB, "-o", "json"])?, cluster, reason))
}

/// Whether a story tells this as a warning.
pub(super) fn is_noted(said: &str, cluster: &str, reason: &str) -> Result<()> {
    let story: Value = serde_json::from_str(said).with_context(|| format!("no story: {said}"))?;
    let hops = story["hops"].as_array().context("no hops")?;
    let noted = hops.iter().find(|hop| hop["cluster"] == cluster && hop["reason"] == reason);
    let noted = noted.with_context(|| format!("no {reason} of {cluster}: {said}"))?;
    ensure!(noted["state"] == "warning", "{noted}");
    ensure!(noted["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "it has no fix: {noted}");
    Ok(())
}

/// Waits until `trace` counts packets of the client at the one place and none at the next, which are two of these.
pub(super) fn lost(joined: &Joined, reason: &str, between: &[String]) -> Result<()> {
    let address = pods::address(joined.cluster("berlin")?, "berlin-2")?;
    let url = format!("http://{address}/");
    eventually(|| {
        let words = ["trace", "paris/default/on-paris-2", "to", "berlin/default/on-berlin-2:80", "-o", "json"];
        let run = everywhere_with(joined, &words, &["curl", "-sS", "--max-time", "2", &url]);
        let traces: Value = serde_json::from_slice(&run.output()?.stdout).with_context(|| format!("`{run}`"))?;
        let loss = &traces[0]["loss"];
        ensure!(loss["reason"] == reason && between.iter().any(|between| loss["between"] == *between), "{traces:#}");
        Ok(())
    })
}

/// A text in a finding.
pub(super) fn says(finding: &Value, part: &str, text: &str) -> Result<()> {
    ensure!(finding[part].as_str().is_some_and(|said| said.contains(text)), "{part} does not say {text:?}: {finding}");
    Ok(())
}
