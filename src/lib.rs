//! Linkspan: joins Kubernetes clusters.
//!
//! This crate wires the others into one program: the command line ([`cli`]) and the lab that proves it ([`lab`]).

pub mod cli;
pub mod lab;
