//! What becomes of segmented sends on one path: some drivers and hypervisors send them with wrong headers, and nobody
//! says so. Pure: counters come in with each answered probe, a verdict comes out.
//!
//! Each answer to a probe bears the number of packets that the peer has received. When as many are missing as went out in
//! segmented sends, while those that went out alone arrive, segmented sends are given up for a trial. When the same
//! traffic arrives without them, they are off; when it does not, the path is merely congested, and they come back.
//! A path that was away for a moment looks like the former, so that they are tried again, ever more seldom.
//! A peer that lies about its counter slows nobody but itself.

use std::time::Duration;

/// Segmented packets that must have gone out before their fate is judged: two TCP windows of a fresh connection hold more.
const ENOUGH: u64 = 16;
/// A window that has not seen enough by then starts over.
const WINDOW: Duration = Duration::from_secs(10);
/// After a trial that has changed nothing, no other is made for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// They are off for so long at first; each time that they vanish again soon after, for twice as long, up to a day.
const FIRST_REST: Duration = Duration::from_secs(600);
const LAST_REST: Duration = Duration::from_secs(86_400);
/// Probes of which the counters are remembered: answers come after one or two as a rule.
const MARKS: usize = 16;

/// Packets that have gone out when a probe did, itself included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// All of them.
    pub packets: u64,
    /// Those that went out together with others, or would have.
    pub segmented: u64,
}

/// What an answer has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// Segmented sends seem to vanish, and pause for a trial.
    Suspected,
    /// They do vanish, and are off for a while.
    GivenUp,
    /// That while is over.
    TriedAgain,
    /// It was not their fault.
    Cleared,
}

/// One path's segmented sends.
#[derive(Debug, Default)]
pub struct Segments {
    marks: [(u32, Sent); MARKS],
    newest: u32,
    base: Option<Base>,
    stage: Stage,
    /// Answers to probes up to this one tell of sends before the stage changed.
    after: u32,
    /// How long they were off the last time, and until when.
    rest: Duration,
    rested: Duration,
}

/// Where a window begins.
#[derive(Debug, Clone, Copy)]
struct Base {
    at: Duration,
    sent: Sent,
    received: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Trusted,
    /// Trusted, and not suspected again before then.
    Cleared { until: Duration },
    /// Off, to see what that changes.
    Trial,
    /// Off, and tried again after a rest.
    GivenUp,
}

/// What happened between two answers.
struct Window {
    age: Duration,
    segmented: u64,
    alone: u64,
    arrived: u64,
}

impl Segments {
    /// Whether datagrams may go out together.
    #[inline]
    pub fn allowed(&self) -> bool {
        matches!(self.stage, Stage::Trusted | Stage::Cleared { .. })
    }

    /// Whether they may not because they vanish.
    pub fn given_up(&self) -> bool {
        self.stage == Stage::GivenUp
    }

    /// Notes that a probe has gone out.
    pub fn mark(&mut self, sequence: u32, sent: Sent) {
        self.marks[sequence as usize % MARKS] = (sequence, sent);
        self.newest = sequence;
    }

    /// Takes the answer to a probe: the peer had received so many packets by then.
    pub fn answer(&mut self, sequence: u32, received: u64, now: Duration) -> Verdict {
        let (marked, sent) = self.marks[sequence as usize % MARKS];
        let stale = sequence.wrapping_sub(self.after) as i32 <= 0;
        if marked != sequence || stale {
            return Verdict::Same;
        }
        if self.stage == Stage::GivenUp {
            let rests = now < self.rested;
            return if rests { Verdict::Same } else { self.change(Stage::Trusted, Verdict::TriedAgain) };
        }
        let here = Base { at: now, sent, received };
        let Some(window) = self.base.and_then(|base| Window::between(&base, &here)) else {
            // The first answer, one from before the last, or a peer that has begun anew.
            self.base = Some(here);
            return Verdict::Same;
        };
        let verdict = if window.segmented >= ENOUGH { self.judge(&window, now) } else { Verdict::Same };
        if verdict == Verdict::Same && (window.segmented >= ENOUGH || window.age >= WINDOW) {
            self.base = Some(here);
        }
        verdict
    }

    fn judge(&mut self, window: &Window, now: Duration) -> Verdict {
        match self.stage {
            Stage::Trial if window.is_whole() => {
                let again = now.saturating_sub(self.rested) < self.rest;
                self.rest = if again { (self.rest * 2).min(LAST_REST) } else { FIRST_REST };
                self.rested = now + self.rest;
                self.change(Stage::GivenUp, Verdict::GivenUp)
            }
            Stage::Trial => self.change(Stage::Cleared { until: now + PAUSE }, Verdict::Cleared),
            Stage::Cleared { until } if now < until => Verdict::Same,
            _ if window.lacks_segmented() => self.change(Stage::Trial, Verdict::Suspected),
            _ => Verdict::Same,
        }
    }

    /// Begins another stage, and a new window with what goes out from now on.
    fn change(&mut self, stage: Stage, verdict: Verdict) -> Verdict {
        (self.stage, self.after, self.base) = (stage, self.newest, None);
        verdict
    }
}

impl Window {
    /// None where a counter went back.
    fn between(base: &Base, here: &Base) -> Option<Self> {
        let packets = here.sent.packets.checked_sub(base.sent.packets)?;
        let segmented = here.sent.segmented.checked_sub(base.sent.segmented)?;
        let arrived = here.received.checked_sub(base.received)?;
        Some(Self {
            age: here.at.saturating_sub(base.at),
            segmented,
            alone: packets.saturating_sub(segmented),
            arrived,
        })
    }

    /// Whether what went out alone has arrived, and little else.
    fn lacks_segmented(&self) -> bool {
        self.arrived <= self.alone + self.segmented / 5 && self.arrived >= self.alone - self.alone / 5
    }

    /// Whether most of what goes out together otherwise has arrived too.
    fn is_whole(&self) -> bool {
        self.arrived >= self.alone + self.segmented - self.segmented / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(200);

    /// A sender with a network that loses some of what it sends.
    #[derive(Default)]
    struct Line {
        segments: Segments,
        now: Duration,
        sequence: u32,
        sent: Sent,
        received: u64,
    }

    impl Line {
        /// Sends for one probe interval, of which the network keeps two shares, and takes the answer.
        fn step(&mut self, alone: u64, together: u64, arrives: impl Fn(bool) -> f64) -> Verdict {
            let segmented = self.segments.allowed();
            self.now += STEP;
            self.sequence += 1;
            self.sent.packets += alone + together + 1;
            self.sent.segmented += together;
            self.received += 1 + (alone as f64 * arrives(false)) as u64 + (together as f64 * arrives(segmented)) as u64;
            self.segments.mark(self.sequence, self.sent);
            self.segments.answer(self.sequence, self.received, self.now)
        }

        /// Goes on until there is news.
        fn news(&mut self, alone: u64, together: u64, arrives: impl Fn(bool) -> f64) -> Verdict {
            let mut steps = (0..200).map(|_| self.step(alone, together, &arrives));
            steps.find(|verdict| *verdict != Verdict::Same).unwrap_or(Verdict::Same)
        }
    }

    fn broken(segmented: bool) -> f64 {
        if segmented { 0.0 } else { 1.0 }
    }

    #[test]
    fn sends_that_vanish_are_given_up_after_a_trial_and_stay_off() {
        for (alone, together) in [(2, 3), (0, 5000), (40, 900)] {
            let mut line = Line::default();
            assert_eq!(line.news(alone, together, broken), Verdict::Suspected);
            assert!(!line.segments.allowed() && !line.segments.given_up());
            assert_eq!(line.news(alone, together, broken), Verdict::GivenUp);
            assert!(line.now < Duration::from_secs(5), "after {:?}", line.now);
            assert_eq!(line.news(alone, together, broken), Verdict::Same);
            assert!(!line.segments.allowed() && line.segments.given_up());
        }
    }

    #[test]
    fn sends_that_were_given_up_are_tried_again_ever_more_seldom() {
        let mut line = Line::default();
        assert_eq!(line.news(0, 500, broken), Verdict::Suspected);
        assert_eq!(line.news(0, 500, broken), Verdict::GivenUp);
        let minutes = |line: &mut Line, minutes: u64| line.now += Duration::from_secs(60 * minutes);
        for rest in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            minutes(&mut line, rest - 1);
            assert_eq!(line.step(0, 500, broken), Verdict::Same, "{rest} minutes");
            minutes(&mut line, 1);
            assert_eq!(line.step(0, 500, broken), Verdict::TriedAgain, "{rest} minutes");
            assert!(line.segments.allowed() && !line.segments.given_up());
            assert_eq!(line.news(0, 500, broken), Verdict::Suspected);
            assert_eq!(line.news(0, 500, broken), Verdict::GivenUp);
        }
    }

    #[test]
    fn a_path_that_was_away_for_a_moment_has_segmented_sends_again() {
        let mut line = Line::default();
        line.step(0, 500, |_| 1.0);
        for _ in 0..3 {
            // All is lost under way for one interval, and nothing afterwards.
            assert_eq!(line.step(0, 500, |_| 0.0), Verdict::Suspected);
            assert_eq!(line.news(0, 500, |_| 1.0), Verdict::GivenUp);
            assert_eq!(line.news(0, 500, |_| 1.0), Verdict::Same);
            line.now += FIRST_REST;
            assert_eq!(line.step(0, 500, |_| 1.0), Verdict::TriedAgain);
            // Long enough to be another matter: it does not rest for longer.
            line.now += FIRST_REST;
            assert_eq!(line.news(0, 500, |_| 1.0), Verdict::Same);
            assert!(line.segments.allowed());
        }
    }

    #[test]
    fn a_path_that_loses_anything_alike_is_tried_once_a_minute_at_most() {
        let mut line = Line::default();
        let congested = |_: bool| 0.1;
        assert_eq!(line.news(0, 500, congested), Verdict::Suspected);
        assert_eq!(line.news(0, 500, congested), Verdict::Cleared);
        assert!(line.segments.allowed());
        let cleared = line.now;
        assert_eq!(line.news(0, 500, congested), Verdict::Same);
        assert_eq!(line.news(0, 500, congested), Verdict::Suspected);
        assert!(line.now - cleared >= PAUSE);
    }

    #[test]
    fn ordinary_loss_and_idle_paths_raise_no_suspicion() {
        for share in [1.0, 0.99, 0.5, 0.25] {
            assert_eq!(Line::default().news(10, 300, |_| share), Verdict::Same, "{share}");
        }
        assert_eq!(Line::default().news(100, 0, |_| 0.0), Verdict::Same);
        assert_eq!(Line::default().news(0, 0, |_| 1.0), Verdict::Same);
    }

    #[test]
    fn a_peer_that_begins_anew_or_answers_late_confuses_nothing() {
        let mut line = Line::default();
        line.step(10, 300, |_| 1.0);
        line.received = 0;
        assert_eq!(line.news(10, 300, |_| 1.0), Verdict::Same);
        let late = line.segments.answer(line.sequence - 3, line.received - 5000, line.now);
        assert_eq!(late, Verdict::Same);
        assert_eq!(line.segments.answer(line.sequence.wrapping_sub(40), 7, line.now), Verdict::Same);
        assert_eq!(line.news(10, 300, |_| 1.0), Verdict::Same);
    }

    #[test]
    fn what_was_under_way_when_a_trial_began_is_not_held_against_it() {
        let mut line = Line::default();
        assert_eq!(line.news(0, 500, broken), Verdict::Suspected);
        // The answer to a probe that left before, with segmented sends behind it.
        let (sequence, received) = (line.sequence, line.received);
        assert_eq!(line.segments.answer(sequence, received, line.now), Verdict::Same);
        line.sent.packets += 400;
        line.sent.segmented += 400;
        assert_eq!(line.news(0, 500, broken), Verdict::GivenUp);
    }
}
