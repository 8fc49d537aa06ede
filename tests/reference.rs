//! The reference pages of the documentation are what the program prints, links between pages lead somewhere, and commands are
//! ones that tests run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "documented/mod.rs"]
mod documented;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use documented::list::{self, Test};
use documented::pages;

const PAGES: [&str; 3] = ["cli", "crds", "site-file"];

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn docs() -> PathBuf {
    tree().join("docs")
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
    let pages = pages::all();
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
fn every_command_is_run_by_a_test_or_stands_in_the_list_with_a_reason() {
    let pages = pages::commands();
    let listed = || list::LIST.iter().map(|command| command.text);
    let is_foreign = |command: &str| command.starts_with(list::FOREIGN);
    let new = pages.iter().filter(|(command, _)| !is_foreign(command) && !listed().any(|listed| listed == *command));
    let new: Vec<String> = new.map(|(command, pages)| format!("{command}\n    of {}", pages.join(", "))).collect();
    let how = "have a test run it, or say why none does, in tests/documented/list.rs";
    assert!(new.is_empty(), "{how}:\n{}", new.join("\n"));
    let old: Vec<&str> = listed().filter(|listed| !pages.contains_key(*listed)).collect();
    assert!(old.is_empty(), "no page has these any more, take them off tests/documented/list.rs:\n{}", old.join("\n"));
    let mut once = BTreeSet::new();
    assert_eq!(listed().find(|listed| !once.insert(*listed)), None, "is listed twice");
    assert!(pages.len() > 120, "only {} commands were found", pages.len());

    for command in list::LIST {
        if let Some((file, function)) = command.test().map(Test::function) {
            let source = std::fs::read_to_string(tree().join(file)).unwrap();
            assert!(source.contains(&format!("fn {function}(")), "`{}`: no {function} in {file}", command.text);
        }
        assert!(command.reason().is_none_or(|reason| reason.len() > 10), "`{}`: no reason", command.text);
    }
}

#[test]
fn make_knows_every_target_that_pages_name() {
    let targets: BTreeSet<String> = pages::commands()
        .into_keys()
        .filter_map(|line| Some(line.split("&&").next()?.trim().to_owned()))
        .filter(|line| line.starts_with("make "))
        .collect();
    assert!(targets.len() > 10, "{targets:?}");
    for line in targets {
        let make = ["--dry-run", "--no-print-directory", "--directory"];
        let mut command = Command::new("make");
        command.args(make).arg(tree()).args(line.split(' ').skip(1)).env_remove("MAKEFLAGS");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{line} does nothing");
    }
}

#[test]
fn names_of_commands_are_those_of_the_program() {
    for command in list::LIST.iter().filter(|command| command.is_name()) {
        let words = command.text.split(' ').skip_while(|word| *word != "linkspan").skip(1);
        let output = Command::new(env!("CARGO_BIN_EXE_linkspan")).args(words).arg("--help").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("Usage: linkspan"), "{}: {told}", command.text);
    }
}

#[test]
fn commands_in_readme_and_docs_are_ones_that_the_program_takes() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages::all() {
        let text = std::fs::read_to_string(&page).unwrap();
        let inline = pages::inline(&text).into_iter().chain(short(&text));
        let examples = if page.ends_with("reference/cli.md") { pages::examples(&text) } else { Vec::new() };
        for line in pages::shell_lines(&text).into_iter().chain(inline).chain(examples) {
            for words in commands(&line) {
                count += 1;
                // A name of a command stands without what belongs behind it.
                let is_name = list::LIST.iter().any(|command| command.is_name() && command.text == line);
                match linkspan::cli::parses(words.iter().map(Into::into)) {
                    Err(error) if !is_name => wrong.push(format!("{}: {}\n{error}", page.display(), words.join(" "))),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "only {count} commands were found");
}

#[test]
fn checks_that_symptoms_lead_to_find_the_reasons_beside_them() {
    let text = std::fs::read_to_string(docs().join("troubleshooting.md")).unwrap();
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let Some(checks) = code(row).find_map(|code| code.strip_prefix("diagnose ")) else { continue };
        let reasons: Vec<&str> = row.split(['(', ')']).skip(1).step_by(2).flat_map(code).collect();
        let checks: Vec<(&str, String)> = checks.split(' ').map(|check| (check, source_of_check(check))).collect();
        let has = |source: &str, reason: &str| source.contains(&format!("\"{reason}\""));
        for reason in &reasons {
            assert!(checks.iter().any(|(_, source)| has(source, reason)), "no check finds {reason}: {row}");
        }
        for (check, source) in &checks {
            assert!(reasons.iter().any(|reason| has(source, reason)), "{check} finds nothing of this: {row}");
        }
        rows += 1;
    }
    assert!(rows > 5, "only {rows} rows name a check");
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn source_of_check(check: &str) -> String {
    let file = tree().join("src/kubectl/diagnose").join(check.replace('-', "_")).with_extension("rs");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What pages call a command without the program's name: `show connections`.
fn short(page: &str) -> Vec<String> {
    let code = page.split('`').filter(|code| ["show ", "diagnose "].iter().any(|name| code.starts_with(name)));
    let whole = code.filter(|code| !code.contains(['[', '\n', '`']));
    whole.map(|code| format!("linkspan {code}")).collect()
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
        let words = words[own..].iter().take_while(|word| !word.starts_with(['>', '<', '&']));
        let words: Vec<String> = words.map(|word| filled_in(word)).collect();
        let is_variable = before.is_some_and(|word| word.contains('='));
        (is_variable || matches!(before, None | Some("kubectl" | "--" | "sudo" | "do" | "time"))).then_some(words)
    });
    calls.collect()
}

/// A word with what a reader puts in place of `$PARIS`, `ID` or `A,B`.
fn filled_in(word: &str) -> String {
    let is_placeholder = |c: char| c.is_ascii_uppercase() || c == ',';
    let word = word.trim_start_matches('$');
    if word.chars().all(is_placeholder) { word.to_lowercase() } else { word.to_owned() }
}

/// The anchor of a heading, as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
