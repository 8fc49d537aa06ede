//! Who of the others is heard of, judged by our own clock: a Lease that changes is alive, whatever its clock says.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::lease::LONGEST;

/// Seconds that everybody gets after the broker was away.
const GRACE: i64 = 40;

/// When each Member was last heard of.
#[derive(Debug, Default)]
pub struct Liveness {
    heard: BTreeMap<String, Heard>,
    /// Until when it is known who has fallen silent.
    checked: Option<Timestamp>,
}

#[derive(Debug)]
struct Heard {
    renewed: Option<Timestamp>,
    until: Timestamp,
}

impl Liveness {
    /// Takes in the Lease of a Member as it is now.
    pub fn hear(&mut self, member: &str, lease: &Lease, now: Timestamp) {
        let spec = lease.spec.clone().unwrap_or_default();
        let renewed = spec.renew_time.map(|time| time.0);
        let known = self.heard.get(member);
        if known.is_some_and(|heard| heard.renewed == renewed) {
            return;
        }
        // At the first sight it is presumed to be alive: its clock proves nothing.
        let seconds = spec.lease_duration_seconds.unwrap_or_default().clamp(1, LONGEST);
        let until = now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
        self.heard.insert(member.to_owned(), Heard { renewed, until });
    }

    /// Forgets a Member whose Lease is gone.
    pub fn forget(&mut self, member: &str) {
        self.heard.remove(member);
    }

    /// Whether it was heard of in time.
    pub fn is_alive(&self, member: &str, now: Timestamp) -> bool {
        self.heard.get(member).is_some_and(|heard| now < heard.until)
    }

    /// When it last said something, by its own clock.
    pub fn last(&self, member: &str) -> Option<Timestamp> {
        self.heard.get(member).and_then(|heard| heard.renewed)
    }

    /// When the next Member falls silent, if nothing is heard until then.
    pub fn next_silence(&self, now: Timestamp) -> Option<Timestamp> {
        self.heard.values().map(|heard| heard.until).filter(|until| *until > now).min()
    }

    /// Whether somebody has fallen silent since this was last asked.
    pub fn take_silenced(&mut self, now: Timestamp) -> bool {
        let checked = self.checked.replace(now).unwrap_or(Timestamp::MIN);
        self.heard.values().any(|heard| heard.until > checked && heard.until <= now)
    }

    /// Begins anew after the broker was away: everybody gets the time of one heartbeat.
    pub fn grace(&mut self, now: Timestamp) {
        for heard in self.heard.values_mut() {
            let until = now.checked_add(SignedDuration::from_secs(GRACE)).unwrap_or(Timestamp::MAX);
            heard.until = heard.until.max(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some("uid".into()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(at(renewed))),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_member_falls_silent_when_its_lease_stands_still() {
        let mut liveness = Liveness::default();
        liveness.hear("paris", &lease(100), at(101));
        assert!(liveness.is_alive("paris", at(140)));
        assert_eq!(liveness.next_silence(at(101)), Some(at(141)));
        liveness.hear("paris", &lease(100), at(130));
        assert!(!liveness.is_alive("paris", at(141)));
        assert_eq!(liveness.last("paris"), Some(at(100)));
    }

    #[test]
    fn a_wrong_clock_makes_a_member_neither_silent_nor_alive() {
        for first in [100, 90_000] {
            let mut liveness = Liveness::default();
            liveness.hear("paris", &lease(first), at(9_000));
            assert!(liveness.is_alive("paris", at(9_000)));
            liveness.hear("paris", &lease(first + 10), at(9_010));
            assert!(liveness.is_alive("paris", at(9_049)));
            assert!(!liveness.is_alive("paris", at(9_050)));
        }
    }
}
