//! Linkspan: joins Kubernetes clusters.
//!
//! This crate wires the others into one program: the command line ([`cli`]), the site file ([`site`]), the running
//! process ([`run`]), the roles that take their orders from the Kubernetes API ([`roles`]), what a person does to clusters
//! from outside ([`kubectl`]), what a process tells about itself ([`status`], [`otlp`]), the pages of its reference
//! ([`reference`](mod@reference)), and the lab that proves it all ([`lab`]).

pub mod cli;
pub mod echo;
pub mod http;
pub mod keys;
pub mod kubectl;
pub mod lab;
pub mod otlp;
pub mod reference;
pub mod roles;
pub mod run;
pub mod site;
pub mod status;
