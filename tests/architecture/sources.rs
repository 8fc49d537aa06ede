//! The sources, parsed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::SOURCES;

/// One source file, parsed.
pub struct Source {
    /// Relative to the top of the tree.
    pub path: String,
    pub code_lines: usize,
    pub found: Found,
}

impl Source {
    pub fn names_crate(&self, prefix: &str) -> bool {
        self.found.idents.iter().any(|ident| ident.starts_with(prefix))
    }
}

/// What a file holds outside its tests, each with its line.
#[derive(Default)]
pub struct Found {
    pub unsafe_at: Vec<(usize, String)>,
    pub unfinished_at: Vec<(usize, String)>,
    pub clock_at: Vec<(usize, String)>,
    pub random_at: Vec<(usize, String)>,
    pub functions: Vec<(String, usize, usize)>,
    pub idents: BTreeSet<String>,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All of them, parsed once for all tests.
pub fn sources() -> &'static [Source] {
    static PARSED: LazyLock<Vec<Source>> = LazyLock::new(parse_all);
    &PARSED
}

fn parse_all() -> Vec<Source> {
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

pub fn scan(content: &str) -> Found {
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
