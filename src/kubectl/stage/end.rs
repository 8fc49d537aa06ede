//! How a stage ends: with its work, or by a signal, and always with what it made removed or named.

use anyhow::Context as _;
use futures::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::claim::{self, RunId};
use super::manifests::NAMESPACE;
use crate::kubectl::contexts::Target;

/// Whether test pods stay when the work has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// They are removed.
    Remove,
    /// They stay, for people to look at and for later runs.
    Keep,
}

/// What came of the work, and whether all was put in order after it.
#[derive(Debug)]
pub struct Done<T> {
    /// What came of the work.
    pub outcome: T,
    /// What could not be removed, and why.
    pub cleaned: anyhow::Result<()>,
}

/// Signals that end a command: Ctrl-C, `kill` and a terminal that is closed.
pub(super) struct Signals([(&'static str, Signal); 3]);

impl Signals {
    /// From now on they are caught.
    ///
    /// # Errors
    /// They cannot be.
    pub(super) fn catch() -> anyhow::Result<Self> {
        let catch = |name, kind| Ok((name, signal(kind).with_context(|| format!("failed to wait for {name}"))?));
        let caught: [anyhow::Result<_>; 3] = [
            catch("SIGINT", SignalKind::interrupt()),
            catch("SIGTERM", SignalKind::terminate()),
            catch("SIGHUP", SignalKind::hangup()),
        ];
        let [interrupt, terminate, hangup] = caught;
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> &'static str {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.1.recv() => interrupt.0,
            _ = terminate.1.recv() => terminate.0,
            _ = hangup.1.recv() => hangup.0,
        }
    }
}

/// Removes what this run has made or adopted in all clusters, or marks it as kept. A further signal ends that, too. What
/// went wrong comes back.
pub(super) async fn tidy(
    targets: &[Target],
    run: &RunId,
    afterwards: Afterwards,
    signals: &mut Signals,
) -> Vec<anyhow::Error> {
    let tidied = join_all(targets.iter().map(async |target| match afterwards {
        Afterwards::Remove => claim::remove(target, run).await,
        Afterwards::Keep => claim::leave(target, run).await,
    }));
    tokio::select! {
        tidied = tidied => tidied.into_iter().filter_map(Result::err).collect(),
        signal = signals.next() => {
            let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            vec![anyhow::anyhow!(
                "{signal} while test pods were being removed: namespace {NAMESPACE} may be left in {}; \
                 `kubectl delete namespace {NAMESPACE}` removes it",
                names.join(", ")
            )]
        }
    }
}

/// Work and what followed it: nothing of either is lost.
pub(super) fn done<T>(worked: anyhow::Result<T>, errors: Vec<anyhow::Error>) -> anyhow::Result<Done<T>> {
    let errors: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    match worked {
        Ok(outcome) if errors.is_empty() => Ok(Done { outcome, cleaned: Ok(()) }),
        Ok(outcome) => Ok(Done { outcome, cleaned: Err(anyhow::anyhow!(errors.join("; "))) }),
        Err(error) if errors.is_empty() => Err(error),
        Err(error) => Err(anyhow::anyhow!("{error:#}; and {}", errors.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn neither_results_nor_errors_are_lost() {
        let errors = || vec![anyhow!("a refuses"), anyhow!("gone").context("b")];
        let both = done(Ok(7), errors()).unwrap();
        assert_eq!(both.outcome, 7);
        assert_eq!(both.cleaned.unwrap_err().to_string(), "a refuses; b: gone");
        let failed = done::<()>(Err(anyhow!("SIGTERM")), errors()).unwrap_err();
        assert_eq!(failed.to_string(), "SIGTERM; and a refuses; b: gone");
        assert!(done(Ok(()), Vec::new()).unwrap().cleaned.is_ok());
    }
}
