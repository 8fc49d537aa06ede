//! Watches that go on: through an API server that is away, and through one that is gone without a word.
//!
//! # Guarantees
//! A watch on a client of [`super::client`] whose connection is dead begins anew some seconds after it would have ended by
//! itself ([`prompt`], [`bulky`]); a watch of a Lease that is renewed every moment ([`watch_lease`]), some seconds after the
//! last renewal. Connections that had rested when the API server went are found dead as well, one after the other.

use std::fmt::Debug;

use futures::stream::{BoxStream, Stream, StreamExt as _, unfold};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, Result, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Duration, Instant, timeout};

/// How long a watch of few objects lasts, in seconds, until it is asked for again: that goes on where it was, and costs the
/// API server one small request. kube-rs waits 5 s longer.
const PROMPT: u32 = 20;
/// How long one of many objects, or one at the API server that all clusters share, lasts.
const BULKY: u32 = 60;
/// The longest of them.
pub(super) const LONGEST: u64 = BULKY as u64;

/// Of what is few, and has to be known soon.
pub fn prompt() -> Config {
    Config::default().timeout(PROMPT)
}

/// Of the one of this name.
pub fn named(name: &str) -> Config {
    prompt().fields(&format!("metadata.name={name}"))
}

/// Of what may be many, or has many watchers.
pub fn bulky() -> Config {
    Config::default().timeout(BULKY)
}

/// Watches through every failure.
pub fn watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).backoff(Growing::default())
}

/// Watches the Lease of this name, which somebody renews every moment. When it is not renewed any more, either its holder is
/// gone or the watch is: it is listed anew, now and then for as long as nothing comes; a [`Pulse`](super::pulse::Pulse) is judged
/// by that.
pub fn watch_lease(leases: Api<Lease>, name: &str) -> impl Stream<Item = Result<Event<Lease>>> + Send + use<> {
    let config = named(name);
    beating(move || watch(leases.clone(), config.clone()).boxed())
}

/// One stream of `begin` after the other, each until it is silent for too long.
fn beating<K: Send + 'static>(
    begin: impl Fn() -> BoxStream<'static, Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Result<Event<K>>> + Send {
    let first = (begin(), Patience::default());
    unfold((first, begin), |((mut events, mut patience), begin)| async move {
        loop {
            if let Ok(Some(event)) = timeout(patience.now, events.next()).await {
                patience.note(&event);
                return Some((event, ((events, patience), begin)));
            }
            patience.exhausted();
            events = begin();
        }
    })
}

/// How long silence is borne. An API server that answers need not be asked every moment whether the holder is back.
struct Patience {
    now: Duration,
    /// Whether a list has come since the last renewal or the last try.
    listed: bool,
}

impl Patience {
    /// Some renewals, and longer than a holder may take to be replaced.
    const FIRST: Duration = Duration::from_secs(5);
    /// Longer than the watch lasts, so that it is no more than kube-rs would do.
    const LONGEST: Duration = Duration::from_secs(30);

    fn note<K>(&mut self, event: &Result<Event<K>>) {
        match event {
            Ok(Event::Apply(_) | Event::Delete(_)) => *self = Self::default(),
            Ok(Event::InitDone) => self.listed = true,
            Ok(Event::Init | Event::InitApply(_)) | Err(_) => {}
        }
    }

    fn exhausted(&mut self) {
        if std::mem::take(&mut self.listed) {
            self.now = (self.now * 2).min(Self::LONGEST);
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { now: Self::FIRST, listed: false }
    }
}

/// Twice as long each time, within bounds: an API server that comes back is found soon. From the beginning again after a while
/// without failures; a single success means little, because a list that is only asked for counts as one.
#[derive(Debug)]
pub(super) struct Growing {
    next: Duration,
    failed: Option<Instant>,
}

impl Growing {
    const FIRST: Duration = Duration::from_millis(100);
    pub(super) const LONGEST: Duration = Duration::from_secs(5);
    /// So long without failures.
    const RECOVERED: Duration = Duration::from_secs(30);
}

impl Default for Growing {
    fn default() -> Self {
        Self { next: Self::FIRST, failed: None }
    }
}

impl Iterator for Growing {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.failed.replace(now).is_some_and(|before| now.duration_since(before) >= Self::RECOVERED) {
            self.next = Self::FIRST;
        }
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        Some(delay)
    }
}

impl Backoff for Growing {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::stream;
    use kube::runtime::watcher;

    use super::*;

    /// What comes, each after so many seconds, before the stream is silent for ever.
    type Script = &'static [(u64, Event<u8>)];

    /// How many seconds each stream was borne with `first`, and then `others` over and over.
    async fn borne(first: Script, others: Script, time: u64) -> Vec<u64> {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&begun);
        let events = beating(move || {
            let mut begun = noted.lock().unwrap();
            begun.push(Instant::now());
            let script = if begun.len() == 1 { first } else { others };
            let event = |(wait, event): &'static (u64, Event<u8>)| async move {
                tokio::time::sleep(Duration::from_secs(*wait)).await;
                Ok(event.clone())
            };
            stream::iter(script).then(event).chain(stream::pending()).boxed()
        });
        let _ = timeout(Duration::from_secs(time), events.for_each(|_| std::future::ready(()))).await;
        let begun = begun.lock().unwrap();
        begun.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64).collect()
    }

    const RENEWED: Script = &[(0, Event::Init), (0, Event::InitDone), (3, Event::Apply(1)), (3, Event::Apply(1))];

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_renewed_no_more_is_listed_anew_and_then_ever_more_seldom() {
        let listed: Script = &[(0, Event::Init), (0, Event::InitApply(1)), (0, Event::InitDone)];
        assert_eq!(borne(RENEWED, listed, 120).await, [11, 5, 10, 20, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_even_list_is_asked_again_soon() {
        assert_eq!(borne(RENEWED, &[(0, Event::Init)], 35).await, [11, 5, 5, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_some_seconds_and_begin_anew_after_a_while_without_failures() {
        let mut growing = Growing::default();
        let mut wait = || growing.next().expect("there is always one").as_millis();
        assert_eq!([(); 8].map(|()| wait()), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        tokio::time::advance(Growing::RECOVERED).await;
        assert_eq!(wait(), 100);
        growing.reset();
        assert_eq!(growing.next(), Some(Duration::from_millis(200)), "a list that is asked for is no success");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_and_go_on() {
        let events = beating::<u8>(|| {
            stream::iter([Err(watcher::Error::NoResourceVersion), Ok(Event::InitDone)]).chain(stream::pending()).boxed()
        });
        let mut events = std::pin::pin!(events);
        assert!(matches!(events.next().await, Some(Err(watcher::Error::NoResourceVersion))));
        assert!(matches!(events.next().await, Some(Ok(Event::InitDone))));
    }
}
