//! Linkspan's decisions: observe, plan and apply the state of a node.
