//! The crate graph.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::sources::root;

/// Which package depends on which, without what is only for tests and builds.
pub struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    pub fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
        let packages = metadata["packages"].as_array().expect("a list of packages").iter();
        let names: BTreeMap<_, _> = packages.map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let mut graph = BTreeMap::<_, BTreeSet<_>>::new();
        for node in metadata["resolve"]["nodes"].as_array().expect("a list of nodes") {
            let needs = node["deps"].as_array().expect("a list of dependencies").iter().filter(|need| is_normal(need));
            let needs = needs.map(|need| names[&text(&need["pkg"])].clone());
            graph.entry(names[&text(&node["id"])].clone()).or_default().extend(needs);
        }
        Self(graph)
    }

    /// No path of dependencies leads from `package` to a crate whose name begins with one of `banned`.
    pub fn assert_never_reaches(&self, package: &str, banned: &[&str]) {
        let mut paths = vec![vec![package]];
        let mut seen = BTreeSet::from([package]);
        while let Some(path) = paths.pop() {
            let last = path[path.len() - 1];
            assert!(!matches_any(last, banned), "{package} reaches {last}: {}", path.join(" -> "));
            for next in self.0.get(last).into_iter().flatten() {
                if seen.insert(next) {
                    paths.push(path.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
    }

    /// `package` does not itself depend on a crate whose name begins with one of `banned`.
    pub fn assert_never_names(&self, package: &str, banned: &[&str]) {
        let needs = self.0.get(package).expect("a package of this workspace");
        assert!(!needs.is_empty(), "{package} depends on nothing, so this proves nothing");
        let bad: Vec<_> = needs.iter().filter(|need| matches_any(need, banned)).collect();
        assert!(bad.is_empty(), "{package} depends on {bad:?}");
    }
}

fn matches_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a dependency is one of the library itself, not of its tests or its build script.
fn is_normal(need: &serde_json::Value) -> bool {
    let kinds = need["dep_kinds"].as_array().expect("a list of kinds");
    kinds.iter().any(|kind| kind["kind"].is_null())
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a string").to_owned()
}
