//! Busy polling: a lane that has carried packets looks for more for a moment before it sleeps.
//!
//! Waking a thread up costs an interrupt on another processor, which a virtual machine pays for at both. So does the
//! kernel's `net.core.busy_poll`, and its idle governor `haltpoll`, whose growing and shrinking this has. A lane never
//! looks for longer than its packets took, and yields to whoever else wants the processor.
//!
//! Beside that it expects an answer where the last one came soon: after sending, the peer's; after receiving, that of the
//! host behind the tunnel. A look for it takes the place of a sleep that would have been as short. It is wrong once, and
//! over any longer time a lane looks for half of it at most: steady traffic, where each packet seems to answer the one
//! before, does not keep a processor busy.

use std::time::Duration;

/// Longest look for what packets have earned: about what a processor takes to wake up twice.
const LONGEST: Duration = Duration::from_micros(100);
/// After misses, this part of what has been earned is still used (as a power of two: a sixteenth).
const MOST_DOUBT: u32 = 4;
/// An answer that comes within this time is one to look for: about twice the round trip between two hosts of a LAN.
const SOON: Duration = Duration::from_micros(200);
/// What looks for answers may take at once, before they are held to half of the time.
const ALLOWANCE: Duration = Duration::from_millis(5);

/// What a lane has done before it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It has read packets of this host.
    Sending,
    /// It has received datagrams, and read nothing.
    Receiving,
    /// Something else was due.
    Chores,
}

/// How long to look before the next sleep.
#[derive(Debug)]
pub(super) struct BusyPoll {
    /// Time that packets have earned since the last look.
    credit: Duration,
    /// How often the credit is halved.
    doubt: u32,
    /// Whether the last answer after sending, and after receiving, came soon.
    soon: [bool; 2],
    /// What looks for answers may take, as of `filled`.
    allowance: Duration,
    filled: Duration,
}

impl After {
    fn index(self) -> Option<usize> {
        match self {
            Self::Sending => Some(0),
            Self::Receiving => Some(1),
            Self::Chores => None,
        }
    }
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self { credit: Duration::ZERO, doubt: 0, soon: [false; 2], allowance: ALLOWANCE, filled: Duration::ZERO }
    }
}

impl BusyPoll {
    /// Earns what packets have taken.
    pub(super) fn worked(&mut self, time: Duration) {
        self.credit = (self.credit + time).min(LONGEST);
    }

    /// Spends all credit on the look that begins now, and tells how long that may take.
    pub(super) fn window(&mut self, after: After, now: Duration) -> Duration {
        let earned = std::mem::take(&mut self.credit) / (1 << self.doubt);
        let expected = after.index().is_some_and(|index| self.soon[index]);
        if expected { earned.max(self.allowance(now).min(SOON)) } else { earned }
    }

    /// Half of the time that passes is allowed.
    fn allowance(&mut self, now: Duration) -> Duration {
        self.allowance = (self.allowance + now.saturating_sub(self.filled) / 2).min(ALLOWANCE);
        self.filled = now;
        self.allowance
    }

    /// Learns how long it was until an answer came; `None` when something else came before it.
    pub(super) fn waited(&mut self, after: After, answer: Option<Duration>) {
        if let Some(index) = after.index() {
            self.soon[index] = answer.is_some_and(|time| time < SOON);
        }
    }

    /// A look has taken so long, and found something.
    pub(super) fn found(&mut self, time: Duration) {
        self.doubt = self.doubt.saturating_sub(1);
        self.allowance = self.allowance.saturating_sub(time);
    }

    /// A look has taken so long in vain.
    pub(super) fn missed(&mut self, time: Duration) {
        self.doubt = (self.doubt + 1).min(MOST_DOUBT);
        self.allowance = self.allowance.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_look_takes_no_longer_than_packets_did_since_the_last_and_100_us_at_most() {
        let mut busy = BusyPoll::default();
        let mut window = |worked: u64| {
            busy.worked(us(worked));
            busy.window(After::Chores, us(0))
        };
        assert_eq!(window(0), us(0), "nothing earned");
        assert_eq!(window(50), us(50));
        assert_eq!(window(0), us(0), "spent");
        assert_eq!(window(5000), us(100));
        busy.worked(us(30));
        busy.worked(us(20));
        assert_eq!(busy.window(After::Chores, us(0)), us(50));
    }

    #[test]
    fn looks_in_vain_are_halved_down_to_a_sixteenth_and_grow_back() {
        let mut busy = BusyPoll::default();
        let mut look = |outcome: fn(&mut BusyPoll, Duration)| {
            busy.worked(us(80));
            let window = busy.window(After::Chores, us(0));
            outcome(&mut busy, window);
            window
        };
        let misses: Vec<_> = (0..6).map(|_| look(BusyPoll::missed)).collect();
        assert_eq!(misses, [80, 40, 20, 10, 5, 5].map(us));
        let finds: Vec<_> = (0..6).map(|_| look(BusyPoll::found)).collect();
        assert_eq!(finds, [5, 10, 20, 40, 80, 80].map(us));
    }

    #[test]
    fn an_answer_is_looked_for_where_the_last_one_came_soon() {
        let mut busy = BusyPoll::default();
        busy.waited(After::Sending, Some(us(150)));
        busy.waited(After::Receiving, Some(us(10_000)));
        assert_eq!(busy.window(After::Sending, us(0)), us(200));
        assert_eq!([After::Receiving, After::Chores].map(|after| busy.window(after, us(0))), [us(0); 2]);
        busy.worked(us(40));
        assert_eq!(busy.window(After::Receiving, us(0)), us(40), "what was earned is there as well");
        busy.waited(After::Chores, Some(us(10)));
        assert_eq!(busy.window(After::Chores, us(0)), us(0), "nobody answers to chores");
        busy.waited(After::Sending, Some(us(200)));
        assert_eq!(busy.window(After::Sending, us(0)), us(0), "it is wrong once");
    }

    #[test]
    fn what_comes_before_an_answer_is_none() {
        let mut busy = BusyPoll::default();
        busy.waited(After::Sending, Some(us(50)));
        busy.waited(After::Sending, None);
        assert_eq!(busy.window(After::Sending, us(0)), us(0));
    }

    #[test]
    fn looks_for_answers_take_half_of_the_time_at_most() {
        let mut busy = BusyPoll::default();
        // For a second, each look finds its answer at its very end, and there is little else to do.
        let (mut now, mut looked) = (us(0), us(0));
        while now < us(1_000_000) {
            busy.waited(After::Sending, Some(us(199)));
            let window = busy.window(After::Sending, now);
            assert!(window <= us(200));
            busy.found(window);
            looked += window;
            now += window.max(us(199)) + us(1);
        }
        assert!((us(500_000)..=us(505_100)).contains(&looked), "{looked:?}");
        // After a pause, what is saved up is 5 ms and no more: 25 looks that follow each other.
        now += us(1_000_000);
        let mut look = || {
            let window = busy.window(After::Sending, now);
            busy.missed(window);
            window
        };
        assert_eq!((0..1000).map(|_| look()).sum::<Duration>(), us(5000));
    }
}
