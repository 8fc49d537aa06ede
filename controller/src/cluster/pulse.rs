//! Whether the gateway Lease is still renewed, judged by our own clock: no other one is believed.
//!
//! A cluster whose only gateway is gone has nobody who takes the Lease, and nobody who says that the others are out of reach.
//!
//! # Guarantees
//! Silence is told only right after a complete list that still shows the last renewal, so that neither a watch that hangs
//! nor a process that was stopped for a while is taken for it. While the API server does not answer, nothing changes; what
//! was not told before begins anew then, because nobody could renew the Lease meanwhile.
//!
//! # Assumptions
//! The events are those of [`watch_lease`](super::watching::watch_lease), which lists anew now and then while nothing comes.
//! No timer is needed beside it: silence is found at most that much later.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use tokio::time::{Duration, Instant};

/// How long a Lease may stand still at least. Another gateway takes over within 5 s, and a pod of a rolling update is back
/// after about 30 s, during which the kernel goes on forwarding: twice that, so that an update takes no endpoint away.
const SHORTEST: Duration = Duration::from_secs(60);
/// So many times as long as the Lease itself lasts, where that is more.
const TIMES: u32 = 3;
/// What a Lease may say of how long it lasts, at most: whoever writes nonsense into it does not switch this off.
const LONGEST_TOLD: Duration = Duration::from_secs(200);
/// An API server that takes longer for a list of one object has been away.
const PROMPT: Duration = Duration::from_secs(5);

/// The renewals of the gateway Lease, as far as they have been seen.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The last renewal, when it was first seen.
    last: Option<(Renewal, Instant)>,
    limit: Duration,
    /// When a list was asked for that has not come yet.
    asked: Option<Instant>,
    broken: bool,
    silent: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Renewal {
    holder: Option<String>,
    time: Option<Timestamp>,
}

impl Pulse {
    /// For how long at least the Lease has not been renewed, where that is too long.
    pub fn silence(&self) -> Option<Duration> {
        self.silent.then_some(self.limit)
    }

    /// Takes in what the watch shows. Returns whether [`Self::silence`] has changed.
    pub fn note(&mut self, event: &Event<Lease>, now: Instant) -> bool {
        match event {
            Event::Init => self.ask(now),
            Event::InitApply(lease) | Event::Apply(lease) => return self.see(lease, now),
            Event::InitDone => return self.listed(now),
            // Whoever can renew it makes it anew.
            Event::Delete(_) => {}
        }
        false
    }

    /// A list is asked for.
    pub fn ask(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// The watch broke off.
    pub fn fail(&mut self) {
        self.broken = true;
    }

    /// The Lease is there. Returns whether [`Self::silence`] has changed.
    pub fn see(&mut self, lease: &Lease, now: Instant) -> bool {
        let spec = lease.spec.as_ref();
        let renewal = Renewal {
            holder: spec.and_then(|spec| spec.holder_identity.clone()),
            time: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        };
        if self.last.as_ref().is_some_and(|(last, _)| *last == renewal) {
            return false;
        }
        let told = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        let told = Duration::from_secs(told.unwrap_or(0)).min(LONGEST_TOLD);
        self.limit = (told * TIMES).max(SHORTEST);
        self.last = Some((renewal, now));
        std::mem::take(&mut self.silent)
    }

    /// A list is complete. Returns whether [`Self::silence`] has changed.
    pub fn listed(&mut self, now: Instant) -> bool {
        let slow = self.asked.take().is_some_and(|asked| now.duration_since(asked) > PROMPT);
        let outage = std::mem::take(&mut self.broken) || slow;
        let Some((_, since)) = &mut self.last else { return false };
        if outage {
            *since = now;
        }
        let silent = self.silent || now.duration_since(*since) >= self.limit;
        std::mem::replace(&mut self.silent, silent) != silent
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pulse, and the time since it began.
    struct Case(Pulse, Instant);

    impl Case {
        fn new() -> Self {
            Self(Pulse::default(), Instant::now())
        }

        fn note(&mut self, second: u64, event: Event<Lease>) -> bool {
            self.0.note(&event, self.1 + Duration::from_secs(second))
        }

        /// Asked for at one time, and complete at another one.
        fn list(&mut self, asked: u64, done: u64, lease: Option<Lease>) -> bool {
            let begun = self.note(asked, Event::Init);
            let shown = lease.is_some_and(|lease| self.note(done, Event::InitApply(lease)));
            begun | shown | self.note(done, Event::InitDone)
        }

        fn silence(&self) -> Option<u64> {
            self.0.silence().map(|silence| silence.as_secs())
        }
    }

    fn lease(holder: &str, renewed: u64, duration: i32) -> Lease {
        let renewed = format!("2020-01-01T00:{:02}:{:02}.000000Z", renewed / 60, renewed % 60);
        let spec = json!({ "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": duration });
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn a_lease_that_stands_still_is_silent_after_a_minute_and_not_before() {
        let mut case = Case::new();
        assert!(!case.list(0, 0, Some(lease("n1", 7, 2))), "when it was renewed first is not known");
        assert!(!case.note(10, Event::Apply(lease("n1", 8, 2))));
        for second in [15, 20, 30, 50, 69] {
            assert!(!case.list(second, second, Some(lease("n1", 8, 2))), "at {second} s");
        }
        assert_eq!(case.silence(), None);
        assert!(case.list(70, 70, Some(lease("n1", 8, 2))));
        assert_eq!(case.silence(), Some(60));
        assert!(!case.list(100, 100, Some(lease("n1", 8, 2))), "it is told once");
        assert!(case.note(101, Event::Apply(lease("n1", 9, 2))), "it is back");
        assert_eq!(case.silence(), None);
    }

    #[test]
    fn neither_a_takeover_nor_a_rolling_update_is_silence() {
        let mut case = Case::new();
        case.list(0, 0, Some(lease("n1", 0, 2)));
        // Given back at the end of the pod, and taken by the next one.
        assert!(!case.note(20, Event::Apply(lease("", 20, 1))));
        assert!(!case.list(55, 55, Some(lease("", 20, 1))));
        assert!(!case.note(65, Event::Apply(lease("n1", 65, 2))));
        assert!(!case.list(80, 80, Some(lease("n1", 65, 2))));
        // Another gateway has taken over, whose clock is that of the last one.
        assert!(!case.note(120, Event::Apply(lease("n2", 65, 2))));
        assert!(!case.list(170, 170, Some(lease("n2", 65, 2))));
        assert_eq!(case.silence(), None);
    }

    #[test]
    fn who_is_back_under_an_older_clock_is_back() {
        let mut case = Case::new();
        case.list(0, 0, Some(lease("n1", 500, 2)));
        assert!(case.list(60, 60, Some(lease("n1", 500, 2))));
        assert!(case.list(90, 90, Some(lease("n1", 3, 2))));
        assert_eq!(case.silence(), None);
    }

    #[test]
    fn an_outage_of_the_api_server_is_no_silence_and_the_time_begins_anew_after_it() {
        // It hangs, or it refuses.
        for fails in [false, true] {
            let mut case = Case::new();
            case.list(0, 0, Some(lease("n1", 0, 2)));
            case.note(5, Event::Init);
            if fails {
                case.0.fail();
            } else {
                case.note(200, Event::Init);
            }
            let asked = if fails { 203 } else { 5 };
            assert!(!case.list(asked, 203, Some(lease("n1", 0, 2))), "nobody could renew it");
            assert!(!case.list(262, 262, Some(lease("n1", 0, 2))));
            assert!(case.list(263, 263, Some(lease("n1", 0, 2))), "fails: {fails}");
        }
    }

    #[test]
    fn what_was_silent_before_an_outage_is_so_after_it() {
        let mut case = Case::new();
        case.list(0, 0, Some(lease("n1", 0, 2)));
        assert!(case.list(60, 60, Some(lease("n1", 0, 2))));
        case.0.fail();
        assert_eq!(case.silence(), Some(60));
        assert!(!case.list(300, 330, Some(lease("n1", 0, 2))));
        assert_eq!(case.silence(), Some(60));
    }

    #[test]
    fn nothing_is_told_without_a_list_or_of_a_lease_that_never_was() {
        let mut case = Case::new();
        assert!(!case.list(0, 0, None));
        assert!(!case.list(500, 500, None));
        case.note(600, Event::Apply(lease("n1", 0, 2)));
        // Somebody else's change of the Lease renews nothing, and is no list.
        assert!(!case.note(900, Event::Apply(lease("n1", 0, 2))));
        assert_eq!(case.silence(), None);
        // One that was deleted, and is not made again, has no holder that works.
        case.note(901, Event::Delete(lease("n1", 0, 2)));
        assert!(case.list(902, 902, None));
    }

    #[test]
    fn a_lease_that_lasts_longer_may_stand_still_for_longer_within_bounds() {
        for (duration, limit) in [(20, 60), (21, 63), (i32::MAX, 600), (-1, 60), (0, 60)] {
            let mut case = Case::new();
            case.list(0, 0, Some(lease("n1", 0, duration)));
            assert!(!case.list(limit - 1, limit - 1, None));
            assert!(case.list(limit, limit, None));
            assert_eq!(case.silence(), Some(limit));
        }
    }
}
