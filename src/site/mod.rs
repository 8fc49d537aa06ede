//! The site file: one YAML file that tells every node of a cluster what the cluster is, whom it is joined with, and
//! what both sides export.
//!
//! Reading is in stages, each of them pure except the second:
//! 1. [`parse`]: bytes to a checked [`Site`]; every mistake is one line with its place and a fix.
//! 2. [`Loaded::read`]: the file and the key files beside it.
//! 3. [`plan()`]: what one node has to be: [`tunnel::Config`], and what the controller and the name server need.

mod check;
mod file;
mod load;
mod plan;
mod types;
pub(crate) mod values;

#[cfg(test)]
mod tests;

pub use check::{DEFAULT_SOCKET, Problem, parse};
pub use file::Position;
pub use load::{LoadError, Loaded, Secrets, read, read_key, read_socket};
pub use plan::{Machine, NodePlan, PlanError, plan};
pub use types::*;

/// A file name as the site file writes it: relative ones start at the site file's folder.
pub fn beside(site_file: &std::path::Path, name: &std::path::Path) -> std::path::PathBuf {
    site_file.parent().unwrap_or(std::path::Path::new("")).join(name)
}

/// The JSON Schema of the site file, for editors.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(file::SiteFile)
}

/// Reads any bytes as a site file and, when they are one, plans each of its nodes. For fuzzing: must not panic.
pub fn fuzz_site(bytes: &[u8]) {
    let Ok(site) = parse(bytes) else { return };
    let machine = Machine { cores: 2, underlay_mtu: 1500 };
    for node in &site.nodes {
        let key = tunnel::config::PrivateKey::from_bytes([7; 32]);
        let secrets = Secrets { private_key: node.gateway.then_some(key), preshared: Default::default() };
        let _ = plan(&site, &secrets, &node.name, machine);
    }
}
