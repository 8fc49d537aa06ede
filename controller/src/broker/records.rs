//! What is checked of another cluster's ServiceRecord before it is imported.

use crate::api::{Member, ServiceRecord, ServiceRecordSpec};
pub use crate::services::validate::Policy;
use crate::services::validate::{self, MemberNetworks};

/// What of a record cannot be used: the reason of a condition and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing can.
    Whole(&'static str, String),
    /// Some of its endpoints cannot.
    Partial(&'static str, String),
}

/// Checks a record of `member`.
pub(super) fn check(record: &ServiceRecord, member: &Member, policy: &Policy) -> Option<Fault> {
    let networks = MemberNetworks::of(member);
    match validate::check(record, &networks, policy) {
        Ok((_, None)) => None,
        Ok((_, Some(foreign))) => Some(Fault::Partial(foreign.first.reason(), foreign.to_string())),
        Err(refusal) => Some(Fault::Whole(refusal.reason(), refusal.to_string())),
    }
}

/// Takes the endpoints out of `spec` that are not those of `member`.
pub(super) fn leave_out_foreign(spec: &mut ServiceRecordSpec, member: &Member) {
    let networks = MemberNetworks::of(member);
    let is_own = |text: &String| text.parse().is_ok_and(|address| networks.contains(&address));
    for slice in &mut spec.slices {
        slice.endpoints.retain(|endpoint| endpoint.addresses.iter().all(is_own));
    }
}
