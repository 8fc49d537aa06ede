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
    cleaned: anyhow::Result<()>,
    /// Why clusters were left out.
    left_out: Vec<String>,
}

/// What a command falls short of although it ran to its end.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Shortfall {
    text: String,
    /// The exit code that tells scripts.
    pub code: u8,
}

/// Something is not as it should be.
const WRONG: u8 = 1;
/// All is, and test pods may be left: as little can be done about it as about a command that could not run.
const NOT_REMOVED: u8 = 2;
/// All is between the clusters that could be used.
const LEFT_OUT: u8 = 3;

impl Shortfall {
    /// All is well but for what could not be used.
    pub fn left_out(text: String) -> Self {
        Self { text, code: LEFT_OUT }
    }
}

impl<T> Done<T> {
    /// Whether all is well. `wrong` is what is not in the outcome.
    ///
    /// # Errors
    /// Something is wrong, could not be removed, or was left out.
    pub fn end(self, wrong: Option<String>) -> Result<(), Shortfall> {
        let code = match (&wrong, &self.cleaned) {
            (Some(_), _) => WRONG,
            (None, Err(_)) => NOT_REMOVED,
            (None, Ok(())) => LEFT_OUT,
        };
        let cleaned = self.cleaned.err().map(|error| format!("{error:#}"));
        let texts: Vec<String> = wrong.into_iter().chain(cleaned).chain(omitted(&self.left_out)).collect();
        if texts.is_empty() { Ok(()) } else { Err(Shortfall { text: texts.join("; and "), code }) }
    }
}

fn omitted(left_out: &[String]) -> Option<String> {
    (!left_out.is_empty()).then(|| format!("left out: {}", left_out.join("; ")))
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

/// Work, what followed it and what came before it: nothing is lost.
pub(super) fn done<T>(
    worked: anyhow::Result<T>,
    errors: Vec<anyhow::Error>,
    left_out: Vec<String>,
) -> anyhow::Result<Done<T>> {
    let errors: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    match worked {
        Ok(outcome) => {
            let cleaned = if errors.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(errors.join("; "))) };
            Ok(Done { outcome, cleaned, left_out })
        }
        Err(error) if errors.is_empty() && left_out.is_empty() => Err(error),
        Err(error) => {
            let errors = (!errors.is_empty()).then(|| errors.join("; "));
            let texts: Vec<String> =
                [format!("{error:#}")].into_iter().chain(errors).chain(omitted(&left_out)).collect();
            Err(anyhow::anyhow!(texts.join("; and ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn neither_results_nor_errors_are_lost() {
        let errors = || vec![anyhow!("a refuses"), anyhow!("gone").context("b")];
        let both = done(Ok(7), errors(), Vec::new()).unwrap();
        assert_eq!(both.outcome, 7);
        assert_eq!(both.cleaned.unwrap_err().to_string(), "a refuses; b: gone");
        let left_out = || vec!["c is away".to_owned()];
        let failed = |errors, left_out| done::<()>(Err(anyhow!("SIGTERM")), errors, left_out).unwrap_err().to_string();
        assert_eq!(failed(errors(), Vec::new()), "SIGTERM; and a refuses; b: gone");
        assert_eq!(failed(errors(), left_out()), "SIGTERM; and a refuses; b: gone; and left out: c is away");
        assert_eq!(failed(Vec::new(), left_out()), "SIGTERM; and left out: c is away");
        assert!(done(Ok(()), Vec::new(), Vec::new()).unwrap().cleaned.is_ok());
    }

    #[test]
    fn exit_codes_tell_what_is_wrong_from_what_could_not_be_tried() {
        let ended = |wrong: Option<&str>, errors: &[&'static str], left_out: &[&str]| {
            let errors = errors.iter().map(|text| anyhow!(*text)).collect();
            let done = done(Ok(()), errors, left_out.iter().map(|text| (*text).to_owned()).collect()).unwrap();
            done.end(wrong.map(str::to_owned)).map_err(|short| (short.code, short.to_string()))
        };
        let short = |code, text: &str| Err((code, text.to_owned()));
        assert_eq!(ended(None, &[], &[]), Ok(()));
        let all = "1 of 9 proofs failed; and b is still there; and left out: c is away; d is no Member";
        let left_out = ["c is away", "d is no Member"];
        assert_eq!(ended(Some("1 of 9 proofs failed"), &["b is still there"], &left_out), short(1, all));
        assert_eq!(
            ended(None, &["b is still there"], &["c is away"]),
            short(2, "b is still there; and left out: c is away")
        );
        assert_eq!(ended(None, &[], &["c is away"]), short(3, "left out: c is away"));
    }
}
