//! The node pass: links, routes, rules and packet filter of one node.

pub mod mark;
pub mod nft;
pub mod state;

mod action;
mod desired;
mod plan;
mod target;

pub use action::{Action, LinkSettings, Obstacle, Plan};
pub use desired::{Desired, DesiredError, MAX_LINK_NAME, Node, TunnelLink, Vxlan};
pub use plan::plan;
pub use state::Observed;
