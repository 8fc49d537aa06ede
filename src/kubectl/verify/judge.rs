//! Whether a call went as it should.

use std::net::IpAddr;

use serde::Serialize;

use super::plan::{Call, Kind};
use crate::echo::client::Answer;

/// What came of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What was to be proven.
    pub proof: Kind,
    /// Cluster ID and pod of the caller.
    pub from: String,
    /// Cluster ID of the server.
    pub to: String,
    /// What was called.
    pub target: String,
    /// Whether it is proven.
    pub ok: bool,
    /// What was seen, or what is wrong.
    pub detail: String,
}

impl Outcome {
    /// Of a call.
    pub fn of(call: &Call, result: Result<String, String>) -> Self {
        let from = format!("{}/{}", call.from.0, call.from.1);
        Self::new(call.kind, from, &call.to, call.target.clone(), result)
    }

    /// Of anything that was to be proven.
    pub fn new(proof: Kind, from: String, to: &str, target: String, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        Self { proof, from, to: to.to_owned(), target, ok, detail }
    }
}

/// Judges an answer: the right server must have seen the caller by the address that its cluster knows it by.
///
/// # Errors
/// What is wrong, with a likely reason.
pub fn answer(call: &Call, answer: &Answer) -> Result<String, String> {
    let (server, seen) = (&answer.greeting.server, answer.greeting.seen.ip().to_canonical());
    if !call.servers.contains(server) {
        return Err(format!("{server} answered, and not {}", call.servers.join(" or ")));
    }
    if call.seen_as.is_empty() {
        return Err(format!("{} does not know the caller: it has no endpoint of {}", call.to, call.from.1));
    }
    if !call.seen_as.contains(&seen) {
        let known = list(&call.seen_as);
        return Err(format!(
            "the server saw {seen} and not {known}: something on the way hides the caller, such as masquerading"
        ));
    }
    Ok(format!("{server} saw {seen}, {} µs", answer.microseconds))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::words::Greeting;

    fn call() -> Call {
        Call {
            kind: Kind::Pod,
            from: ("paris".to_owned(), "probe-0".to_owned()),
            to: "berlin".to_owned(),
            target: "10.52.1.9:8080".to_owned(),
            seen_as: vec!["10.42.0.5".parse().expect("an address")],
            servers: vec!["probe-1".to_owned()],
        }
    }

    fn seen(server: &str, seen: &str) -> Answer {
        let greeting = Greeting { server: server.to_owned(), seen: seen.parse().expect("address and port") };
        let from = "10.42.0.5:4000".parse().expect("address and port");
        Answer { resolved: Vec::new(), from, greeting, microseconds: 420 }
    }

    #[test]
    fn the_right_server_has_to_see_the_caller_as_it_is_known() {
        let judged = |server: &str, address: &str| answer(&call(), &seen(server, address));
        assert_eq!(judged("probe-1", "10.42.0.5:4000"), Ok("probe-1 saw 10.42.0.5, 420 µs".to_owned()));
        assert_eq!(judged("probe-1", "[::ffff:10.42.0.5]:4000"), Ok("probe-1 saw 10.42.0.5, 420 µs".to_owned()));
        assert_eq!(judged("probe-0", "10.42.0.5:4000"), Err("probe-0 answered, and not probe-1".to_owned()));
        let hidden = judged("probe-1", "192.168.7.2:4000").expect_err("hidden");
        assert!(hidden.starts_with("the server saw 192.168.7.2 and not 10.42.0.5"), "{hidden}");
        let unknown = answer(&Call { seen_as: Vec::new(), ..call() }, &seen("probe-1", "10.42.0.5:4000"));
        assert_eq!(unknown, Err("berlin does not know the caller: it has no endpoint of probe-0".to_owned()));
    }
}
