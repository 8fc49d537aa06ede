//! `kubectl linkspan trace`: counts a flow at each place that it passes on nodes of both clusters (`plan`, pure), and tells
//! between which of them packets are lost (`judge`, pure). Counters are the kernel's, and gone afterwards.

mod judge;
mod plan;
mod run;
mod table;
#[cfg(test)]
mod tests;

use controller::node::counters::{Hook, Link};
use serde::{Deserialize, Serialize};

pub use plan::{Plan, plan};
pub use run::{Said, Sender, run};
pub use table::render;

/// What was counted on the way to one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// What made the packets: `20 echo requests, 20 answered`.
    pub sent: String,
    /// Where they were counted, in order, there and then back.
    pub spots: Vec<Counted>,
    /// Where the first of them are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

/// A place on the way, and how many packets came by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// The place.
    #[serde(flatten)]
    pub spot: Spot,
    /// How many came by; none where nobody could count.
    pub packets: Option<u64>,
    /// Why nobody could.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unseen: String,
}

/// A place that packets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spot {
    /// In which direction of the flow.
    pub way: Way,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
    /// By which kind of link.
    pub link: Link,
    /// Whether they come or go there.
    pub hook: Hook,
}

/// A direction of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// From the client to the server.
    There,
    /// Back.
    Back,
}

/// Where packets are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// One word for programs: `InTunnel`.
    pub reason: String,
    /// Between which places.
    pub between: String,
    /// How many came by before.
    pub before: u64,
    /// How many came by behind.
    pub behind: u64,
    /// What that means.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

impl Trace {
    /// Whether a place could not be counted at.
    pub fn is_blind(&self) -> bool {
        self.spots.iter().any(|counted| counted.packets.is_none())
    }
}

/// Exit code for several addresses of one service, of which only those are of interest that somebody called: 1 when packets
/// were lost or none was sent, 3 when it could not be counted everywhere, else 0.
pub fn exit_code(traces: &[Trace]) -> u8 {
    if traces.iter().any(|trace| trace.loss.is_some()) {
        1
    } else if traces.iter().any(Trace::is_blind) {
        3
    } else {
        0
    }
}
