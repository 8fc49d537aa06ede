//! The Lease of a Member on the broker: its heartbeat, and the lock on its ID.
//!
//! The holder is the UID of the cluster's `kube-system` namespace. Who does not hold the Lease writes nothing: so a
//! rebuilt cluster takes over when the Lease of the old one has not changed over its own duration (40 s) before its eyes, and
//! a second living cluster is refused. The refused one leaves a note on the Lease, which the holder reads at its next
//! heartbeat. A copy of a cluster has its UID too: both go on, and both notice heartbeats that are not their own.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::account;
use super::shell::Now;
use crate::api::names::LABEL_CLUSTER;
use crate::members::ClusterId;

/// Annotation: UID of another living cluster that wants this ID.
pub const ANNOTATION_CONTENDER: &str = "linkspan.dev/contender";
/// Annotation: when it last asked (RFC 3339).
pub const ANNOTATION_CONTENDER_SEEN: &str = "linkspan.dev/contender-seen";
/// Longest duration that a Lease is believed to have, in seconds; the broker's policy lets nobody have more.
pub const LONGEST: i32 = 600;
/// Longest UID that is repeated.
const UID_MAX: usize = 64;
/// So many heartbeats more find one under the own UID that is not the own one, than find the own one, before a copy is told
/// of. One is found where another replica has become the leader while the last one's heartbeat was on its way.
const FOREIGN_MAX: u8 = 3;

/// What a heartbeat does to the Lease, and what it learned.
#[derive(Debug, Clone, PartialEq)]
pub enum Beat {
    /// Write this Lease: the ID is ours.
    Hold {
        /// The Lease to create (without resource version) or to replace.
        lease: Box<Lease>,
        /// Another living cluster under the same ID.
        rival: Option<Rival>,
    },
    /// The ID is another living cluster's. Write this Lease, which only tells that we asked.
    Refused {
        /// The Lease to replace.
        lease: Box<Lease>,
        /// UID of the holder.
        holder: String,
        /// Its last heartbeat.
        renewed: Timestamp,
    },
}

/// Another living cluster under the ID that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rival {
    /// It asked of late, and is refused: the UID of its `kube-system`.
    Contender(String),
    /// It has our UID, and beats as we do: one is a copy of the other.
    Copy,
}

/// Who beats.
#[derive(Debug, Clone, Copy)]
pub struct Beater<'a> {
    /// Its cluster ID.
    pub cluster: &'a ClusterId,
    /// UID of its namespace `kube-system`.
    pub cluster_uid: &'a str,
    /// How long a heartbeat counts.
    pub duration: Duration,
}

/// A heartbeat, as it stands in a Lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// UID of the holder's `kube-system`.
    pub holder: String,
    /// When it was, by the holder's clock: it tells heartbeats apart, and people something.
    pub renewed: Timestamp,
    /// How long it counts, at most [`LONGEST`].
    pub counts: Duration,
}

/// The last heartbeat, where the Lease is held.
pub fn heartbeat(lease: &Lease) -> Option<Heartbeat> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    let renewed = spec.renew_time.as_ref()?.0;
    let seconds = spec.lease_duration_seconds.unwrap_or_default().clamp(1, LONGEST);
    Some(Heartbeat { holder, renewed, counts: Duration::from_secs(seconds.unsigned_abs().into()) })
}

/// What others have written, and since when it stands unchanged by our own clock. Other clocks prove nothing: a Lease
/// that does not change over its own duration is dead, and until then it is presumed to be alive.
#[derive(Debug, Default)]
pub struct Memory {
    heartbeat: Option<(Heartbeat, Instant)>,
    /// When a contender asked, as it wrote it.
    asked: Option<(String, Instant)>,
    /// The own heartbeats that may stand on the Lease, in microseconds since 1970: the last one, and the one before it, should
    /// the last one not have been taken.
    own: [Option<i64>; 2],
    /// Heartbeats that found one under the own UID which is not the own one, less those that found the own one.
    foreign: u8,
}

impl Memory {
    /// Whether the holder of the Lease is presumed to be alive.
    fn is_alive(&mut self, heartbeat: &Heartbeat, now: Instant) -> bool {
        now.duration_since(since(&mut self.heartbeat, heartbeat, now)) < heartbeat.counts
    }

    /// Whether a copy of this cluster beats under the own UID, of which `found` is the last heartbeat on the Lease. The first
    /// time, what is there is one of ours from before.
    fn has_copy(&mut self, found: Option<&Heartbeat>, now: Timestamp) -> bool {
        let found = found.map(|heartbeat| heartbeat.renewed.as_microsecond());
        let own = Some(now.as_microsecond());
        // Another try of one heartbeat tells nothing new.
        if self.own[0] != own {
            let is_foreign = self.own[0].is_some() && found.is_some() && !self.own.contains(&found);
            self.foreign =
                if is_foreign { (self.foreign + 1).min(2 * FOREIGN_MAX) } else { self.foreign.saturating_sub(1) };
            self.own = [own, self.own[0]];
        }
        self.foreign >= FOREIGN_MAX
    }
}

/// Since when `value` is what it is.
fn since<T: Clone + PartialEq>(known: &mut Option<(T, Instant)>, value: &T, now: Instant) -> Instant {
    match known {
        Some((before, since)) if before == value => *since,
        _ => known.insert((value.clone(), now)).1,
    }
}

/// Plans one heartbeat from the Lease as it is on the broker.
pub fn beat(current: Option<&Lease>, own: Beater<'_>, memory: &mut Memory, now: Now) -> Beat {
    let found = current.and_then(heartbeat);
    let is_ours = |heartbeat: &&Heartbeat| heartbeat.holder == own.cluster_uid;
    if let (Some(current), Some(other)) = (current, found.as_ref().filter(|found| !is_ours(found)))
        && memory.is_alive(other, now.monotonic)
    {
        let lease = Box::new(asked(current, own, now.wall));
        return Beat::Refused { lease, holder: shorten(&other.holder), renewed: other.renewed };
    }
    let has_copy = memory.has_copy(found.as_ref().filter(is_ours), now.wall);
    let contender = current.and_then(|lease| contender(lease, own, memory, now.monotonic));
    let rival = contender.map(Rival::Contender).or_else(|| has_copy.then_some(Rival::Copy));
    Beat::Hold { lease: Box::new(renewed(current, own, now.wall)), rival }
}

/// What a heartbeat says of the Lease as an object. A write says all that stays: what others have put there, such as a
/// label for all Leases, is not repeated, since the broker takes it from no Member.
fn metadata(current: Option<&Lease>, own: Beater<'_>) -> ObjectMeta {
    let before = current.map(|lease| lease.metadata.clone()).unwrap_or_default();
    let mut annotations = before.annotations.unwrap_or_default();
    annotations.retain(|key, _| [ANNOTATION_CONTENDER, ANNOTATION_CONTENDER_SEEN].contains(&key.as_str()));
    ObjectMeta {
        name: Some(account::member(own.cluster)),
        uid: before.uid,
        resource_version: before.resource_version,
        labels: Some([(LABEL_CLUSTER.to_owned(), own.cluster.to_string())].into()),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn asked(current: &Lease, own: Beater<'_>, now: Timestamp) -> Lease {
    let mut lease = Lease { metadata: metadata(Some(current), own), spec: current.spec.clone() };
    let annotations = lease.annotations_mut();
    annotations.insert(ANNOTATION_CONTENDER.to_owned(), own.cluster_uid.to_owned());
    annotations.insert(ANNOTATION_CONTENDER_SEEN.to_owned(), now.to_string());
    lease
}

fn contender(lease: &Lease, own: Beater<'_>, memory: &mut Memory, now: Instant) -> Option<String> {
    let annotations = lease.annotations();
    let uid = annotations.get(ANNOTATION_CONTENDER).filter(|uid| *uid != own.cluster_uid)?;
    let asked = since(&mut memory.asked, annotations.get(ANNOTATION_CONTENDER_SEEN)?, now);
    (now.duration_since(asked) < own.duration).then(|| shorten(uid))
}

fn renewed(current: Option<&Lease>, own: Beater<'_>, now: Timestamp) -> Lease {
    let before = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let continued = before.holder_identity.as_deref() == Some(own.cluster_uid);
    let transitions = before.lease_transitions.unwrap_or_default();
    let mut lease = Lease {
        metadata: metadata(current, own),
        spec: Some(LeaseSpec {
            holder_identity: Some(own.cluster_uid.to_owned()),
            lease_duration_seconds: Some(i32::try_from(own.duration.as_secs()).unwrap_or(LONGEST).clamp(1, LONGEST)),
            acquire_time: before.acquire_time.filter(|_| continued).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if continued || current.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }),
    };
    if !continued {
        let annotations = lease.annotations_mut();
        annotations.remove(ANNOTATION_CONTENDER);
        annotations.remove(ANNOTATION_CONTENDER_SEEN);
    }
    lease
}

fn shorten(uid: &str) -> String {
    uid.chars().take(UID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of the own clock.
    struct Clock(Instant);

    impl Clock {
        /// `skew` is how far the wall clock is wrong.
        fn at(&self, second: u32, skew: i64) -> Now {
            Now {
                wall: Timestamp::from_second(i64::from(second) + skew).unwrap(),
                monotonic: self.0 + Duration::from_secs(second.into()),
            }
        }
    }

    /// A cluster `paris` with that UID, and what it remembers.
    struct Paris(&'static str, Memory);

    impl Paris {
        fn beat(&mut self, current: Option<&Lease>, now: Now) -> Beat {
            let cluster: ClusterId = "paris".parse().unwrap();
            let own = Beater { cluster: &cluster, cluster_uid: self.0, duration: Duration::from_secs(40) };
            beat(current, own, &mut self.1, now)
        }

        fn hold(&mut self, current: Option<&Lease>, now: Now) -> (Lease, Option<Rival>) {
            match self.beat(current, now) {
                Beat::Hold { lease, rival } => (*lease, rival),
                refused => panic!("{refused:?}"),
            }
        }

        fn is_refused(&mut self, current: &Lease, now: Now) -> Lease {
            match self.beat(Some(current), now) {
                Beat::Refused { lease, .. } => *lease,
                hold => panic!("{hold:?}"),
            }
        }
    }

    fn old_and_new() -> (Clock, Paris, Paris) {
        (Clock(Instant::now()), Paris("old", Memory::default()), Paris("new", Memory::default()))
    }

    #[test]
    fn the_first_cluster_under_an_id_takes_it() {
        let (clock, mut old, _) = old_and_new();
        let (lease, rival) = old.hold(None, clock.at(100, 0));
        assert_eq!(lease.metadata.name.as_deref(), Some("member-paris"));
        let heartbeat = heartbeat(&lease).unwrap();
        assert_eq!((heartbeat.holder.as_str(), heartbeat.renewed.as_second()), ("old", 100));
        assert_eq!(heartbeat.counts, Duration::from_secs(40));
        assert_eq!(rival, None);
    }

    #[test]
    fn a_second_living_cluster_is_refused_and_the_first_gets_to_know() {
        let (clock, mut old, mut new) = old_and_new();
        let (lease, _) = old.hold(None, clock.at(100, 0));
        let asked = match new.beat(Some(&lease), clock.at(110, 0)) {
            Beat::Refused { lease, holder, renewed } if holder == "old" && renewed.as_second() == 100 => *lease,
            other => panic!("{other:?}"),
        };
        let (lease, rival) = old.hold(Some(&asked), clock.at(112, 0));
        assert_eq!(rival, Some(Rival::Contender("new".to_owned())));
        let (_, rival) = old.hold(Some(&lease), clock.at(152, 0));
        assert_eq!(rival, None, "it has not asked for long");
    }

    #[test]
    fn a_rebuilt_cluster_takes_over_when_the_old_one_was_silent_before_its_eyes() {
        let (clock, mut old, mut new) = old_and_new();
        let (lease, _) = old.hold(None, clock.at(100, 0));
        // However old the heartbeat is by its own word: nobody has seen yet that it stands still.
        let lease = new.is_refused(&lease, clock.at(900, 0));
        let lease = new.is_refused(&lease, clock.at(939, 0));
        let (lease, _) = new.hold(Some(&lease), clock.at(940, 0));
        let spec = lease.spec.as_ref().unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("new"));
        assert_eq!(spec.lease_transitions, Some(1));
        old.is_refused(&lease, clock.at(942, 0));
    }

    #[test]
    fn what_others_have_put_on_the_lease_is_not_repeated() {
        let (clock, mut old, mut new) = old_and_new();
        let (mut lease, _) = old.hold(None, clock.at(100, 0));
        lease.metadata.uid = Some("1".to_owned());
        lease.metadata.resource_version = Some("7".to_owned());
        let ours = lease.clone();
        lease.labels_mut().insert("team".to_owned(), "network".to_owned());
        lease.annotations_mut().insert("note".to_owned(), "for all".to_owned());
        lease.finalizers_mut().push("example.com/kept".to_owned());
        let (beaten, _) = old.hold(Some(&lease), clock.at(110, 0));
        assert_eq!(beaten.metadata, ours.metadata);
        let asked = new.is_refused(&lease, clock.at(111, 0));
        assert_eq!((&asked.metadata.labels, &asked.metadata.uid), (&ours.metadata.labels, &ours.metadata.uid));
        assert_eq!((asked.finalizers(), &asked.spec), (&[][..], &lease.spec));
        assert_eq!(asked.annotations().get("note"), None);
        assert_eq!(asked.annotations()[ANNOTATION_CONTENDER], "new");
        let (_, rival) = old.hold(Some(&asked), clock.at(112, 0));
        assert_eq!(rival, Some(Rival::Contender("new".to_owned())));
    }

    #[test]
    fn a_cluster_and_its_copy_both_get_to_know() {
        let (clock, mut one, mut two) =
            (Clock(Instant::now()), Paris("same", Memory::default()), Paris("same", Memory::default()));
        let (mut lease, mut rival) = one.hold(None, clock.at(100, 0));
        for second in [110, 120, 130] {
            (lease, rival) = two.hold(Some(&lease), clock.at(second - 5, 0));
            assert_eq!(rival, None);
            (lease, rival) = one.hold(Some(&lease), clock.at(second, 0));
        }
        assert_eq!(rival, Some(Rival::Copy));
        (lease, rival) = two.hold(Some(&lease), clock.at(135, 0));
        assert_eq!(rival, Some(Rival::Copy));
        (lease, _) = one.hold(Some(&lease), clock.at(140, 0));
        (lease, rival) = one.hold(Some(&lease), clock.at(150, 0));
        assert_eq!(rival, Some(Rival::Copy), "it may be late");
        (_, rival) = one.hold(Some(&lease), clock.at(160, 0));
        assert_eq!(rival, None, "the copy is silent");
    }

    #[test]
    fn neither_another_replica_nor_a_write_that_was_not_taken_is_a_copy() {
        let (clock, mut one, mut two) =
            (Clock(Instant::now()), Paris("same", Memory::default()), Paris("same", Memory::default()));
        let (mut lease, _) = one.hold(None, clock.at(100, 0));
        for second in [110, 120, 130, 140] {
            // A contender's note came first, so that it is written again; the last time it is not written at all.
            one.hold(Some(&lease), clock.at(second, 0));
            let (written, rival) = one.hold(Some(&lease), clock.at(second, 0));
            assert_eq!(rival, None);
            lease = if second == 140 { lease } else { written };
        }
        assert_eq!(one.hold(Some(&lease), clock.at(150, 0)).1, None);
        // Leaders by turns, with one heartbeat of the old one on its way.
        for second in [160, 180, 200, 220] {
            (lease, _) = two.hold(Some(&lease), clock.at(second, 0));
            (lease, _) = one.hold(Some(&lease), clock.at(second + 1, 0));
            let rival;
            (lease, rival) = two.hold(Some(&lease), clock.at(second + 10, 0));
            assert_eq!(rival, None, "{second}");
        }
    }

    #[test]
    fn wrong_clocks_neither_make_a_ghost_nor_keep_one() {
        for skew in [-1_000_000, 1_000_000] {
            let (clock, mut old, mut new) = old_and_new();
            let (mut lease, _) = old.hold(None, clock.at(100, skew));
            for second in [110, 120, 130, 140, 150] {
                lease = new.is_refused(&lease, clock.at(second, 0));
                (lease, _) = old.hold(Some(&lease), clock.at(second + 5, skew));
            }
            lease = new.is_refused(&lease, clock.at(160, 0));
            lease = new.is_refused(&lease, clock.at(199, 0));
            new.hold(Some(&lease), clock.at(200, 0));
        }
    }
}
