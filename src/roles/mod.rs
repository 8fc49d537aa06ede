//! The roles of Linkspan in a Kubernetes cluster: what each process watches, decides and writes there.

pub mod controller;
pub mod dns;
pub mod node;

mod process;
mod watched;
