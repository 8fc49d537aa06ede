//! The queue before a lane, which is in its socket. A stream that sends as fast as it may fills any buffer, and whoever comes
//! next waits behind it: so senders are told before that, by one packet at a time.
//!
//! The law is CoDel (RFC 8289), by the age of what is received: it tells a queue that stays from one that comes and goes.

use std::time::Duration;

/// The queue may be long for so many round trips before a sender is told, who takes one to react.
const ROUND_TRIPS: u32 = 2;
const SHORTEST: Duration = Duration::from_millis(10);
/// RFC 8289, section 4.3: what suits all paths of the Internet; also where the round trip is not known.
const LONGEST: Duration = Duration::from_millis(100);
/// A queue of this part of the interval keeps one stream at its rate (RFC 8289, section 4.4).
const TARGET: u32 = 20;
/// A queue that is back within so many intervals is met as it was left (RFC 8289, section 5.4).
const RECENT: u32 = 16;

/// What is known of the queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// When it will have been long for an interval; `None` while it is short.
    long_at: Option<Duration>,
    telling: bool,
    /// When to tell again.
    next: Duration,
    /// How often senders have been told since the queue was last short, and how often that was at the beginning.
    count: u32,
    began: u32,
    /// How often it has been found short.
    short: u64,
    /// The longest round trip of those who were heard since, as far as it is known.
    round_trip: Option<Duration>,
    since: Mark,
}

/// How often the queue had been found short when something was noted; `None` before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark(Option<u64>);

impl Queue {
    /// Takes the age of what is received `now`; tells whether a sender is to slow down.
    pub(super) fn judge(&mut self, age: Duration, now: Duration) -> bool {
        let interval = self.round_trip.map_or(LONGEST, |time| (time * ROUND_TRIPS).clamp(SHORTEST, LONGEST));
        if age < interval / TARGET {
            self.emptied();
            return false;
        }
        if now < *self.long_at.get_or_insert(now + interval) || self.telling && now < self.next {
            return false;
        }
        self.count = if self.telling { self.count + 1 } else { self.begin(now, interval) };
        self.telling = true;
        self.next = now + interval.div_f64(f64::from(self.count).sqrt());
        true
    }

    /// Nothing is left in it: what has waited did so for a lane that slept, or had no processor, and not for other packets.
    /// So does `dodequeue` of RFC 8289 take a queue of one packet for a good one.
    pub(super) fn emptied(&mut self) {
        (self.long_at, self.telling) = (None, false);
        self.short += 1;
    }

    /// Takes note of a peer that shares the queue. The one that is farthest away sets the pace: others would be told before
    /// it could react. Its round trip is taken with its first packet since the queue was short: later ones include the queue.
    #[inline]
    pub(super) fn hear(&mut self, peer: &mut Mark, round_trip: Option<Duration>) {
        let now = Mark(Some(self.short));
        if *peer == now {
            return;
        }
        let before = self.round_trip.filter(|_| self.since == now);
        (self.round_trip, self.since) = (before.max(round_trip), now);
        if round_trip.is_some() {
            *peer = now;
        }
    }

    /// Whether it was long the last time.
    pub(super) fn is_long(&self) -> bool {
        self.long_at.is_some()
    }

    fn begin(&mut self, now: Duration, interval: Duration) -> u32 {
        let told = self.count - self.began;
        let recent = now.saturating_sub(self.next) < RECENT * interval;
        self.began = if told > 1 && recent { told } else { 1 };
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    const NEAR: Option<Duration> = Some(us(300));

    /// When senders are told, in microseconds, while each 100 us something of an age comes.
    fn told(queue: &mut Queue, from: u64, to: u64, age: Duration) -> Vec<u64> {
        let mut peer = Mark::default();
        let judge = |at: &u64| {
            queue.hear(&mut peer, NEAR);
            queue.judge(age, us(*at))
        };
        (from..to).step_by(100).filter(judge).collect()
    }

    #[test]
    fn a_queue_that_comes_and_goes_is_nobodys_fault() {
        let mut queue = Queue::default();
        assert_eq!(told(&mut queue, 0, 1_000_000, us(499)), []);
        for round in 0..100 {
            let at = round * 10_000;
            assert_eq!(told(&mut queue, at, at + 9_900, us(5_000)), []);
            assert!(!queue.judge(us(100), us(at + 9_900)));
        }
    }

    #[test]
    fn a_queue_that_stays_is_told_of_again_and_again_and_ever_more_often() {
        let mut queue = Queue::default();
        // 10 ms after it has become long, then after 10 ms divided by the roots of 1, 2, 3 and so on.
        assert_eq!(told(&mut queue, 0, 45_000, us(500)), [10_000, 20_000, 27_100, 32_900, 37_900, 42_400]);
        assert!(!queue.judge(us(499), us(45_000)));
        // Back soon, it is told of as often as before: after roots of 5 and 6.
        assert_eq!(told(&mut queue, 45_100, 65_000, us(500)), [55_100, 59_600, 63_700]);
        assert!(!queue.judge(us(0), us(65_000)));
        assert_eq!(told(&mut queue, 1_000_000, 1_025_000, us(500)), [1_010_000, 1_020_000]);
    }

    #[test]
    fn one_packet_at_a_time_that_came_late_is_no_queue() {
        let mut queue = Queue::default();
        for at in (0..1_000_000).step_by(10_000) {
            assert!(!queue.judge(us(3_000), us(at)));
            queue.emptied();
        }
    }

    #[test]
    fn over_long_paths_queues_may_be_longer() {
        let told = |round_trip: Option<Duration>, age: Duration| {
            let mut queue = Queue::default();
            queue.hear(&mut Mark::default(), round_trip);
            (0..1000).find(|ms| queue.judge(age, us(ms * 1000)))
        };
        let ms = |ms: u64| us(ms * 1000);
        assert_eq!(told(Some(ms(20)), ms(2)), Some(40));
        assert_eq!(told(Some(ms(20)), us(1_999)), None);
        assert_eq!(told(Some(ms(400)), ms(5)), Some(100));
        assert_eq!(told(None, ms(5)), Some(100));
        assert_eq!(told(None, us(4_999)), None);
    }

    #[test]
    fn the_farthest_peer_sets_the_pace_until_the_queue_was_short() {
        let ms = |ms: u64| us(ms * 1000);
        let told = |queue: &mut Queue| (0..1000).find(|at| queue.judge(ms(5), ms(*at)));
        let of = |peers: &[(usize, Option<Duration>)]| {
            let (mut queue, mut marks) = (Queue::default(), [Mark::default(); 4]);
            peers.iter().for_each(|(peer, round_trip)| queue.hear(&mut marks[*peer], *round_trip));
            (queue, marks)
        };
        let far = Some(ms(30));
        assert_eq!(told(&mut of(&[(1, NEAR), (2, Some(ms(20))), (3, NEAR)]).0), Some(40));
        assert_eq!(told(&mut of(&[(1, None), (2, None)]).0), Some(100), "as far as any path");
        assert_eq!(told(&mut of(&[(1, None), (1, NEAR)]).0), Some(10), "it is known by now");
        // They have become longer by the queue alone.
        assert_eq!(told(&mut of(&[(1, NEAR), (1, far)]).0), Some(10));
        assert_eq!(told(&mut of(&[(1, NEAR), (2, NEAR), (1, far), (2, far), (1, far)]).0), Some(10));
        let (mut queue, mut marks) = of(&[(2, far), (1, NEAR)]);
        queue.emptied();
        queue.hear(&mut marks[1], NEAR);
        assert_eq!(told(&mut queue), Some(10));
        queue.emptied();
        for (peer, round_trip) in [(1, NEAR), (2, far)] {
            queue.hear(&mut marks[peer], round_trip);
        }
        assert_eq!(told(&mut queue), Some(60), "the far one is back");
    }
}
