//! Lists and writes that are under way. What a write tells of an object may be old when it ends: then a watch has told already
//! that the object is gone, and would not do so again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Index, Kind, Object, Older, Place, place};
use crate::services::value::ServiceKey;

/// What has happened since writes about a service began.
#[derive(Debug, Default)]
pub(super) struct Meanwhile {
    /// The UIDs of its objects that have gone.
    gone: BTreeSet<String>,
    /// Kinds that have been listed.
    listed: BTreeSet<Kind>,
}

/// A list that is under way.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// What it has told of.
    seen: BTreeSet<Place>,
    /// What writes have told of since it began: it may be behind them.
    written: BTreeSet<Place>,
}

impl Listing {
    /// It tells of what is at `place`. Unless that has just been written, it is believed whatever its version: where the API
    /// server's data have been restored, all versions are lower than those that are known.
    pub(super) fn note(&mut self, place: Place) -> Older {
        let older = if self.written.contains(&place) { Older::PassedOver } else { Older::Believed };
        self.seen.insert(place);
        older
    }
}

impl Index {
    /// A list of all objects of `kind` begins.
    pub fn begin(&mut self, kind: Kind) {
        self.listing.insert(kind, Listing::default());
    }

    /// The list is complete: what was not in it is no more.
    pub fn finish(&mut self, kind: Kind) {
        let Some(Listing { seen, .. }) = self.listing.get_mut(&kind).map(std::mem::take) else { return };
        let places = self.objects.get(&kind).into_iter().flat_map(BTreeMap::keys);
        let gone: Vec<_> = places.filter(|place| !seen.contains(*place)).cloned().collect();
        for place in gone {
            self.drop_entry(kind, &place);
        }
        self.listing.remove(&kind);
        self.note_listed(kind);
        if kind == Kind::Member {
            self.set_views();
        }
    }

    /// Writes about `key` begin.
    pub fn begin_pass(&mut self, key: &ServiceKey) {
        self.passes.insert(key.clone(), Meanwhile::default());
    }

    /// Writes about `key` have ended, and this is what they have made, so that nobody has to wait until watches tell it. What
    /// is gone again stays gone. What is not known is left to the watch if a list came meanwhile: it may have been without it.
    pub fn end_pass(&mut self, key: &ServiceKey, written: impl IntoIterator<Item = Object>) {
        let meanwhile = self.passes.remove(key).unwrap_or_default();
        for object in written {
            let (kind, metadata) = (object.kind(), object.metadata());
            let uid = metadata.uid.as_deref().unwrap_or_default();
            let is_left = meanwhile.listed.contains(&kind) && !self.is_known(kind, &place(metadata), uid);
            if !meanwhile.gone.contains(uid) && !is_left {
                if let Some(listing) = self.listing.get_mut(&kind) {
                    listing.written.insert(place(metadata));
                }
                self.take(object, Older::PassedOver);
            }
        }
    }

    pub(super) fn note_gone(&mut self, entry: &Entry) {
        if let Some(meanwhile) = entry.key.as_ref().and_then(|key| self.passes.get_mut(key)) {
            meanwhile.gone.insert(entry.uid.clone());
        }
    }

    fn note_listed(&mut self, kind: Kind) {
        for meanwhile in self.passes.values_mut() {
            meanwhile.listed.insert(kind);
        }
    }
}
