//! What a person does to clusters from outside: `kubectl linkspan`.
//!
//! Everything here works with the person's own kubeconfig and rights, on one cluster or on many at once: [`contexts`]
//! says on which, [`output`] how it is shown, [`errors`] what a refusal means. Each command observes, judges what it saw
//! without asking anybody, and prints.

pub mod bench;
pub mod contexts;
pub mod diagnose;
pub mod errors;
pub mod exec;
pub mod gather;
pub mod image;
pub mod inspect;
pub mod install;
pub mod limits;
pub mod output;
pub mod picture;
pub mod proxy;
pub mod show;
pub mod speech;
pub mod stage;
pub mod timeout;
pub mod trace;
pub mod translate;
pub mod ui;
pub mod verify;
pub mod why;

/// Field manager of what people do by command.
pub const MANAGER: &str = "linkspan-cli";
