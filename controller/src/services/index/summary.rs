//! How many there are of what, for metrics.

use std::collections::BTreeMap;

use super::{Index, Kept, Kind};
use crate::api::ImportType;

/// Services of this cluster and of the clusterset, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// ServiceExports.
    pub exports: u64,
    /// ServiceExports by type and status of a condition; both come from lists that are fixed in the code.
    pub exports_by_condition: BTreeMap<(String, String), u64>,
    /// ServiceImports by their type.
    pub imports: BTreeMap<&'static str, u64>,
}

/// The conditions of a ServiceExport that are counted: others may be somebody else's, under any name.
const CONDITIONS: [&str; 3] = ["Valid", "Ready", "Conflict"];

impl Index {
    /// Counts what is known now; takes time with the number of exports and imports.
    pub fn summary(&self) -> Summary {
        let kept = |kind| self.objects.get(&kind).into_iter().flat_map(BTreeMap::values).map(|entry| &entry.kept);
        let mut summary = Summary::default();
        for kept in kept(Kind::Export) {
            let Kept::Export(export) = kept else { continue };
            summary.exports += 1;
            let counted = |type_: &&str| CONDITIONS.contains(type_);
            for condition in export.conditions.iter().filter(|condition| counted(&condition.type_.as_str())) {
                let key = (condition.type_.clone(), condition.status.clone());
                *summary.exports_by_condition.entry(key).or_default() += 1;
            }
        }
        for kept in kept(Kind::Import) {
            let Kept::Import(import) = kept else { continue };
            let kind = match import.spec.kind {
                ImportType::ClusterSetIP => "ClusterSetIP",
                ImportType::Headless => "Headless",
                ImportType::Unknown => "Unknown",
            };
            *summary.imports.entry(kind).or_default() += 1;
        }
        summary
    }
}
