//! The path to one peer on one lane, as probes see it: round-trip time, loss, MTU. Pure: time comes in, probes come out.
//!
//! The MTU search follows RFC 8899 (DPLPMTUD): start from the configured size, confirm it with a padded probe, fall
//! back to a size that every path carries when large probes get lost while small ones do not, and search upwards again.

use std::time::Duration;

/// Between probes while there is traffic, or while the path is in doubt.
pub const ACTIVE_INTERVAL: Duration = Duration::from_millis(200);
/// Between probes of an idle path.
pub const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Traffic keeps a path active for this long.
pub const ACTIVE_AFTER_TRAFFIC: Duration = Duration::from_secs(3);
/// A probe without an answer is lost after this long, or after eight round-trip times if that is longer.
const LOST_AFTER: Duration = Duration::from_millis(400);
/// So many lost in a row mean that the path is down.
pub const DOWN_AFTER: u32 = 3;
/// Smallest MTU that the search tries: what every IPv4 path carries (RFC 791).
pub const MTU_FLOOR: u16 = 576;
/// The size to fall back to while searching: what every IPv6 link carries (RFC 8200, section 5).
const MTU_BASE: u16 = 1280;
/// Tries of one size before it counts as too large (RFC 8899, `MAX_PROBES`).
const MAX_SIZE_PROBES: u8 = 3;
/// Every so many probes of an active path confirm that the MTU still holds.
const CONFIRM_EVERY: u32 = 10;
/// The search stops when the interval is this small.
const MTU_STEP: u16 = 8;
/// A lowered MTU is tried upwards again after this long (RFC 8899, `PMTU_RAISE_TIMER`).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Probes that may be under way at once: at the active interval, 12 seconds.
const WINDOW: usize = 64;
/// Over how many probes loss is told.
const HISTORY: u32 = 100;

/// A probe to send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Sequence number, echoed by the peer.
    pub sequence: u32,
    /// Size of the inner packet in bytes; `None` is the smallest that holds a probe.
    pub size: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    sequence: u32,
    at: Duration,
    size: Option<u16>,
    open: bool,
}

/// Where the MTU search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// The size in use holds, as far as we know.
    Settled,
    /// `low` is known to pass, `high` is known to fail.
    Between { low: u16, high: u16 },
}

/// What probes have told about one path.
#[derive(Debug)]
pub struct Path {
    limit: u16,
    mtu: u16,
    search: Search,
    size_failures: u8,
    raise_at: Option<Duration>,
    sequence: u32,
    sent: [Sent; WINDOW],
    next_at: Duration,
    /// Newest outcome in bit 0; a set bit is a lost probe.
    history: u128,
    outcomes: u32,
    lost_in_row: u32,
    answered: bool,
    rtt: Option<Duration>,
    jitter: Duration,
}

impl Path {
    /// A path of which nothing is known. `limit` is the largest inner packet in bytes that the link ever hands over.
    pub fn new(limit: u16) -> Self {
        Self {
            limit,
            mtu: limit,
            search: Search::Settled,
            size_failures: 0,
            raise_at: None,
            sequence: 0,
            sent: [Sent::default(); WINDOW],
            next_at: Duration::ZERO,
            history: 0,
            outcomes: 0,
            lost_in_row: 0,
            answered: false,
            rtt: None,
            jitter: Duration::ZERO,
        }
    }

    /// Starts over on a new path (the peer has roamed): keeps nothing but the sequence.
    pub fn reset(&mut self) {
        let sequence = self.sequence;
        *self = Self { sequence, ..Self::new(self.limit) };
    }

    /// When the next probe is due. `last_traffic` is when data last went either way.
    pub fn due(&self, last_traffic: Option<Duration>, now: Duration) -> Duration {
        let active = last_traffic.is_some_and(|at| now.saturating_sub(at) < ACTIVE_AFTER_TRAFFIC);
        let in_doubt =
            !self.answered || self.lost_in_row > 0 || self.size_failures > 0 || self.search != Search::Settled;
        let interval =
            if active || in_doubt && self.lost_in_row < 2 * DOWN_AFTER { ACTIVE_INTERVAL } else { IDLE_INTERVAL };
        self.next_at + interval
    }

    /// The probe to send now; counts what is overdue as lost.
    pub fn next_probe(&mut self, now: Duration) -> Probe {
        self.expire(now);
        if self.raise_at.is_some_and(|at| now >= at) {
            self.raise_at = None;
            self.search = Search::Between { low: self.mtu, high: self.limit + 1 };
        }
        self.sequence = self.sequence.wrapping_add(1);
        let size = match self.search {
            // First of all, whether the path lives; large probes would not tell.
            _ if self.lost_in_row > 0 => None,
            // Every other probe is small: its loss tells a dead path from a narrow one.
            Search::Between { .. } if self.sequence.is_multiple_of(2) => None,
            Search::Between { low, high } => Some(if high > self.limit { self.limit } else { low + (high - low) / 2 }),
            Search::Settled if !self.answered => None,
            // As above: the one that was lost may have been lost with the path.
            Search::Settled if self.size_failures > 0 => self.sequence.is_multiple_of(2).then_some(self.mtu),
            Search::Settled if self.sequence % CONFIRM_EVERY == 2 => Some(self.mtu),
            Search::Settled => None,
        };
        let slot = &mut self.sent[self.sequence as usize % WINDOW];
        let overwritten = std::mem::replace(slot, Sent { sequence: self.sequence, at: now, size, open: true });
        if overwritten.open {
            self.lost(overwritten);
        }
        self.next_at = now;
        Probe { sequence: self.sequence, size }
    }

    /// Takes back a probe that could not be sent: nothing follows from its silence.
    pub fn withdraw(&mut self, sequence: u32) {
        let slot = &mut self.sent[sequence as usize % WINDOW];
        slot.open &= slot.sequence != sequence;
    }

    /// Takes an answer; returns whether it was to an open probe.
    pub fn answer(&mut self, sequence: u32, now: Duration) -> bool {
        let slot = &mut self.sent[sequence as usize % WINDOW];
        if !slot.open || slot.sequence != sequence {
            return false;
        }
        slot.open = false;
        let sent = *slot;
        self.measure(now.saturating_sub(sent.at));
        self.record(false);
        self.lost_in_row = 0;
        self.answered = true;
        if let Some(size) = sent.size {
            self.size_passed(size, now);
        }
        true
    }

    /// Takes the kernel's word that a packet of the size in use does not fit the way out (`EMSGSIZE`).
    pub fn too_big(&mut self, now: Duration) {
        if self.search == Search::Settled {
            self.size_failed(self.mtu, now);
        }
    }

    /// Largest inner packet in bytes that passes, as far as known.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Smoothed round-trip time and its mean deviation (RFC 6298, section 2).
    pub fn rtt(&self) -> Option<(Duration, Duration)> {
        self.rtt.map(|rtt| (rtt, self.jitter))
    }

    /// Share of lost probes among the last hundred.
    pub fn loss(&self) -> f64 {
        let seen = self.outcomes.min(HISTORY);
        let mask = if seen == 0 { 0 } else { u128::MAX >> (128 - seen) };
        f64::from((self.history & mask).count_ones()) / f64::from(seen.max(1))
    }

    /// Whether the last probes came back; `None` before the first outcome.
    pub fn alive(&self) -> Option<bool> {
        match (self.answered, self.lost_in_row) {
            (_, lost) if lost >= DOWN_AFTER => Some(false),
            (true, _) => Some(true),
            (false, _) => None,
        }
    }

    /// Probes lost since the last answer.
    pub fn lost_in_row(&self) -> u32 {
        self.lost_in_row
    }

    fn expire(&mut self, now: Duration) {
        let patience = LOST_AFTER.max(self.rtt.unwrap_or_default() * 8);
        // Oldest first, so that a run of losses is counted in order.
        for back in (0..WINDOW as u32).rev() {
            let sequence = self.sequence.wrapping_sub(back);
            let slot = &mut self.sent[sequence as usize % WINDOW];
            if slot.open && slot.sequence == sequence && now.saturating_sub(slot.at) >= patience {
                slot.open = false;
                let sent = *slot;
                self.lost(sent);
                if let Some(size) = sent.size {
                    self.size_lost(size, now);
                }
            }
        }
    }

    fn lost(&mut self, sent: Sent) {
        // A probe that was large on purpose says something about its size, not about the path.
        if sent.size.is_none() {
            self.record(true);
            self.lost_in_row = self.lost_in_row.saturating_add(1);
        }
    }

    fn record(&mut self, lost: bool) {
        self.history = self.history << 1 | u128::from(lost);
        self.outcomes = self.outcomes.saturating_add(1);
    }

    fn measure(&mut self, sample: Duration) {
        match self.rtt {
            None => (self.rtt, self.jitter) = (Some(sample), sample / 2),
            Some(rtt) => {
                self.jitter = (self.jitter * 3 + rtt.abs_diff(sample)) / 4;
                self.rtt = Some((rtt * 7 + sample) / 8);
            }
        }
    }

    fn size_passed(&mut self, size: u16, now: Duration) {
        self.size_failures = 0;
        self.mtu = self.mtu.max(size);
        if let Search::Between { low, high } = self.search {
            self.narrow(low.max(size), high, now);
        }
    }

    fn size_lost(&mut self, size: u16, now: Duration) {
        // Without small probes coming back, the path is down and sizes tell nothing.
        if self.lost_in_row > 0 {
            return;
        }
        self.size_failures += 1;
        if self.size_failures >= MAX_SIZE_PROBES {
            self.size_failed(size, now);
        }
    }

    fn size_failed(&mut self, size: u16, now: Duration) {
        self.size_failures = 0;
        match self.search {
            Search::Settled => {
                self.mtu = if size > MTU_BASE { MTU_BASE } else { MTU_FLOOR }.min(self.limit);
                self.narrow(self.mtu, size, now);
            }
            Search::Between { low, high } => self.narrow(low, high.min(size), now),
        }
    }

    fn narrow(&mut self, low: u16, high: u16, now: Duration) {
        if low + MTU_STEP > high || low >= self.limit {
            self.search = Search::Settled;
            self.raise_at = (self.mtu < self.limit).then_some(now + RAISE_AFTER);
        } else {
            self.search = Search::Between { low, high };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs a path over a network that answers after `rtt` whatever is at most `mtu` bytes, and returns the end time.
    fn run(path: &mut Path, start: Duration, probes: usize, rtt: Duration, mtu: u16) -> Duration {
        let mut now = start;
        for _ in 0..probes {
            now = now.max(path.due(Some(now), now));
            let probe = path.next_probe(now);
            if probe.size.unwrap_or(0) <= mtu {
                assert!(path.answer(probe.sequence, now + rtt));
            }
        }
        now
    }

    #[test]
    fn a_good_path_is_alive_without_loss_and_keeps_its_mtu() {
        let mut path = Path::new(1420);
        assert_eq!(path.alive(), None);
        run(&mut path, MS, 30, 20 * MS, 1420);
        assert_eq!(path.alive(), Some(true));
        assert_eq!(path.rtt(), Some((20 * MS, path.rtt().expect("measured").1)));
        assert!(path.loss() < f64::EPSILON);
        assert_eq!(path.mtu(), 1420);
    }

    #[test]
    fn a_silent_path_is_down_in_under_a_second_and_up_with_the_first_answer() {
        let mut path = Path::new(1420);
        let up = run(&mut path, MS, 12, MS, 1420);
        let mut now = up;
        while path.alive() == Some(true) {
            now = path.due(Some(now), now);
            path.next_probe(now);
        }
        assert!(now - up <= 1300 * MS, "down after {:?}", now - up);
        let probe = path.next_probe(now + ACTIVE_INTERVAL);
        path.answer(probe.sequence, now + ACTIVE_INTERVAL + MS);
        assert_eq!(path.alive(), Some(true));
    }

    #[test]
    fn a_path_that_dies_under_any_probe_is_down_within_a_second_and_a_half() {
        for probes in 10..=22 {
            let mut path = Path::new(1420);
            let up = run(&mut path, MS, probes, MS, 1420);
            let mut now = up;
            while path.alive() == Some(true) && now < up + 5 * IDLE_INTERVAL {
                now = path.due(Some(now), now);
                path.next_probe(now);
            }
            assert_eq!(path.alive(), Some(false), "after {probes} probes");
            assert!(now - up <= 1500 * MS, "after {probes} probes: down after {:?}", now - up);
        }
    }

    #[test]
    fn the_search_finds_a_smaller_mtu_and_never_stays_above_it() {
        for real in [1281, 1340, 1392, 1419, 600] {
            let mut path = Path::new(1420);
            let end = run(&mut path, MS, 200, 10 * MS, real);
            assert!(path.mtu() <= real && path.mtu() + MTU_STEP >= real.min(1420), "{real}: found {}", path.mtu());
            assert_eq!(path.alive(), Some(true), "{real}: a small MTU is not a dead path");
            run(&mut path, end + RAISE_AFTER, 60, 10 * MS, 1420);
            assert_eq!(path.mtu(), 1420, "{real}: raised when the path grows");
        }
    }

    #[test]
    fn loss_counts_the_last_hundred_and_a_stale_answer_counts_nothing() {
        let mut path = Path::new(1420);
        let mut now = MS;
        for n in 0..100 {
            now = path.due(Some(now), now);
            let probe = path.next_probe(now);
            if n % 4 != 0 || probe.size.is_some() {
                path.answer(probe.sequence, now + MS);
                assert!(!path.answer(probe.sequence, now + MS), "an answer counts once");
            }
        }
        path.next_probe(now + LOST_AFTER * 2);
        assert!((0.15..0.30).contains(&path.loss()), "{}", path.loss());
        assert!(!path.answer(999_999, now));
    }

    #[test]
    fn from_probes_that_could_not_be_sent_nothing_follows() {
        let mut path = Path::new(1420);
        let mut now = run(&mut path, MS, 12, MS, 1420);
        for _ in 0..40 {
            now = path.due(Some(now), now);
            let probe = path.next_probe(now);
            path.withdraw(probe.sequence);
            path.withdraw(probe.sequence.wrapping_sub(WINDOW as u32));
        }
        assert_eq!((path.alive(), path.loss(), path.mtu()), (Some(true), 0.0, 1420));
    }

    #[test]
    fn an_idle_path_is_probed_once_a_second() {
        let mut path = Path::new(1420);
        let now = run(&mut path, MS, 5, MS, 1420);
        assert_eq!(path.due(None, now), now + IDLE_INTERVAL);
        assert_eq!(path.due(Some(now), now), now + ACTIVE_INTERVAL);
    }
}
