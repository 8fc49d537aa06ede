//! Real Kubernetes for tests, without virtual machines and without a container engine.
//!
//! - [`ApiServer`]: etcd and kube-apiserver on loopback in 3 seconds, for tests of controllers.
//! - [`Testbed`]: whole clusters in network namespaces, shaped as K3s shapes them, with real pods.
//!
//! The programs are upstream's, built from the Go modules in `tests/peers` by `tests/setup.sh`.

mod api_server;
mod bed;
mod cluster;
mod command;
mod control_plane;
mod image;
mod kubeconfig;
mod leftovers;
mod lock;
mod network;
mod node;
pub mod parallel;
mod pki;
mod port;
mod processes;
mod programs;
pub mod relay;
mod spec;
pub mod stock;
pub mod wait;

pub use api_server::{ApiServer, Options};
pub use bed::Testbed;
pub use cluster::Cluster;
pub use command::Run;
pub use image::Image;
pub use kubeconfig::merge as merge_kubeconfigs;
pub use network::{OUTSIDE, netns};
pub use node::Node;
pub use port::Port;
pub use processes::Lifetime;
pub use spec::{Corefile, ProxyMode, Spec};
