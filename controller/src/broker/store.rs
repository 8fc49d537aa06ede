//! What a watch has shown so far, by name.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// Objects of one kind in one namespace.
///
/// # Guarantees
/// An object goes only when the API server said so: by a deletion, or by a complete list without it. A broken watch
/// takes nothing away. What was written here does not become what it was before, as a watch that is behind shows it.
#[derive(Debug)]
pub struct Store<T> {
    objects: BTreeMap<String, T>,
    /// Names seen in the list that is under way.
    listed: BTreeSet<String>,
    synced: bool,
    /// Versions of what was written, until the watch has come that far.
    written: BTreeMap<String, u64>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: BTreeSet::new(), synced: false, written: BTreeMap::new() }
    }
}

impl<T> Store<T> {
    /// Takes an event in; gives back the names that it touched. `convert` makes of an object what is kept of it.
    pub fn take<K: ResourceExt>(&mut self, event: Event<K>, convert: impl FnOnce(K) -> T) -> Vec<String> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let name = object.name_any();
                self.listed.insert(name.clone());
                if !self.is_behind(&object) {
                    self.objects.insert(name.clone(), convert(object));
                }
                vec![name]
            }
            Event::InitDone => {
                self.synced = true;
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> = self.objects.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    self.remove(name);
                }
                gone
            }
            Event::Apply(object) => {
                let name = object.name_any();
                if !self.is_behind(&object) {
                    self.objects.insert(name.clone(), convert(object));
                }
                vec![name]
            }
            Event::Delete(object) => {
                let name = object.name_any();
                if !self.is_behind(&object) {
                    self.objects.remove(&name);
                }
                vec![name]
            }
        }
    }

    /// Whether the watch shows an object, or its end, as it was before it was written. Versions are numbers that grow; one
    /// that is none is believed.
    fn is_behind<K: ResourceExt>(&mut self, shown: &K) -> bool {
        let name = shown.name_any();
        let behind =
            version(shown).is_some_and(|shown| self.written.get(&name).is_some_and(|written| shown < *written));
        if !behind {
            self.written.remove(&name);
        }
        behind
    }

    /// Whether a complete list has been seen.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes a kind that the API server does not have as one without objects.
    pub fn set_absent(&mut self) {
        self.synced = true;
    }

    /// The object of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.objects.get(name)
    }

    /// The object of that name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.objects.get_mut(name)
    }

    /// All objects, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.objects.iter()
    }

    /// Keeps what the API server answered to a write, without waiting for the watch to show it.
    pub fn keep(&mut self, object: T)
    where
        T: ResourceExt,
    {
        let name = object.name_any();
        self.written.extend(version(&object).map(|version| (name.clone(), version)));
        self.put(name, object);
    }

    /// Keeps an object under a name.
    pub fn put(&mut self, name: String, object: T) {
        self.objects.insert(name, object);
    }

    /// Forgets what was deleted, without waiting for the watch to show it.
    pub fn remove(&mut self, name: &str) {
        self.objects.remove(name);
        self.written.remove(name);
    }
}

fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn named(name: &str) -> ConfigMap {
        ConfigMap { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..ConfigMap::default() }
    }

    fn at(version: u32) -> ConfigMap {
        let mut object = named("a");
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    #[test]
    fn a_watch_that_is_behind_takes_back_nothing_that_was_written() {
        let mut store = Store::default();
        let has = |store: &Store<ConfigMap>| store.get("a").and_then(ResourceExt::resource_version);
        store.keep(at(7));
        for behind in [Event::Apply(at(5)), Event::Delete(at(6)), Event::InitApply(at(6))] {
            store.take(behind, |object| object);
            assert_eq!(has(&store).as_deref(), Some("7"));
        }
        store.take(Event::Apply(at(7)), |object| object);
        store.take(Event::Apply(at(10)), |object| object);
        assert_eq!(has(&store).as_deref(), Some("10"));
        store.keep(at(12));
        store.take(Event::Delete(at(13)), |object| object);
        assert_eq!(has(&store), None);
        // An API server whose versions are no numbers is believed.
        store.keep(at(20));
        store.take(Event::Apply(named("a")), |object| object);
        assert_eq!(has(&store), None);
    }

    fn names(store: &Store<()>) -> Vec<&str> {
        store.iter().map(|(name, ())| name.as_str()).collect()
    }

    #[test]
    fn what_a_complete_list_lacks_goes_and_nothing_before() {
        let mut store = Store::default();
        for event in [Event::Init, Event::InitApply(named("a")), Event::InitApply(named("b")), Event::InitDone] {
            store.take(event, |_| ());
        }
        assert!(store.is_synced());
        store.take(Event::Init, |_: ConfigMap| ());
        store.take(Event::InitApply(named("b")), |_| ());
        assert_eq!(names(&store), ["a", "b"], "the list is not complete");
        assert_eq!(store.take(Event::InitDone, |_: ConfigMap| ()), ["a"]);
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn a_broken_list_takes_nothing_away() {
        let mut store = Store::default();
        for event in [Event::Init, Event::InitApply(named("a")), Event::InitApply(named("b")), Event::InitDone] {
            store.take(event, |_| ());
        }
        for event in [Event::Init, Event::InitApply(named("b")), Event::Init, Event::InitApply(named("a"))] {
            store.take(event, |_| ());
        }
        assert_eq!(names(&store), ["a", "b"]);
        assert_eq!(store.take(Event::InitDone, |_: ConfigMap| ()), ["b"]);
    }
}
