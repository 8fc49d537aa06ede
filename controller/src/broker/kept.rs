//! Copies of Members that have gone from the broker, and stay here until it is told what must rest after them.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::action::Action;
use crate::members::REST;

/// Members of which only the copies tell what must rest after them, by name, and since when.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<String, Timestamp>);

impl Kept {
    /// Whether what `action` takes away is to be kept while the own Member does not tell what rests. Who cannot write it for
    /// as long as it would rest has nothing to keep any more, and ServiceRecords tell nothing of it.
    pub fn keeps(&mut self, action: &Action, now: Timestamp) -> bool {
        let name = match action {
            Action::DropMember(name) => name.clone(),
            Action::CopyMemberAnew(copy) => copy.name_any(),
            _ => return false,
        };
        let since = *self.0.entry(name).or_insert(now);
        now.duration_since(since) < REST
    }

    /// The own Member tells it.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_copy_is_kept_for_as_long_as_what_it_had_would_rest_and_not_for_ever() {
        let mut kept = Kept::default();
        let (berlin, rome) = (Action::DropMember("berlin".to_owned()), Action::DropMember("rome".to_owned()));
        assert!(kept.keeps(&berlin, at(1_000)));
        assert!(kept.keeps(&rome, at(3_000)));
        assert!(kept.keeps(&berlin, at(4_599)));
        assert!(!kept.keeps(&berlin, at(4_600)));
        assert!(kept.keeps(&rome, at(4_600)), "it has gone later");
        kept.clear();
        assert!(kept.keeps(&berlin, at(9_000)), "it has come and gone again");
        assert!(!kept.keeps(&Action::DropRecord("berlin.default.web".to_owned()), at(9_000)), "nothing rests after it");
    }
}
