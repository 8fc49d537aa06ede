//! Conditions, as values: what is found, and the list that the API stores.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Longest message; the API takes 32 768 bytes, people less.
const MESSAGE_MAX: usize = 1024;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// One thing that is known about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Type of the condition.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// One word, in camel case.
    pub reason: &'static str,
    /// One sentence; where something is wrong, with a fix.
    pub message: String,
}

impl Finding {
    /// A condition that holds.
    pub fn good(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: Holds::True, reason, message: message.into() }
    }

    /// A condition that does not hold.
    pub fn bad(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: Holds::False, reason, message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.holds {
            Holds::True => "True",
            Holds::False => "False",
            Holds::Unknown => "Unknown",
        }
    }

    fn message(&self) -> String {
        self.message.chars().take(MESSAGE_MAX).collect()
    }
}

/// The conditions that say `findings`, sorted by type. What did not change keeps its time.
pub fn conditions(before: &[Condition], findings: &[Finding], now: Timestamp) -> Vec<Condition> {
    let mut list: Vec<Condition> = findings.iter().map(|finding| condition(before, finding, now)).collect();
    list.sort_by(|a, b| a.type_.cmp(&b.type_));
    list
}

fn condition(before: &[Condition], finding: &Finding, now: Timestamp) -> Condition {
    let earlier = before.iter().find(|earlier| earlier.type_ == finding.kind && earlier.status == finding.status());
    // The API stores whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: finding.kind.to_owned(),
        status: finding.status().to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message(),
        last_transition_time: earlier.map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
        observed_generation: None,
    }
}

/// Whether `before` already says `findings`, whatever else it says.
pub fn says(before: &[Condition], findings: &[Finding]) -> bool {
    findings.iter().all(|finding| {
        before.iter().any(|condition| {
            condition.type_ == finding.kind
                && condition.status == finding.status()
                && condition.reason == finding.reason
                && condition.message == finding.message()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = conditions(&[], &[Finding::bad("Ready", "Overlap", "10.42.0.0/16 overlaps")], at(100));
        let second = conditions(&first, &[Finding::bad("Ready", "Invalid", "other")], at(200));
        assert_eq!(second[0].last_transition_time, Time(at(100)));
        assert_eq!(second[0].reason, "Invalid");
        let third = conditions(&second, &[Finding::good("Ready", "Ready", "")], at(300));
        assert_eq!(third[0].last_transition_time, Time(at(300)));
    }

    #[test]
    fn nothing_is_written_where_the_object_says_it_already() {
        let finding = Finding::good("Ready", "Ready", "it is used");
        let before = conditions(&[], std::slice::from_ref(&finding), Timestamp::from_second(1).unwrap());
        assert!(says(&before, std::slice::from_ref(&finding)));
        assert!(!says(&before, &[Finding { message: "else".into(), ..finding }]));
    }
}
