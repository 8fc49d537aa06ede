//! What a server can do with the address that it saw, and whom a router on the way names.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::between_sites;
use crate::lab::pod::{Question, Transport};
use crate::lab::{HTTP_PORT, Lab, Place, Row, Run, each};

/// A pod calls one of another site; that one then begins a connection of its own to the address that it saw, and must
/// reach exactly the pod that called.
///
/// # Errors
/// A client cannot be run.
pub fn callback(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    between_sites(lab, |from, to| {
        let server = to.pods().last().context("a site has pods")?;
        let found = each(from.pods(), |client| called_back(lab, client, server))?.concat();
        let total = found.len();
        let failures = found.into_iter().flatten().collect();
        Ok(Row::counted("call back", &server.label(), &from.name, total, "clients reached by what was seen", failures))
    })
}

/// What went wrong, for each address of the server.
fn called_back(lab: &Lab, client: Place<'_>, server: Place<'_>) -> Result<Vec<Option<String>>> {
    let called = server.addresses_seen_from(client.site);
    let questions: Vec<_> = called.iter().map(|to| Question { over: Transport::Tcp, to: *to }).collect();
    let answers = lab.ask(&client.pod.netns, &questions)?;
    answers
        .iter()
        .map(|answer| {
            let seen = match &answer.seen {
                Ok(seen) => *seen,
                Err(error) => return Ok(Some(format!("{} calls {}: {error}", client.label(), answer.question.to))),
            };
            let url = format!("http://{}/", std::net::SocketAddr::new(seen, HTTP_PORT));
            let output = Run::in_pod(&server.pod.netns, "curl", ["-sS", "-m", "5", &url]).output()?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            // The client knows the server by the address that it had called.
            let expected = format!("{} saw {}", client.label(), answer.question.to);
            Ok((said != expected)
                .then(|| format!("{} fetches {url}: `{said}` instead of `{expected}`", server.label())))
        })
        .collect()
}

/// A packet that ends on its way at another site's gateway: the ICMP error finds the socket that the packet came from,
/// and names the gateway by an address of its own in the pods' network.
///
/// # Errors
/// `ping` cannot be run.
pub fn hops(lab: &mut Lab) -> Result<Vec<Row>> {
    let lab = &*lab;
    between_sites(lab, |from, to| {
        let client = from.pods().next().context("a site has pods")?;
        let target = to.pods().next().context("a site has pods")?;
        let addresses = target.addresses_seen_from(from);
        let found = addresses.iter().zip(&to.gateway().bridge).map(|(address, bridge)| {
            // Its flannel link has the first address of the prefix, its bridge the next.
            let own = [bridge.network(), bridge.addr()].map(|own| to.seen_from(from, own));
            let told = expired(client, *address)?;
            let good = told.split(' ').next().is_some_and(|hop| own.iter().any(|own| own.to_string() == hop));
            Ok((!good).then(|| format!("{} to {address}: told by `{told}` instead of {own:?}", client.label())))
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        let total = found.len();
        let failures = found.into_iter().flatten().collect();
        Ok(Row::counted(
            "second hop",
            &client.label(),
            &to.name,
            total,
            "gateways named by their own address",
            failures,
        ))
    })
}

/// What `ping` says of the second hop: the client's gateway is the first, the other site's the second.
fn expired(client: Place<'_>, address: IpAddr) -> Result<String> {
    let ping = ["-n", "-c", "1", "-W", "3", "-t", "2", &address.to_string()];
    let output = Run::in_pod(&client.pod.netns, "ping", ping).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().find_map(|line| line.strip_prefix("From ")).unwrap_or_default().to_owned())
}
