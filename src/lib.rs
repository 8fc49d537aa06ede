//! Linkspan: joins Kubernetes clusters.
//!
//! This crate wires the others into one program: the command line ([`cli`]), the site file ([`site`]), the running
//! process ([`run`]), what it tells about itself ([`status`]), and the lab that proves it all ([`lab`]).

pub mod cli;
pub mod lab;
pub mod run;
pub mod site;
pub mod status;
