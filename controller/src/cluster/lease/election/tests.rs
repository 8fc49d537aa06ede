//! A candidate, step by step.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> LeaseConfig {
    LeaseConfig {
        namespace: "linkspan-system".into(),
        name: "linkspan-gateway".into(),
        holder: "a".into(),
        duration: SECOND,
        renew_period: SECOND / 4,
    }
}

fn seen(holder: &str, version: u32) -> Option<Seen> {
    Some(Seen { holder: holder.into(), version: version.to_string(), duration: SECOND })
}

fn election(standing: Standing) -> (Election, Instant) {
    let now = Instant::now();
    (Election::new(config(), standing, now), now)
}

#[test]
fn nothing_is_written_before_the_first_look() {
    let (mut election, now) = election(Standing::Candidate);
    assert_eq!(election.poll(now), Step::Wait(None));
    assert_eq!(election.holding(), &Holding::Unknown);
}

#[test]
fn a_missing_lease_is_made_and_then_renewed() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(None, now);
    assert_eq!(election.poll(now), Step::Create);
    assert_eq!(election.holding(), &Holding::Nobody);
    election.handle_written(seen("a", 1).unwrap(), now, now + SECOND / 10);
    assert_eq!(election.poll(now + SECOND / 10), Step::Wait(Some(now + SECOND / 4)));
    assert_eq!(election.holding(), &Holding::Ours);
    assert_eq!(election.poll(now + SECOND / 4), Step::Renew);
}

#[test]
fn a_holder_that_renews_is_left_alone_and_one_that_does_not_is_replaced() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(seen("b", 1), now);
    assert_eq!(election.poll(now), Step::Wait(Some(now + SECOND)));
    assert_eq!(election.holding(), &Holding::Other("b".into()));
    election.handle_seen(seen("b", 2), now + SECOND / 2);
    assert_eq!(election.poll(now + SECOND), Step::Wait(Some(now + SECOND + SECOND / 2)));
    // The same version again is no renewal.
    election.handle_seen(seen("b", 2), now + SECOND);
    assert_eq!(election.poll(now + SECOND + SECOND / 2), Step::Take);
}

#[test]
fn a_holder_that_means_to_last_longer_is_waited_for() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(Some(Seen { holder: "b".into(), version: "1".into(), duration: SECOND * 15 }), now);
    assert_eq!(election.poll(now), Step::Wait(Some(now + SECOND * 15)));
}

#[test]
fn a_lease_given_back_is_taken_at_once() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(seen("", 1), now);
    assert_eq!(election.poll(now), Step::Take);
    assert_eq!(election.holding(), &Holding::Nobody);
}

#[test]
fn who_cannot_renew_has_lost_it_before_others_may_take_it() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(None, now);
    election.handle_written(seen("a", 1).unwrap(), now, now + SECOND / 10);
    election.poll(now + SECOND / 4);
    election.handle_failed(now + SECOND * 9 / 10);
    // Wakes when it is lost, not only when it may write again.
    assert_eq!(election.poll(now + SECOND * 9 / 10), Step::Wait(Some(now + SECOND)));
    assert_eq!(election.holding(), &Holding::Ours);
    assert_eq!(election.poll(now + SECOND), Step::Wait(Some(now + SECOND * 23 / 20)));
    assert_eq!(election.holding(), &Holding::Lost);
    assert_eq!(election.poll(now + SECOND * 23 / 20), Step::Renew);
    // Another one, who has seen it from 100 ms on, takes it.
    election.handle_seen(seen("b", 2), now + SECOND * 12 / 10);
    election.poll(now + SECOND * 12 / 10);
    assert_eq!(election.holding(), &Holding::Other("b".into()));
}

#[test]
fn an_outage_of_the_api_server_is_not_the_silence_of_the_holder() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(seen("b", 1), now);
    assert_eq!(election.poll(now + SECOND), Step::Take);
    election.handle_failed(now + SECOND);
    // As long again from the first write that failed, and not at once when the API server is back.
    assert_eq!(election.poll(now + SECOND * 3 / 2), Step::Wait(Some(now + SECOND * 2)));
    election.handle_seen(seen("b", 2), now + SECOND * 8 / 5);
    assert_eq!(election.poll(now + SECOND * 9 / 5), Step::Wait(Some(now + SECOND * 13 / 5)));
}

#[test]
fn our_name_on_a_lease_is_not_ours_before_we_have_written_it() {
    let (mut election, now) = election(Standing::Candidate);
    election.handle_seen(seen("a", 1), now);
    assert_eq!(election.poll(now), Step::Renew);
    assert_eq!(election.holding(), &Holding::Unknown);
}

#[test]
fn an_observer_takes_nothing_and_gives_back_what_it_has() {
    let (mut election, now) = election(Standing::Observer);
    election.handle_seen(None, now);
    assert_eq!(election.poll(now), Step::Wait(None));
    election.handle_seen(seen("b", 1), now);
    assert_eq!(election.poll(now + SECOND * 9), Step::Wait(None));
    election.handle_seen(seen("a", 2), now);
    assert_eq!(election.poll(now), Step::Release);
    election.handle_written(seen("", 3).unwrap(), now, now);
    assert_eq!(election.poll(now), Step::Wait(None));
    assert_eq!(election.holding(), &Holding::Nobody);
}
