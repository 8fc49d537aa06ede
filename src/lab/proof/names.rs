//! Names of other sites' services, asked with `dig` and used with `curl` in pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;

use super::between_sites;
use crate::lab::{Lab, Place, Row, Run, Site, each};

/// Each pod resolves each site's service to its cluster IPs, and host names of the headless service to the pods.
///
/// # Errors
/// `dig` cannot be run.
pub fn names(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    between_sites(lab, |from, to| {
        let found = each(from.pods(), |place| {
            let mut found = vec![resolves(place, &to.web_name(), &to.vips_seen_from(from))?];
            // One pod of the other site is enough for its host name; its own site has as many askers.
            let Some(target) = to.pods().next() else { return Ok(found) };
            let name = format!("{}.{}.db.default.svc.clusterset.local", target.pod.name, to.name);
            found.push(resolves(place, &name, &target.addresses_seen_from(from))?);
            Ok(found)
        })?;
        let found = found.concat();
        Ok(Row::counted(
            "dig",
            &from.name,
            &to.name,
            found.len(),
            "names resolved",
            found.into_iter().flatten().collect(),
        ))
    })
}

/// Each pod fetches a page from each other site's service by name; the page says whom the server saw.
///
/// # Errors
/// `curl` cannot be run.
pub fn http(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    between_sites(lab, |from, to| {
        let found = each(from.pods(), |place| {
            let sources = place.addresses_seen_from(to);
            sources.iter().map(|source| fetches(place, to, *source)).collect::<Result<Vec<_>>>()
        })?;
        let found = found.concat();
        let total = found.len();
        let failures = found.into_iter().flatten().collect();
        Ok(Row::counted("curl", &from.name, &to.name, total, "pages by name, source kept", failures))
    })
}

fn resolves(place: Place<'_>, name: &str, expected: &[IpAddr]) -> Result<Option<String>> {
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    let mut command = vec!["+short", "+timeout=2", "+tries=2", name, "A"];
    command.extend([name, "AAAA"]);
    let output = Run::in_pod(&place.pod.netns, "dig", command).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: BTreeSet<IpAddr> = said.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let good = output.status.success() && found == expected;
    Ok((!good).then(|| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = if said.trim().is_empty() { errors } else { said };
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{} asks for {name}: `{said}` instead of {expected:?}", place.label())
    }))
}

fn fetches(place: Place<'_>, to: &Site, source: IpAddr) -> Result<Option<String>> {
    let family = if source.is_ipv4() { "-4" } else { "-6" };
    let url = format!("http://{}/", to.web_name());
    let output = Run::in_pod(&place.pod.netns, "curl", ["-sS", family, "-m", "5", &url]).output()?;
    let body = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let good = to.pods().any(|server| body == format!("{} saw {source}", server.label()));
    Ok((!good).then(|| {
        let said = if body.is_empty() { String::from_utf8_lossy(&output.stderr).trim().to_owned() } else { body };
        format!("{} fetches {url}: `{said}` where the server should have seen {source}", place.label())
    }))
}
