//! Who holds a lease, and what to do about it and when. Pure: the clock is an argument.

use std::time::Duration;

use super::{Holding, LeaseConfig, Standing};
use tokio::time::Instant;

/// What the Lease said when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its holder; empty when it was given back.
    pub holder: String,
    /// Its version. Every renewal makes a new one.
    pub version: String,
    /// How long the holder says that it lasts.
    pub duration: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the Lease, which nobody holds then.
    Create,
    /// Write our name, over that of nobody or of a holder that does not renew.
    Take,
    /// Write that we still hold it.
    Renew,
    /// Give it back.
    Release,
    /// Nothing before then, unless something is seen.
    Wait(Option<Instant>),
}

/// The state of one candidate.
///
/// Clocks of others do not count: a lease has expired when *we* have not seen a new version for its whole duration, as
/// in client-go. A holder counts from before it began to write, the others from after they have seen it: so the holder
/// always gives up first.
#[derive(Debug)]
pub(super) struct Election {
    config: LeaseConfig,
    standing: Standing,
    /// Nothing before the first look; then nothing when there is no Lease.
    looked: bool,
    seen: Option<(Seen, Instant)>,
    /// Until when we hold it without another renewal.
    held_until: Option<Instant>,
    renew_at: Instant,
    /// No write before then: the last one failed, or met a conflict that taught nothing.
    retry_at: Option<Instant>,
    holding: Holding,
}

impl Election {
    pub(super) fn new(config: LeaseConfig, standing: Standing, now: Instant) -> Self {
        Self {
            config,
            standing,
            looked: false,
            seen: None,
            held_until: None,
            renew_at: now,
            retry_at: None,
            holding: Holding::Unknown,
        }
    }

    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// The Lease is like this, or is not there.
    pub(super) fn handle_seen(&mut self, seen: Option<Seen>, now: Instant) {
        self.looked = true;
        let ours = seen.as_ref().is_some_and(|seen| seen.holder == self.config.holder);
        if !ours {
            self.held_until = None;
        }
        let renewed = match (&self.seen, &seen) {
            (Some((before, _)), Some(seen)) => before != seen,
            _ => true,
        };
        if renewed {
            self.seen = seen.map(|seen| (seen, now));
        }
    }

    /// A write met a conflict, and the Lease is like this. Where that is what was known before, the next write would meet the
    /// same again: it waits.
    pub(super) fn handle_conflict(&mut self, seen: Option<Seen>, now: Instant) {
        if self.seen.as_ref().map(|(before, _)| before) == seen.as_ref() {
            self.retry_at = Some(now + self.config.renew_period);
        }
        self.handle_seen(seen, now);
    }

    /// A write that began at `began` has made the Lease what `seen` says.
    pub(super) fn handle_written(&mut self, seen: Seen, began: Instant, now: Instant) {
        self.retry_at = None;
        if seen.holder == self.config.holder {
            self.held_until = Some(began + self.config.duration);
            self.renew_at = began + self.config.renew_period;
        }
        self.handle_seen(Some(seen), now);
    }

    /// A write has failed. The holder, if it is another one, may have been as unable to write: its silence counts anew,
    /// or else half of all outages of the API server would move what is held.
    pub(super) fn handle_failed(&mut self, now: Instant) {
        self.retry_at = Some(now + self.config.renew_period);
        if let Some((seen, at)) = &mut self.seen
            && seen.holder != self.config.holder
        {
            *at = now;
        }
    }

    /// What to do.
    pub(super) fn poll(&mut self, now: Instant) -> Step {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
        self.holding = self.judge();
        let step = self.step(now);
        match (self.retry_at, step) {
            (Some(at), Step::Create | Step::Take | Step::Renew | Step::Release) if at > now => {
                Step::Wait(Some(self.held_until.map_or(at, |until| until.min(at))))
            }
            _ => step,
        }
    }

    /// Who holds it, as of the last [`Election::poll`].
    pub(super) fn holding(&self) -> &Holding {
        &self.holding
    }

    fn step(&self, now: Instant) -> Step {
        if !self.looked {
            return Step::Wait(None);
        }
        let candidate = self.standing == Standing::Candidate;
        let Some((seen, seen_at)) = &self.seen else {
            return if candidate { Step::Create } else { Step::Wait(None) };
        };
        if seen.holder == self.config.holder {
            return match self.standing {
                Standing::Observer => Step::Release,
                // Held by our name, though we did not write it: an earlier process of ours did.
                Standing::Candidate if self.held_until.is_none() || self.renew_at <= now => Step::Renew,
                Standing::Candidate => Step::Wait(Some(self.renew_at)),
            };
        }
        if !candidate {
            return Step::Wait(None);
        }
        let expires = *seen_at + self.config.promised(seen.duration);
        if seen.holder.is_empty() || expires <= now { Step::Take } else { Step::Wait(Some(expires)) }
    }

    fn judge(&self) -> Holding {
        match &self.seen {
            _ if !self.looked => Holding::Unknown,
            _ if self.held_until.is_some() => Holding::Ours,
            None => Holding::Nobody,
            Some((seen, _)) if seen.holder.is_empty() => Holding::Nobody,
            Some((seen, _)) if seen.holder == self.config.holder => match self.holding {
                Holding::Ours | Holding::Lost => Holding::Lost,
                // Not ours before our own first write.
                _ => Holding::Unknown,
            },
            Some((seen, _)) => Holding::Other(seen.holder.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
