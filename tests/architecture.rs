//! The shape of the code, as tests: who may depend on whom, where `unsafe`, clocks and randomness may stand, and how
//! long files and functions may be.
//!
//! Sources are parsed, not searched, so comments, strings and test modules do not count.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

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
const RANDOM_EDGES: [(&str, &str); 7] = [
    ("controller/src/broker/run.rs", "seeds the nonces of joining"),
    ("src/keys.rs", "makes keys"),
    ("src/run/names.rs", "seeds the order of DNS answers"),
    ("src/otlp/mod.rs", "seeds the IDs of traces"),
    ("src/lab/mod.rs", "seeds the lab"),
    ("src/kubectl/ui/mod.rs", "draws the token of the page"),
    ("src/cli/verify.rs", "draws the ID of a run"),
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
    let files: Vec<_> =
        sources().into_iter().filter(|file| file.names_crate("hickory")).map(|file| file.path).collect();
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

// === The crate graph ===

/// Which package depends on which, without what is only for tests and builds.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
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
    fn assert_never_reaches(&self, package: &str, banned: &[&str]) {
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
    fn assert_never_names(&self, package: &str, banned: &[&str]) {
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

// === The sources ===

/// One source file, parsed.
struct Source {
    /// Relative to the top of the tree.
    path: String,
    code_lines: usize,
    found: Found,
}

impl Source {
    fn names_crate(&self, prefix: &str) -> bool {
        self.found.idents.iter().any(|ident| ident.starts_with(prefix))
    }
}

/// What a file holds outside its tests, each with its line.
#[derive(Default)]
struct Found {
    unsafe_at: Vec<(usize, String)>,
    unfinished_at: Vec<(usize, String)>,
    clock_at: Vec<(usize, String)>,
    random_at: Vec<(usize, String)>,
    functions: Vec<(String, usize, usize)>,
    idents: BTreeSet<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in SOURCES {
        list(&root.join(folder), &mut files);
    }
    assert!(files.len() >= SOURCES.len(), "the sources are not where they were: {SOURCES:?}");
    files.sort();
    let tests: BTreeSet<_> = files.iter().flat_map(|file| test_modules(file)).collect();
    let is_test = |file: &PathBuf| file.ancestors().any(|path| tests.contains(&path.with_extension("")));
    files.iter().filter(|file| !is_test(file)).map(|file| read(&root, file)).collect()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Where `#[cfg(test)] mod name;` in `file` leads, without the `.rs`.
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let parsed = syn::parse_file(&std::fs::read_to_string(file).unwrap()).expect("the sources parse, for they compile");
    let stem = file.file_stem().unwrap();
    let below = if matches!(stem.to_str(), Some("mod" | "lib" | "main")) {
        file.parent().unwrap().to_owned()
    } else {
        file.with_extension("")
    };
    let names = parsed.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_test_only(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    names.map(|name| below.join(name)).collect()
}

fn read(root: &Path, file: &Path) -> Source {
    let content = std::fs::read_to_string(file).unwrap();
    let path = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let code_lines = content.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    Source { path, code_lines, found: scan(&content) }
}

fn scan(content: &str) -> Found {
    let file = syn::parse_file(content).expect("the sources parse, for they compile");
    let mut found = Found::default();
    found.visit_file(&file);
    found
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.to_string().split_whitespace().next() == Some("test"))
    })
}

impl Found {
    fn function(&mut self, name: &syn::Ident, whole: proc_macro2::Span) {
        let (first, last) = (name.span().start().line, whole.end().line);
        self.functions.push((name.to_string(), first, last + 1 - first));
    }

    fn call(&mut self, segments: &[String], line: usize) {
        let path = segments.join("::");
        let tail = &segments[segments.len().saturating_sub(2)..];
        let tail: Vec<_> = tail.iter().map(String::as_str).collect();
        match tail.as_slice() {
            ["Instant" | "SystemTime", "now"] => self.clock_at.push((line, path)),
            ["rand", "rng" | "random" | "thread_rng"] | ["OsRng", _] | [_, "OsRng"] => {
                self.random_at.push((line, path))
            }
            _ => (),
        }
    }

    /// Macro arguments are tokens, not syntax: look for `A::b` among them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        path.clear();
                    }
                    path.push(ident.to_string());
                    self.idents.insert(ident.to_string());
                    let line = ident.span().start().line;
                    if ident == "unsafe" {
                        self.unsafe_at.push((line, "unsafe in a macro".to_owned()));
                    }
                    self.call(&path.clone(), line);
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    colons = 0;
                    path.clear();
                }
                _ => colons = 0,
            }
        }
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test_only(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            self.function(&item.sig.ident, item.block.span());
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(keyword) = &signature.unsafety {
            self.unsafe_at.push((keyword.span().start().line, format!("unsafe fn {}", signature.ident)));
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(keyword) = &item.unsafety {
            self.unsafe_at.push((keyword.span().start().line, "unsafe impl".to_owned()));
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast syn::ExprUnsafe) {
        self.unsafe_at.push((expression.unsafe_token.span().start().line, "unsafe block".to_owned()));
        visit::visit_expr_unsafe(self, expression);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().expect("a path has a segment").ident.to_string();
        if matches!(name.as_str(), "todo" | "unimplemented" | "dbg") {
            self.unfinished_at.push((call.span().start().line, format!("{name}!")));
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.call(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_ident(&mut self, ident: &'ast proc_macro2::Ident) {
        self.idents.insert(ident.to_string());
    }
}

// === Reports ===

fn collect(pick: impl Fn(&Source) -> Vec<(usize, String)>) -> String {
    let mut report = String::new();
    for file in sources() {
        for (line, what) in pick(&file) {
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
