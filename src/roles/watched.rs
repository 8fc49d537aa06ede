//! Watched objects, as the roles keep them.

use std::collections::BTreeMap;
use std::fmt::Debug;

use controller::api::names::{LEASE_GATEWAY, SYSTEM_NAMESPACE};
use controller::cluster::watching::{watch, watch_lease};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// The events of one kind of objects, through every failure; `seen` tells them from those of other kinds.
pub(super) fn events_of<K, S: 'static>(
    api: Api<K>,
    config: watcher::Config,
    seen: fn(Event<K>) -> S,
) -> BoxStream<'static, Result<S, watcher::Error>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(api, config).map_ok(seen).boxed()
}

/// The events of the gateway Lease.
pub(super) fn events_of_lease<S: 'static>(
    client: &Client,
    seen: fn(Event<Lease>) -> S,
) -> BoxStream<'static, Result<S, watcher::Error>> {
    watch_lease(Api::namespaced(client.clone(), SYSTEM_NAMESPACE), LEASE_GATEWAY).map_ok(seen).boxed()
}

/// What is kept of the objects of one kind, by name, and by namespace where there is one.
pub(super) struct Kind<T> {
    pub(super) current: BTreeMap<Key, T>,
    /// Objects of a list that has not ended; the ones before stay in use until then.
    listed: Option<BTreeMap<Key, T>>,
    /// Whether all have been listed once.
    pub(super) synced: bool,
}

/// What an event of a watch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// That a list is asked for; the API server has not answered yet.
    Asked,
    /// That the API server answers, and nothing has changed.
    Same,
    /// That something has changed.
    Changed,
}

impl News {
    fn of(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Same }
    }
}

/// Whether the API server answers, told when it changes.
#[derive(Debug, Default)]
pub(super) struct Contact {
    lost: bool,
}

impl Contact {
    /// Whether the API server answers.
    pub(super) fn answers(&self) -> bool {
        !self.lost
    }

    /// Takes what became of a watch, which goes on by itself. Tells whether objects may have changed.
    pub(super) fn note(&mut self, seen: Result<News, watcher::Error>) -> bool {
        match seen {
            Ok(News::Asked) => false,
            Ok(news) => {
                if std::mem::take(&mut self.lost) {
                    tracing::info!("the API server answers again");
                }
                news == News::Changed
            }
            Err(error) => {
                if !std::mem::replace(&mut self.lost, true) {
                    let error = reason(&error);
                    tracing::warn!("the API server does not answer as it should, what is known stays in use: {error}");
                }
                false
            }
        }
    }
}

/// What the API server said, or the innermost cause.
fn reason(error: &watcher::Error) -> String {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.message.clone()
        }
        error => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            cause.to_string()
        }
    }
}

/// Namespace, empty where there is none, and name.
pub(super) type Key = (String, String);

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl<T> Default for Kind<T> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), listed: None, synced: false }
    }
}

impl<T: PartialEq> Kind<T> {
    /// Takes an event; `None` of `read` is as good as no object. Tells whether anything changed.
    pub(super) fn take<K: Resource>(&mut self, event: Event<K>, read: impl FnOnce(K) -> Option<T>) -> News {
        News::of(match event {
            Event::Init => {
                self.listed = Some(BTreeMap::new());
                return News::Asked;
            }
            Event::InitApply(object) => {
                let name = key(&object);
                if let (Some(listed), Some(value)) = (&mut self.listed, read(object)) {
                    listed.insert(name, value);
                }
                false
            }
            Event::InitDone => {
                let first = !std::mem::replace(&mut self.synced, true);
                let listed = self.listed.take().unwrap_or_default();
                let changed = first || listed != self.current;
                self.current = listed;
                changed
            }
            Event::Apply(object) => {
                let name = key(&object);
                match read(object) {
                    Some(value) => {
                        let changed = self.current.get(&name) != Some(&value);
                        self.current.insert(name, value);
                        changed
                    }
                    None => self.current.remove(&name).is_some(),
                }
            }
            Event::Delete(object) => self.current.remove(&key(&object)).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(lease: &Lease) -> Option<String> {
        lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
    }

    fn lease(name: &str, holder: Option<&str>) -> Lease {
        let json = serde_json::json!({ "metadata": { "name": name }, "spec": { "holderIdentity": holder } });
        serde_json::from_value(json).expect("a lease")
    }

    #[test]
    fn a_new_list_replaces_the_old_one_when_it_is_complete() {
        let mut kind = Kind::<String>::default();
        let mut take = |event| (kind.take(event, |lease| holder(&lease)), kind.current.len(), kind.synced);
        assert_eq!(take(Event::Init), (News::Asked, 0, false));
        assert_eq!(take(Event::InitApply(lease("x", Some("a")))), (News::Same, 0, false));
        assert_eq!(take(Event::InitDone), (News::Changed, 1, true));
        assert_eq!(take(Event::Init), (News::Asked, 1, true));
        assert_eq!(take(Event::InitApply(lease("y", Some("b")))), (News::Same, 1, true));
        assert_eq!(take(Event::InitDone), (News::Changed, 1, true));
        assert_eq!(take(Event::Delete(lease("x", None))), (News::Same, 1, true));
        assert_eq!(take(Event::Delete(lease("y", None))), (News::Changed, 0, true));
    }

    #[test]
    fn what_reads_the_same_is_no_news_and_what_reads_as_nothing_is_gone() {
        let mut kind = Kind::<String>::default();
        let mut changed = |event| kind.take(event, |lease| holder(&lease)) == News::Changed;
        assert!(changed(Event::Apply(lease("x", Some("a")))));
        assert!(!changed(Event::Apply(lease("x", Some("a")))));
        assert!(changed(Event::Apply(lease("x", Some("b")))));
        assert!(changed(Event::Apply(lease("x", Some("")))));
        assert!(!changed(Event::Apply(lease("x", None))));
    }

    #[test]
    fn an_api_server_that_is_back_answers_even_when_nothing_has_changed_meanwhile() {
        let mut contact = Contact::default();
        assert!(!contact.note(Err(watcher::Error::NoResourceVersion)));
        assert!(!contact.note(Ok(News::Asked)));
        assert!(!contact.answers(), "that is no answer");
        assert!(!contact.note(Ok(News::Same)));
        assert!(contact.answers());
        assert!(contact.note(Ok(News::Changed)));
    }
}
