//! What is checked of another cluster's ServiceRecord before it is imported.

use crate::api::{Member, ServiceRecord};
pub use crate::services::validate::Policy;
use crate::services::validate::{self, MemberNetworks};

/// Checks a record of `member`: the reason of a condition and a sentence, where it is refused.
pub(super) fn check(record: &ServiceRecord, member: &Member, policy: &Policy) -> Result<(), (&'static str, String)> {
    let networks = MemberNetworks::of(member);
    match validate::check(record, &networks, policy) {
        Ok(_) => Ok(()),
        Err(refusal) => Err((refusal.reason(), refusal.to_string())),
    }
}
