//! Members: what a cluster says of itself, what is believed of the others, and what nodes are planned from.
//!
//! A `Member` object is a claim: its cluster ID, prefixes and keys belong to it if nobody was there before. [`judge()`]
//! decides that alike in every cluster, from the same objects: the older Member wins, the younger one is refused by all
//! and reads so in its own cluster. Where prefixes of pods are not unique, [`allocate()`] chooses virtual ones, and [`View`]
//! says who uses them.

mod blocks;
mod claim;
pub mod condition;
mod id;
mod judge;
mod networks;
mod own;
mod prefixes;
mod resting;
mod selector;
#[cfg(test)]
mod test_support;
mod view;
mod virtuals;

pub use blocks::{NoBlock, allocate};
pub use claim::{Claim, ClaimGateway, InvalidMember};
pub(crate) use claim::{Stakes, defended};
pub use id::{ClusterId, InvalidClusterId};
pub(crate) use judge::seniority;
pub use judge::{
    ANNOTATION_ALLOWED_PREFIXES, ANNOTATION_BROKER_ADDRESS, ANNOTATION_JOINED_AT, Admitted, Refusal, Verdict, Verdicts,
    judge,
};
pub(crate) use networks::CNI_CONDITION;
pub use own::{Discovery, Overrides, OwnMember, addresses, own};
pub(crate) use resting::{REST, told as told_to_rest};
pub use selector::Selector;
pub use view::View;
pub use virtuals::{Neighbour, default_pool};
