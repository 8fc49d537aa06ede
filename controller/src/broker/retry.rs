//! What failed, and when it is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::world::Key;

/// First and longest wait before another try.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Longest wait after a refusal. As a rule only another hand can end it; but what the API server judged by may have been
/// some moments old.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// How an attempt went, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attempt {
    Done,
    Refused,
    Failed,
}

/// Keys that failed.
#[derive(Debug, Default)]
pub(super) struct Retry(BTreeMap<Key, Entry>);

#[derive(Debug)]
struct Entry {
    due: Option<Instant>,
    wait: Duration,
}

impl Retry {
    /// How many have failed, and are tried again.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn note(&mut self, key: Key, attempt: Attempt, now: Instant) {
        match attempt {
            Attempt::Done => drop(self.0.remove(&key)),
            Attempt::Refused => self.again(key, LONGEST_REFUSED, now),
            Attempt::Failed => self.again(key, LONGEST, now),
        }
    }

    fn again(&mut self, key: Key, longest: Duration, now: Instant) {
        let wait = self.0.get(&key).map_or(FIRST, |entry| (entry.wait * 2).min(longest));
        self.0.insert(key, Entry { due: Some(now + wait), wait });
    }

    /// Forgets the keys for which nothing is planned: what failed is as it should be by another hand, or no longer asked for.
    pub fn forget_idle<A>(&mut self, plans: &[(Key, Vec<A>)]) {
        for (key, _) in plans.iter().filter(|(_, actions)| actions.is_empty()) {
            self.0.remove(key);
        }
    }

    /// Takes the keys whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let due = self.0.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        due.map(|(key, entry)| {
            entry.due = None;
            key.clone()
        })
        .collect()
    }

    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_waits_longer_and_a_success_forgets_it() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        retry.note(Key::Own, Attempt::Failed, start);
        assert_eq!(retry.next(), Some(start + FIRST));
        assert_eq!(retry.take_due(start + FIRST), [Key::Own]);
        assert_eq!(retry.next(), None);
        retry.note(Key::Own, Attempt::Failed, start);
        assert_eq!(retry.next(), Some(start + 2 * FIRST));
        retry.note(Key::Own, Attempt::Done, start);
        retry.note(Key::Own, Attempt::Failed, start);
        assert_eq!(retry.next(), Some(start + FIRST));
    }

    #[test]
    fn what_is_refused_is_tried_again_soon_and_then_ever_less() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        let mut wait = || {
            retry.note(Key::Publish, Attempt::Refused, start);
            retry.next().unwrap() - start
        };
        let waits: Vec<f64> = (0..9).map(|_| wait().as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    }

    #[test]
    fn what_is_no_longer_asked_for_is_not_tried_again() {
        let (mut retry, start) = (Retry::default(), Instant::now());
        let (gone, still) = (Key::RecordUp("paris.shop.web".to_owned()), Key::Publish);
        retry.note(gone.clone(), Attempt::Failed, start);
        retry.note(still.clone(), Attempt::Failed, start);
        assert_eq!(retry.take_due(start + FIRST).len(), 2);
        retry.forget_idle(&[(gone, vec![]), (still, vec!["publish"])]);
        assert_eq!(retry.len(), 1, "it would be counted as waiting for ever");
    }
}
