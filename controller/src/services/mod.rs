//! Services of the clusterset, as pure functions: what is exported, what is merged, what is imported.
//!
//! ```text
//! ServiceExport + Service + EndpointSlices --record--> Record --> ServiceRecord ... broker ... ServiceRecord
//!                                                         |                                        |
//!                                                         |                            Record <--validate
//!                                                         +------------+---------------------------+
//!                                                                    merge
//!                                                                      |
//!                       ServiceImport, derived Service, EndpointSlices <--import      zone --> dns::Service
//! ```
//!
//! Every cluster runs the same [`merge`](merge::merge) over the same records, so all come to the same end without
//! asking each other (KEP-1645, "Constraints and Conflict Resolution").

pub mod action;
pub mod conditions;
pub mod derived;
pub mod events;
pub mod import;
pub mod index;
pub mod labels;
#[cfg(test)]
mod laws;
pub mod merge;
pub mod plan;
pub mod reach;
pub mod record;
pub mod slices;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod value;
pub mod version;
pub mod weight;
pub mod zone;

pub use value::{
    Affinity, ClusterId, Distribution, Endpoint, Family, InvalidClusterId, Port, Record, ServiceKey, Slice,
    TrafficPolicy,
};
