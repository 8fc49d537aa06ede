//! Failed services, each with the time of its next try.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use crate::services::ServiceKey;

/// The first delay.
const FIRST: Duration = Duration::from_millis(250);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Retries {
    /// How often each has failed in a row, and when it is tried again; no time while it is being tried.
    failures: BTreeMap<ServiceKey, (u32, Option<Instant>)>,
}

impl Retries {
    /// How many have failed, and are tried again.
    pub(super) fn len(&self) -> usize {
        self.failures.len()
    }

    /// Another failure: tried again after twice as long as the last time.
    pub(super) fn postpone(&mut self, key: ServiceKey, now: Instant) -> Duration {
        let (failures, at) = self.failures.entry(key).or_default();
        let delay = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
        *failures += 1;
        *at = Some(now + delay);
        delay
    }

    /// It went well.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        self.failures.remove(key);
    }

    /// Whether its time has not come yet.
    pub(super) fn is_waiting(&self, key: &ServiceKey) -> bool {
        self.failures.get(key).is_some_and(|(_, at)| at.is_some())
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.failures.values().filter_map(|(_, at)| *at).min()
    }

    /// Those whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ServiceKey> {
        let due = self.failures.iter_mut().filter(|(_, (_, at))| at.is_some_and(|at| at <= now));
        due.map(|(key, (_, at))| {
            *at = None;
            key.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_success() {
        let (mut retries, now, key) = (Retries::default(), Instant::now(), ServiceKey::new("shop", "web"));
        let delays: Vec<_> = (0..10).map(|_| retries.postpone(key.clone(), now).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        retries.forget(&key);
        assert_eq!(retries.postpone(key, now).as_millis(), 250);
    }

    #[test]
    fn a_failed_service_waits_until_it_is_due_and_is_due_once() {
        let (mut retries, now, key) = (Retries::default(), Instant::now(), ServiceKey::new("shop", "web"));
        retries.postpone(key.clone(), now);
        assert_eq!(retries.next(), Some(now + FIRST));
        assert!(retries.take_due(now).is_empty() && retries.is_waiting(&key));
        assert_eq!(retries.take_due(now + FIRST), std::slice::from_ref(&key));
        assert!(!retries.is_waiting(&key) && retries.next().is_none());
    }
}
