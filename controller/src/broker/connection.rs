//! What the own Member says of its connection to the broker.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;

use super::lease::Rival;
use super::properties::Foreign;
use crate::members::condition::{Finding, Holds};

/// Most addresses of the broker that are remembered.
const MOST_ADDRESSES: usize = 16;

/// Whether this cluster has joined, and how it stands with the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Joined {
    /// It has a credential, which the broker takes as far as is known.
    Yes { server: String, expires: Timestamp },
    /// It has none, or one that is of no use: reason, and a sentence with a fix.
    No { reason: &'static str, message: String },
}

/// Who holds this cluster's ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody has been asked yet.
    Unknown,
    /// This cluster. Another living one may want it, too.
    Mine { rival: Option<Rival> },
    /// Another living cluster.
    Other { holder: String },
}

impl Hold {
    /// UID of another living cluster that holds the ID.
    pub fn other(&self) -> Option<&str> {
        match self {
            Self::Other { holder } => Some(holder),
            Self::Unknown | Self::Mine { .. } => None,
        }
    }

    /// Whether a copy of this cluster lives.
    pub fn has_copy(&self) -> bool {
        matches!(self, Self::Mine { rival: Some(Rival::Copy) })
    }
}

/// Why the broker does not take the own Member as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Reason of a condition.
    pub reason: &'static str,
    pub message: String,
}

/// Whether other programs in this cluster are told which one it is (KEP-2149).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// They have not been looked at yet.
    Unknown,
    /// By ClusterProperties.
    Yes,
    /// The API server has no ClusterProperties.
    NoKind,
    /// Somebody else's say something else.
    Otherwise(Vec<Foreign>),
}

/// The state of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connection {
    pub joined: Joined,
    /// Addresses at which the broker has been called.
    pub addresses: BTreeSet<IpAddr>,
    pub hold: Hold,
    /// Since when the broker cannot be reached, and why.
    pub unreachable: Option<(Timestamp, String)>,
    /// Why the broker refuses the own Member.
    pub refused: Option<Refusal>,
    /// What ClusterProperties say.
    pub told: Told,
}

impl Connection {
    /// Before anything is known.
    pub fn new() -> Self {
        let message = "the controller has just started".to_owned();
        Self {
            joined: Joined::No { reason: "Starting", message },
            addresses: BTreeSet::new(),
            hold: Hold::Unknown,
            unreachable: None,
            refused: None,
            told: Told::Unknown,
        }
    }

    /// Takes note of the addresses that the broker has now. A name may have others each time that it is asked for them.
    pub fn called_at(&mut self, now: BTreeSet<IpAddr>) {
        self.addresses.extend(&now);
        if self.addresses.len() > MOST_ADDRESSES {
            self.addresses = now.into_iter().take(MOST_ADDRESSES).collect();
        }
    }

    /// Whether this cluster may write on the broker, and take over what is there.
    pub fn is_ours(&self) -> bool {
        matches!((&self.joined, &self.hold), (Joined::Yes { .. }, Hold::Mine { .. }))
    }

    /// Whether it may write on the broker, and the broker answers. What waits is looked at again when it is back.
    pub fn is_open(&self) -> bool {
        self.is_ours() && self.unreachable.is_none()
    }

    /// Whether this cluster has left, and not joined since.
    pub fn has_left(&self) -> bool {
        matches!(self.joined, Joined::No { reason: "Left", .. })
    }

    /// Conditions `Joined`, `BrokerReachable`, `Unique`, `Published` and `Properties`. `on_broker`: the own Member is there.
    pub fn findings(&self, on_broker: bool) -> Vec<Finding> {
        vec![self.joined(), self.reachable(), self.unique(), self.published(on_broker), self.properties()]
    }

    /// What keeps the own Member from being used, beside what it claims.
    pub fn obstacle(&self) -> Option<Finding> {
        match (&self.joined, &self.hold) {
            (Joined::No { reason, message }, _) => Some(Finding::bad("Ready", reason, message.clone())),
            (_, Hold::Other { .. }) => Some(Finding { kind: "Ready", ..self.unique() }),
            _ => None,
        }
    }

    fn joined(&self) -> Finding {
        match &self.joined {
            Joined::Yes { server, expires } => {
                let message =
                    format!("joined at {server}; the credential expires at {expires} and renews itself before");
                Finding::good("Joined", "Joined", message)
            }
            Joined::No { reason, message } => Finding::bad("Joined", reason, message.clone()),
        }
    }

    fn reachable(&self) -> Finding {
        match (&self.unreachable, &self.joined) {
            (Some((since, error)), _) => {
                let since = Timestamp::from_second(since.as_second()).unwrap_or(*since);
                let message = format!(
                    "not reached since {since}; everything goes on with the last known state, changes follow when it is \
                     back. {error}"
                );
                Finding::bad("BrokerReachable", "Unreachable", message)
            }
            (None, Joined::Yes { .. }) => Finding::good("BrokerReachable", "Reachable", "the broker answers"),
            (None, Joined::No { .. }) => Finding::bad("BrokerReachable", "NotJoined", "see condition Joined"),
        }
    }

    fn unique(&self) -> Finding {
        match &self.hold {
            Hold::Other { holder } => {
                let message = format!(
                    "another living cluster (UID of kube-system {holder}) has joined under this ID: give this one \
                     another ID, or stop the other one: this one takes over 40 s after its last heartbeat"
                );
                Finding::bad("Unique", "DuplicateID", message)
            }
            Hold::Mine { rival: Some(Rival::Contender(uid)) } => {
                let message = format!(
                    "another living cluster (UID of kube-system {uid}) tries to join under this ID and is refused: give \
                     it another ID"
                );
                Finding::bad("Unique", "DuplicateID", message)
            }
            Hold::Mine { rival: Some(Rival::Copy) } => {
                let message = "another living cluster has joined under this ID and has this one's UID of kube-system: one is a \
                               copy of the other, of its disk or its datastore. Both go on and write over each other: have one \
                               leave, which takes nothing from the other, make it anew and join it under another ID";
                Finding::bad("Unique", "DuplicateID", message)
            }
            Hold::Mine { rival: None } => Finding::good("Unique", "Unique", "no other cluster uses this ID"),
            Hold::Unknown => Finding::good("Unique", "NotAsked", "the broker has not been asked yet"),
        }
    }

    fn published(&self, on_broker: bool) -> Finding {
        match &self.refused {
            Some(Refusal { reason, message }) => {
                Finding::bad("Published", reason, format!("the broker does not take this Member as it is: {message}"))
            }
            None if !self.is_ours() => Finding::bad("Published", "NotJoined", "see conditions Joined and Unique"),
            None if on_broker => Finding::good("Published", "Published", "the others see this Member"),
            None => Finding::bad("Published", "Pending", "this Member is not on the broker yet"),
        }
    }

    fn properties(&self) -> Finding {
        const KIND: &str = "Properties";
        if !self.is_ours() {
            return Finding::bad(KIND, "NotJoined", "see conditions Joined and Unique");
        }
        match &self.told {
            Told::Unknown => Finding {
                kind: KIND,
                holds: Holds::Unknown,
                reason: "Pending",
                message: "ClusterProperties are looked at when the broker answers".to_owned(),
            },
            Told::Yes => Finding::good(KIND, "Told", "ClusterProperties say which cluster this is"),
            Told::NoKind => Finding::bad(KIND, "NoSuchKind", "there are no ClusterProperties here: apply deploy/crds"),
            Told::Otherwise(foreign) => {
                let one = |foreign: &Foreign| {
                    let Foreign { name, says, wanted } = foreign;
                    format!("ClusterProperty {name} says {says:?} and not {wanted:?}")
                };
                let all: Vec<String> = foreign.iter().map(one).collect();
                let message = format!(
                    "{}, and was not made by Linkspan, which leaves it alone: whoever made it should correct or delete it; \
                     or let this cluster leave, and join as what it says",
                    all.join(", ")
                );
                Finding::bad(KIND, "ForeignProperty", message)
            }
        }
    }
}
