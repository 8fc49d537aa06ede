//! The shape of the code, as tests: who may depend on whom, where `unsafe`, clocks and randomness may stand, and how
//! long files and functions may be.
//!
//! Sources are parsed, not searched, so comments, strings and test modules do not count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod graph;
mod sources;

use std::fmt::Write as _;

use graph::Graph;
use sources::{Source, scan, sources};

/// Lines that a file may have before its tests.
const FILE_BUDGET: usize = 400;
/// Lines above which a function is named in the report, and lines that it must not pass.
const FUNCTION_BUDGET: usize = 50;
const FUNCTION_LIMIT: usize = 100;

/// Where the crates' sources are.
const SOURCES: [&str; 5] = ["src", "tunnel/src", "dns/src", "controller/src", "tests/testbed/src"];
/// The one place that talks to the kernel with pointers.
const UNSAFE_ALLOWED: &str = "tunnel/src/io";
/// The adapter between our zone and hickory's server; the rest of `dns` is free of it.
const HICKORY_FILES: usize = 2;
/// Edges: files and folders that may read the real clock, with what they do with it.
const CLOCK_EDGES: [(&str, &str); 9] = [
    ("tunnel/src/io", "lanes read the clock once per wake-up and hand it down"),
    ("src/run", "tasks read it when they begin a step, and hand it down"),
    ("src/roles", "roles read it when they begin a step, and hand it down"),
    ("controller/src/cluster", "loops read it when they plan or elect, and hand it down"),
    ("controller/src/broker/run.rs", "the broker's loop reads it when it begins a step, and hands it down"),
    ("src/echo", "its client measures calls"),
    ("src/otlp", "what is exported bears the time at which it happened"),
    ("src/lab/clock.rs", "the lab waits for programs and measures them"),
    ("tests/testbed/src/wait.rs", "the testbed waits for programs"),
];
/// Edges that may draw real randomness.
const RANDOM_EDGES: [(&str, &str); 6] = [
    ("src/keys.rs", "makes keys"),
    ("src/run/names.rs", "seeds the order of DNS answers"),
    ("src/otlp/mod.rs", "seeds the IDs of traces"),
    ("src/lab/mod.rs", "seeds the lab"),
    ("src/kubectl/ui/mod.rs", "draws the token of the page"),
    ("src/cli/staged.rs", "draws the ID of a run"),
];

#[test]
fn crates_depend_only_on_what_their_layer_knows() {
    let graph = Graph::read();
    graph.assert_never_reaches("linkspan-tunnel", &["tokio", "kube", "hickory", "rtnetlink", "netlink", "nftables"]);
    graph.assert_never_reaches("linkspan-tunnel", &["linkspan-dns", "linkspan-controller"]);
    graph.assert_never_reaches("linkspan-dns", &["kube", "rtnetlink", "netlink", "nftables", "boringtun"]);
    graph.assert_never_reaches("linkspan-dns", &["linkspan-tunnel", "linkspan-controller"]);
    let ours = ["linkspan-tunnel", "linkspan-dns", "linkspan-controller"];
    graph.assert_never_reaches("linkspan-testbed", &[&ours[..], &["tokio", "kube"]].concat());
    for package in ours {
        graph.assert_never_names(package, &["anyhow", "clap"]);
    }
    graph.assert_never_names("linkspan-controller", &["boringtun", "hickory"]);
    graph.assert_never_names("linkspan", &["boringtun", "hickory", "rtnetlink", "netlink", "nftables"]);
}

#[test]
fn hickory_is_named_in_two_files_of_dns() {
    let files: Vec<_> = sources().iter().filter(|file| file.names_crate("hickory")).map(|file| &file.path).collect();
    assert!(files.iter().all(|path| path.starts_with("dns/src")), "hickory outside dns: {files:?}");
    assert!(files.len() <= HICKORY_FILES, "hickory in more than {HICKORY_FILES} files: {files:?}");
}

#[test]
fn unsafe_stands_only_where_the_kernel_is_called() {
    let found =
        collect(|file| if under(&file.path, UNSAFE_ALLOWED) { Vec::new() } else { file.found.unsafe_at.clone() });
    assert!(found.is_empty(), "`unsafe` belongs under {UNSAFE_ALLOWED}:\n{found}");
}

#[test]
fn nothing_is_left_unwritten() {
    let found = collect(|file| file.found.unfinished_at.clone());
    assert!(found.is_empty(), "unfinished code:\n{found}");
}

#[test]
fn the_clock_is_read_at_the_edges_only() {
    assert_edges_are_used(&CLOCK_EDGES, |file| &file.found.clock_at);
    let found = collect(|file| outside(&file.path, &CLOCK_EDGES, &file.found.clock_at));
    assert!(found.is_empty(), "take the time as an argument, or name the file in CLOCK_EDGES and say why:\n{found}");
}

#[test]
fn randomness_is_drawn_at_the_edges_only() {
    assert_edges_are_used(&RANDOM_EDGES, |file| &file.found.random_at);
    let found = collect(|file| outside(&file.path, &RANDOM_EDGES, &file.found.random_at));
    assert!(found.is_empty(), "take a seed or a generator as an argument, or name the file in RANDOM_EDGES:\n{found}");
}

#[test]
fn files_stay_short_enough_to_read() {
    let found = collect(|file| {
        let lines = file.code_lines;
        if lines > FILE_BUDGET { vec![(lines, format!("{lines} lines before the tests"))] } else { Vec::new() }
    });
    assert!(found.is_empty(), "a file has at most {FILE_BUDGET} lines before its tests:\n{found}");
}

#[test]
fn functions_stay_short_enough_to_read() {
    let mut report = String::new();
    let mut over = String::new();
    for file in sources() {
        for (name, at, lines) in &file.found.functions {
            let line = format!("{}:{at}: {name} has {lines} lines", file.path);
            if *lines > FUNCTION_LIMIT {
                writeln!(over, "{line}").unwrap();
            } else if *lines > FUNCTION_BUDGET {
                writeln!(report, "{line}").unwrap();
            }
        }
    }
    println!("functions over the budget of {FUNCTION_BUDGET} lines:\n{report}");
    assert!(over.is_empty(), "functions over {FUNCTION_LIMIT} lines:\n{over}");
}

#[test]
fn the_scanner_sees_what_it_shall_and_spares_tests_comments_and_strings() {
    let found = scan(
        r#"
        // unsafe { } todo!() Instant::now()
        fn f() { unsafe { g() } }
        unsafe impl Send for X {}
        fn h() { let s = "todo!() SystemTime::now()"; println!("{:?}", std::time::Instant::now()); }
        fn i() { todo!() }
        use std::time::SystemTime as Wall; fn j() { SystemTime::now(); let r = rand::rng(); }
        fn k() { rand::rngs::OsRng.try_fill_bytes(&mut b) }
        #[cfg(test)] mod tests { fn k() { unsafe {} unimplemented!() } }
        "#,
    );
    assert_eq!(lines(&found.unsafe_at), [3, 4]);
    assert_eq!(lines(&found.unfinished_at), [6]);
    assert_eq!(lines(&found.clock_at), [5, 7]);
    assert_eq!(lines(&found.random_at), [7, 8]);
}

// === Reports ===

fn collect(pick: impl Fn(&Source) -> Vec<(usize, String)>) -> String {
    let mut report = String::new();
    for file in sources() {
        for (line, what) in pick(file) {
            writeln!(report, "{}:{line}: {what}", file.path).unwrap();
        }
    }
    report
}

fn outside(path: &str, edges: &[(&str, &str)], found: &[(usize, String)]) -> Vec<(usize, String)> {
    if edges.iter().any(|(edge, _)| under(path, edge)) { Vec::new() } else { found.to_vec() }
}

/// An edge that is no longer one must not stay open.
fn assert_edges_are_used(edges: &[(&str, &str)], found: fn(&Source) -> &[(usize, String)]) {
    let files = sources();
    for (edge, _) in edges {
        let used = files.iter().any(|file| under(&file.path, edge) && !found(file).is_empty());
        assert!(used, "{edge} is named as an edge, and is none");
    }
}

/// Whether `path` is `place`, lies in the folder `place`, or is the file of the module `place`.
fn under(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
}

fn lines(found: &[(usize, String)]) -> Vec<usize> {
    found.iter().map(|(line, _)| *line).collect()
}
