//! Linkspan put into clusters and taken out of them, and what a person does with it there.
//!
//! [`manifests`] are those of `deploy/`, inside the program; [`objects`] writes and deletes them; the others are commands.

pub mod broker;
pub mod credential;
pub mod exports;
mod image;
pub mod join;
pub mod leave;
pub mod manifests;
pub mod objects;
pub mod server;
mod steps;
pub mod tokens;
pub mod uninstall;
pub mod wait;

pub use steps::Steps;
