//! Services of which a write failed, each with the time of its next try.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use crate::services::ServiceKey;
use crate::services::action::{Action, Failure};

/// The first delay.
const FIRST: Duration = Duration::from_millis(250);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);
/// Shortest time from one look at a failed service to the next one, when it has changed: what did not fail does not wait
/// for what did.
const SOON: Duration = Duration::from_secs(1);
/// How often a service must have failed in a row until people are told: most failures pass by themselves.
const TOLD: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<ServiceKey, Entry>);

#[derive(Debug)]
struct Entry {
    /// How often it has failed in a row.
    count: u32,
    /// When all of it is tried again; no time while it is being tried.
    at: Option<Instant>,
    /// When it was last tried or looked at.
    looked: Instant,
    /// When it is looked at before that, because it has changed.
    early: Option<Instant>,
    /// What failed.
    failures: Vec<Failure>,
}

/// How much of a plan is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// What has not failed before: that waits for its time.
    Rest,
}

impl Retries {
    /// How many have failed, and are tried again.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Another failure of the whole: tried again after twice as long as the last time.
    pub(super) fn postpone(&mut self, key: ServiceKey, failures: Vec<Failure>, now: Instant) -> Duration {
        let count = self.0.get(&key).map_or(0, |entry| entry.count);
        let delay = FIRST.saturating_mul(1 << count.min(16)).min(LONGEST);
        self.0.insert(key, Entry { count: count + 1, at: Some(now + delay), looked: now, early: None, failures });
        delay
    }

    /// Failures of the rest: they wait with the others.
    pub(super) fn hold(&mut self, key: &ServiceKey, failures: Vec<Failure>) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.failures.extend(failures);
        }
    }

    /// It went well. Returns whether people may have been told that it did not.
    pub(super) fn forget(&mut self, key: &ServiceKey) -> bool {
        self.0.remove(key).is_some_and(|entry| entry.count >= TOLD)
    }

    /// Whether its time has not come yet.
    pub(super) fn is_waiting(&self, key: &ServiceKey) -> bool {
        self.0.get(key).is_some_and(|entry| entry.at.is_some())
    }

    /// How much of its plan is applied now.
    pub(super) fn extent(&self, key: &ServiceKey) -> Extent {
        if self.is_waiting(key) { Extent::Rest } else { Extent::Whole }
    }

    /// Whether `action` has failed, and waits.
    pub(super) fn holds(&self, key: &ServiceKey, action: &Action) -> bool {
        self.0.get(key).is_some_and(|entry| entry.failures.iter().any(|failure| failure.action == *action))
    }

    /// What people are to be told of.
    pub(super) fn told(&self, key: &ServiceKey) -> &[Failure] {
        self.0.get(key).filter(|entry| entry.count >= TOLD).map_or(&[], |entry| &entry.failures)
    }

    /// It has changed: looked at soon, if it waits.
    pub(super) fn hurry(&mut self, key: &ServiceKey, now: Instant) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.early = Some((entry.looked + SOON).max(now));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().flat_map(|entry| [entry.at, entry.early]).flatten().min()
    }

    /// Those whose time has come, or which are to be looked at before.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ServiceKey> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let due = self.0.iter_mut().filter(|(_, entry)| is_due(entry.at) || is_due(entry.early));
        due.map(|(key, entry)| {
            entry.at = entry.at.filter(|at| *at > now);
            (entry.early, entry.looked) = (None, now);
            key.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::services::action::ObjectRef;

    use super::*;

    fn web() -> ServiceKey {
        ServiceKey::new("shop", "web")
    }

    fn delete(name: &str) -> Action {
        Action::DeleteSlice(ObjectRef { namespace: "shop".into(), name: name.into(), uid: "u".into() })
    }

    fn failure(name: &str) -> Vec<Failure> {
        vec![Failure { action: delete(name), told: Some(format!("failed to delete {name}")) }]
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_success() {
        let (mut retries, now) = (Retries::default(), Instant::now());
        let delays: Vec<_> = (0..10).map(|_| retries.postpone(web(), Vec::new(), now).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        retries.forget(&web());
        assert_eq!(retries.postpone(web(), Vec::new(), now).as_millis(), 250);
    }

    #[test]
    fn a_failed_service_waits_until_it_is_due_and_is_due_once() {
        let (mut retries, now) = (Retries::default(), Instant::now());
        retries.postpone(web(), Vec::new(), now);
        assert_eq!(retries.next(), Some(now + FIRST));
        assert!(retries.take_due(now).is_empty() && retries.is_waiting(&web()));
        assert_eq!(retries.take_due(now + FIRST), [web()]);
        assert!(!retries.is_waiting(&web()) && retries.next().is_none());
        assert_eq!(retries.extent(&web()), Extent::Whole);
    }

    #[test]
    fn a_failed_service_that_changes_is_looked_at_within_a_second_without_what_failed() {
        let (mut retries, start) = (Retries::default(), Instant::now());
        for _ in 0..9 {
            retries.postpone(web(), failure("a"), start);
        }
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(retries.next(), Some(at(60_000)));
        retries.hurry(&web(), at(100));
        retries.hurry(&web(), at(200));
        assert_eq!(retries.next(), Some(at(1000)), "however much happens");
        assert_eq!(retries.take_due(at(1000)), [web()]);
        assert_eq!(retries.extent(&web()), Extent::Rest);
        assert!(retries.holds(&web(), &delete("a")) && !retries.holds(&web(), &delete("b")));
        // Something else fails, and waits with it.
        retries.hold(&web(), failure("b"));
        assert!(retries.holds(&web(), &delete("b")));
        retries.hurry(&web(), at(1500));
        assert_eq!(retries.next(), Some(at(2000)));
        assert_eq!(retries.take_due(at(2000)), [web()]);
        retries.hurry(&web(), at(9000));
        assert_eq!(retries.take_due(at(9000)), [web()], "at once, after a rest");
        assert_eq!(retries.next(), Some(at(60_000)), "what failed is tried no sooner");
        assert_eq!(retries.take_due(at(60_000)), [web()]);
        assert_eq!(retries.extent(&web()), Extent::Whole);
    }

    #[test]
    fn people_are_told_of_what_fails_again() {
        let (mut retries, now) = (Retries::default(), Instant::now());
        retries.postpone(web(), failure("a"), now);
        assert_eq!(retries.told(&web()), []);
        assert!(!retries.forget(&web()));
        retries.postpone(web(), failure("a"), now);
        retries.postpone(web(), failure("a"), now);
        assert_eq!(retries.told(&web()), failure("a"));
        assert!(retries.forget(&web()), "it is to be told that it went well");
        assert_eq!(retries.told(&web()), []);
    }
}
