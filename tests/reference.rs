//! The reference pages of the documentation are what the program prints, and links between pages lead somewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

const PAGES: [&str; 3] = ["cli", "crds", "site-file"];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

#[test]
fn reference_pages_are_what_the_program_prints() {
    for page in PAGES {
        let output = Command::new(env!("CARGO_BIN_EXE_linkspan")).args(["reference", page]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = docs().join("reference").join(page).with_extension("md");
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let current = String::from_utf8(output.stdout).unwrap();
        assert!(written == current, "{} is old: linkspan reference {page} > {0}", file.display());
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")];
    collect(&docs(), &mut pages);
    assert!(pages.len() > 8, "{pages:?}");
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let heads = text.lines().filter(|line| line.starts_with('#')).map(slug);
                assert!(heads.into_iter().any(|head| head == anchor), "{}: no heading {link}", page.display());
            }
        }
    }
}

#[test]
fn commands_in_readme_and_docs_are_ones_that_the_program_takes() {
    let mut pages = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")];
    collect(&docs(), &mut pages);
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let inline = text.split('`').filter(|code| code.starts_with("kubectl linkspan ")).map(str::to_owned);
        for line in shell_lines(&text).into_iter().chain(inline) {
            for words in commands(&line) {
                count += 1;
                if let Err(error) = linkspan::cli::parses(words.iter().map(Into::into)) {
                    wrong.push(format!("{}: {}\n{error}", page.display(), words.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 40, "only {count} commands were found");
}

/// Lines of shell in a page, continued ones as one.
fn shell_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    let mut open = String::new();
    for line in page.lines() {
        match line.trim_start() {
            "```sh" | "```bash" => inside = true,
            text if text.starts_with("```") => inside = false,
            text if inside => match text.strip_suffix('\\') {
                Some(begun) => open.push_str(begun),
                None => lines.push(std::mem::take(&mut open) + text),
            },
            _ => {}
        }
    }
    lines
}

/// The calls of the program in a line, as words, the first of which is `linkspan`.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let calls = line.split(['|', ';']).flat_map(|part| part.split("&&")).filter_map(|part| {
        let words: Vec<String> =
            part.split_whitespace().map(|word| word.trim_matches(['\'', '"']).to_owned()).collect();
        let own = words.iter().position(|word| word == "linkspan")?;
        // As a name of something else: `kubectl logs deploy/linkspan`, `helm upgrade linkspan`.
        let before = words[..own].last().map(String::as_str);
        let words = words[own..].iter().take_while(|word| !word.starts_with(['>', '<']));
        let words: Vec<String> = words.map(|word| filled_in(word)).collect();
        matches!(before, None | Some("kubectl" | "--" | "sudo" | "do" | "time")).then_some(words)
    });
    calls.collect()
}

/// A word with what a reader puts in place of `$PARIS`, `ID` or `A,B`.
fn filled_in(word: &str) -> String {
    let is_placeholder = |c: char| c.is_ascii_uppercase() || c == ',';
    let word = word.trim_start_matches('$');
    if word.chars().all(is_placeholder) { word.to_lowercase() } else { word.to_owned() }
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
