//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What hundreds of clusters take, each with several connections, and their nodes. Not without end: programs that get tokens
/// inherit it, and some close every descriptor that there could be before they do anything else.
const ENOUGH: u64 = 1 << 16;

/// Takes what the hard limit gives. Shells have a soft limit of 1024 as a rule, for the sake of programs that wait with
/// `select`, which this one does not.
pub fn raise_open_files() {
    let Some(raised) = raised(getrlimit(Resource::Nofile)) else { return };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // A few clusters do with what there is.
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The limit with as much as there can be, if that is more. None of a limit is infinite.
fn raised(Rlimit { current, maximum }: Rlimit) -> Option<Rlimit> {
    let wanted = maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    let is_less = current.is_some_and(|current| current < wanted);
    is_less.then_some(Rlimit { current: Some(wanted), maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_but_not_without_end_and_never_lowered() {
        let of = |current, maximum| raised(Rlimit { current, maximum }).map(|raised| (raised.current, raised.maximum));
        assert_eq!(of(Some(1024), Some(4096)), Some((Some(4096), Some(4096))));
        assert_eq!(of(Some(1024), Some(1 << 30)), Some((Some(65_536), Some(1 << 30))));
        assert_eq!(of(Some(1024), None), Some((Some(65_536), None)));
        for enough in [(Some(4096), Some(4096)), (Some(1 << 20), Some(1 << 30)), (None, None)] {
            assert_eq!(of(enough.0, enough.1), None, "{enough:?}");
        }
    }
}
