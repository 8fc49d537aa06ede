//! Conditions: what is to be said of an object, and when it began to be true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Longest message that a condition takes.
const MAX_MESSAGE: usize = 32_768;

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows yet.
    Unknown,
}

impl Truth {
    /// What Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition is to say. It has no time yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Type of the condition.
    pub kind: &'static str,
    /// Its status.
    pub status: Truth,
    /// Its reason, in CamelCase.
    pub reason: String,
    /// Its message, for people.
    pub message: String,
}

impl Verdict {
    /// A condition of type `kind`.
    pub fn new(kind: &'static str, status: Truth, reason: &str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        }
        Self { kind, status, reason: reason.to_owned(), message }
    }
}

/// The conditions that say `verdicts`: a condition that keeps its status keeps its time.
pub fn conditions(
    observed: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |verdict: &Verdict| {
        let before = observed.iter().find(|condition| condition.type_ == verdict.kind);
        let kept = before.filter(|before| before.status == verdict.status.as_str());
        Condition {
            type_: verdict.kind.to_owned(),
            status: verdict.status.as_str().to_owned(),
            reason: verdict.reason.clone(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: kept.map_or_else(|| seconds(now), |before| before.last_transition_time.clone()),
        }
    };
    verdicts.iter().map(condition).collect()
}

/// Whether `observed` says all of `wanted`. Conditions of others do not count.
pub fn are_told(observed: &[Condition], wanted: &[Condition]) -> bool {
    wanted.iter().all(|condition| observed.contains(condition))
}

/// Kubernetes keeps times by the second; one with a fraction would never be read back as it was written.
fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millisecond(second * 1000 + 7).unwrap()
    }

    #[test]
    fn row_6_the_time_of_a_condition_changes_with_its_status_only() {
        let first = conditions(&[], &[Verdict::new("Valid", Truth::True, "Valid", "")], Some(1), at(5));
        assert_eq!(first[0].last_transition_time.0.to_string(), "1970-01-01T00:00:05Z");
        let reworded = conditions(&first, &[Verdict::new("Valid", Truth::True, "Other", "new")], Some(2), at(9));
        assert_eq!(reworded[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((reworded[0].observed_generation, reworded[0].message.as_str()), (Some(2), "new"));
        let changed = conditions(&reworded, &[Verdict::new("Valid", Truth::False, "NoService", "")], Some(2), at(9));
        assert_eq!(changed[0].last_transition_time.0.to_string(), "1970-01-01T00:00:09Z");
    }

    #[test]
    fn row_16_conditions_of_others_do_not_count() {
        let ours = conditions(&[], &[Verdict::new("Valid", Truth::True, "Valid", "")], Some(1), at(5));
        let foreign = conditions(&[], &[Verdict::new("example.com/X", Truth::True, "X", "")], None, at(6));
        assert!(are_told(&[foreign.clone(), ours.clone()].concat(), &ours));
        assert!(!are_told(&foreign, &ours));
    }

    #[test]
    fn messages_fit_into_a_condition() {
        assert_eq!(Verdict::new("Valid", Truth::True, "Valid", "ü".repeat(20_000)).message.len(), 32_768);
    }
}
